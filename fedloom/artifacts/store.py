"""What every store can do, and which keys it takes."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from fedloom.artifacts.artifact import Artifact
from fedloom.errors import ArtifactError, CorruptArtifactError

KEY_LIMIT_BYTES = 900
PART_LIMIT_BYTES = 200
TEMPORARY_PREFIX = ".fedloom-tmp-"
_PLAIN = re.compile(
    r"[\w-][\w.-]*(?:/[\w-][\w.-]*)*", re.ASCII
)  # nearly all keys, seen to be right at once


class Store(Protocol):
    """Bytes under keys. Two stores exist: a folder (`local`) and an S3 bucket (`s3`).

    Every method takes keys as `check_key` wants them. Besides the errors named below, a store
    raises `StoreUnavailableError` where another try may help and `JobError` with the reason
    `StoreDenied` or `StoreFull` where it will not. A store may be used by several threads at once.
    No key may be another key's folder (`a` beside `a/b`): a folder refuses that, S3 does not.
    """

    @property
    def uri(self) -> str:
        """Where the store is: `file:///folder` or `s3://bucket/prefix`; `open_store` takes it."""
        ...

    def put(
        self, key: str, data: bytes, *, replace: bool = False, durable: bool = False
    ) -> Artifact:
        """Store these bytes.

        The same bytes may be put again; other bytes under an existing key raise `ArtifactError`
        (reason `ArtifactExists`) unless `replace` is set, which is for the few records that change.
        With `durable` the call returns only when the bytes survive a loss of power.
        """
        ...

    def put_file(
        self, key: str, path: Path, *, replace: bool = False, durable: bool = False
    ) -> Artifact:
        """Store a file's content, in blocks; otherwise as `put`. The file stays where it is."""
        ...

    def get(self, key: str, *, digest: str | None = None) -> bytes:
        """All bytes of an artifact, checked against `digest` where one is given.

        Raises ArtifactNotFoundError, CorruptArtifactError.
        """
        ...

    def materialize(self, key: str, folder: Path, *, digest: str | None = None) -> Path:
        """A local file with the whole artifact, checked as in `get`. Treat it as read-only.

        A local store returns its own file; any other downloads to `folder/<key>`, which appears
        only when it is whole and checked. Raises ArtifactNotFoundError, CorruptArtifactError.
        """
        ...

    def read(self, key: str, offset: int, length: int) -> bytes:
        """Exactly `length` bytes from `offset`; fewer in the artifact is CorruptArtifactError."""
        ...

    def exists(self, key: str) -> bool:
        """Whether there is an artifact under this very key."""
        ...

    def list(self, prefix: str) -> list[str]:
        """The keys under a prefix, in plain string order; empty if there is none.

        A prefix ends where a part of a key ends: `round-0007` covers `round-0007` and
        `round-0007/...`, not `round-00071/...`. The prefix `""` covers everything.
        """
        ...

    def delete(self, prefix: str) -> None:
        """Remove what `list(prefix)` lists; nothing there is fine, the prefix `""` is refused."""
        ...

    def uri_of(self, key: str) -> str:
        """The address of one artifact, for people and for tools outside Fedloom."""
        ...


@lru_cache(maxsize=8192)  # a round asks for the same few keys again and again
def check_key(key: str) -> str:
    """The key itself, if it may name an artifact; otherwise ArtifactError (reason `InvalidKey`).

    A key is a relative posix path: parts joined by `/`, none empty, `.` or `..`, no backslash, no
    control character; at most 900 bytes in all and 200 per part, so that it fits S3 and any disk.
    """
    problem = None if _PLAIN.fullmatch(key) and len(key) <= PART_LIMIT_BYTES else _problem_of(key)
    if problem:
        raise ArtifactError("InvalidKey", f"key {key[:120]!r}: {problem}")
    return key


def _problem_of(key: str) -> str | None:
    try:
        size_bytes = len(key.encode())
    except UnicodeEncodeError:
        return "got a lone surrogate, expected valid Unicode"
    if size_bytes > KEY_LIMIT_BYTES:
        return f"got {size_bytes} bytes, expected at most {KEY_LIMIT_BYTES}"
    if "\\" in key or any(ord(letter) < 32 or ord(letter) == 127 for letter in key):
        return "got a backslash or a control character, expected neither"
    return next(filter(None, map(_problem_of_part, key.split("/"))), None)


def _problem_of_part(part: str) -> str | None:
    if part in ("", ".", ".."):
        return f"got the part {part!r}, expected a relative path of plain names"
    if len(part.encode()) > PART_LIMIT_BYTES:
        return f"got a part of {len(part.encode())} bytes, expected at most {PART_LIMIT_BYTES}"
    if part.startswith(TEMPORARY_PREFIX):
        return f"got a part that starts with {TEMPORARY_PREFIX!r}, which is kept for the store"
    return None


def check_prefix(prefix: str) -> str:
    """A prefix without its closing slash; `""` (everything) or anything `check_key` takes."""
    return check_key(prefix.removesuffix("/")) if prefix else ""


def check_digest(place: str, got: str, expected: str | None) -> None:
    """Raise CorruptArtifactError unless the bytes at `place` have the digest that was promised."""
    if expected is not None and got != expected:
        raise CorruptArtifactError(f"{place}: got digest {got}, expected {expected}")
