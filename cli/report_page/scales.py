"""From values to places: round numbers for an axis, a linear scale, and fewer points for long lines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

Point = tuple[float, float | None]
_LARGEST = 1e300  # so that no difference or product of two values overflows
_FLATTEST = 1e-6  # the smallest span of an axis, relative to its values


@dataclass(frozen=True)
class Axis:
    """Ticks in ascending order, `step` apart; the first and the last are the ends of the axis."""

    ticks: tuple[float, ...]
    step: float

    @property
    def low(self) -> float:
        return self.ticks[0]

    @property
    def high(self) -> float:
        return self.ticks[-1]


@dataclass(frozen=True)
class Scale:
    """Maps [low, high] of the values to [start, end] of the drawing, linearly."""

    low: float
    high: float
    start: float
    end: float

    def place(self, value: float) -> float:
        """The place of a value; values outside are moved to the nearer end."""
        if self.high <= self.low:
            return (self.start + self.end) / 2
        part = (_clamp(value) - self.low) / (self.high - self.low)
        return self.start + min(max(part, 0.0), 1.0) * (self.end - self.start)


def value_axis(values: Sequence[float], count: int = 5) -> Axis:
    """An axis of about `count` ticks around all values; 0 to 1 where there is none."""
    finite = [_clamp(value) for value in values if math.isfinite(value)]
    if not finite:
        return Axis((0.0, 0.5, 1.0), 0.5)
    low, high = min(finite), max(finite)
    least = max(_FLATTEST * max(abs(low), abs(high)), 1e-290)
    if high - low < least:
        margin = max(0.1 * abs(high), least) if low == high else least
        low, high = low - margin, high + margin
    step = _round_step((high - low) / count)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return Axis(tuple(number * step for number in range(first, last + 1)), step)


def whole_ticks(low: int, high: int, count: int = 8) -> list[int]:
    """About `count` round whole numbers within low and high; low itself where there is room."""
    step = max(1, round(_round_step(max(high - low, 1) / count)))
    ticks = list(range(-(-low // step) * step, high + 1, step))
    return [low, *ticks] if not ticks or ticks[0] - low > step // 2 else ticks


def thin_out(points: Sequence[Point], most: int) -> list[Point]:
    """At most `most` of the points, or few more: of each stretch its lowest and its highest.

    A stretch without any value stays as one point without, a gap.
    """
    if len(points) <= most:
        return list(points)
    stretches = max(1, most // 2)
    kept: list[Point] = []
    for number in range(stretches):
        begin = number * len(points) // stretches
        end = (number + 1) * len(points) // stretches
        kept += _extremes(points[begin:end])
    return kept


def _extremes(points: Sequence[Point]) -> list[Point]:
    known = [(y, place) for place, (_, y) in enumerate(points) if is_known(y)]
    if not known:
        return [points[0]]
    places = sorted({min(known)[1], max(known)[1]})
    return [points[place] for place in places]


def is_known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _round_step(rough: float) -> float:
    """1, 2 or 5 times a power of ten, at least `rough`."""
    power = math.floor(math.log10(rough))
    base = 10.0**power
    for factor in (1, 2, 5):
        if factor * base >= rough * (1 - 1e-9):
            return factor * base
    return 10 * base


def _clamp(value: float) -> float:
    return min(max(value, -_LARGEST), _LARGEST)
