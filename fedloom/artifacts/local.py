"""A store in a folder of this machine."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from fedloom.artifacts.artifact import (
    Artifact,
    digest_of,
    digest_of_file,
    digest_of_sha256,
    new_block,
)
from fedloom.artifacts.files import NewFile, disk_error, read_at, remove_if_there
from fedloom.artifacts.store import TEMPORARY_PREFIX, check_digest, check_key, check_prefix
from fedloom.errors import ArtifactError, ArtifactNotFoundError

_ABSENT = (FileNotFoundError, NotADirectoryError, IsADirectoryError)


class LocalStore:
    """Artifacts as files below `root`, one per key; the folder is made by the first put.

    A digest is checked where the reader gives one; the folder itself keeps none.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root).absolute()
        self._base = str(self.root).rstrip("/") + "/"

    def __repr__(self) -> str:
        return f"LocalStore({str(self.root)!r})"

    @property
    def uri(self) -> str:
        return self.root.as_uri()

    def uri_of(self, key: str) -> str:
        return (self.root / check_key(key)).as_uri()

    def put(
        self, key: str, data: bytes, *, replace: bool = False, durable: bool = False
    ) -> Artifact:
        target = self._base + check_key(key)
        artifact = Artifact(key, len(data), digest_of(data))
        with NewFile(target, len(data)) as file:
            file.write(data)
            is_new = file.publish(replace=replace, durable=durable)
        if not is_new:
            self._refuse_other_bytes(artifact)
        return artifact

    def put_file(
        self, key: str, path: Path, *, replace: bool = False, durable: bool = False
    ) -> Artifact:
        target = self._base + check_key(key)
        sha = sha256()
        try:
            source = open(path, "rb", buffering=0)  # noqa: SIM115 (closed by the with below)
        except OSError as error:
            raise disk_error(error, path) from error
        with source:
            size_bytes = os.fstat(source.fileno()).st_size
            with NewFile(target, size_bytes) as file:
                written = 0
                for block in _blocks_of(source.fileno()):
                    sha.update(block)
                    file.write(block)
                    written += len(block)
                is_new = file.publish(replace=replace, durable=durable)
        artifact = Artifact(key, written, digest_of_sha256(sha.hexdigest()))
        if not is_new:
            self._refuse_other_bytes(artifact)
        return artifact

    def _refuse_other_bytes(self, artifact: Artifact) -> None:
        path = self._base + artifact.key
        try:
            there = digest_of_file(path)
        except OSError as error:
            raise disk_error(error, path) from error
        if there != artifact.digest:
            raise ArtifactError(
                "ArtifactExists",
                f"{path} holds other bytes already: got {artifact.digest}, there is {there}; "
                "artifacts are never overwritten",
            )

    def get(self, key: str, *, digest: str | None = None) -> bytes:
        path = self._base + check_key(key)
        try:
            with open(path, "rb", buffering=0) as file:
                data = file.read()
        except _ABSENT as error:
            raise ArtifactNotFoundError(key) from error
        except OSError as error:
            raise disk_error(error, path) from error
        if digest is not None:
            check_digest(path, digest_of(data), digest)
        return data

    def materialize(self, key: str, folder: Path, *, digest: str | None = None) -> Path:
        path = self._base + check_key(key)
        if digest is None:
            if not os.path.isfile(path):
                raise ArtifactNotFoundError(key)
            return Path(path)
        try:
            got = digest_of_file(path)
        except _ABSENT as error:
            raise ArtifactNotFoundError(key) from error
        except OSError as error:
            raise disk_error(error, path) from error
        check_digest(path, got, digest)
        return Path(path)

    def read(self, key: str, offset: int, length: int) -> bytes:
        if offset < 0 or length < 0:
            raise ValueError(f"got offset {offset}, length {length}, expected neither below 0")
        path = self._base + check_key(key)
        try:
            with open(path, "rb", buffering=0) as file:
                # Never more than the file has: a wrong length costs an error, not memory.
                there = max(0, min(length, os.fstat(file.fileno()).st_size - offset))
                data = bytearray(there)
                read_at(file.fileno(), offset, memoryview(data), path)
                if there < length:  # one byte more than there is: says what is missing
                    read_at(file.fileno(), offset + there, memoryview(bytearray(1)), path)
        except _ABSENT as error:
            raise ArtifactNotFoundError(key) from error
        except OSError as error:
            raise disk_error(error, path) from error
        return bytes(data)

    def exists(self, key: str) -> bool:
        return os.path.isfile(self._base + check_key(key))

    def list(self, prefix: str) -> list[str]:
        prefix = check_prefix(prefix)
        start = self._base + prefix
        if prefix and os.path.isfile(start):
            return [prefix]
        try:
            return sorted(_keys_below(start.rstrip("/"), prefix))
        except OSError as error:
            raise disk_error(error, start) from error

    def delete(self, prefix: str) -> None:
        prefix = check_prefix(prefix)
        if not prefix:
            raise ArtifactError("InvalidKey", f"delete: got an empty prefix, would empty {self!r}")
        path = self._base + prefix
        try:
            if os.path.isdir(path):
                shutil.rmtree(path)
            else:
                remove_if_there(path)
        except OSError as error:
            raise disk_error(error, path) from error


def _blocks_of(descriptor: int) -> Iterator[memoryview]:
    block = new_block(descriptor)
    view = memoryview(block)
    while count := os.readv(descriptor, [block]):
        yield view[:count]


def _keys_below(folder: str, prefix: str) -> Iterator[str]:
    try:
        entries = list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        key = f"{prefix}/{entry.name}" if prefix else entry.name
        if entry.is_dir():
            yield from _keys_below(entry.path, key)
        elif not entry.name.startswith(TEMPORARY_PREFIX):
            yield key
