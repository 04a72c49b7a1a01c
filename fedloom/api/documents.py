"""Files of YAML or JSON -> the objects in them. The only module that imports pyyaml."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from fedloom.api.dataset import Dataset
from fedloom.api.job import FederatedLearningJob
from fedloom.api.model import Model
from fedloom.api.plain_data import TEXT_TAG, Builder, PlainDataError, reads_as_text
from fedloom.api.reading import KINDS, read_object, read_secret
from fedloom.api.secret import Secret
from fedloom.api.validation import validate
from fedloom.api.wording import meant_by, shown
from fedloom.errors import InvalidJobError, Problem

MOST_FILE_BYTES = 64 * 1024 * 1024

_SUFFIXES = (".yaml", ".yml", ".json")
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml where pyyaml has it

Named = FederatedLearningJob | Dataset | Model | Secret


@dataclass(frozen=True)
class Documents:
    """What stands in the files of a job.

    Attributes:
        ignored: objects of other kinds, as `file Kind/name`.
        base_folder: the folder of the file that holds the (first) job; relative paths start there.
        sources: (kind, namespace, name) -> the file it stands in, as the user gave it.
        originals: the same -> the object as it stands there.
    """

    jobs: tuple[FederatedLearningJob, ...] = ()
    datasets: tuple[Dataset, ...] = ()
    models: tuple[Model, ...] = ()
    secrets: tuple[Secret, ...] = ()
    ignored: tuple[str, ...] = ()
    base_folder: Path = Path()
    sources: Mapping[tuple[str, str, str], str] = field(default_factory=dict)
    originals: Mapping[tuple[str, str, str], Any] = field(default_factory=dict, repr=False)

    def where(self, noun: Named) -> str:
        """`job.yaml FederatedLearningJob/digits`, without the file where it is not known."""
        kind, meta = type(noun).__name__, noun.metadata
        source = self.sources.get((kind, meta.namespace, meta.name), "")
        return f"{source} {kind}/{meta.name}".lstrip()


def read_documents(paths: Sequence[Path]) -> Documents:
    """Read every object of every file; a folder means its *.yaml, *.yml and *.json, sorted.

    Raises InvalidJobError with the problems of all files; the field of each problem is the file as
    given, the object's kind and name, and the path in it.
    """
    reading = _Reading()
    for path in paths:
        for file in reading.files_of(path):
            reading.read_file(file)
    documents = reading.documents()
    if reading.problems:  # what the objects say together is looked at too, where all are there
        further = validate(documents) if reading.is_complete else ()
        raise InvalidJobError(dict.fromkeys((*reading.problems, *further)))
    return documents


def render_documents(documents: Iterable[Mapping[str, Any]]) -> str:
    """Write documents as one YAML text, in the order of their fields, without aliases."""
    return yaml.dump_all(
        documents, Dumper=_PlainDumper, sort_keys=False, width=100, allow_unicode=True
    )


def render_crd(document: Mapping[str, Any]) -> str:
    """Write one CRD as YAML, with a first line that says where it comes from."""
    return "# Generated from the types in fedloom/api by `fedloom crds`; do not edit.\n" + (
        render_documents([document])
    )


class _PlainDumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        del data
        return True


def _represent_text(dumper: _PlainDumper, text: str) -> yaml.ScalarNode:
    # pyyaml leaves texts like 1e5 bare that every other reader takes for numbers.
    return dumper.represent_scalar(TEXT_TAG, text, style=None if reads_as_text(text) else "'")


_PlainDumper.add_representer(str, _represent_text)


class _Reading:
    """The files read so far, and what was wrong with them."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.is_complete = True
        self._files: set[str] = set()
        self._found: dict[tuple[str, str, str], tuple[Named, Path, Any]] = {}
        self._ignored: list[str] = []

    def documents(self) -> Documents:
        found = [noun for noun, _, _ in self._found.values()]
        jobs = [f for noun, f, _ in self._found.values() if type(noun) is FederatedLearningJob]
        return Documents(
            jobs=tuple(noun for noun in found if isinstance(noun, FederatedLearningJob)),
            datasets=tuple(noun for noun in found if isinstance(noun, Dataset)),
            models=tuple(noun for noun in found if isinstance(noun, Model)),
            secrets=tuple(noun for noun in found if isinstance(noun, Secret)),
            ignored=tuple(self._ignored),
            base_folder=jobs[0].parent if jobs else Path(),
            sources={key: str(file) for key, (_, file, _) in self._found.items()},
            originals={key: document for key, (_, _, document) in self._found.items()},
        )

    def files_of(self, path: Path) -> Iterator[Path]:
        try:
            files = sorted(each for each in path.iterdir() if each.suffix in _SUFFIXES)
        except NotADirectoryError:
            yield path
            return
        except OSError as error:
            self._refuse(path, _reason(error))
            return
        if not files:
            self._refuse(
                path, f"a folder without any {', '.join('*' + each for each in _SUFFIXES)}"
            )
        yield from (each for each in files if not each.is_dir())

    def read_file(self, file: Path) -> None:
        """Read a file's objects, once however often it is named."""
        real = os.path.realpath(file)  # of a link to itself too, where resolve() fails
        if real in self._files:
            return
        self._files.add(real)
        try:
            documents = _load(file)
        except _UnreadableError as error:
            self._refuse(file, str(error), error.line)
            return
        waiting = [document for document in documents if document is not None]
        if not waiting:
            self._refuse(file, "empty: there is no object in it")
        while waiting:
            document = waiting.pop(0)
            if isinstance(document, Mapping) and document.get("kind") == "List":
                items = document.get("items")
                waiting[:0] = items if isinstance(items, list) else []
            else:
                self._read_document(file, document)

    def _read_document(self, file: Path, document: Any) -> None:
        if not isinstance(document, Mapping):
            self._refuse(
                file, f"got {shown(document)}, expected an object with apiVersion and kind"
            )
            return
        kind, name = document.get("kind"), _name_of(document)
        if kind not in (*KINDS, "Secret"):
            self._pass_over(file, document, name)
            return
        where = f"{file} {kind}/{name}"
        try:
            noun = read_secret(document) if kind == "Secret" else read_object(document)
        except InvalidJobError as error:
            self.problems += (
                Problem(f"{where} {p.field}".rstrip(), p.message) for p in error.problems
            )
            if not isinstance(error.rest, Named):
                self.is_complete = False
                return
            noun = error.rest
        key = (str(kind), noun.metadata.namespace, noun.metadata.name)
        if key in self._found:
            other = self._found[key][1]
            self.problems.append(
                Problem(
                    f"{where} metadata.name",
                    f"there is one of this kind and name in {other} already",
                )
            )
            return
        self._found[key] = (noun, file, document)

    def _pass_over(self, file: Path, document: Mapping[Any, Any], name: str) -> None:
        kind = document.get("kind")
        if not isinstance(kind, str):
            self._refuse(file, f"an object whose kind is {shown(kind)}, expected its name")
            return
        meant = meant_by(kind, KINDS)
        if meant and str(document.get("apiVersion")).startswith("sedna.io/"):
            self._refuse(file, f"unknown kind {kind!r}, did you mean {meant!r}?")
            return
        self._ignored.append(f"{file} {_printed(kind)}/{name}")

    def _refuse(self, file: Path, message: str, line: int | None = None) -> None:
        self.problems.append(Problem(f"{file}:{line}" if line else str(file), message))


