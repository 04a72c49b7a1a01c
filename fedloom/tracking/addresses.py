"""Tracking URIs: what stands behind one, and the page of a run."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

_DATABASES = {"sqlite", "postgresql", "postgres", "mysql", "mssql"}
_SQLITE = "sqlite:///"
_STALE_SECONDS = 600.0  # a draft this old is of a process that was killed


def is_database(uri: str) -> bool:
    """Whether MLflow opens this URI as a database, without a server in between."""
    return "://" in uri and uri.partition("://")[0].partition("+")[0] in _DATABASES


def page_of(uri: str, experiment_id: str, run_id: str) -> str | None:
    """The run's page on the server, without the URI's credentials; None for a database."""
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https"):
        return None
    place = parts.netloc.rpartition("@")[2]
    base = urlunsplit((parts.scheme, place, parts.path.rstrip("/"), "", ""))
    return f"{base}/#/experiments/{experiment_id}/runs/{run_id}"


def make_whole(uri: str, create: Callable[[Path], None]) -> None:
    """Give a SQLite file that does not exist its tables, all of them or none.

    `create(path)` writes such a file. Killed half-way it would leave one that nobody can open, so it
    writes aside, and what it wrote then gets the name.
    """
    if not uri.startswith(_SQLITE) or "?" in uri:
        return
    path = Path(uri.removeprefix(_SQLITE))
    if path.name in ("", ":memory:") or (path.exists() and path.stat().st_size):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".{path.name}-*"):
        if time.time() - left.stat().st_mtime > _STALE_SECONDS:
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as folder:
        draft = Path(folder) / path.name
        create(draft)
        if path.exists() and not path.stat().st_size:
            draft.replace(path)
            return
        try:
            os.link(draft, path)
        except FileExistsError:
            return  # another process was faster, and its file is as good
