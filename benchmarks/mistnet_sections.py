"""What stands in docs/mistnet.md of the results of `mistnet.py`, `mistnet_jobs.py` and `mistnet_edge.py`."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from mistnet_tables import alternatives, best_of, bounds, chosen, markdown, rows_of, table

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks/results"
DOCUMENT = ROOT / "docs/mistnet.md"
Result = Mapping[str, Any]


def write_sections() -> None:
    """Put each section between its two markers, in place of what is there."""
    text = DOCUMENT.read_text()
    for name, render in _SECTIONS.items():
        result = json.loads((RESULTS / f"{name}.json").read_bytes())
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        head, found, rest = text.partition(begin)
        _, closed, tail = rest.partition(end)
        if not found or not closed:
            raise SystemExit(f"{DOCUMENT}: got no {begin} ... {end}, expected both")
        text = f"{head}{begin}\n{render(result)}\n{end}{tail}"
    DOCUMENT.write_text(text)


def measured(result: Result) -> str:
    """Give what `mistnet.py` found, and what it means."""
    judged = [f"- {bound}" for bound in bounds(result)]
    core = sum(row["core_seconds"] for row in result["rows"]) + result["pretraining"]["seconds"]
    cost = (
        f"{_run_of(result)} {result['seeds']} seeds, mean ± standard deviation; {core / 60:.0f} minutes of "
        f"one core in all; the public network has mAP50 {result['pretraining']['mAP50']:.3f} on "
        "pictures of its own kind."
    )
    reading = [f"- {sentence}" for sentence in readings(result)]
    return "\n".join(
        [cost, "", table(result), *judged, "", *reading, "", alternatives(result).rstrip()]
    )


def readings(result: Result) -> Iterator[str]:
    """Say what the figures mean, with the figures."""

    def worth(kind: str, epsilon: float, edges: int = 2) -> float:
        return fmean(chosen(result, (kind, epsilon, edges)))

    def linked(epsilon: float) -> float:
        return fmean(row["linkage"] for row in rows_of(result, ("leakage", epsilon, 2)))

    bits, two, one, half = worth("release", math.inf), *(worth("release", e) for e in (2, 1, 0.5))
    public, whole, floats = worth("public", 0), worth("centralised", 0), worth("floats", 0)
    yield (
        f"**No setting that is of any use hides which image was released.** At epsilon 0.5, with mAP50 at "
        f"{half:.3f} and the network that saw no private image at {public:.3f}, {linked(0.5):.0%} of the "
        f"releases are linked to their image; at 0.05 {linked(0.05):.1%}, where guessing finds 0.4%."
    )
    yield (
        "**What degrades is reconstruction**: the linear attack's share of the pixels goes from "
        + ", ".join(
            f"{fmean(r['variance'] for r in rows_of(result, ('leakage', e, 2))):.0%} ({name})"
            for name, e in (("floats", 0), ("bits", math.inf), ("2", 2), ("1", 1), ("0.5", 0.5))
        )
        + "."
    )
    yield (
        f"**Freezing costs {whole - floats:.3f}, bits {floats - bits:.3f} more, before any noise**; epsilon 2 "
        f"costs {bits - two:.3f}, epsilon 1 {bits - one:.3f}."
    )
    gains = (bits - worth("release", math.inf, 1), one - worth("release", 1, 1))
    yield (
        f"**A second edge is worth {gains[1]:.3f}** at epsilon 1, and {gains[0]:.3f} without noise: that is what "
        f"federation gives. In as many epochs one edge makes half the steps; {_by_steps(result)}."
    )
    yield (
        "**An image's noise is always the same, and what trains longer learns it by heart**: "
        f"{_longer(result)}. Choose their number on pictures that are not trained on."
    )
    pairs = [
        (row["map50"], row["float_map50"])
        for row in best_of(rows_of(result, ("release", math.inf, 2)))
    ]
    yield (
        f"**What learnt from bits has to be given bits**: on the floats that they are made of it has "
        f"{fmean(p[1] for p in pairs):.3f}, not {fmean(p[0] for p in pairs):.3f}."
    )
    yield _averaged(result, two)


def _by_steps(result: Result) -> str:
    """Give one edge with the larger number of epochs, two with the smaller one, at epsilon 1."""
    short, long = result["scale"]["epochs"]
    one, two = (
        fmean(
            row["map50"]
            for row in rows_of(result, ("release", 1.0, edges))
            if row["epochs"] == epochs
        )
        for edges, epochs in ((1, long), (2, short))
    )
    return (
        f"with {long} epochs it has {one:.3f} at epsilon 1, two edges with {short} have {two:.3f}"
    )


def _longer(result: Result) -> str:
    short, long = result["scale"]["epochs"]
    changes = []
    for name, epsilon in (
        ("without noise", math.inf),
        *((f"at {e:g}", e) for e in (2.0, 1.0, 0.5)),
    ):
        rows = rows_of(result, ("release", epsilon, 2))
        means = [fmean(r["map50"] for r in rows if r["epochs"] == e) for e in (short, long)]
        changes.append(f"{means[1] - means[0]:+.3f} {name}")
    return f"{long} epochs instead of {short} change mAP50 by {', '.join(changes)}"


def _averaged(result: Result, mistnet: float) -> str:
    runs = rows_of(result, ("fedavg", 0.0, 2))
    rounds = [
        (seen[0]["round"], fmean(r["map50"] for r in seen), seen[0]["uplink_bytes"])
        for seen in zip(*(run["rounds"] for run in runs), strict=True)
    ]
    above = next((r for r in rounds if r[1] > mistnet), None)
    bytes_up = fmean(r["uplink_bytes"] for r in rows_of(result, ("release", 2.0, 2)))
    last = f"{rounds[-1][1]:.3f} after {rounds[-1][0]} rounds"
    if above is None:
        return f"**Federated averaging** stays below MistNet at epsilon 2: {last}."
    return (
        f"**Federated averaging of the whole network gets further**: it is above MistNet at epsilon 2 after "
        f"{above[0]} rounds, with {above[2] / bytes_up:.0f} times its bytes up, and ends with {last}. Its edges "
        "train, again and again; MistNet's run a few layers, once. What its updates give away is "
        "[another matter](privacy.md)."
    )


def jobs(result: Result) -> str:
    """Give the two jobs of `mistnet_jobs.py`, one below the other."""
    lines: list[Sequence[object]] = []
    for name, job in result["jobs"].items():
        moved = (f"{job[f'{way}_bytes'] / 1e6:.2f}" for way in ("uplink", "downlink"))
        worth = f"**{job['mAP50']:.3f}**", f"{job['seconds']:.0f}"
        lines.append([name, job["rounds"], *moved, *worth])
    head = ["job", "rounds", "MB up", "MB down", "mAP50", "s"]
    return f"{_run_of(result)}\n\n{markdown(head, lines).rstrip()}"


def edge(result: Result) -> str:
    """Give what `mistnet_edge.py` found."""
    words = {True: "pass", False: "**fail**", None: ""}
    lines = [
        [
            row["measure"],
            f"{_short(row['value'])} {row['unit']}",
            row["bound"],
            words[row["within"]],
        ]
        for row in result["rows"]
    ]
    return f"{_run_of(result)}\n\n{markdown(['measure', 'value', 'bound', ''], lines).rstrip()}"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _run_of(result: Result) -> str:
    cpu, versions = result["cpu"], result["versions"]
    commit, *changes = result["commit"].split("+")
    return (
        f"Commit `{'+'.join([commit[:12], *changes])}`, {result['date'][:10]}, {cpu['model']}, "
        f"{cpu['cores']} cores, load {cpu['load_average_at_start']} at its start, torch "
        f"{versions['torch']}."
    )


_SECTIONS = {"mistnet": measured, "mistnet_jobs": jobs, "mistnet_edge": edge}
