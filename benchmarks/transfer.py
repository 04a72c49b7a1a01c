"""What a job with a handful of samples learns from other jobs, and what protects it from the wrong ones.

    python benchmarks/transfer.py [--seeds 5] [--only learning]

A target of 2, 4 or 10 noisy digits of each class for all five clients together, and sources that are
related to it, that saw permuted pixels, or that learnt other labels (see `transfer_case.py`). Prints the
tables and whether what docs/transfer.md promises holds, writes `results/transfer.json` and the tables in
docs/transfer.md. Exit code 1 where a promise does not hold.

*Reference* is what an independent numpy program with the same set-up reached on 5 splits of its own.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peers import provenance

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from transfer_chance import judge_chance, measure_chance, render_chance  # noqa: E402
from transfer_jobs import judge_jobs, measure_jobs, render_jobs  # noqa: E402
from transfer_learning import judge_learning, measure_learning, render_learning  # noqa: E402
from transfer_markdown import Rows, Table  # noqa: E402
from transfer_personal import judge_personal, measure_personal, render_personal  # noqa: E402
from transfer_probes import (  # noqa: E402
    judge_bodies,
    judge_grades,
    judge_traffic,
    measure_bodies,
    measure_grades,
    measure_traffic,
    render_bodies,
    render_grades,
    render_traffic,
)

RESULT = ROOT / "benchmarks/results/transfer.json"
DOCUMENT = ROOT / "docs/transfer.md"
TABLES: Mapping[str, Table] = {
    "learning": Table(measure_learning, render_learning, judge_learning),
    "grades": Table(measure_grades, render_grades, judge_grades),
    "chance": Table(measure_chance, render_chance, judge_chance),
    "bodies": Table(measure_bodies, render_bodies, judge_bodies),
    "traffic": Table(measure_traffic, render_traffic, judge_traffic),
    "personal": Table(measure_personal, render_personal, judge_personal),
    "jobs": Table(measure_jobs, render_jobs, judge_jobs),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5, help="splits, counted from seed 0")
    parser.add_argument("--only", choices=sorted(TABLES), help="one table; nothing is written")
    options = parser.parse_args()
    result: dict[str, Any] = {
        "benchmark": "transfer",
        **provenance.describe(("numpy", "scikit-learn")),
        "seeds": options.seeds,
    }
    for name in TABLES if options.only is None else ():
        around_section(name)  # before minutes are spent on what has no place
    all_hold = True
    for name, table in TABLES.items():
        if options.only in (None, name):
            started = time.perf_counter()
            rows = result[name] = table.measure(options.seeds)
            all_hold &= all(verdict.holds for verdict in table.verdict(rows))
            print(
                f"{name} ({time.perf_counter() - started:.0f} s)", _section(name, rows), sep="\n\n"
            )
    if options.only is None:
        RESULT.write_text(json.dumps(result, indent=1) + "\n")
        for name in TABLES:
            head, tail = around_section(name)
            DOCUMENT.write_text(f"{head}\n{_where(result)}\n\n{_section(name, result[name])}{tail}")
    return 0 if all_hold else 1


def _section(name: str, rows: Rows) -> str:
    lines = [
        f"- {verdict.text}{'' if verdict.holds else ': **does not hold**'}\n"
        for verdict in TABLES[name].verdict(rows)
    ]
    return f"{TABLES[name].render(rows)}\n{''.join(lines)}"


def around_section(name: str) -> tuple[str, str]:
    """Give what stands before a table in the document and behind it, markers included."""
    begin, end = f"<!-- transfer {name}: begin -->", f"<!-- transfer {name}: end -->"
    head, found, rest = DOCUMENT.read_text().partition(begin)
    _, closed, tail = rest.partition(end)
    if not found or not closed:
        raise SystemExit(f"{DOCUMENT.name}: got no {begin} ... {end}, expected both")
    return head + begin, end + tail


def _where(result: Mapping[str, Any]) -> str:
    versions: Mapping[str, str] = result["versions"]
    commit, *changes = result["commit"].split("+")
    return (
        f"Commit `{'+'.join([commit[:12], *changes])}`, {result['date'][:10]}, Python "
        f"{versions['python']}, numpy {versions['numpy']}, {result['seeds']} splits."
    )


if __name__ == "__main__":
    sys.exit(main())
