"""broadcast (cloud): make of the new model what goes down to the clients, a change of what they hold.

The clients do not hold the global model M but V, which follows it: after round r the server encodes the
difference C(M[r] - V[r-1]) and V[r] = V[r-1] + C(...). What the codec loses in one round is therefore part
of the next one's difference: the way down has its error feedback without anybody keeping a residual.
Sattler et al., "Robust and Communication-Efficient Federated Learning from Non-IID Data" (STC), arXiv
1903.02891, section on downstream compression; Tang et al., "DoubleSqueeze", arXiv 1905.05957.

Before the first round clients hold nothing, which is zeros everywhere: V[0] = C(M[0]) for a C that is dense.
Where the change is not smaller than the model itself, or the codec cannot hold it, clients get the model.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np

from components.command import run_command
from components.model_change import VALUES, apply_difference, described
from components.part_file import PartWriter
from components.request import Place, Request
from components.update_file import Array, Encoding
from fedloom.algorithms.compression.packing import Packing, Unit
from fedloom.algorithms.compression.protocol import ArrayParts, Codec, size_of
from fedloom.algorithms.layout import BLOCK_ELEMENTS, TensorSpec, check_finite
from fedloom.artifacts.arrays import ArrayFile, ArrayFileWriter
from fedloom.artifacts.artifact import Artifact
from fedloom.errors import UpdateError

HELD, CHANGE = "broadcast", "model-delta"
_MEMORY_BYTES = 4 * 1024 * 1024  # a model up to this size is assembled in memory, not on disk


def run(
    request: Request, place: Place, model: Artifact, *, is_durable: bool = True
) -> dict[str, Artifact]:
    """Give the states of the server after the round: the model that clients hold and, beside it, the change.

    `broadcast` is the model that clients hold from now on, `model-delta` the change that leads there
    from the one before; that one is missing where clients are to fetch the model as it is.
    """
    small = model.size_bytes <= _MEMORY_BYTES
    folder = place.memory if small else place.work
    held, change = folder / "next-broadcast.safetensors", folder / "next-model-delta.safetensors"
    try:
        with ExitStack() as stack:
            new = stack.enter_context(ArrayFile(_fetch(place, model.key, model.digest)))
            before = request.inputs.get(HELD)
            old = None
            if before is not None:
                old = stack.enter_context(ArrayFile(_fetch(place, before["key"], before["digest"])))
            settings = request.settings
            encoding = Encoding(
                settings["codec"], settings["parameters"], settings["lossless"], request.round
            )
            writer = _Difference(new, old, encoding, settings["seed"])
            change_bytes = writer.write(held, change, None if small else folder)
        if change_bytes >= model.size_bytes:
            return {HELD: model}
        drafts = {HELD: held, CHANGE: change}
        return {
            name: place.store.put_file(
                request.outputs[name], path, replace=True, durable=is_durable
            )
            for name, path in drafts.items()
        }
    except UpdateError:  # no number that the codec or a tensor can hold: the model itself is one
        return {HELD: model}
    finally:
        held.unlink(missing_ok=True)
        change.unlink(missing_ok=True)


def _fetch(place: Place, key: str, digest: str) -> Path:
    return place.store.materialize(key, place.work / "models", digest=digest)


class _Difference:
    """From what clients hold to the new model, unit by unit."""

    def __init__(
        self, new: ArrayFile, old: ArrayFile | None, encoding: Encoding, seed: int
    ) -> None:
        self._new = new
        self._old = old
        self._encoding = encoding
        self._codec: Codec = encoding.make()
        self._rng = np.random.Generator(np.random.PCG64(seed))
        self._layout = {
            name: TensorSpec(info.shape, info.dtype) for name, info in new.tensors.items()
        }
        self._packing = Packing(self._codec, self._layout)

    def write(self, held: Path, change: Path, folder: Path | None) -> int:
        """Write what clients will hold and the change that leads there; give the change's size in bytes.

        `folder` is for what is too large for memory.
        """
        shapes = {name: (spec.dtype, spec.shape) for name, spec in self._layout.items()}
        with (
            PartWriter(self._encoding.lossless, folder) as parts,
            ArrayFileWriter(held, shapes) as writer,
        ):
            for unit in self._packing.units:
                made = self._encoded(unit, folder) if unit.is_encoded else self._plain(unit.name)
                parts.add(made)
                for name, start, values in self._after(unit, made):
                    writer.write(name, start, values)
            writer.close()
            metadata = self._encoding.metadata(self._layout)
            if self._old is None:  # a client that holds nothing does not even know the names
                metadata |= described(self._layout)
            return parts.write(change, metadata)

    def _encoded(self, unit: Unit, folder: Path | None) -> dict[str, Array]:
        difference = _scratch(size_of(unit.shape), folder)
        for name in unit.tensors:
            _, offset = self._packing.place(name)
            for start, old, new in self._blocks(name):
                stretch = difference[offset + start : offset + start + old.size]
                with np.errstate(over="ignore"):  # refused by the codec
                    np.subtract(new, old, out=stretch, dtype=np.float32)
        if not difference.any():
            return {}
        return self._codec.encode(difference.reshape(unit.shape), self._rng)

    def _plain(self, name: str) -> dict[str, Array]:
        is_same = all(old.tobytes() == new.tobytes() for _, old, new in self._blocks(name))
        return {} if is_same else {VALUES: self._new.read(name).reshape(-1)}

    def _after(self, unit: Unit, parts: dict[str, Array]) -> Iterator[tuple[str, int, Array]]:
        """What clients make of the parts."""
        reader = ArrayParts(parts)
        for name in unit.tensors:
            _, offset = self._packing.place(name)
            for start, old, new in self._blocks(name):
                if not parts:
                    yield name, start, old
                elif unit.is_encoded:
                    values = apply_difference(self._codec, reader, unit, offset + start, old)
                    check_finite(name, [values])
                    yield name, start, values
                else:
                    yield name, start, new

    def _blocks(self, name: str) -> Iterator[tuple[int, Array, Array]]:
        spec = self._layout[name]
        for start in range(0, spec.size, BLOCK_ELEMENTS):
            size = min(BLOCK_ELEMENTS, spec.size - start)
            old, new = np.zeros(size, spec.dtype), np.empty(size, spec.dtype)
            if self._old is not None:
                self._old.read_into(name, start, old)
            self._new.read_into(name, start, new)
            yield start, old, new


def _scratch(size: int, folder: Path | None) -> Array:
    """Give float32 memory: of a nameless file in `folder` where it is much."""
    if folder is None or 4 * size <= _MEMORY_BYTES:
        return np.empty(size, np.float32)
    with TemporaryFile(dir=folder) as file:
        return np.memmap(file, np.float32, "w+", shape=(size,))


def _run_as_command(request: Request, place: Place) -> dict[str, Any]:
    """Take the model that aggregate left in the work folder; leave what clients get beside it."""
    from components.aggregate import Aggregated

    path = place.work / "aggregated.json"
    document = json.loads(path.read_bytes())
    found = Aggregated.of(document)
    if found.model is None:
        return {"change": None}  # commit says why
    found.states |= run(request, place, found.model)
    path.write_text(json.dumps(document | found.to_document()))
    change = found.states.get(CHANGE)
    return {"change": None if change is None else change.key}


if __name__ == "__main__":
    run_command("broadcast", _run_as_command)
