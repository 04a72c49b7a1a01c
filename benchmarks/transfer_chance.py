"""How often a candidate that is exactly as good as scratch is taken for better: a table of `transfer.py`.

Losses of single samples are drawn, no model is involved: what scratch's exceed the candidate's by is skewed
(exponential) and has mean 0; clients differ by a little more, or not at all.
"""

from __future__ import annotations

from itertools import product

import numpy as np
from transfer_markdown import Rows, Verdict, markdown

from fedloom.algorithms.transfer.answers import Probe
from fedloom.algorithms.transfer.decision import SCRATCH, SURE_AT, choose

SIZES = ((2, 20), (3, 20), (5, 20), (5, 100), (10, 100), (50, 1000))
SPREADS = {"alike": 100.0, "uneven": 0.5}
_DRAWS = 2000
_MOST = 0.125


def measure_chance(seeds: int) -> Rows:
    rows = []
    for clients, samples in SIZES:
        taken = {
            f"{name}, {apart:g}": _taken(clients, samples, alpha, apart)
            for (name, alpha), apart in product(SPREADS.items(), (0.0, 0.5))
        }
        rows.append({"clients": clients, "samples": samples, "taken": taken})
    return rows


def _taken(clients: int, samples: int, alpha: float, apart: float) -> float:
    """Give the share of draws in which the candidate is taken; those of one client alone are left out."""
    rng = np.random.default_rng((clients, samples, int(alpha), int(10 * apart)))
    taken, draws = 0, 0
    while draws < _DRAWS:
        owner = rng.choice(clients, samples, p=rng.dirichlet(np.full(clients, alpha)))
        leads = rng.exponential(1.0, samples) - 1 + rng.normal(0, apart, clients)[owner]
        full = {
            f"client-{k}": Probe(-float(leads[owner == k].mean()), int((owner == k).sum()))
            for k in np.unique(owner)
        }
        if len(full) > 1:
            scratch = {client: Probe(0.0, probe.samples) for client, probe in full.items()}
            kinds = {SCRATCH: SCRATCH, "source": "full"}
            choice = choose({SCRATCH: scratch, "source": full}, kinds)
            taken, draws = taken + (choice.candidate == "source"), draws + 1
    return taken / draws


def render_chance(rows: Rows) -> str:
    lines = [
        [str(row["clients"]), str(row["samples"]), *(f"{x:.1%}" for x in row["taken"].values())]
        for row in rows
    ]
    return markdown(["clients", "samples", *rows[0]["taken"]], lines)


def judge_chance(rows: Rows) -> list[Verdict]:
    most = max(max(row["taken"].values()) for row in rows)
    return [
        Verdict(
            most <= _MOST,
            f"taken by chance in {most:.1%} of draws at most; {SURE_AT:.0%} is what the test means, few "
            "clients of very unequal size make it more",
        )
    ]
