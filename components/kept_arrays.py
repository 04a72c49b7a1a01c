"""Arrays that Fedloom keeps on a client's node from one accepted update of the client to the next.

`<folder>/own-0007-<digest>.safetensors` is written when the update of round 7 is made, and counts once a
later round says that this update was accepted. Until then the file of the last accepted update stays
beside it, so a round that failed, was killed or left the client out starts again from the same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from components.outcome import Arrays
from fedloom.algorithms.layout import Array
from fedloom.artifacts.arrays import ArrayFile, dump_arrays, load_arrays
from fedloom.artifacts.artifact import digest_of
from fedloom.errors import ArtifactError, CorruptArtifactError, UpdateError

_NAME = re.compile(r"own-(\d{4,})-([0-9a-f]{32})\.safetensors")


class KeptArrays:
    """What one client keeps in one round.

    Args:
        folder: what Fedloom keeps on the node for this client; it may not exist yet.
        number: the round that begins.
        accepted: digest of the client's last update that a round accepted, or None.
    """

    def __init__(self, folder: Path, number: int, accepted: str | None) -> None:
        self._folder = folder
        self._number = number
        self._accepted = accepted
        self._start: Path | None = None

    def load(self) -> Arrays | None:
        """Give what was kept with the accepted update; None for a client that had none accepted.

        Raises UpdateError("EdgeStateLost" | "EdgeStateDamaged").
        """
        if self._accepted is None:
            return None
        for path in reversed(self._files()):
            match = _NAME.fullmatch(path.name)
            if match and int(match[1]) < self._number and self._is_of_accepted(path):
                self._start = path
                return _read(path, match[2])
        raise UpdateError(
            "EdgeStateLost",
            f"{self._folder.name}: what the client kept with its last accepted update is gone from "
            "its node",
        )

    def store(self, arrays: Mapping[str, Array], digest: str) -> None:
        """Keep `arrays` for the case that the update `digest` is accepted."""
        self._folder.mkdir(parents=True, exist_ok=True)
        data = dump_arrays(arrays, {"update": digest})
        draft = self._folder / "own.part"
        draft.write_bytes(data)
        for path in self._files():
            if path != self._start:
                path.unlink()
        name = f"own-{self._number:04d}-{_short(digest_of(data))}.safetensors"
        draft.replace(self._folder / name)

    def _files(self) -> list[Path]:
        if not self._folder.is_dir():
            return []
        return sorted(path for path in self._folder.iterdir() if _NAME.fullmatch(path.name))

    def _is_of_accepted(self, path: Path) -> bool:
        try:
            with ArrayFile(path) as file:
                return file.metadata.get("update") == self._accepted
        except ArtifactError:
            return False


def _read(path: Path, expected: str) -> Arrays:
    try:
        data = path.read_bytes()
        if _short(digest_of(data)) != expected:
            raise CorruptArtifactError("its digest is not that of its name")
        return load_arrays(data)[0]
    except (ArtifactError, OSError) as error:
        raise UpdateError("EdgeStateDamaged", f"{path.name}: {error}") from error


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:32]