def _name_of(document: Mapping[Any, Any]) -> str:
    metadata = document.get("metadata")
    name = metadata.get("name") if isinstance(metadata, Mapping) else None
    return _printed(name) if isinstance(name, str) else "?"


def _printed(text: str) -> str:
    """A name of a document as it may go to a terminal: one line, no control characters."""
    return text if text.isprintable() and len(text) <= 253 else repr(text[:60])


def _reason(error: OSError) -> str:
    return f"cannot be read: {error.strerror or type(error).__name__}"


class _UnreadableError(Exception):
    """A file that no documents can be had from; `line` counts from 1, None where it is unknown."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


def _load(file: Path) -> list[Any]:
    try:
        with file.open("rb") as stream:
            data = stream.read(MOST_FILE_BYTES + 1)
    except OSError as error:
        raise _UnreadableError(_reason(error)) from error
    if len(data) > MOST_FILE_BYTES:
        raise _UnreadableError(f"larger than {MOST_FILE_BYTES} bytes")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _UnreadableError(f"not UTF-8 text (byte {error.start})") from error
    return [_json(text)] if file.suffix == ".json" else _yaml(text)


def _yaml(text: str) -> list[Any]:
    try:
        return _build(text)
    except PlainDataError as error:
        raise _UnreadableError(str(error), error.line) from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise _UnreadableError(f"not valid YAML: {error.problem}", line) from error
    except yaml.YAMLError as error:
        raise _UnreadableError(f"not valid YAML: {str(error).splitlines()[0]}") from error


def _build(text: str) -> list[Any]:
    builder = Builder()
    for event in yaml.parse(text, Loader=_LOADER):
        line = event.start_mark.line + 1 if event.start_mark else 0
        if isinstance(event, yaml.ScalarEvent):
            builder.scalar(event.value, event.tag, event.implicit[0], event.anchor, line)
        elif isinstance(event, yaml.AliasEvent):
            builder.alias(str(event.anchor), line)
        elif isinstance(event, yaml.MappingStartEvent):
            builder.open({}, event.tag, event.anchor, line)
        elif isinstance(event, yaml.SequenceStartEvent):
            builder.open([], event.tag, event.anchor, line)
        elif isinstance(event, yaml.CollectionEndEvent):
            builder.close()
        elif isinstance(event, yaml.DocumentStartEvent):
            builder.start_document()
    return builder.documents


def _json(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        raise _UnreadableError(f"not valid JSON: {error.msg}", error.lineno) from error
    except RecursionError as error:
        raise _UnreadableError("nested too deeply to be read") from error
    except ValueError as error:  # a duplicate name, or a number of thousands of digits
        raise _UnreadableError(f"not plain data: {error}") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping: dict[str, Any] = {}
    for name, value in pairs:
        if name in mapping:
            raise ValueError(f"duplicate name {name[:60]!r}: it stands in one mapping twice")
        mapping[name] = value
    return mapping
