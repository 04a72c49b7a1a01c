"""How well each method learns the digits, what compression costs it, and what an attack does to it.

    python benchmarks/learning.py [--rounds 50] [--seeds 12] [--only algorithms]

Ten clients train a perceptron (64-200-10) for one local epoch per round (batches of 32, learning rate
0.1), all of them in every round. What happens to their updates is Fedloom's own mathematics in one
process, not its engine (see `learning_case.py`). Prints the tables, writes `results/learning.json` and
the tables in docs/algorithms.md, docs/compression.md and docs/robust-aggregation.md.

*Reference* is what an independent numpy program with the same set-up reached over 3 splits of its own.
The final accuracy differs from split to split by a standard deviation of 0.009 to 0.015: it takes 12
splits for a mean to be within 0.005 of where it belongs.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from learning_tables import TABLES, Table
from peers import provenance

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks/results/learning.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seeds", type=int, default=12, help="splits, counted from seed 0")
    parser.add_argument("--only", choices=sorted(TABLES), help="one table; nothing is written")
    options = parser.parse_args()
    result: dict[str, Any] = {
        "benchmark": "learning",
        **provenance.describe(("numpy", "scikit-learn")),
        "rounds": options.rounds,
        "seeds": options.seeds,
    }
    for name, table in TABLES.items():
        around_section(name, table)  # before minutes are spent on what has no place
    for name, table in TABLES.items():
        if options.only in (None, name):
            rows = table.measure(options.rounds, options.seeds)
            result[name] = rows
            print(name, table.render(rows), *table.verdict(rows), sep="\n", flush=True)
    if options.only is None:
        RESULT.write_text(json.dumps(result, indent=1) + "\n")
        for name, table in TABLES.items():
            write_section(name, table, result)


def write_section(name: str, table: Table, result: Mapping[str, Any]) -> None:
    """Put the table between its two markers in its document, in place of what is there."""
    head, tail = around_section(name, table)
    section = "\n".join(
        [_where(result), "", table.render(result[name]), *table.verdict(result[name])]
    )
    (ROOT / table.document).write_text(f"{head}\n{section}\n{tail}")


def around_section(name: str, table: Table) -> tuple[str, str]:
    """Give what stands before a table and behind it, markers included."""
    begin, end = f"<!-- learning {name}: begin -->", f"<!-- learning {name}: end -->"
    head, found, rest = (ROOT / table.document).read_text().partition(begin)
    _, closed, tail = rest.partition(end)
    if not found or not closed:
        raise SystemExit(f"{table.document}: got no {begin} ... {end}, expected both")
    return head + begin, end + tail


def _where(result: Mapping[str, Any]) -> str:
    versions: Mapping[str, str] = result["versions"]
    commit, *changes = result["commit"].split("+")
    head: Sequence[str] = [commit[:12], *changes]
    return (
        f"Commit `{'+'.join(head)}`, {result['date'][:10]}, Python {versions['python']}, "
        f"numpy {versions['numpy']}, {result['rounds']} rounds, {result['seeds']} splits."
    )


if __name__ == "__main__":
    main()
