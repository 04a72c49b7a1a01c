"""A metric over the rounds: one line for each way it was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cli.report_page.drawing import (
    Frame,
    middle_edges,
    place,
    round_axis_marks,
    svg,
    value_axis_marks,
    value_scale,
    with_room_for,
)
from cli.report_page.scales import Point, Scale, is_known, thin_out, value_axis
from cli.report_page.wording import number_text, text

MOST_POINTS = 240
_MOST_STRIPS = 120
_MOST_DOTS = 40
_MOST_MARKS = 60


@dataclass(frozen=True)
class Line:
    """One line; points are (round, value), ascending; a value that is None or no number is a gap."""

    name: str
    points: Sequence[Point]
    is_dashed: bool = False


@dataclass(frozen=True)
class Mark:
    """Something that happened in a round and is no value."""

    round: int
    title: str


def line_chart(
    lines: Sequence[Line], span: tuple[int, int], marks: Sequence[Mark] = (), label: str = ""
) -> str:
    """Draw lines over the rounds from span[0] to span[1]; without any value, say so in the plot."""
    values = [y for line in lines for _, y in line.points if y is not None]
    axis = value_axis(values)
    frame = with_room_for(axis, Frame())
    across, up = Scale(*span, frame.left, frame.x_end), value_scale(axis, frame)
    parts = [value_axis_marks(axis, frame), round_axis_marks(span, across, frame)]
    parts += [_mark(mark, across, frame) for mark in marks[-_MOST_MARKS:]]
    parts += [_line(line, across, up) for line in reversed(lines)]
    parts.append(_strips(lines, across, up, frame))
    if not any(is_known(value) for value in values):
        x, y = (frame.left + frame.x_end) / 2, (frame.top + frame.y_end) / 2
        parts.append(
            f'<text class="none" x="{place(x)}" y="{place(y)}" text-anchor="middle">no values</text>'
        )
    return svg(frame, label, parts)


def _line(line: Line, across: Scale, up: Scale) -> str:
    points = thin_out(line.points, MOST_POINTS)
    path, is_open = [], False
    for x, y in points:
        if y is None or not is_known(y):
            is_open = False
            continue
        at = f"{place(across.place(x))} {place(up.place(y))}"
        # h0: a point between two gaps is a dot, for the line's ends are round.
        path.append(f"L{at}" if is_open else f"M{at}h0")
        is_open = True
    kind = "line dashed" if line.is_dashed else "line"
    drawn = f'<path class="{kind}" d="{"".join(path)}"/>' if path else ""
    if len(points) > _MOST_DOTS or line.is_dashed:
        return drawn
    return drawn + "".join(
        f'<circle class="dot" cx="{place(across.place(x))}" cy="{place(up.place(y))}" r="2.2"/>'
        for x, y in points
        if y is not None and is_known(y)
    )


def _mark(mark: Mark, across: Scale, frame: Frame) -> str:
    x, y = place(across.place(mark.round)), place(frame.y_end)
    return (
        f'<g class="mark"><title>{text(mark.title)}</title>'
        f'<path d="M{x} {place(frame.top)}V{y}"/>'
        f'<path class="cross" d="M{x} {y}m-4 -4l8 8m0 -8l-8 8"/></g>'
    )


def _strips(lines: Sequence[Line], across: Scale, up: Scale, frame: Frame) -> str:
    """Invisible strips, one per round, that tell its values while the pointer is over them."""
    rounds = sorted({x for line in lines for x, _ in line.points})
    rounds = rounds[:: -(-len(rounds) // _MOST_STRIPS)] if rounds else []
    known = [dict(line.points) for line in lines]
    edges = middle_edges([across.place(x) for x in rounds], frame.left, frame.x_end)
    top, height = place(frame.top), place(frame.y_end - frame.top)
    strips = []
    for number, x in enumerate(rounds):
        at = place(across.place(x))
        shown = [
            (line, values[x]) for line, values in zip(lines, known, strict=True) if x in values
        ]
        said = ", ".join(f"{line.name} {number_text(y)}" for line, y in shown)
        dots = "".join(
            f'<circle cx="{at}" cy="{place(up.place(y))}" r="3.5"/>'
            for _, y in shown
            if y is not None and is_known(y)
        )
        width = place(edges[number + 1] - edges[number])
        strips.append(
            f'<g class="strip"><title>round {x:g}: {text(said)}</title>'
            f'<rect x="{place(edges[number])}" y="{top}" width="{width}" height="{height}"/>'
            f"{dots}</g>"
        )
    return "".join(strips)
