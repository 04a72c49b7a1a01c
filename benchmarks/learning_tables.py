"""The tables of `learning.py`: which cases, beside which references, and how they are shown."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from statistics import fmean
from typing import Any

from learning_case import Case, Learned, learn
from learning_entries import ALGORITHMS, BOTH_WAYS, CODECS, RULES

Rows = list[dict[str, Any]]
CONCENTRATIONS = (100.0, 0.5, 0.1)
GOAL = 0.9
_DIGITS_BYTES = 15_010 * 4


@dataclass(frozen=True)
class Table:
    """One table: where it stands, how its rows are measured, shown and judged."""

    document: str
    measure: Callable[[int, int], Rows]
    render: Callable[[Rows], str]
    verdict: Callable[[Rows], list[str]]


def measure_algorithms(rounds: int, seeds: int) -> Rows:
    rows = []
    for (case, reference), (position, alpha) in product(ALGORITHMS, enumerate(CONCENTRATIONS)):
        runs = _runs(case, rounds, seeds, alpha)
        rows.append(
            {
                "algorithm": case.algorithm,
                "parameters": dict(case.parameters),
                "concentration": alpha,
                "final": [round(run.accuracies[-1], 4) for run in runs],
                "accuracy": _final(runs),
                "rounds_to_goal": [_rounds_to(GOAL, run.accuracies) for run in runs],
                "reference": reference[position] if reference else None,
            }
        )
    return rows


def render_algorithms(rows: Rows) -> str:
    head = ["algorithm", "parameters"]
    for alpha in CONCENTRATIONS:
        head += [f"alpha {alpha:g}", "reference"]
    lines, width = [], len(CONCENTRATIONS)
    for first in range(0, len(rows), width):
        group = rows[first : first + width]
        cells = [group[0]["algorithm"], _named(group[0]["parameters"])]
        for row in group:
            reached = _spread(row["rounds_to_goal"])
            cells += [f"**{row['accuracy']:.3f}** ({reached})", _number(row["reference"])]
        lines.append(cells)
    return _markdown(head, lines)


def judge_algorithms(rows: Rows) -> list[str]:
    compared = [row for row in rows if row["reference"] is not None]
    below = [row for row in compared if round(row["accuracy"], 3) < row["reference"]]
    return [
        f"- {len(compared) - len(below)} of {len(compared)} at or above the reference",
        *(
            f"- {row['algorithm']} at alpha {row['concentration']:g} is below it: "
            f"{row['accuracy']:.3f}, reference {row['reference']:.3f}"
            for row in below
        ),
    ]


def measure_codecs(rounds: int, seeds: int) -> Rows:
    rows = []
    for encoding, reference in CODECS:
        runs = _runs(Case(uplink=encoding), rounds, seeds, 0.5)
        sent = fmean(run.uplink_bytes for run in runs) / (10 * rounds)
        rows.append(
            {
                "codec": encoding.codec,
                "parameters": dict(encoding.parameters),
                "error_feedback": encoding.has_feedback or encoding.codec == "dgc",
                "ratio": round(_DIGITS_BYTES / sent, 1),
                "accuracy": _final(runs),
                "reference_ratio": reference[0] if reference else None,
                "reference": reference[1] if reference else None,
            }
        )
    return rows


def render_codecs(rows: Rows) -> str:
    lines = [
        [
            row["codec"],
            _named(row["parameters"]),
            "yes" if row["error_feedback"] else "",
            f"{row['ratio']:g}x",
            f"**{row['accuracy']:.3f}**",
            f"{row['reference']:.3f} at {row['reference_ratio']:g}x" if row["reference"] else "",
        ]
        for row in rows
    ]
    head = ["uplink codec", "parameters", "feedback", "ratio", "accuracy", "reference"]
    return _markdown(head, lines)


def judge_codecs(rows: Rows) -> list[str]:
    compared = [row for row in rows if row["reference"] and row["error_feedback"]]
    far = [row for row in compared if row["accuracy"] < row["reference"] - 0.005]
    more = [row for row in compared if row["ratio"] < 0.98 * row["reference_ratio"]]
    return [
        f"- {len(compared) - len(far)} of {len(compared)} rows with feedback are within 0.005 of the "
        "reference, or above it",
        *(f"- {row['codec']} {_named(row['parameters'])} is not" for row in far),
        *(
            f"- {row['codec']} {_named(row['parameters'])} sends more bytes than the reference, by "
            f"{row['reference_ratio'] / row['ratio'] - 1:.0%}"
            for row in more
        ),
    ]


def measure_attacks(rounds: int, seeds: int) -> Rows:
    rows = []
    for case, attacked, clean in RULES:
        rows.append(
            {
                "rule": case.rule if case.clip_quantile is None else "mean, clipQuantile 0.5",
                "parameters": dict(case.rule_parameters),
                "attacked": _final(_runs(replace(case, attackers=2), rounds, seeds, 0.5)),
                "attacked_reference": attacked or None,
                "clean": _final(_runs(case, rounds, seeds, 0.5)),
                "clean_reference": clean or None,
            }
        )
    return rows


def render_attacks(rows: Rows) -> str:
    lines = [
        [
            row["rule"],
            _named(row["parameters"]),
            f"**{row['attacked']:.3f}**",
            _number(row["attacked_reference"]),
            f"**{row['clean']:.3f}**",
            _number(row["clean_reference"]),
        ]
        for row in rows
    ]
    return _markdown(["rule", "parameters", "attacked", "reference", "clean", "reference"], lines)


def judge_attacks(rows: Rows) -> list[str]:
    best = max(rows, key=lambda row: row["attacked"])
    return [f"- best under attack: {best['rule']}, {best['attacked']:.3f}"]


def measure_traffic(rounds: int, seeds: int) -> Rows:
    rows: Rows = []
    for name, case in BOTH_WAYS:
        runs = _runs(case, rounds, seeds, 0.5)
        up, down = (
            fmean(getattr(r, f"{way}_bytes") for r in runs) for way in ("uplink", "downlink")
        )
        whole = rows[0]["bytes"] if rows else up + down
        rows.append(
            {
                "setting": name,
                "bytes": up + down,
                "uplink_ratio": round(_DIGITS_BYTES * 10 * rounds / up, 1),
                "downlink_ratio": round(_DIGITS_BYTES * 10 * rounds / down, 1),
                "total_ratio": round(whole / (up + down), 1),
                "accuracy": _final(runs),
            }
        )
    return rows


def render_traffic(rows: Rows) -> str:
    lines = [
        [
            row["setting"],
            f"{row['uplink_ratio']:g}x",
            f"{row['downlink_ratio']:g}x",
            f"**{row['total_ratio']:g}x**",
            f"**{row['accuracy']:.3f}**",
        ]
        for row in rows
    ]
    return _markdown(["setting", "up", "down", "in all", "accuracy"], lines)


def judge_traffic(rows: Rows) -> list[str]:
    plain = max(row["accuracy"] for row in rows if row["total_ratio"] == 1)
    good = [row for row in rows if row["total_ratio"] >= 100 and row["accuracy"] >= plain - 0.01]
    names = "; ".join(row["setting"] for row in good) or "none"
    return [
        "- a hundredth of the bytes or less, and at most 0.010 below the best that is not compressed: "
        f"{names}"
    ]


def _runs(case: Case, rounds: int, seeds: int, alpha: float) -> list[Learned]:
    return [learn(case, concentration=alpha, seed=seed, rounds=rounds) for seed in range(seeds)]


def _final(runs: Sequence[Learned]) -> float:
    return round(fmean(run.accuracies[-1] for run in runs), 4)


def _rounds_to(goal: float, accuracies: Iterable[float]) -> int | None:
    """Give the first round, from 1, whose accuracy is at least `goal`; None if there is none."""
    reached = (number for number, accuracy in enumerate(accuracies, 1) if accuracy >= goal)
    return next(reached, None)


def _spread(rounds: Sequence[int | None]) -> str:
    """Give the median of the rounds, the lower one of two, and the range."""
    ordered = sorted(rounds, key=lambda number: number or math.inf)
    first, middle, last = (ordered[i] or "never" for i in (0, (len(ordered) - 1) // 2, -1))
    return f"{middle}; {first} to {last}"


def _named(parameters: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in parameters.items()) or "defaults"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in rows)


TABLES: Mapping[str, Table] = {
    "algorithms": Table(
        "docs/algorithms.md", measure_algorithms, render_algorithms, judge_algorithms
    ),
    "codecs": Table("docs/compression.md", measure_codecs, render_codecs, judge_codecs),
    "traffic": Table("docs/compression.md", measure_traffic, render_traffic, judge_traffic),
    "attacks": Table("docs/robust-aggregation.md", measure_attacks, render_attacks, judge_attacks),
}
