"""How the tables of `transfer.py` are written, and what a claim about one is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

Rows = list[dict[str, Any]]


class Verdict(NamedTuple):
    """A sentence about measured figures, and whether what was promised holds."""

    holds: bool
    text: str


@dataclass(frozen=True)
class Table:
    """One table: how its rows are measured and shown, and what is claimed of them."""

    measure: Callable[[int], Rows]
    render: Callable[[Rows], str]
    verdict: Callable[[Rows], list[Verdict]]


def markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in rows)
