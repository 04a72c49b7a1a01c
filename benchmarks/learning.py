"""How well each server algorithm learns the digits: accuracy after 50 rounds, three splits each.

    python benchmarks/learning.py [--rounds 50] [--seeds 3]

Ten clients train a perceptron (64-200-10) for one local epoch per round (batches of 32, learning rate
0.1), all of them in every round. What combines their updates is Fedloom's own mathematics in one
process, not its engine (see `learning_case.py`). Prints the table, writes `results/learning.json` and
the table in docs/algorithms.md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from learning_case import learn
from peers import provenance

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks/results/learning.json"
DOCUMENT = ROOT / "docs/algorithms.md"
BEGIN, END = "<!-- learning: begin -->", "<!-- learning: end -->"
CONCENTRATIONS = (100.0, 0.5, 0.1)
GOAL = 0.9


class Entry(NamedTuple):
    """A row of the table; `reference`: what an independent numpy program reached, per concentration."""

    algorithm: str
    parameters: Mapping[str, float]
    reference: Sequence[float] | None


ENTRIES = (
    Entry("fedavg", {}, (0.950, 0.946, 0.927)),
    Entry("fedavgm", {"momentum": 0.9, "serverLearningRate": 0.3}, (0.960, 0.960, 0.945)),
    Entry("fedavgm", {}, None),
    Entry("fedadam", {}, (0.964, 0.961, 0.953)),
    Entry("fedyogi", {}, (0.964, 0.961, 0.951)),
    Entry("fedadagrad", {}, (0.967, 0.967, 0.956)),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seeds", type=int, default=3, help="splits, counted from seed 0")
    options = parser.parse_args()
    result = {
        "benchmark": "learning",
        **provenance.describe(("numpy", "scikit-learn")),
        "rounds": options.rounds,
        "seeds": options.seeds,
        "rows": measure(options.rounds, options.seeds),
    }
    table = as_table(result["rows"])
    print(table, *verdict(result["rows"]), sep="\n")
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    write_section(DOCUMENT, as_section(result, table))


def measure(rounds: int, seeds: int) -> list[dict[str, Any]]:
    """Train every algorithm on every split; a row per algorithm and concentration."""
    rows = []
    for entry, (position, concentration) in product(ENTRIES, enumerate(CONCENTRATIONS)):
        runs = [
            learn(
                entry.algorithm,
                entry.parameters,
                concentration=concentration,
                seed=seed,
                rounds=rounds,
            )
            for seed in range(seeds)
        ]
        rows.append(
            {
                "algorithm": entry.algorithm,
                "parameters": dict(entry.parameters),
                "concentration": concentration,
                "final": [round(run[-1], 4) for run in runs],
                "accuracy": round(fmean(run[-1] for run in runs), 4),
                "rounds_to_goal": [rounds_to(GOAL, run) for run in runs],
                "reference": entry.reference[position] if entry.reference else None,
            }
        )
    return rows


def rounds_to(goal: float, accuracies: Iterable[float]) -> int | None:
    """Give the first round, from 1, whose accuracy is at least `goal`; None if there is none."""
    reached = (number for number, accuracy in enumerate(accuracies, 1) if accuracy >= goal)
    return next(reached, None)


def as_table(rows: Sequence[Mapping[str, Any]]) -> str:
    head = ["algorithm", "parameters"]
    for concentration in CONCENTRATIONS:
        head += [f"alpha {concentration:g}", "reference"]
    lines = [head, ["---"] * len(head)]
    width = len(CONCENTRATIONS)
    for first in range(0, len(rows), width):
        group = rows[first : first + width]
        given = [f"{name} {value:g}" for name, value in group[0]["parameters"].items()]
        cells = [group[0]["algorithm"], ", ".join(given) or "defaults"]
        for row in group:
            reached = ", ".join(str(number or "never") for number in row["rounds_to_goal"])
            reference = "" if row["reference"] is None else f"{row['reference']:.3f}"
            cells += [f"**{row['accuracy']:.3f}** ({reached})", reference]
        lines.append(cells)
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def verdict(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say how many cells are at or above their reference, to three digits, and which are not."""
    compared = [row for row in rows if row["reference"] is not None]
    below = [row for row in compared if round(row["accuracy"], 3) < row["reference"]]
    lines = [f"- {len(compared) - len(below)} of {len(compared)} at or above the reference"]
    lines += [
        f"- {row['algorithm']} at alpha {row['concentration']:g} is below it: "
        f"{row['accuracy']:.3f}, reference {row['reference']:.3f}"
        for row in below
    ]
    return lines


def as_section(result: Mapping[str, Any], table: str) -> str:
    versions = result["versions"]
    commit, *changes = result["commit"].split("+")
    where = (
        f"Commit `{'+'.join([commit[:12], *changes])}`, {result['date'][:10]}, Python {versions['python']}, "
        f"numpy {versions['numpy']}, {result['rounds']} rounds, {result['seeds']} splits."
    )
    return "\n".join([where, "", table, *verdict(result["rows"])])


def write_section(path: Path, section: str) -> None:
    """Put the section between the two markers of a document, in place of what is there."""
    text = path.read_text()
    head, found, rest = text.partition(BEGIN)
    _, closed, tail = rest.partition(END)
    if not found or not closed:
        raise SystemExit(f"{path.name}: got no {BEGIN} ... {END}, expected both")
    path.write_text(f"{head}{BEGIN}\n{section}\n{END}{tail}")


if __name__ == "__main__":
    main()
