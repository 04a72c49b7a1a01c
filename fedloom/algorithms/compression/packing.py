"""What of an update a codec sees as one tensor: each tensor by itself, or all of them as one.

A codec that `is_whole` gets all tensors that go through it behind one another, in the order of their
names, as one flat vector. So it spends what it may send on the layers that changed most, where a
fraction of every tensor would give each layer the same share. Tensors that no codec takes stand alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fedloom.algorithms.compression.protocol import Codec, Shape
from fedloom.algorithms.layout import Array, Layout, TensorSpec, accumulator_dtype


@dataclass(frozen=True, slots=True)
class Unit:
    """What is encoded or stored as one.

    Attributes:
        name: of its first tensor.
        shape: as which a codec sees it.
        tensors: its tensors, sorted by name.
        is_encoded: whether it goes through the codec; else its values are stored as they are.
    """

    name: str
    shape: Shape
    tensors: tuple[str, ...]
    is_encoded: bool


class Packing:
    """The units of an update or of a model's change, sorted by name, and where in them tensors lie.

    Args:
        codec: through which the tensors go.
        layout: of the model or of the deltas: both give the same units.
    """

    def __init__(self, codec: Codec, layout: Layout) -> None:
        names = sorted(layout)
        joined = [name for name in names if codec.is_whole and is_encoded(layout[name])]
        units = {
            name: Unit(name, layout[name].shape, (name,), is_encoded(layout[name]))
            for name in names
        }
        self._places = {name: (unit, 0) for name, unit in units.items()}
        if joined:
            size = sum(layout[name].size for name in joined)
            whole = Unit(joined[0], (size,), tuple(joined), is_encoded=True)
            offset = 0
            for name in joined:
                del units[name]
                self._places[name] = whole, offset
                offset += layout[name].size
            units[whole.name] = whole
        self.units = tuple(units[name] for name in sorted(units))

    def place(self, name: str) -> tuple[Unit, int]:
        """Give the unit of a tensor, and the flat index in it of the tensor's first element."""
        return self._places[name]

    def pack(self, unit: Unit, arrays: Mapping[str, Array]) -> Array:
        """Give a unit of arrays in memory, in its shape: a tensor as it is, or several copied."""
        if len(unit.tensors) == 1:
            return arrays[unit.name].reshape(unit.shape)
        return np.concatenate([arrays[name].reshape(-1) for name in unit.tensors])

    def unpack(self, unit: Unit, values: Array, layout: Layout) -> dict[str, Array]:
        """Give the tensors of a unit, each in its own shape: views of `values`, flat or not."""
        flat, arrays = values.reshape(-1), {}
        for name in unit.tensors:
            spec, (_, offset) = layout[name], self._places[name]
            arrays[name] = flat[offset : offset + spec.size].reshape(spec.shape)
        return arrays


def is_encoded(spec: TensorSpec) -> bool:
    """Whether a tensor's delta goes through a codec: that of float16 and float32, which is float32.

    float64 does not: where a model keeps it, it is for a reason.
    """
    return accumulator_dtype(spec.dtype) == np.float32
