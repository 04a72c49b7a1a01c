"""The parts that every chart is drawn with: a frame, two axes, ticks, SVG around it all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from cli.report_page.scales import Axis, Scale, whole_ticks
from cli.report_page.wording import text, tick_text

_LETTER = 6.6  # width of a letter of the axes, at most


@dataclass(frozen=True)
class Frame:
    """The drawing's size and the margins around its plot, in the drawing's units."""

    width: float = 560
    height: float = 230
    left: float = 56
    right: float = 14
    top: float = 12
    bottom: float = 38

    @property
    def x_end(self) -> float:
        return self.width - self.right

    @property
    def y_end(self) -> float:
        return self.height - self.bottom


def svg(frame: Frame, label: str, parts: Sequence[str]) -> str:
    """A drawing; `label` is read aloud in its place, and is escaped here."""
    size = f"{place(frame.width)} {place(frame.height)}"
    return (
        f'<svg viewBox="0 0 {size}" role="img" aria-label="{text(label)}">{"".join(parts)}</svg>\n'
    )


def value_scale(axis: Axis, frame: Frame) -> Scale:
    """Values upwards."""
    return Scale(axis.low, axis.high, frame.y_end, frame.top)


def with_room_for(axis: Axis, frame: Frame) -> Frame:
    """The frame, its left margin wide enough for the labels of the axis."""
    longest = max(len(tick_text(tick, axis.step)) for tick in axis.ticks)
    left = max(frame.left, longest * _LETTER + 14)
    return Frame(frame.width, frame.height, left, frame.right, frame.top, frame.bottom)


def value_axis_marks(axis: Axis, frame: Frame) -> str:
    """Grid lines and labels on the left."""
    scale = value_scale(axis, frame)
    marks = []
    for tick in axis.ticks:
        y = place(scale.place(tick))
        marks.append(f'<path class="grid" d="M{place(frame.left)} {y}H{place(frame.x_end)}"/>')
        marks.append(
            f'<text class="tick" x="{place(frame.left - 8)}" y="{y}" dy=".35em" '
            f'text-anchor="end">{text(tick_text(tick, axis.step))}</text>'
        )
    return "".join(marks)


def round_axis_marks(span: tuple[int, int], scale: Scale, frame: Frame) -> str:
    """The line below the plot, with the numbers of rounds."""
    end = place(frame.y_end)
    marks = [f'<path class="axis" d="M{place(frame.left)} {end}H{place(frame.x_end)}"/>']
    for tick in whole_ticks(*span):
        x = place(scale.place(tick))
        marks.append(f'<path class="axis" d="M{x} {end}v4"/>')
        marks.append(
            f'<text class="tick" x="{x}" y="{place(frame.y_end + 16)}" '
            f'text-anchor="middle">{tick:,}</text>'
        )
    marks.append(axis_name("round", frame))
    return "".join(marks)


def axis_name(name: str, frame: Frame) -> str:
    """What the axis below counts, under its right end."""
    x, y = place(frame.x_end), place(frame.height - 4)
    return f'<text class="unit" x="{x}" y="{y}" text-anchor="end">{text(name)}</text>'


def place(value: float) -> str:
    """A coordinate with one decimal at most."""
    return f"{round(value, 1) + 0.0:.1f}".removesuffix(".0")  # + 0.0: no minus before zero


def middle_edges(places: Sequence[float], low: float, high: float) -> list[float]:
    """The borders between neighbouring places, half-way, with both ends: one more than places."""
    between = [(a + b) / 2 for a, b in pairwise(places)]
    return [low, *between, high]
