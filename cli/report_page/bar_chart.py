"""Stacked bars over the rounds, and the small bars of a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cli.report_page.drawing import (
    Frame,
    place,
    round_axis_marks,
    svg,
    value_axis_marks,
    value_scale,
    with_room_for,
)
from cli.report_page.scales import Axis, Scale, value_axis
from cli.report_page.wording import text

MOST_BARS = 120
_WIDEST = 60.0


@dataclass(frozen=True)
class Part:
    """One layer of the stack: its values, one per round, none below 0; `style` names its colour."""

    name: str
    style: str
    values: Sequence[float]


@dataclass(frozen=True)
class Bars:
    """Stacked bars of the rounds from `first` on, the first part at the bottom.

    `unit` divides the values for the axis; `write` says a value in words.
    """

    first: int
    parts: Sequence[Part]
    unit: float
    write: Callable[[float], str]


def rounds_per_bar(count: int) -> int:
    return max(1, -(-count // MOST_BARS))


def bar_chart(bars: Bars, label: str = "") -> str:
    """Draw the bars; where there are more rounds than bars, each bar is the mean of several."""
    count = max((len(part.values) for part in bars.parts), default=0)
    each, last = rounds_per_bar(count), bars.first + max(count, 1) - 1
    stacks = {
        (bars.first + start, min(last, bars.first + start + each - 1)): [
            _mean(part.values[start : start + each]) for part in bars.parts
        ]
        for start in range(0, count, each)
    }
    axis = _from_zero([sum(stack) / bars.unit for stack in stacks.values()])
    frame = with_room_for(axis, Frame())
    across = Scale(bars.first - 0.5, last + 0.5, frame.left, frame.x_end)
    plot = _Plot(frame, across, value_scale(axis, frame))
    drawn = [_stack(bars, rounds, stack, plot) for rounds, stack in stacks.items()]
    axes = (value_axis_marks(axis, frame), round_axis_marks((bars.first, last), across, frame))
    return svg(frame, label, [*axes, *drawn])


def small_bar(value: float | None, most: float) -> str:
    """A bar as long as the value's part of `most`; empty where there is no value."""
    part = 0.0 if value is None or most <= 0 else min(max(value / most, 0.0), 1.0)
    return (
        '<svg class="small" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="track" width="100" height="8"/><rect width="{place(100 * part)}" height="8"/>'
        "</svg>"
    )


@dataclass(frozen=True)
class _Plot:
    frame: Frame
    across: Scale
    up: Scale


def _stack(bars: Bars, rounds: tuple[int, int], stack: Sequence[float], plot: _Plot) -> str:
    begin, end = plot.across.place(rounds[0] - 0.5), plot.across.place(rounds[1] + 0.5)
    room = 0.8 * (end - begin)
    width = min(max(room, end - begin - 3), _WIDEST)
    x = (begin + end - width) / 2
    named = zip(bars.parts, stack, strict=True)
    said = ", ".join(f"{part.name} {bars.write(value)}" for part, value in named)
    whose = f"round {rounds[0]}" if rounds[0] == rounds[1] else f"rounds {rounds[0]} to {rounds[1]}"
    mean = "" if rounds[0] == rounds[1] else " on average"
    drawn = [
        f'<g class="stack"><title>{text(f"{whose}: {said}{mean}")}</title>',
        _box("back", (begin, end), (plot.frame.top, plot.frame.y_end)),
    ]
    below = 0.0
    for part, value in zip(bars.parts, stack, strict=True):
        low, high = (plot.up.place(edge / bars.unit) for edge in (below, below + value))
        below += value
        if low > high:
            drawn.append(_box(part.style, (x, x + width), (high, low)))
    return "".join([*drawn, "</g>"])


def _box(style: str, across: tuple[float, float], down: tuple[float, float]) -> str:
    return (
        f'<rect class="{style}" x="{place(across[0])}" y="{place(down[0])}" '
        f'width="{place(across[1] - across[0])}" height="{place(down[1] - down[0])}"/>'
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _from_zero(values: Sequence[float]) -> Axis:
    return (
        value_axis([0.0, *values]) if any(value > 0 for value in values) else value_axis([0.0, 1.0])
    )
