"""library (any node): lay the folder `compat` out where the user's container finds it on PYTHONPATH.

    python -I -m components.library FOLDER

Its image may have any Python, or the library of another framework itself: ours only has to come first.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
from functools import cache
from pathlib import Path

from fedloom.errors import JobError

_LEFT_OUT = shutil.ignore_patterns("__pycache__")


@cache
def compat_folder() -> Path | None:
    """Give the folder of the package `compat`, which is found and never imported; None without it."""
    found = importlib.util.find_spec("compat")
    folders = list(found.submodule_search_locations or ()) if found is not None else []
    return Path(folders[0]) if folders else None


def deliver(target: Path) -> None:
    """Copy the packages of `compat` into `target`, readable for anybody. Doing it twice does no harm.

    Raises JobError("NoLibrary").
    """
    source = compat_folder()
    if source is None:
        raise JobError("NoLibrary", "got an installation without the folder compat, expected it")
    for package in sorted(source.iterdir()):
        if package.is_dir() and package.name != "__pycache__":
            place = target / package.name
            shutil.copytree(
                package, place, ignore=_LEFT_OUT, copy_function=shutil.copyfile, dirs_exist_ok=True
            )
            for path in (place, *place.rglob("*")):
                path.chmod(0o755 if path.is_dir() else 0o644)


if __name__ == "__main__":
    deliver(Path(sys.argv[1]))
