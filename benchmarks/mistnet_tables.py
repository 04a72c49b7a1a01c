"""The tables and the bounds of `mistnet.py`: what it prints, and what stands in docs/mistnet.md."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from fedloom.algorithms.mistnet.accounting import ReleaseCost
from fedloom.algorithms.mistnet.randomized_response import RandomizedResponse

LEAST_BITS, LEAST_EPSILON_2, LEAST_GAIN = 0.55, 0.42, 0.08
_BITS = 9_216  # of an image
Row = Mapping[str, Any]
Key = tuple[str, float, int]  # kind, epsilon, edges
_INFINITE = float("inf")
LINES: Sequence[tuple[str, Key]] = (
    ("none: the public network as it is", ("public", 0.0, 2)),
    ("all raw images in one place, the whole network", ("centralised", 0.0, 2)),
    ("features as floats, extractor frozen", ("floats", 0.0, 2)),
    ("bits, no noise", ("release", _INFINITE, 2)),
    ("bits, no noise, of one edge only", ("release", _INFINITE, 1)),
    ("epsilon 2", ("release", 2.0, 2)),
    ("epsilon 1", ("release", 1.0, 2)),
    ("epsilon 1, of one edge only", ("release", 1.0, 1)),
    ("epsilon 0.5", ("release", 0.5, 2)),
    ("epsilon 0.1", ("release", 0.1, 2)),
    ("epsilon 0.05", ("release", 0.05, 2)),
)
_COMPARED = {("release", epsilon, 2) for epsilon in (_INFINITE, 2.0, 1.0)}


@dataclass(frozen=True)
class Bound:
    """Something that has to be at least so large."""

    name: str
    value: float
    least: float

    @property
    def holds(self) -> bool:
        return self.value >= self.least

    def __str__(self) -> str:
        word = "pass" if self.holds else "FAIL"
        return f"{self.name}: {self.value:.3f}, at least {self.least:g}: {word}"


def bounds(result: Row) -> list[Bound]:
    """Judge a run; means over the seeds at the chosen number of epochs."""
    bits, mild, strong, alone = (
        fmean(chosen(result, ("release", epsilon, edges)))
        for epsilon, edges in ((_INFINITE, 2), (2.0, 2), (1.0, 2), (1.0, 1))
    )
    return [
        Bound("mAP50 of bits without noise", bits, LEAST_BITS),
        Bound("mAP50 at epsilon 2", mild, LEAST_EPSILON_2),
        Bound("two edges above one, at epsilon 1", strong - alone, LEAST_GAIN),
    ]


def whole(result: Row) -> str:
    """Give all that `mistnet.py` tells."""
    told = "\n".join(f"- {bound}" for bound in bounds(result))
    return f"{table(result)}\n{told}\n\n{alternatives(result)}"


def table(result: Row) -> str:
    """Give precision beside leakage, a line for each way of releasing."""
    epochs = result["scale"]["epochs"]
    lines = []
    for name, key in LINES:
        rows = rows_of(result, key)
        linked = rows_of(result, ("leakage", key[1], 2)) if key[2] == 2 else []
        if key[0] in ("public", "centralised"):
            linked = []
        cells = [spread([r["map50"] for r in rows if r["epochs"] == e]) for e in epochs]
        if key[0] == "public":
            cells = ["", ""]
        best = chosen(result, key)
        clean = [r["clean_map50"] for r in best_of(rows) if "clean_map50" in r]
        cells += [
            f"**{spread(best)}**" if best else "",
            spread(clean) if key[1] < _INFINITE else "",
        ]
        cells += [spread([r["linkage"] for r in linked if "linkage" in r])]
        ridge = [_mean([r[name] for r in linked]) for name in ("variance", "correlation")]
        cells += [" / ".join(ridge) if linked else "", _told(key) if linked else ""]
        lines.append([name, *cells])
    head = ["released", *(f"mAP50, {e} epochs" for e in epochs), "chosen", "clean bits"]
    return markdown([*head, "linkage of 256", "ridge variance / r", "B"], lines)


def _told(key: Key) -> str:
    """Give how many bytes a release can tell of its image at most."""
    kind, epsilon, _ = key
    if kind != "release":
        return ""
    return f"{ReleaseCost(_BITS, RandomizedResponse(epsilon)).information_bytes:.0f}"


def alternatives(result: Row) -> str:
    """Give MistNet's one round beside rounds of federated averaging: bytes and precision."""
    lines = []
    for name, key in LINES:
        if key not in _COMPARED:
            continue
        rows = rows_of(result, key)
        cells = [_megabytes([r[f"{way}_bytes"] for r in rows]) for way in ("uplink", "downlink")]
        lines.append([f"MistNet, {name}", 1, *cells, spread(chosen(result, key))])
    runs = rows_of(result, ("fedavg", 0.0, 2))
    for place in range(len(runs[0]["rounds"]) if runs else 0):
        seen = [run["rounds"][place] for run in runs]
        cells = [_megabytes([r[f"{way}_bytes"] for r in seen]) for way in ("uplink", "downlink")]
        cells.append(spread([r["map50"] for r in seen]))
        lines.append(["federated averaging of the whole network", seen[0]["round"], *cells])
    return markdown(["how", "rounds", "MB up", "MB down", "mAP50"], lines)


def chosen(result: Row, key: Key) -> list[float]:
    """Give the precision of each seed after the number of epochs that does best on pictures to choose by."""
    return [row["map50"] for row in best_of(rows_of(result, key))]


def best_of(rows: Sequence[Row]) -> list[Row]:
    seeds = sorted({row["seed"] for row in rows})
    return [
        max((row for row in rows if row["seed"] == seed), key=lambda row: row.get("trial_map50", 0))
        for seed in seeds
    ]


def rows_of(result: Row, key: Key) -> list[Row]:
    return [
        row for row in result["rows"] if (row["kind"], _number(row["epsilon"]), row["edges"]) == key
    ]


def _number(value: float | str) -> float:
    return _INFINITE if value == "infinite" else float(value)


def _mean(values: Sequence[float]) -> str:
    return f"{fmean(values):.3f}" if values else ""


def spread(values: Sequence[float]) -> str:
    """Give the mean, and the standard deviation over the seeds."""
    if len(values) < 2 or max(values) == min(values):
        return _mean(values)
    return f"{fmean(values):.3f} ± {stdev(values):.3f}"


def _megabytes(values: Sequence[float]) -> str:
    return f"{fmean(values) / 1e6:.2f}" if values else ""


def markdown(head: Sequence[object], lines: Iterable[Sequence[object]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "".join(f"| {' | '.join(map(str, row))} |\n" for row in rows)
