"""From YAML's events to plain data: mappings with text names, lists, and what JSON has.

YAML is read as Kubernetes reads it: names are text as written, `1e-5` is a number, a date is text.
Not taken are duplicate names, tags beyond JSON's types, and aliases that refer to themselves or
multiply to more than a document could hold if it were written out. No step recurses, so that no
nesting exhausts the stack.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

MOST_ALIASED_NODES = 1_000_000
MOST_LEVELS = 200

_MOST_DIGITS = 400
_CHARACTERS_PER_NODE = 100
_TAGS = "tag:yaml.org,2002:"
_BOOLEANS = {
    spelling: value
    for value, words in ((True, ("true", "yes", "on")), (False, ("false", "no", "off")))
    for word in words
    for spelling in (word, word.capitalize(), word.upper())
}
_NULLS = ("", "~", "null", "Null", "NULL")
_INTEGER = re.compile(r"[-+]?(?:0b[01_]+|0o?[0-7_]+|0x[0-9a-fA-F_]+|0|[1-9][0-9_]*)")
_FLOAT = re.compile(
    r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*|[0-9][0-9_]*(?=[eE]))(?:[eE][-+]?[0-9]+)?"
)
_SPECIAL_FLOAT = re.compile(r"([-+]?)\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_MERGE = "<<"


TEXT_TAG = _TAGS + "str"


class PlainDataError(Exception):
    """The text is YAML, but not plain data; `line` counts from 1."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


@dataclass
class _Frame:
    """A mapping or list that is being filled."""

    value: dict[str, Any] | list[Any]
    anchor: str | None
    line: int
    nodes: int = 1
    key: str | None = None
    merges: list[dict[str, Any]] = field(default_factory=list)


class Builder:
    """Takes the events of one file in order; `documents` are the values that are complete."""

    def __init__(self) -> None:
        self.documents: list[Any] = []
        self._frames: list[_Frame] = []
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._aliased = 0

    def start_document(self) -> None:
        """Forget the anchors: they are a document's own."""
        self._anchors = {}

    def open(
        self, value: dict[str, Any] | list[Any], tag: str | None, anchor: str | None, line: int
    ) -> None:
        """Begin a mapping or a list, given empty."""
        if tag not in (None, "!", _TAGS + ("map" if isinstance(value, dict) else "seq")):
            raise PlainDataError(line, f"tag {tag} is not taken, expected plain data")
        if len(self._frames) >= MOST_LEVELS:
            raise PlainDataError(line, f"nested deeper than {MOST_LEVELS} levels")
        if self._awaits_name():
            raise PlainDataError(line, "got a mapping or a list as a name, expected text")
        self._frames.append(_Frame(value, anchor, line))

    def close(self) -> None:
        """End the innermost mapping or list."""
        frame = self._frames.pop()
        if isinstance(frame.value, dict) and frame.merges:
            own = dict(frame.value)
            frame.value.clear()
            for merged in reversed(frame.merges):
                frame.value.update(merged)
            frame.value.update(own)
        self._add(frame.value, frame.anchor, frame.nodes, frame.line)

    def scalar(
        self, text: str, tag: str | None, is_plain: bool, anchor: str | None, line: int
    ) -> None:
        """Add a text, number, boolean or null; `is_plain` where it has no quotes."""
        is_plain = is_plain and tag is None
        nodes = 1 + len(text) // _CHARACTERS_PER_NODE
        if self._awaits_name():
            self._name(text, is_merge=is_plain and text == _MERGE, line=line)
            if anchor:
                self._anchors[anchor] = (text, nodes)
            return
        self._add(_resolved(text, tag, is_plain, line), anchor, nodes, line)

    def alias(self, anchor: str, line: int) -> None:
        """Add once more what an anchor names."""
        if any(frame.anchor == anchor for frame in self._frames):
            raise PlainDataError(line, f"alias *{anchor} stands inside of what it refers to")
        if anchor not in self._anchors:
            raise PlainDataError(line, f"alias *{anchor} refers to nothing before it")
        value, nodes = self._anchors[anchor]
        self._aliased += nodes
        if self._aliased > MOST_ALIASED_NODES:
            raise PlainDataError(
                line, f"aliases multiply to more than {MOST_ALIASED_NODES} values, write them out"
            )
        if not self._awaits_name():
            self._add(value, None, nodes, line)
        elif isinstance(value, str):
            self._name(value, is_merge=False, line=line)
        else:
            raise PlainDataError(line, f"got alias *{anchor} as a name, but it is not text")

    def _awaits_name(self) -> bool:
        return (
            bool(self._frames)
            and isinstance(self._frames[-1].value, dict)
            and self._frames[-1].key is None
        )

    def _name(self, name: str, is_merge: bool, line: int) -> None:
        frame = self._frames[-1]
        if not is_merge and name in frame.value:
            raise PlainDataError(
                line, f"duplicate name {name[:60]!r}: it stands in this mapping twice"
            )
        frame.key = _MERGE_KEY if is_merge else name

    def _add(self, value: Any, anchor: str | None, nodes: int, line: int) -> None:
        if anchor:
            self._anchors[anchor] = (value, nodes)
        if not self._frames:
            self.documents.append(value)
            return
        frame = self._frames[-1]
        frame.nodes += nodes
        if isinstance(frame.value, list):
            frame.value.append(value)
        elif frame.key is _MERGE_KEY:
            frame.merges += _mergeable(value, line)
        elif frame.key is not None:
            frame.value[frame.key] = value
        frame.key = None


