"""The compressed update as a safetensors file: written on the edge, read block by block in the cloud.

A tensor `w` of the model becomes the parts of its codec, named `w:<part>`; the header's metadata says which
codec each tensor went through. Integer and boolean tensors, and float64 (where a model keeps it, it is
for a reason), are sent as they are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import numpy as np

from fedloom.algorithms.compression.protocol import Codec
from fedloom.algorithms.compression.registry import codec as make_codec
from fedloom.algorithms.layout import Layout, TensorSpec, accumulator_dtype
from fedloom.artifacts.arrays import ArrayFile, dump_arrays
from fedloom.errors import UpdateError

Array = np.ndarray[Any, Any]
METADATA_KEY = "fedloom.update"
_PLAIN_PART = "values"  # of the codec `none`


def delta_of(new: Mapping[str, Array], old: Mapping[str, Array]) -> dict[str, Array]:
    """Subtract in the accumulator dtype: float32 for float16/32, float64 for the rest."""
    deltas = {}
    for name, array in new.items():
        dtype = accumulator_dtype(array.dtype)
        deltas[name] = array.astype(dtype, copy=False) - old[name].astype(dtype, copy=False)
    return deltas


def write_update(
    deltas: Mapping[str, Array], codec: str, parameters: Mapping[str, Any], rng: np.random.Generator
) -> bytes:
    """Encode every delta and give the bytes of the update file. Sorted by name: the same draws each time."""
    chosen, plain = make_codec(codec, parameters), make_codec("none", {})
    parts: dict[str, Array] = {}
    codecs: dict[str, str] = {}
    for name in sorted(deltas):
        used = chosen if is_compressible(deltas[name].dtype) else plain
        codecs[name] = used.name
        for part, values in used.encode(deltas[name].reshape(-1), rng).items():
            parts[f"{name}:{part}"] = values
    description = {"codec": codec, "parameters": dict(parameters), "tensors": codecs}
    return dump_arrays(parts, {METADATA_KEY: json.dumps(description, sort_keys=True)})


def is_compressible(delta_dtype: np.dtype[Any]) -> bool:
    return delta_dtype == np.float32


class UpdateFile:
    """A verified update file as an `UpdateSource`: elements of the decoded delta on demand.

    It owns `file`. Raises UpdateError("MalformedUpdate") when the file is not the update of a model
    with this layout through this codec.
    """

    def __init__(
        self, file: ArrayFile, layout: Layout, codec: str, parameters: Mapping[str, Any]
    ) -> None:
        self._file = file
        self._parts = _Parts(self._file)
        self._layout = layout
        self._codec = make_codec(codec, parameters)
        self._plain = make_codec("none", {})
        try:
            self._check(codec)
        except BaseException:
            self.close()
            raise

    def read(self, name: str, start: int, stop: int, scratch: Array) -> Array:
        """Decode elements [start, stop) of the flattened delta of `name` into `scratch`."""
        spec = self._layout[name]
        codec = self._codec_of(spec)
        out = scratch[: stop - start]
        if codec.name == "none":
            return self._read_plain(name, start, out)
        self._parts.name = name
        codec.decode(self._parts, spec.size, start, stop, out)
        return out

    def _read_plain(self, name: str, start: int, out: Array) -> Array:
        """What was sent as it is needs no decoding: in memory not even a copy."""
        key = f"{name}:{_PLAIN_PART}"
        whole = self._file.view(key)
        if whole is not None:
            return whole[start : start + out.size]
        self._file.read_into(key, start, out)
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

    def _codec_of(self, spec: TensorSpec) -> Codec:
        return self._codec if is_compressible(accumulator_dtype(spec.dtype)) else self._plain

    def _check(self, codec: str) -> None:
        try:
            description = json.loads(self._file.metadata.get(METADATA_KEY, ""))
            claimed = description["codec"]
        except (ValueError, KeyError, TypeError):
            raise UpdateError(
                "MalformedUpdate", "the file does not say how it was encoded"
            ) from None
        if claimed != codec:
            raise UpdateError("MalformedUpdate", f"codec: got {claimed!r}, expected {codec!r}")
        found: dict[str, dict[str, TensorSpec]] = {name: {} for name in self._layout}
        for key, info in self._file.tensors.items():
            name, _, part = key.rpartition(":")
            if name not in found:
                raise UpdateError(
                    "MalformedUpdate", f"tensor {key!r} belongs to no tensor of the model"
                )
            found[name][part] = TensorSpec(tuple(info.shape), info.dtype)
        for name, spec in self._layout.items():
            self._codec_of(spec).check(found[name], spec.size)


class _Parts:
    """The parts of the tensor `name`, read from the file on demand, each time into the same memory."""

    def __init__(self, file: ArrayFile) -> None:
        self._file = file
        self._buffers: dict[tuple[str, np.dtype[Any]], Array] = {}
        self.name = ""

    def read(self, part: str, start: int, stop: int) -> Array:
        key = f"{self.name}:{part}"
        dtype = self._file.tensors[key].dtype
        buffer = self._buffers.get((part, dtype))
        if buffer is None or buffer.size < stop - start:
            buffer = self._buffers[part, dtype] = np.empty(stop - start, dtype)
        out = buffer[: stop - start]
        self._file.read_into(key, start, out)
        return out
