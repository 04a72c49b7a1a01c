"""What ran when: a lane for each client and one for the server, the steps of the last rounds as bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cli.report_page.drawing import Frame, axis_name, place, svg
from cli.report_page.facts import RoundSteps, Span
from cli.report_page.scales import Scale, value_axis
from cli.report_page.wording import seconds_text, text, tick_text

MOST_LANES = 40
SERVER = "server"
_STEPS = ("train", "compress", "aggregate", "evaluate", "initialize", "publish")
_STYLES = 8
_LANE, _BAR, _NAME_LETTERS = 17.0, 11.0, 20
_LEAST_WIDTH = 0.8
_UNITS = ((3600.0, "hours"), (60.0, "minutes"), (1.0, "seconds"), (1e-3, "milliseconds"))


@dataclass(frozen=True)
class _Plot:
    """`offsets`: where each round begins on the axis, in seconds; rounds follow without a pause."""

    frame: Frame
    scale: Scale
    lanes: Mapping[str | None, float]
    offsets: Mapping[int, float]


def timeline(rounds: Sequence[RoundSteps], clients: Sequence[str], label: str = "") -> str:
    """Draw the steps of these rounds for these clients and the server; pauses between are left out.

    A step that lies outside of its round (the clock of its node is off) is not drawn.
    """
    offsets, total = {}, 0.0
    for one in rounds:
        offsets[one.number] = total
        total += one.finished - one.started
    names: list[str | None] = [*clients, None]
    height = 24 + _LANE * len(names) + 40
    frame = Frame(width=1140, height=height, left=150, right=14, top=24, bottom=40)
    scale = Scale(0.0, total, frame.left, frame.x_end)
    lanes = {name: frame.top + _LANE * row for row, name in enumerate(names)}
    plot = _Plot(frame, scale, lanes, offsets)
    parts = [_axis(total, plot), *(_round(one, plot) for one in rounds)]
    parts += [_name(name, plot) for name in names]
    parts += [
        _bar(span, one, plot) for one in rounds for span in one.spans if _is_drawn(span, one, plot)
    ]
    return svg(frame, label, parts)


def slowest_lanes(rounds: Sequence[RoundSteps], most: int = MOST_LANES) -> list[str]:
    """The clients that worked longest in these rounds, at most `most` of them."""
    worked: dict[str, float] = {}
    for one in rounds:
        for span in one.spans:
            if span.lane is not None:
                worked[span.lane] = worked.get(span.lane, 0.0) + span.end - span.start
    return sorted(worked, key=lambda name: (-worked[name], name))[:most]


def outside(rounds: Sequence[RoundSteps]) -> int:
    """How many steps lie outside of their round."""
    return sum(not _is_inside(span, one) for one in rounds for span in one.spans)


def step_style(step: str) -> str:
    """The class that colours a step; steps without a colour of their own share two."""
    place_ = _STEPS.index(step) if step in _STEPS else len(_STEPS) + len(step) % 2
    return f"s{place_ % _STYLES}"


def steps_in(rounds: Sequence[RoundSteps]) -> list[str]:
    """The steps' names, in the order of a round."""
    found = {span.step for one in rounds for span in one.spans}
    return [*(s for s in _STEPS if s in found), *sorted(found.difference(_STEPS))]


def _axis(total: float, plot: _Plot) -> str:
    unit, name = next(((u, n) for u, n in _UNITS if total >= 2 * u), _UNITS[-1])
    axis = value_axis([0.0, total / unit], 8)
    top, end = place(plot.frame.top), plot.frame.y_end
    marks = []
    for tick in axis.ticks:
        if tick * unit > total * (1 + 1e-9):
            continue
        x = place(plot.scale.place(tick * unit))
        marks.append(f'<path class="grid" d="M{x} {top}V{place(end + 4)}"/>')
        marks.append(
            f'<text class="tick" x="{x}" y="{place(end + 16)}" text-anchor="middle">'
            f"{text(tick_text(tick, axis.step))}</text>"
        )
    return "".join(marks) + axis_name(name, plot.frame)


def _round(one: RoundSteps, plot: _Plot) -> str:
    begin = plot.scale.place(plot.offsets[one.number])
    end = plot.scale.place(plot.offsets[one.number] + one.finished - one.started)
    bottom = place(plot.frame.y_end)
    said = f"round {one.number}, {seconds_text(one.finished - one.started)}"
    shown = said if end - begin > 130 else f"{one.number}" if end - begin > 30 else ""
    return (
        f'<path class="axis" d="M{place(begin)} 6V{bottom}M{place(end)} 6V{bottom}"/>'
        f'<text class="tick" x="{place(begin + 5)}" y="15">{text(shown)}'
        f"<title>{text(said)}</title></text>"
    )


def _name(name: str | None, plot: _Plot) -> str:
    y = plot.lanes[name]
    shown = SERVER if name is None else name
    return (
        f'<path class="lane" d="M{place(plot.frame.left)} {place(y + _LANE)}H{place(plot.frame.x_end)}"/>'
        f'<text class="tick" x="{place(plot.frame.left - 8)}" y="{place(y + _LANE / 2)}" dy=".35em" '
        f'text-anchor="end">{text(shown, _NAME_LETTERS)}<title>{text(shown)}</title></text>'
    )


def _bar(span: Span, one: RoundSteps, plot: _Plot) -> str:
    offset = plot.offsets[one.number] - one.started
    begin, end = plot.scale.place(span.start + offset), plot.scale.place(span.end + offset)
    lane = SERVER if span.lane is None else span.lane
    said = f"round {one.number}, {lane}: {span.step} {seconds_text(span.end - span.start)}"
    y = plot.lanes[span.lane] + (_LANE - _BAR) / 2
    return (
        f'<rect class="{step_style(span.step)}" x="{place(begin)}" y="{place(y)}" '
        f'width="{place(max(end - begin, _LEAST_WIDTH))}" height="{place(_BAR)}">'
        f"<title>{text(said)}</title></rect>"
    )


def _is_drawn(span: Span, one: RoundSteps, plot: _Plot) -> bool:
    return span.lane in plot.lanes and _is_inside(span, one)


def _is_inside(span: Span, one: RoundSteps) -> bool:
    slack = 0.001  # clocks are read one after the other
    return one.started - slack <= span.start and span.end <= one.finished + slack
