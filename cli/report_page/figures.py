"""The sections with drawings: metrics, traffic, the timeline."""

from __future__ import annotations

from collections.abc import Sequence

from cli.report_page.bar_chart import Bars, Part, bar_chart, rounds_per_bar
from cli.report_page.facts import Round, Run, Turnout
from cli.report_page.headline import in_order, last_metrics
from cli.report_page.line_chart import MOST_POINTS, Line, Mark, line_chart
from cli.report_page.section import legend, note, section
from cli.report_page.timeline import (
    MOST_LANES,
    outside,
    slowest_lanes,
    step_style,
    steps_in,
    timeline,
)
from cli.report_page.wording import (
    bytes_text,
    count_text,
    natural_order,
    number_text,
    plural,
    seconds_text,
    text,
)

MOST_CHARTS = 16
_TRAIN = "train/"
_SAVING = 0.99  # the headers of uncompressed files are about the rest
_SIZES = ((1e9, "GB"), (1e6, "MB"), (1e3, "KB"), (1.0, "B"))
_TIMES = ((3600.0, "hours"), (60.0, "minutes"), (1.0, "seconds"), (1e-3, "milliseconds"))


def metrics_section(run: Run) -> str:
    """A chart for each metric; the evaluation's solid, the clients' mean of the same name dashed."""
    names = in_order(last_metrics(run))
    titles = list(dict.fromkeys(name.removeprefix(_TRAIN) for name in names))
    if not titles:
        return section("Metrics", note("No committed round has measured anything."))
    numbers = [one.number for one in run.rounds if one.metrics]
    failed = [attempt.round for attempt in run.attempts]
    span = (min(numbers[0], 1), max(numbers[-1], *failed, 1))
    marks = [
        Mark(a.round, f"round {a.round}, attempt {a.attempt} failed: {a.reason}: {a.message}")
        for a in run.attempts
    ]
    charts = [_metric(run, title, span, marks) for title in titles[:MOST_CHARTS]]
    notes = []
    if any(name.startswith(_TRAIN) for name in names):
        notes.append("Dashed: the clients' own values, weighted by their examples.")
    if marks:
        notes.append("Red crosses: attempts that gave no model.")
    if len(numbers) > MOST_POINTS:
        notes.append(
            f"Lines of more than {MOST_POINTS} rounds show the lowest and the highest value of each "
            "stretch."
        )
    if len(titles) > MOST_CHARTS:
        notes.append(f"The first {MOST_CHARTS} of {count_text(len(titles))} metrics.")
    return section("Metrics", note(" ".join(notes)), _charts(charts))


def traffic_section(run: Run) -> str:
    """Bytes per round, up and down, and what compression saved; seconds; who answered."""
    rounds = [one for one in run.rounds if one.number > 0]
    if not rounds:
        return ""
    most = max(one.uplink_bytes + one.downlink_bytes for one in rounds)
    unit, name = _unit(most, _SIZES)
    parts = [
        Part("up", "up", [float(one.uplink_bytes) for one in rounds]),
        Part("down", "down", [float(one.downlink_bytes) for one in rounds]),
    ]
    bars = Bars(rounds[0].number, parts, unit, bytes_text)
    drawing = bar_chart(bars, "bytes up and down in each round")
    charts = [_figure("Traffic", _per(name, rounds), _keys(parts), drawing)]
    charts.append(_seconds(rounds))
    turnout = [one for one in run.details.turnout if one.round > 0]
    if any(one.failed for one in turnout):
        charts.append(_turnout(turnout))
    return section("Traffic and time", note(_totals(run)), _charts(charts))


def timeline_section(run: Run) -> str:
    """The steps of the last rounds."""
    rounds = run.details.steps
    if not any(one.spans for one in rounds):
        return ""
    slowest = slowest_lanes(rounds)
    shown = sorted(slowest, key=natural_order)
    everybody = {span.lane for one in rounds for span in one.spans} - {None}
    numbers = [one.number for one in rounds]
    last = "The last round" if len(numbers) == 1 else f"The last {len(numbers)} rounds"
    notes = [f"{last}; pauses between rounds are left out."]
    if len(everybody) > MOST_LANES:
        notes.append(
            f"The {MOST_LANES} clients that worked longest, of {count_text(len(everybody))}."
        )
    if strays := outside(rounds):
        notes.append(
            f"{plural(strays, 'step')} not drawn: outside of the round by the clock of the node."
        )
    keys = legend([(step, step_style(step)) for step in steps_in(rounds)])
    drawing = timeline(rounds, shown, "steps of the last rounds")
    figure = f'<figure>{keys}<div class="wide">{drawing}</div></figure>'
    return section("Timeline", note(" ".join(notes)), figure)


