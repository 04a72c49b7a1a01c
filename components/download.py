"""download (edge, before the user's container): bring data and models from elsewhere onto this node.

    <folder>/<host>/<path>          the file, whole or not there; what a .zip or .tar.gz holds lies beside it
    <folder>/.fedloom/<name>.json   what is known of it: size, ETag, what was unpacked

A file that is there is asked for again and transferred only if it has changed: by its ETag, else by size and
time. Where the other side does not answer, a whole file that is there does. What is asked for with
credentials comes with a presigned URL: the node has none, and no URL shows in an error.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import shutil
import urllib.error
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components.archive import is_archive, unpack
from components.command import Steps, run_group_command
from components.edge_state import own_folder
from components.request import Place
from components.web import opened, public_address, shown
from fedloom.api.places import download_of, is_remote, url_problem
from fedloom.artifacts.files import NewFile
from fedloom.artifacts.retry import RetryPolicy
from fedloom.errors import ArtifactNotFoundError, JobError, StoreUnavailableError, TransientError

SERVER = "server"
"""Whose downloads those of the cloud's containers are."""

_RECORDS = ".fedloom"
_BLOCK_BYTES = 1 << 20
_RETRY = RetryPolicy(attempts=100, base_seconds=0.5, cap_seconds=15.0, total_seconds=180.0)
_RECHECK = RetryPolicy(attempts=3, base_seconds=0.5, cap_seconds=2.0, total_seconds=15.0)
_PASSING = (408, 425, 429)
_NOT_MODIFIED, _ABSENT = 304, (404, 410)
_ANYBODY_FOLDER = 0o755


@dataclass(frozen=True)
class Fetched:
    """What became of a download: `path` of the file, and whether anything was transferred."""

    path: Path
    is_new: bool


@dataclass(frozen=True)
class _Record:
    """What is known of a file that is here."""

    size: int
    etag: str = ""
    modified: str = ""
    entries: tuple[str, ...] = field(default_factory=tuple)


