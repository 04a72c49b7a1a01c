"""The code that a model needs to predict: its training script and what that imports of its own kind.

Found by reading, nothing is run: the modules beside the script, the part of Fedloom that it uses, and
the names of the libraries it needs besides.
"""

from __future__ import annotations

import ast
import importlib.metadata
import io
import re
import sys
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

# What `fedloom.Client` and the other names of a script's annotations load, whatever it imports.
_ALWAYS = ("fedloom", "fedloom.errors", "fedloom.training", "fedloom.training.context")
_OURS = "fedloom"
_ROOT = Path(__file__).resolve().parents[2]
_STABLE_TIME = (1980, 1, 1, 0, 0, 0)  # equal code, equal archive


class ShippedCode:
    """The code that goes with a training script.

    Attributes:
        files: the script and the modules beside it that it imports, by path from its folder.
        archive: a zip of the part of Fedloom that these use, importable as it is.
        libraries: the other modules that they import, standard library left out.
    """

    def __init__(self, script: Path) -> None:
        """Raises OSError where the script cannot be read."""
        imports: set[str] = set()
        self.files = {}
        for path in _closure([script], script.parent, imports):
            self.files[path.relative_to(script.parent).as_posix()] = path.read_bytes()
        beside = {name.partition("/")[0].removesuffix(".py") for name in self.files}
        wanted = {name for name in imports if name.partition(".")[0] == _OURS}
        self.archive = _archive(wanted)
        others = {name.partition(".")[0] for name in imports} - beside - {_OURS}
        self.libraries = others - sys.stdlib_module_names


def _closure(start: Iterable[Path], root: Path, imports: set[str]) -> list[Path]:
    """These files and all under `root` that they import; adds every imported name to `imports`."""
    found = list(start)
    for path in found:  # grows while it is walked
        for name in sorted(_imported(path.read_bytes())):
            imports.add(name)
            if root == _ROOT or name.partition(".")[0] != _OURS:
                found += [file for file in _files_of(root, name) if file not in found]
    return found


def _imported(source: bytes) -> set[str]:
    """Full names of all absolute imports, wherever they stand; also `a.b` for `from a import b`."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return set()
    for node in list(ast.walk(tree)):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            node.body = []  # never imported
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def _files_of(root: Path, name: str) -> Iterator[Path]:
    """The files that importing this name runs, as far as they lie under `root`."""
    place = root
    for word in name.split("."):
        place /= word
        for file in (place / "__init__.py", place.with_name(f"{word}.py")):
            if file.is_file():
                yield file


def _archive(names: set[str]) -> bytes:
    start = [file for name in sorted({*_ALWAYS, *names}) for file in _files_of(_ROOT, name)]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(set(_closure(start, _ROOT, set()))):
            entry = zipfile.ZipInfo(path.relative_to(_ROOT).as_posix(), _STABLE_TIME)
            archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def pinned(requirements: Iterable[str]) -> list[str]:
    """One requirement per library, as pip reads it; bare names get the version installed here.

    The first one given for a library counts. A name may be a module's (`sklearn`).
    """
    found: dict[str, str] = {}
    for requirement in requirements:
        name = re.split(r"[^\w.-]", requirement, maxsplit=1)[0]
        line = requirement if name != requirement else _with_version(name)
        found.setdefault(re.split(r"[^\w.-]", line, maxsplit=1)[0].lower().replace("_", "-"), line)
    return list(found.values())


def _with_version(name: str) -> str:
    for _ in range(2):
        try:
            # Without the local part (`+cpu`), which no package index has.
            return f"{name}=={importlib.metadata.version(name).partition('+')[0]}"
        except importlib.metadata.PackageNotFoundError:
            homes = importlib.metadata.packages_distributions().get(name)
            if homes is None:
                break
            name = homes[0]
    return name
