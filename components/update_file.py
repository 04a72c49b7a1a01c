"""The compressed update as a safetensors file: written on the edge, read block by block in the cloud.

The parts that the codec makes of the deltas, of each tensor by itself or of all as one (`packing`), lie as
`part_file` says; the header's metadata names the codec, the model's fingerprint and the round, so that no
two rounds' updates are the same bytes. Deltas of integer and boolean tensors, and of float64, are sent as
they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol

import numpy as np

from components.part_file import OF, PartFile, PartWriter, fingerprint, of_what
from fedloom.algorithms.compression.packing import Packing, Unit
from fedloom.algorithms.compression.protocol import ArrayParts, Codec
from fedloom.algorithms.compression.registry import codec as make_codec
from fedloom.algorithms.layout import (
    BLOCK_ELEMENTS,
    Layout,
    accumulator_dtype,
    layout_of,
)
from fedloom.artifacts.arrays import ArrayFile
from fedloom.errors import UpdateError

Array = np.ndarray[Any, Any]
_PLAIN_PART = "values"  # of the codec `none`


@dataclass(frozen=True)
class Encoding:
    """How tensors are encoded: `codec` with its `parameters`, then `lossless` (zstd or none), in a round."""

    codec: str
    parameters: Mapping[str, Any]
    lossless: str = "none"
    round: int = 1

    def make(self) -> Codec:
        """Make the codec."""
        return make_codec(self.codec, self.parameters, self.round)

    def metadata(self, model_layout: Layout) -> dict[str, str]:
        """Say how a file is encoded, and of which model and round it is."""
        return {
            "codec": description_of(self.codec, self.parameters),
            OF: f"{fingerprint(model_layout)}.{self.round}",
        }


def description_of(codec: str, parameters: Mapping[str, Any]) -> str:
    """`topk fraction=0.01`: a codec and its parameters in one line."""
    return " ".join([codec, *(f"{name}={parameters[name]}" for name in sorted(parameters))])


class Memory(Protocol):
    """What a client remembers of values that a codec lost, under the names of `packing`'s units."""

    def outgoing(self, name: str, delta: Array) -> Array:
        """Give what is to be encoded of a unit in place of its delta."""
        ...

    def keep(self, name: str, outgoing: Array, decoded: Array) -> None:
        """Remember what the codec made of it."""
        ...


def delta_of(new: Mapping[str, Array], old: Mapping[str, Array]) -> dict[str, Array]:
    """Subtract in the accumulator dtype: float32 for float16/32, float64 for the rest."""
    deltas = {}
    for name, array in new.items():
        dtype = accumulator_dtype(array.dtype)
        deltas[name] = array.astype(dtype, copy=False) - old[name].astype(dtype, copy=False)
    return deltas


def write_update(
    deltas: Mapping[str, Array],
    encoding: Encoding,
    rng: np.random.Generator,
    memory: Memory | None = None,
) -> bytes:
    """Encode every delta and give the bytes of the update file. Sorted by name: the same draws each time."""
    chosen, plain, layout = encoding.make(), make_codec("none", {}), layout_of(deltas)
    packing = Packing(chosen, layout)
    with PartWriter(encoding.lossless) as writer:
        for unit in packing.units:
            delta = packing.pack(unit, deltas)
            if not unit.is_encoded:
                writer.add(plain.encode(delta, rng))
            elif memory is None:
                writer.add(chosen.encode(delta, rng))
            else:
                outgoing = memory.outgoing(unit.name, delta)
                parts = chosen.encode(outgoing, rng)
                memory.keep(unit.name, outgoing, decoded(chosen, parts, outgoing.shape))
                writer.add(parts)
        return writer.dump(encoding.metadata(layout))


def decoded(codec: Codec, parts: Mapping[str, Array], shape: tuple[int, ...]) -> Array:
    """Decode a whole tensor that was just encoded; float32."""
    values: Array = np.empty(shape, np.float32)
    reader, flat = ArrayParts(parts), values.reshape(-1)
    for start in range(0, flat.size, BLOCK_ELEMENTS):
        stop = min(start + BLOCK_ELEMENTS, flat.size)
        codec.decode(reader, shape, start, stop, flat[start:stop])
    return values


class UpdateFile:
    """A verified update file as an `UpdateSource`: elements of the decoded delta on demand.

    It owns `file`. Raises UpdateError("MalformedUpdate") when the file is not the update of a model
    with this layout through this codec, in this round where one is given.
    """

    def __init__(
        self,
        file: ArrayFile,
        layout: Layout,
        codec: str,
        parameters: Mapping[str, Any],
        round_number: int | None = None,
    ) -> None:
        self._file = file
        self._layout = layout
        self._codec = make_codec(codec, parameters, round_number or 1)
        self._plain = make_codec("none", {})
        try:
            self._check_metadata(description_of(codec, parameters), round_number)
            self._packing = Packing(self._codec, layout)
            self._parts = PartFile(file, [unit.name for unit in self._packing.units])
            for unit in self._packing.units:
                self._check_parts(unit)
        except BaseException:
            self.close()
            raise

    def read(self, name: str, start: int, stop: int, scratch: Array) -> Array:
        """Decode elements [start, stop) of the flattened delta of `name` into `scratch`."""
        unit, offset = self._packing.place(name)
        codec = self._codec_of(unit)
        out = scratch[: stop - start]
        parts = self._parts.parts_of(unit.name)
        if codec.name == "none":  # needs no decoding: in memory not even a copy
            return parts.read_into(_PLAIN_PART, start, out)
        codec.decode(parts, unit.shape, offset + start, offset + stop, out)
        return out

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> UpdateFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _codec_of(self, unit: Unit) -> Codec:
        return self._codec if unit.is_encoded else self._plain

    def _check_metadata(self, description: str, round_number: int | None) -> None:
        metadata = self._file.metadata
        got, expected = metadata.get("codec"), description
        if got != expected:
            raise UpdateError("MalformedUpdate", f"codec: got {got!r}, expected {expected!r}")
        got, expected = of_what(metadata), fingerprint(self._layout)
        if round_number is None:
            got = got.partition(".")[0]
        else:
            expected = f"{expected}.{round_number}"
        if got != expected:
            message = f"model and round: got {got!r}, expected {expected!r}"
            raise UpdateError("MalformedUpdate", message)

    def _check_parts(self, unit: Unit) -> None:
        name, got, codec = unit.name, self._parts.layout_of(unit.name), self._codec_of(unit)
        codec.check(got, unit.shape)
        dtype = accumulator_dtype(self._layout[name].dtype)
        if codec.name == "none" and got[_PLAIN_PART].dtype != dtype:
            message = f"tensor {name!r}: got values of {got[_PLAIN_PART].dtype}, expected {dtype}"
            raise UpdateError("MalformedUpdate", message)