class Downloads:
    """The downloads of one folder; one process at a time.

    Args:
        folder: where they lie; made where it is missing.
        retry, recheck: how often one is tried that is not here, and one that is.
    """

    def __init__(
        self, folder: Path, retry: RetryPolicy = _RETRY, recheck: RetryPolicy = _RECHECK
    ) -> None:
        self._folder = folder
        self._retry = retry
        self._recheck = recheck

    def place_of(self, url: str) -> Path:
        """Where the file of a url is, or will be."""
        return self._folder / download_of(url)

    def fetch(self, url: str, signed: str | None = None) -> Fetched:
        """Bring the file of `url` here, asked for by `signed` where that is given.

        Raises JobError: `BadUrl`, `DownloadRefused`, `BadArchive`, `DiskFull`;
        ArtifactNotFoundError; StoreUnavailableError where it is not here and cannot be had now.
        """
        problem = url_problem(url)
        if problem is not None or not is_remote(url):
            raise JobError("BadUrl", problem or f"got {url!r}, expected s3://, http:// or https://")
        self._folder.mkdir(parents=True, exist_ok=True)
        known = self._known(url)
        address = signed or public_address(url)
        if known is None:
            self._retry.run(lambda: self._once(url, address, None))
            return Fetched(self.place_of(url), is_new=True)
        try:
            is_new = self._recheck.run(lambda: self._once(url, address, known))
        except TransientError:
            is_new = False
        return Fetched(self.place_of(url), is_new)

    def _known(self, url: str) -> _Record | None:
        """What is known of a whole file that is here."""
        try:
            found = json.loads(self._record_of(url).read_bytes())
            record = _Record(**{**found, "entries": tuple(found["entries"])})
            place = self.place_of(url)
            is_whole = place.stat().st_size == record.size
            is_whole = is_whole and all((place.parent / name).exists() for name in record.entries)
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return record if is_whole else None

    def _once(self, url: str, address: str, known: _Record | None) -> bool:
        """Ask for it once; say whether something was transferred."""
        headers = {"Accept-Encoding": "identity"}
        if known is not None and known.etag:
            headers["If-None-Match"] = known.etag
        try:
            with opened(address, headers) as answer:
                if known is not None and _is_same(known, answer):
                    return False
                self._save(url, answer)
                return True
        except urllib.error.HTTPError as error:
            with error:
                if error.code == _NOT_MODIFIED:
                    return False
                raise _refusal(url, error.code) from None
        except (
            urllib.error.URLError,
            http.client.HTTPException,
            TimeoutError,
            ConnectionError,
        ) as e:
            reason = getattr(e, "reason", None) or type(e).__name__
            raise StoreUnavailableError(f"{shown(url)}: {reason}") from None

    def _save(self, url: str, answer: http.client.HTTPResponse) -> None:
        """Take the whole file or nothing; what an older one had unpacked goes before it."""
        target, record_file = self.place_of(url), self._record_of(url)
        length = answer.length  # None where it is not announced, or no number
        with NewFile(str(target), length or 0) as file:
            size = 0
            for block in _blocks(url, answer):
                size += len(block)
                file.write(block)
            if length is not None and size != length:
                raise StoreUnavailableError(f"{shown(url)}: got {size} bytes of {length}")
            self._forget(url)
            file.publish(replace=True)
        self._open_folders(target)
        entries = self._unpacked(url) if is_archive(target.name) else ()
        record = {
            "size": size,
            "etag": answer.headers.get("ETag") or "",
            "modified": answer.headers.get("Last-Modified") or "",
            "entries": entries,
        }
        with NewFile(str(record_file)) as file:
            file.write(json.dumps(record).encode())
            file.publish(replace=True)

    def _unpacked(self, url: str) -> tuple[str, ...]:
        """Lay out what an archive holds beside it; all of it or nothing."""
        target = self.place_of(url)
        folder = self._record_of(url).with_suffix(".unpacked")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            entries = unpack(target, folder)
            for name in entries:
                if (target.parent / name).exists():
                    raise JobError(
                        "BadArchive",
                        f"{target.name}: got {name!r}, expected another name: there is one beside it",
                    )
            # Told before it is done: after a kill in between, these are taken away first.
            self._moved_file(url).write_text(json.dumps(entries))
            for name in entries:
                (folder / name).rename(target.parent / name)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        self._moved_file(url).unlink()
        return tuple(entries)

    def _forget(self, url: str) -> None:
        """Take away the record of an older file and what that had unpacked."""
        for path, key in ((self._moved_file(url), None), (self._record_of(url), "entries")):
            try:
                found = json.loads(path.read_bytes())
                names = found if key is None else found[key]
            except (OSError, ValueError, KeyError, TypeError):
                names = []
            for name in names:
                _remove(self.place_of(url).parent / name)
            path.unlink(missing_ok=True)

    def _open_folders(self, target: Path) -> None:
        """Let anybody read what is here, whoever the user's container runs as."""
        for folder in (self._folder, *target.relative_to(self._folder).parents):
            path = self._folder / folder
            if path.stat().st_mode & 0o777 != _ANYBODY_FOLDER:
                path.chmod(_ANYBODY_FOLDER)
        target.chmod(0o644)

    def _record_of(self, url: str) -> Path:
        name = hashlib.sha256(download_of(url).encode()).hexdigest()[:16]
        return self._folder / _RECORDS / f"{name}.json"

    def _moved_file(self, url: str) -> Path:
        return self._record_of(url).with_suffix(".moving")


def run(steps: Steps, place: Place) -> dict[str, Any]:
    """Bring here what the steps of a group need; give what was transferred and what was here."""
    wanted: dict[str, str | None] = {}
    client = None
    for request in steps.values():
        client = client or request.client
        signed: Mapping[str, str] = request.settings.get("signed", {})
        for url in request.settings.get("downloads", ()):
            wanted[url] = signed.get(url)
    downloads = Downloads(own_folder(place.edge, client or SERVER) / "downloads")
    done = [downloads.fetch(url, signed) for url, signed in wanted.items()]
    return {
        "transferred": sum(each.is_new for each in done),
        "kept": sum(not each.is_new for each in done),
    }


def _blocks(url: str, answer: http.client.HTTPResponse) -> Iterator[bytes]:
    """Read an answer; what goes wrong here is the network's fault, not the disk's."""
    while True:
        try:
            block = answer.read(_BLOCK_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise StoreUnavailableError(f"{shown(url)}: {type(error).__name__}") from None
        if not block:
            return
        yield block


def _is_same(known: _Record, answer: http.client.HTTPResponse) -> bool:
    """Compare with what is here, for a server that does not understand the question."""
    headers = answer.headers
    if known.etag or headers.get("ETag"):
        return known.etag == headers.get("ETag")
    size, modified = headers.get("Content-Length"), headers.get("Last-Modified") or ""
    return size == str(known.size) and bool(modified) and modified == known.modified


def _refusal(url: str, code: int) -> Exception:
    if code in _ABSENT:
        return ArtifactNotFoundError(shown(url))
    if code in _PASSING or code >= 500:
        return StoreUnavailableError(f"{shown(url)}: HTTP {code}")
    hint = "; does its credentialName open it?" if code in (401, 403) else ""
    return JobError("DownloadRefused", f"{shown(url)}: HTTP {code}{hint}")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


if __name__ == "__main__":
    run_group_command("download", run)