def _metric(run: Run, title: str, span: tuple[int, int], marks: Sequence[Mark]) -> str:
    lines, last = [], []
    for name, word in ((title, "evaluation"), (_TRAIN + title, "clients")):
        points = [
            (float(one.number), one.metrics[name]) for one in run.rounds if name in one.metrics
        ]
        if points:
            lines.append(Line(word, points, is_dashed=name != title))
            last.append(f"{'' if name == title else 'clients '}{number_text(points[-1][1])}")
    number = max(int(line.points[-1][0]) for line in lines)
    aside = f"{', '.join(last)} at round {count_text(number)}"
    return _figure(title, aside, "", line_chart(lines, span, marks, f"{title} per round"))


def _seconds(rounds: Sequence[Round]) -> str:
    part = Part("round", "s4", [max(one.seconds or 0.0, 0.0) for one in rounds])
    unit, name = _unit(max(part.values), _TIMES)
    bars = Bars(rounds[0].number, [part], unit, seconds_text)
    return _figure("Time", _per(name, rounds), "", bar_chart(bars, "time of each round"))


def _turnout(turnout: Sequence[Turnout]) -> str:
    parts = [
        Part("succeeded", "took", [float(one.succeeded) for one in turnout]),
        Part("failed", "fell", [float(one.failed) for one in turnout]),
    ]
    bars = Bars(turnout[0].round, parts, 1.0, lambda value: f"{value:,.3g}")
    return _figure(
        "Answers", _per("clients", turnout), _keys(parts), bar_chart(bars, "clients per round")
    )


def _totals(run: Run) -> str:
    up = sum(one.uplink_bytes for one in run.rounds)
    down = sum(one.downlink_bytes for one in run.rounds)
    words = [f"In all {bytes_text(up)} up and {bytes_text(down)} down."]
    parameters = run.model.parameters if run.model else None
    seen = run.details.turnout
    if parameters and seen:
        sent = sum(one.uplink_bytes for one in seen)
        plain = 4 * parameters * sum(one.updates for one in seen)
        received = sum(one.downlink_bytes for one in seen)
        plain_down = 4 * parameters * sum(one.downlinks for one in seen)
        words.append(_ratio("Updates", sent, plain))
        if plain_down and received / plain_down < _SAVING:
            words.append(_ratio("Models on their way down", received, plain_down))
        if len(seen) < len([one for one in run.rounds if one.number > 0]):
            words.append(f"The ratios are of the last {plural(len(seen), 'round')}.")
    return " ".join(filter(None, words))


def _ratio(what: str, sent: int, plain: int) -> str:
    if not plain:
        return ""
    part = sent / plain
    words = f"{what} took {100 * part:.3g} % of the {bytes_text(plain)} they take as float32"
    return f"{words}: {1 / part:.3g} times less." if 0 < part < _SAVING else f"{words}."


def _unit(most: float, units: Sequence[tuple[float, str]]) -> tuple[float, str]:
    """The largest unit that the largest value has at least one of."""
    return next((unit for unit in units if most >= unit[0]), units[-1])


def _per(unit: str, rounds: Sequence[object]) -> str:
    each = rounds_per_bar(len(rounds))
    return f"{unit} per round" if each == 1 else f"{unit} per round, mean of {each} rounds"


def _figure(title: str, aside: str, keys: str, drawing: str) -> str:
    return (
        f'<figure><figcaption><h3>{text(title, 120)}</h3><span class="aside">{text(aside)}</span>'
        f"</figcaption>{keys}{drawing}</figure>"
    )


def _keys(parts: Sequence[Part]) -> str:
    return legend([(part.name, part.style) for part in parts])


def _charts(charts: Sequence[str]) -> str:
    return f'<div class="charts">{"".join(charts)}</div>'
