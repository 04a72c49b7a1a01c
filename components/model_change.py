"""The change from one model to the next as it goes down to the clients: a file like an update's.

Tensors of float16 and float32 change by what the codec keeps of a difference, of each by itself or of all
as one (`packing`); of all other types the new values themselves are there. What stays as it was has no
parts. Whoever applies the file, block by block, to the model it was made for gets the same bits as
everybody else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import numpy as np

from components.part_file import PartFile, Parts, of_what
from components.update_file import Array, Encoding
from fedloom.algorithms.compression.packing import Packing, Unit
from fedloom.algorithms.compression.protocol import Codec, PartReader
from fedloom.algorithms.layout import Layout, TensorSpec
from fedloom.algorithms.optimizers.casting import to_dtype
from fedloom.artifacts.arrays import ArrayFile
from fedloom.errors import UpdateError

VALUES = "values"
_LAYOUT = "layout"


def apply_difference(
    codec: Codec, parts: PartReader, unit: Unit, start: int, values: Array
) -> Array:
    """Give a stretch of a tensor after its change.

    Args:
        codec: that the parts are of.
        parts: of the difference of the tensor's unit.
        unit: that the tensor is in.
        start: flat index of the first element in the unit.
        values: what the tensor was there, shape (elements,), its dtype; not written to.
    """
    difference = np.empty(values.size, np.float32)
    codec.decode(parts, unit.shape, start, start + values.size, difference)
    with np.errstate(over="ignore", invalid="ignore"):
        np.add(difference, values, out=difference)
    return to_dtype(difference, values.dtype)


def described(layout: Layout) -> dict[str, str]:
    """Give the metadata that tells of a layout to whoever holds no model yet."""
    shapes = {name: [layout[name].dtype.str, *layout[name].shape] for name in sorted(layout)}
    return {_LAYOUT: json.dumps(shapes, separators=(",", ":"))}


def layout_in(metadata: Mapping[str, str], size_bytes: int) -> Layout:
    """Read what `described` gave; the model takes no more than `size_bytes`.

    Raises UpdateError("MalformedUpdate") for anything else.
    """
    try:
        entries = json.loads(metadata.get(_LAYOUT, "")).items()
        layout = {
            name: TensorSpec(tuple(map(int, shape)), np.dtype(dtype))
            for name, (dtype, *shape) in entries
        }
    except (ValueError, TypeError, AttributeError) as error:
        raise UpdateError("MalformedUpdate", f"layout: {error}") from error
    claimed = sum(spec.size_bytes for spec in layout.values())
    if not 0 <= claimed <= size_bytes:
        message = f"layout: got a model of {claimed} bytes, expected at most {size_bytes}"
        raise UpdateError("MalformedUpdate", message)
    return layout


class ChangeFile:
    """A verified change; it owns `file`.

    Raises UpdateError("MalformedUpdate") where it is no change of such a model through this codec.
    """

    def __init__(self, file: ArrayFile, layout: Layout, encoding: Encoding) -> None:
        self._file = file
        self._layout = layout
        self._codec = encoding.make()
        try:
            expected = encoding.metadata(layout)
            for got, value in (
                (file.metadata.get("codec"), expected["codec"]),
                (of_what(file.metadata), of_what(expected)),
            ):
                if got != value:
                    raise UpdateError("MalformedUpdate", f"got {got!r}, expected {value!r}")
            self._packing = Packing(self._codec, layout)
            self._parts = PartFile(file, [unit.name for unit in self._packing.units])
            for unit in self._packing.units:
                self._check_parts(unit)
        except BaseException:
            self.close()
            raise

    def apply(self, name: str, start: int, values: Array) -> Array:
        """Give a stretch of a tensor after the change; `values`: before it, flat, may be written to."""
        unit, offset = self._packing.place(name)
        if not self._parts.layout_of(unit.name):
            return values
        parts: Parts = self._parts.parts_of(unit.name)
        if unit.is_encoded:
            return apply_difference(self._codec, parts, unit, offset + start, values)
        return parts.read_into(VALUES, start, values)

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> ChangeFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _check_parts(self, unit: Unit) -> None:
        got = self._parts.layout_of(unit.name)
        if got and unit.is_encoded:
            self._codec.check(got, unit.shape)
        elif got:
            spec = self._layout[unit.name]
            expected: dict[str, Any] = {VALUES: TensorSpec((spec.size,), spec.dtype)}
            if got != expected:
                message = f"tensor {unit.name!r}: got parts {got}, expected {expected}"
                raise UpdateError("MalformedUpdate", message)
