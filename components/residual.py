"""What a client remembers of its updates that did not reach the server: kept on its node, by round.

`<folder>/residual-0007-<digest>.safetensors` is written when the update of round 7 is made and holds both
states that can come of it: `kept.<slot>/<tensor>` for an accepted update, where only what the codec lost
is left to be sent, and `lost.<slot>/<tensor>` for one that no round accepted, where all of it is. Which
of the two counts is settled when the client takes part again. A round that is run once more, after a
failed attempt or a kill, starts from the file of the round before and so gives the same bits.
"""

from __future__ import annotations

import re
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from components.update_file import Array
from fedloom.algorithms.compression.feedback import Feedback
from fedloom.artifacts.arrays import ArrayFile, ArrayFileWriter
from fedloom.artifacts.artifact import digest_of_file
from fedloom.errors import ArtifactError, CorruptArtifactError

_NAME = re.compile(r"residual-(\d{4,})-([0-9a-f]{32})\.safetensors")
_NONE = "none"
State = dict[str, Array]


class Residual:
    """The memory of one client in one round; a context that closes the file it reads from.

    Args:
        folder: what Fedloom keeps on the node for this client.
        feedback: what is remembered.
        number: the round that the update belongs to.
        accepted: digest of the client's last update that a round accepted, or None.

    Attributes:
        notice: why the memory begins anew though it should not; empty as a rule.
    """

    def __init__(self, folder: Path, feedback: Feedback, number: int, accepted: str | None) -> None:
        self.notice = ""
        self._folder = folder
        self._feedback = feedback
        self._number = number
        self._accepted = accepted or _NONE
        self._stack = ExitStack()
        self._file: ArrayFile | None = None
        self._fate = ""
        self._before: dict[str, State] = {}
        self._after: dict[str, Array] = {}
        self._settle()

    def outgoing(self, name: str, delta: Array) -> Array:
        """Give what is to be encoded in place of a tensor's delta."""
        before = {slot: self._read(slot, name, delta) for slot in self._feedback.slots}
        self._before[name] = before
        return self._feedback.outgoing(delta, before)

    def keep(self, name: str, outgoing: Array, decoded: Array) -> None:
        """Take in what the server will make of a tensor."""
        before = self._before.pop(name)
        fates = {"kept": decoded, "lost": np.zeros_like(decoded)}
        for fate, arrived in fates.items():
            for slot, values in self._feedback.kept(outgoing, arrived, before).items():
                self._after[f"{fate}.{slot}/{name}"] = values

    def store(self, digest: str) -> None:
        """Write down what is remembered of the update `digest`, before anybody may use that."""
        self._stack.close()
        self._folder.mkdir(parents=True, exist_ok=True)
        metadata = {"update": digest, "accepted": self._accepted}
        layout = {name: (array.dtype, array.shape) for name, array in self._after.items()}
        draft = self._folder / "residual.part"
        with ArrayFileWriter(draft, layout, metadata) as writer:
            for name, array in self._after.items():
                writer.write(name, 0, array.reshape(-1))
            _, own = writer.close()
        files = self._files()
        start = max((number for number, _ in files if number < self._number), default=-1)
        for number, path in files:
            if number != start:  # from which a repetition of this round starts
                path.unlink()
        draft.replace(self._folder / f"residual-{self._number:04d}-{_short(own)}.safetensors")

    def __enter__(self) -> Residual:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _settle(self) -> None:
        """Find the last update before this round, and what became of it."""
        files = [file for file in self._files() if file[0] < self._number]
        if not files:
            if self._accepted != _NONE:
                self._forget("there is none")
            return
        path = files[-1][1]
        try:
            if _short(digest_of_file(path)) != path.stem.rpartition("-")[2]:
                raise CorruptArtifactError(f"{path.name} is damaged")
            file = self._stack.enter_context(ArrayFile(path))
        except (ArtifactError, OSError) as error:
            self._forget(str(error))
            return
        self._file = file
        if file.metadata.get("update") == self._accepted:
            self._fate = "kept"
        elif file.metadata.get("accepted") == self._accepted:
            self._fate = "lost"
        else:
            self._forget(f"{path.name} is not of the client's last update")

    def _forget(self, why: str) -> None:
        """Begin anew: a bounded loss, where a client that cannot go on would be lost for good."""
        self._file = None
        self.notice = (
            f"what earlier updates had left to be sent is lost, error feedback begins anew: {why}"
        )

    def _read(self, slot: str, name: str, like: Array) -> Array:
        key = f"{self._fate}.{slot}/{name}"
        if self._file is None:
            return np.zeros(like.shape, like.dtype)
        info = self._file.tensors.get(key)
        if info is None or info.shape != like.shape or info.dtype != like.dtype:
            self._forget(f"it holds no {key!r} of {like.dtype}{list(like.shape)}")
            return np.zeros(like.shape, like.dtype)
        return self._file.read(key)

    def _files(self) -> list[tuple[int, Path]]:
        """Give the files with their rounds, in order."""
        if not self._folder.is_dir():
            return []
        found = ((_NAME.fullmatch(path.name), path) for path in self._folder.iterdir())
        return sorted((int(match[1]), path) for match, path in found if match)


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:32]
