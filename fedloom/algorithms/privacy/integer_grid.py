"""Updates as integers on one common grid, so that their sum can be taken modulo a power of two.

Secure aggregation adds in a ring: what clients send are unsigned integers, added modulo 2**16, 2**32
or 2**64, and a sum of `clients` values has to fit in the signed integers of that ring. So every value
x becomes q = floor(x / step + u), u uniform in [0, 1): the expected q is x / step, and the mean of
the clients' values is step * sum(q) / clients, off by the rounding alone.

| tensor | levels on either side of 0 | step | ring |
|---|---|---|---|
| float16, float32, codec none | (2**31 - 1) // clients | max_value / levels | 2**32 |
| float16, float32, codec int8 | 127 | max_value / levels | 2**16 up to 258 clients, else 2**32 |
| float64 | 2**48, fewer above 32,767 clients | max_value / levels | 2**64 |
| integers, bool | 2**53, fewer above 1023 clients | 1 | 2**64 |

Values beyond max_value are cut and counted. Integers are differences of counters: they are summed
exactly, and refused where they are too large for that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from fedloom.algorithms.layout import Array, Layout, flat_blocks
from fedloom.errors import UpdateError

Dtype = np.dtype[Any]

RINGS: tuple[Dtype, ...] = tuple(np.dtype(kind) for kind in (np.uint16, np.uint32, np.uint64))
STATISTICS = ("cut_values", "shortened_updates")
"""What clients count of themselves; summed under the same masks, at the end of the ring 2**64."""

_INT8_LEVELS = 127
_TRIES = 8
_MARGIN = 2**-7  # at most, for what the next rounding may add
_ROUNDING = 2**-40  # of the sum of the squares itself
_ALIGNMENT_BYTES = 16  # a block of AES: every ring's mask starts at one


@dataclass(frozen=True)
class Grid:
    """The integers -levels .. levels in units of `step`, kept modulo 2**bits of `ring`.

    `is_exact`: values are integers already, and too large ones are refused, not cut.
    """

    ring: Dtype
    levels: int
    step: float
    is_exact: bool = False

    def exact(self, values: Array) -> Array:
        """Give integers as they are. Raises UpdateError `CounterTooLarge` beyond the grid."""
        largest = np.abs(values).max(initial=0)
        if largest > self.levels:
            raise UpdateError(
                "CounterTooLarge",
                f"got an integer that changed by {largest:g}, expected at most {self.levels}: "
                "secure aggregation sums integers exactly, in 64 bits",
            )
        return np.rint(values).astype(np.int64)

    def round(self, values: Array, rng: np.random.Generator) -> tuple[Array, int]:
        """Give one of the two nearest grid points at random, and how many values were beyond.

        Args:
            values: shape (elements,), float32 or float64, finite.
            rng: one draw per value.

        Returns:
            Shape (elements,), signed 64-bit integers of at most `levels` in magnitude.
        """
        scaled = values.astype(np.float64) / self.step
        beyond = int(np.count_nonzero(np.abs(scaled) > self.levels))
        np.clip(scaled, -self.levels, self.levels, out=scaled)
        np.floor(np.add(scaled, rng.random(scaled.size), out=scaled), out=scaled)
        # Near 2**31 the sum with a draw just below 1 is rounded up to the next integer.
        return np.minimum(scaled, self.levels, out=scaled).astype(np.int64), beyond

    def truncate(self, values: Array) -> Array:
        """Give the next grid points towards zero; no value becomes larger in magnitude."""
        scaled = np.clip(values.astype(np.float64) / self.step, -self.levels, self.levels)
        return np.trunc(scaled, out=scaled).astype(np.int64)

    def mean(self, sums: Array, clients: int) -> Array:
        """Give the mean value of `clients` values from their sum in the ring, float64."""
        signed = sums.view(f"i{self.ring.itemsize}").astype(np.float64)
        result: Array = signed * (self.step / clients)
        return result


@dataclass(frozen=True)
class Segment:
    """Where a tensor lies: elements [start, start + size) of the flat array of `grid.ring`."""

    grid: Grid
    start: int
    size: int


@dataclass(frozen=True)
class GridRule:
    """What every client and the server must agree on before a value is rounded.

    Attributes:
        codec: of the uplink, `none` or `int8`.
        max_value: the largest magnitude that is not cut, > 0.
        clients: how many updates are summed at most, >= 1.
    """

    codec: str
    max_value: float
    clients: int

    def grid_of(self, dtype: Dtype) -> Grid:
        """Give the grid of a tensor of the model; see the module."""
        room = (2**63 - 1) // self.clients
        if dtype.kind in "biu":
            return Grid(RINGS[2], min(2**53, room), 1.0, is_exact=True)
        if dtype.itemsize == 8:
            return self._grid(RINGS[2], min(2**48, room))
        if self.codec == "int8":
            is_narrow = _INT8_LEVELS * self.clients < 2**15
            return self._grid(RINGS[0] if is_narrow else RINGS[1], _INT8_LEVELS)
        return self._grid(RINGS[1], (2**31 - 1) // self.clients)

    def _grid(self, ring: Dtype, levels: int) -> Grid:
        return Grid(ring, levels, self.max_value / levels)


class GridLayout:
    """How a model's tensors lie in the flat arrays of the rings, tensors in sorted order of names.

    Attributes:
        segments: by name of the tensor.
        sizes: elements of each ring, the statistics included; only rings that are used.
    """

    def __init__(self, layout: Layout, rule: GridRule) -> None:
        sizes = dict.fromkeys(RINGS, 0)
        self.segments: dict[str, Segment] = {}
        for name in sorted(layout):
            grid, size = rule.grid_of(layout[name].dtype), layout[name].size
            self.segments[name] = Segment(grid, sizes[grid.ring], size)
            sizes[grid.ring] += size
        self.statistics = Segment(Grid(RINGS[2], 2**53, 1.0, is_exact=True), sizes[RINGS[2]], 2)
        sizes[RINGS[2]] += len(STATISTICS)
        used = {RINGS[2], *(segment.grid.ring for segment in self.segments.values())}
        self.sizes: Mapping[Dtype, int] = {ring: sizes[ring] for ring in RINGS if ring in used}

    def offset_bytes(self, ring: Dtype) -> int:
        """Where the mask of a ring's first element starts in a stream of mask bytes."""
        before = [size * other.itemsize for other, size in self.sizes.items() if other < ring]
        return sum(-(-size // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES for size in before)


@dataclass
class Rounded:
    """An update on the grid: flat arrays by ring, shape (`GridLayout.sizes[ring]`,)."""

    arrays: dict[Dtype, Array]
    cut_values: int = 0
    squared_norm: float = 0.0


def round_update(
    deltas: Mapping[str, Array],
    layout: GridLayout,
    scale: float,
    rng: np.random.Generator | None,
) -> Rounded:
    """Round the deltas times `scale`, block by block, tensors in sorted order of names.

    Integers are counters: they are not scaled. Without `rng` values are rounded towards zero.
    """
    found = Rounded({ring: np.zeros(size, ring) for ring, size in layout.sizes.items()})
    for name, segment in layout.segments.items():
        grid, place = segment.grid, segment.start
        out = found.arrays[grid.ring]
        for block in _blocks(deltas[name]):
            codes = grid.exact(block) if grid.is_exact else _round(block * scale, grid, rng, found)
            out[place : place + codes.size] = codes.astype(grid.ring)  # modulo 2**bits
            place += codes.size
    return found


def _round(values: Array, grid: Grid, rng: np.random.Generator | None, found: Rounded) -> Array:
    """Round a block, and count."""
    codes, beyond = (grid.truncate(values), 0) if rng is None else grid.round(values, rng)
    points = codes * grid.step
    found.cut_values += beyond
    found.squared_norm += _square_sum(points)
    return codes


def _blocks(array: Array) -> Iterator[Array]:
    """Give a tensor's values in float64, block by block."""
    for block in flat_blocks(array):
        yield block.astype(np.float64)


def fit_update(
    deltas: Mapping[str, Array],
    layout: GridLayout,
    clip_norm: float | None,
    is_bounded: bool,
    rng: np.random.Generator,
) -> Rounded:
    """Clip an update to an L2 norm and round it.

    Args:
        deltas: by name, finite; not written to.
        layout: of the rings.
        clip_norm: longer updates (floats alone count) are scaled down to it; None for as they are.
        is_bounded: whether the rounded update too must be within clip_norm, as noise that is scaled
            to it needs: it is then scaled down and drawn again while it is longer, at last rounded
            towards zero.
        rng: source of the rounding.

    Returns:
        The rings' arrays, the statistics filled in.
    """
    norm = _norm(deltas, layout) if clip_norm is not None else 0.0
    scale = clip_norm / norm if clip_norm is not None and norm > clip_norm else 1.0
    found = round_update(deltas, layout, scale, rng)
    if clip_norm is not None and is_bounded:
        round_at = partial(round_update, deltas, layout)
        found, scale = _within(clip_norm, found, scale, round_at, rng)
    place = layout.statistics
    counts = np.array([found.cut_values, scale < 1], place.grid.ring)
    found.arrays[place.grid.ring][place.start : place.start + place.size] = counts
    return found


def _within(
    bound: float,
    found: Rounded,
    scale: float,
    round_at: Callable[[float, np.random.Generator | None], Rounded],
    rng: np.random.Generator,
) -> tuple[Rounded, float]:
    """Round again at smaller scales until the rounded update is no longer than `bound`."""
    for _ in range(_TRIES):
        norm = math.sqrt(found.squared_norm)
        if norm <= bound * (1 - _ROUNDING):
            return found, scale
        excess = norm / bound - 1
        scale *= (1 - min(_MARGIN, 2 * excess) - _ROUNDING) * bound / norm
        found = round_at(scale, rng)
    return round_at(scale, None), scale


def _norm(deltas: Mapping[str, Array], layout: GridLayout) -> float:
    """Give the L2 norm over the tensors of floats; integers are counters and do not count."""
    total = 0.0
    for name, segment in layout.segments.items():
        if not segment.grid.is_exact:
            total += sum(_square_sum(block) for block in _blocks(deltas[name]))
    return math.sqrt(total)


def _square_sum(values: Array) -> float:
    """Not by BLAS, whose last bits differ from machine to machine."""
    return float(np.add.reduce(values * values))
