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
from typing import Any

import numpy as np

from components.command import run_command
from components.model_change import VALUES, apply_difference, described, is_encoded
from components.part_file import PartWriter
from components.request import Place, Request
from components.update_file import Array, Encoding
from fedloom.algorithms.compression.protocol import ArrayParts, Codec
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
    """From what clients hold to the new model, tensor by tensor."""

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

    def write(self, held: Path, change: Path, folder: Path | None) -> int:
        """Write what clients will hold and the change that leads there; give the change's size in bytes.

        `folder` is for parts that are too large for memory.
        """
        shapes = {name: (spec.dtype, spec.shape) for name, spec in self._layout.items()}
        with (
            PartWriter(self._encoding.lossless, folder) as parts,
            ArrayFileWriter(held, shapes) as writer,
        ):
            for name in sorted(self._layout):
                spec = self._layout[name]
                made = self._encoded(name, spec) if is_encoded(spec) else self._plain(name, spec)
                parts.add(made)
                for start, values in self._after(name, spec, made):
                    writer.write(name, start, values)
            writer.close()
            metadata = self._encoding.metadata(self._layout)
            if self._old is None:  # a client that holds nothing does not even know the names
                metadata |= described(self._layout)
            return parts.write(change, metadata)

    def _encoded(self, name: str, spec: TensorSpec) -> dict[str, Array]:
        difference = np.empty(spec.shape, np.float32)
        flat = difference.reshape(-1)
        for start, old, new in self._blocks(name, spec):
            with np.errstate(over="ignore"):  # refused by the codec
                np.subtract(new, old, out=flat[start : start + old.size], dtype=np.float32)
        return self._codec.encode(difference, self._rng) if difference.any() else {}

    def _plain(self, name: str, spec: TensorSpec) -> dict[str, Array]:
        is_same = all(old.tobytes() == new.tobytes() for _, old, new in self._blocks(name, spec))
        return {} if is_same else {VALUES: self._new.read(name).reshape(-1)}

    def _after(
        self, name: str, spec: TensorSpec, parts: dict[str, Array]
    ) -> Iterator[tuple[int, Array]]:
        """What clients make of the parts."""
        reader = ArrayParts(parts)
        for start, old, new in self._blocks(name, spec):
            if not parts:
                yield start, old
            elif is_encoded(spec):
                values = apply_difference(self._codec, reader, spec, start, old)
                check_finite(name, [values])
                yield start, values
            else:
                yield start, new

    def _blocks(self, name: str, spec: TensorSpec) -> Iterator[tuple[int, Array, Array]]:
        for start in range(0, spec.size, BLOCK_ELEMENTS):
            size = min(BLOCK_ELEMENTS, spec.size - start)
            old, new = np.zeros(size, spec.dtype), np.empty(size, spec.dtype)
            if self._old is not None:
                self._old.read_into(name, start, old)
            self._new.read_into(name, start, new)
            yield start, old, new


def _run_as_command(request: Request, place: Place) -> dict[str, Any]:
    """Take the model that aggregate left in the work folder; leave what clients get beside it."""
    from components.aggregate import Aggregated

    path = place.work / "aggregated.json"
    found = Aggregated.of(json.loads(path.read_bytes()))
    if found.model is None:
        return {"change": None}  # commit says why
    found.states |= run(request, place, found.model)
    path.write_text(json.dumps(found.to_document()))
    change = found.states.get(CHANGE)
    return {"change": None if change is None else change.key}


if __name__ == "__main__":
    run_command("broadcast", _run_as_command)
