"""From runs to figures: what each system cost, how they compare, whether they computed the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median

from peers.measurement import Run
from peers.systems import FEDLOOM, FLOWER, NUMPY_LOOP

SHORT_ROUNDS, LONG_ROUNDS, SHOWN_ROUNDS, STEADY_ROUNDS = 10, 60, 20, 300

ROUND = "round_seconds"
STEADY_ROUND = "round_without_start_seconds"
GAP = "between_rounds_seconds"
STEADY_GAP = "between_rounds_of_a_long_job_seconds"
START = "start_and_first_round_seconds"
MEMORY = "peak_pss_bytes"
# How a measure is printed: its words, and what its values are multiplied by.
_PRINTED = {
    ROUND: ("round (ms)", 1e3),
    STEADY_ROUND: ("round, start taken out (ms)", 1e3),
    GAP: ("between rounds (ms)", 1e3),
    STEADY_GAP: ("between rounds, long job (ms)", 1e3),
    START: ("start + round 1 (s)", 1.0),
    MEMORY: ("peak PSS (MiB)", 2.0**-20),
}
# How many times better than Flower Fedloom is to be.
_GOALS = {ROUND: 15.0, STEADY_ROUND: 15.0, START: 10.0, MEMORY: 1 / 0.4}


@dataclass
class Observations:
    """The runs of one system, in the order they were made. The memory runs are not timed."""

    short: list[Run] = field(default_factory=list)
    long: list[Run] = field(default_factory=list)
    shown: list[Run] = field(default_factory=list)
    memory: list[Run] = field(default_factory=list)
    steady: list[Run] = field(default_factory=list)

    @property
    def all_runs(self) -> list[Run]:
        return [*self.short, *self.long, *self.shown, *self.memory, *self.steady]


Table = Mapping[str, Observations]


def figures(seen: Observations) -> dict[str, list[float]]:
    """Give each measure's values, one per repetition or run, in seconds and bytes.

    A round is (wall of the long run - wall of the short run) / (rounds between them). Two starts
    that differ by a second make 20 ms of that, so it is given once more with each run's wall counted
    from its first round on: still with all that comes at the end of a run, but without the start.
    The time between two rounds' lines shows neither start nor end; in the second half of a long job
    nothing that starts beside the rounds (MLflow, Ray) is left in it.
    """
    timed = [*seen.short, *seen.long, *seen.shown]
    pairs = list(zip(seen.short, seen.long, strict=True))
    extra = LONG_ROUNDS - SHORT_ROUNDS
    steady = seen.long or seen.shown
    gaps = [median(b - a for a, b in pairwise(run.round_seconds)) for run in steady]
    values = {
        ROUND: [(long.wall_seconds - short.wall_seconds) / extra for short, long in pairs],
        STEADY_ROUND: [(_after_first(long) - _after_first(short)) / extra for short, long in pairs],
        GAP: gaps,
        STEADY_GAP: [_late_gap(run) for run in seen.steady],
        START: [run.round_seconds[0] for run in timed],
        MEMORY: [float(run.memory.peak_bytes) for run in seen.memory if run.memory],
    }
    return {name: column for name, column in values.items() if column}


def _late_gap(run: Run) -> float:
    late = run.round_seconds[len(run.round_seconds) // 2 :]
    return median(b - a for a, b in pairwise(late))


def _after_first(run: Run) -> float:
    return run.wall_seconds - run.round_seconds[0]


def walls(seen: Observations) -> dict[str, list[float]]:
    """Give the timed runs' wall times in seconds, by their number of rounds."""
    groups = {SHORT_ROUNDS: seen.short, LONG_ROUNDS: seen.long, SHOWN_ROUNDS: seen.shown}
    return {str(n): [run.wall_seconds for run in runs] for n, runs in groups.items() if runs}


def accuracies(seen: Observations) -> list[float]:
    """Give the accuracy of each round of the longest run, up to `LONG_ROUNDS`."""
    longest = max(seen.all_runs, key=lambda run: len(run.metrics))
    return [metrics["accuracy"] for metrics in longest.metrics[:LONG_ROUNDS]]


def disagreement(table: Table) -> str | None:
    """Say where two runs, of any systems, differ in a round's accuracy; None where none do."""
    reference_name, reference = next((name, accuracies(seen)) for name, seen in table.items())
    for name, seen in table.items():
        for run in seen.all_runs:
            for number, (metrics, expected) in enumerate(
                zip(run.metrics, reference, strict=False), start=1
            ):
                if metrics["accuracy"] != expected:
                    got = metrics["accuracy"]
                    return f"round {number}: {name} {got!r}, {reference_name} {expected!r}"
    return None


def untracked(table: Table) -> str | None:
    """Say which system ran without its tracking, so that its figures lack it; None where none did."""
    for name, seen in table.items():
        runs = seen.all_runs
        without = sum(run.finished.get("tracking", {}).get("available") is False for run in runs)
        if without:
            return f"{name}: tracking was not available in {without} of {len(runs)} runs"
    return None


def accuracy_lines(table: Table) -> list[str]:
    columns = {name: accuracies(seen)[:SHOWN_ROUNDS] for name, seen in table.items()}
    rows = [
        [str(number), *(repr(value) for value in values)]
        for number, values in enumerate(zip(*columns.values(), strict=True), start=1)
    ]
    return _lines(["accuracy after round", *columns], rows)


def figure_lines(table: Table) -> list[str]:
    """Lay out a row per measure and system: median, range, ratios to the two yardsticks."""
    columns = {name: figures(seen) for name, seen in table.items()}
    rows = []
    for measure, (words, scale) in _PRINTED.items():
        medians = {name: median(c[measure]) for name, c in columns.items() if measure in c}
        for name, middle in medians.items():
            scaled = [value * scale for value in columns[name][measure]]
            spread = f"{_number(min(scaled))} - {_number(max(scaled))}"
            row = [words, name, _number(middle * scale), spread]
            rows.append([*row, _ratio(medians, FLOWER, name), _ratio(medians, name, NUMPY_LOOP)])
    return _lines(["measure", "system", "median", "range", "Flower / it", "it / numpy loop"], rows)


def goal_lines(table: Table) -> list[str]:
    """Say for each goal whether Fedloom reached it against Flower; nothing where one is missing."""
    if FEDLOOM not in table or FLOWER not in table:
        return []
    ours, theirs = figures(table[FEDLOOM]), figures(table[FLOWER])
    lines = []
    for measure, goal in _GOALS.items():
        if measure in ours and measure in theirs:
            factor = median(theirs[measure]) / median(ours[measure])
            word = "reached" if factor >= goal else "missed"
            words = _PRINTED[measure][0]
            lines.append(f"{words}: {factor:.1f} times better than Flower, goal {goal:g}: {word}")
    return lines


def _ratio(medians: Mapping[str, float], above: str, below: str) -> str:
    if above not in medians or below not in medians or above == below:
        return "-"
    return f"{medians[above] / medians[below]:.2f}"


def _number(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _lines(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    rule = ["-" * width for width in widths]
    return [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in [head, rule, *rows]
    ]