_MERGE_KEY = str(object())  # told apart from every name in a document by identity


def reads_as_text(text: str) -> bool:
    """Whether a text that is written without quotes reads as itself, here and by other readers."""
    is_other = text in _NULLS or text in _BOOLEANS or text in ("y", "Y", "n", "N")
    numbers = (_INTEGER, _FLOAT, _SPECIAL_FLOAT)
    return not is_other and not any(number.fullmatch(text) for number in numbers)


def _mergeable(value: Any, line: int) -> list[dict[str, Any]]:
    merged = value if isinstance(value, list) else [value]
    if not all(isinstance(each, dict) for each in merged):
        raise PlainDataError(line, "'<<' takes a mapping or a list of mappings")
    return merged


def _resolved(text: str, tag: str | None, is_plain: bool, line: int) -> Any:
    if is_plain:
        return _plain(text, line)
    if tag in (None, "!", TEXT_TAG):
        return text
    value = _plain(text, line)
    wanted = {"int": int, "float": float, "bool": bool, "null": type(None)}.get(
        (tag or "").removeprefix(_TAGS)
    )
    if wanted is None:
        raise PlainDataError(line, f"tag {tag} is not taken, expected plain data")
    if wanted is float and type(value) is int:
        return float(value)
    if type(value) is not wanted:
        raise PlainDataError(line, f"{text[:60]!r} is not what its tag {tag} says")
    return value


def _plain(text: str, line: int) -> Any:
    if text in _NULLS:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if _INTEGER.fullmatch(text):
        return _integer(text.replace("_", ""), line)
    if _FLOAT.fullmatch(text):
        return float(text.replace("_", ""))
    special = _SPECIAL_FLOAT.fullmatch(text)
    if special:
        return float("nan") if special[3] else float(f"{special[1]}inf")
    return text


def _integer(text: str, line: int) -> int:
    if len(text) > _MOST_DIGITS:
        raise PlainDataError(line, f"a number of {len(text)} digits")
    digits = text.lstrip("-+")
    # A leading zero means octal, to YAML 1.1 and to Kubernetes.
    is_octal = len(digits) > 1 and digits[0] == "0" and digits[1].isdigit()
    return int(text, 8 if is_octal else 0)
