"""A store that keeps updates apart: they matter until their round is committed, then they are dropped.

An embedded run would otherwise fill the disk with every update of every round, and on a slow disk spend
more time on making files than on learning. Small updates stay in memory-backed files, large ones go to a
scratch folder on disk, everything else to the lasting store.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fedloom.artifacts import layout
from fedloom.artifacts.artifact import Artifact
from fedloom.artifacts.local import LocalStore
from fedloom.artifacts.store import Store


@dataclass(frozen=True)
class Scratch:
    """Where updates wait for the end of their round.

    Attributes:
        memory: a folder of a file system in memory.
        disk: a folder on disk, for what is larger than `memory_limit_bytes`.
        memory_limit_bytes: the largest update that is kept in memory.
    """

    memory: LocalStore
    disk: LocalStore
    memory_limit_bytes: int


class TransientUpdates:
    """`lasting` for all keys but those of updates, which go to `scratch`."""

    def __init__(self, lasting: Store, scratch: Scratch) -> None:
        self._lasting = lasting
        self._scratch = scratch

    @property
    def uri(self) -> str:
        return self._lasting.uri

    def uri_of(self, key: str) -> str:
        return self._home(key).uri_of(key)

    def put(
        self, key: str, data: bytes, *, replace: bool = False, durable: bool = False
    ) -> Artifact:
        home = self._home_for(key, len(data))
        return home.put(key, data, replace=replace, durable=durable)

    def put_file(
        self, key: str, path: Path, *, replace: bool = False, durable: bool = False
    ) -> Artifact:
        home = self._home_for(key, path.stat().st_size)
        return home.put_file(key, path, replace=replace, durable=durable)

    def get(self, key: str, *, digest: str | None = None) -> bytes:
        return self._home(key).get(key, digest=digest)

    def materialize(self, key: str, folder: Path, *, digest: str | None = None) -> Path:
        return self._home(key).materialize(key, folder, digest=digest)

    def read(self, key: str, offset: int, length: int) -> bytes:
        return self._home(key).read(key, offset, length)

    def exists(self, key: str) -> bool:
        return self._home(key).exists(key)

    def list(self, prefix: str) -> list[str]:
        return sorted(key for home in self._homes() for key in home.list(prefix))

    def delete(self, prefix: str) -> None:
        for home in self._homes():
            home.delete(prefix)

    def _homes(self) -> tuple[Store, ...]:
        return self._lasting, self._scratch.memory, self._scratch.disk

    def _home_for(self, key: str, size_bytes: int) -> Store:
        if not layout.is_update(key):
            return self._lasting
        is_small = size_bytes <= self._scratch.memory_limit_bytes
        return self._scratch.memory if is_small else self._scratch.disk

    def _home(self, key: str) -> Store:
        if not layout.is_update(key):
            return self._lasting
        return self._scratch.memory if self._scratch.memory.exists(key) else self._scratch.disk
