"""What a rule combines: the updates of clients, or the sums that groups of them have made already.

The steps of an aggregation meet here: `aggregate` alone, or `combine` and `shard` before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from components.aggregated import Aggregated
from components.next_model import NextModel
from components.request import Place, Request
from components.update_file import Array
from components.updates import (
    BadClients,
    OpenFile,
    Reports,
    absent_clients,
    check_updates,
    collect_reports,
    open_file,
    open_updates,
    reports_of,
    who_is_not_finite,
)
from fedloom.algorithms.aggregation.mean import SUMMED, Mean, total_weight
from fedloom.algorithms.aggregation.protocol import Aggregator
from fedloom.algorithms.aggregation.registry import aggregator
from fedloom.algorithms.aggregation.source import Block, UpdateSource
from fedloom.algorithms.aggregation.weights import Weights, weigh, weigh_normalized
from fedloom.algorithms.layout import Layout
from fedloom.artifacts.arrays import ArrayFile

_NORMALIZED = "fednova"
_MOST = 2**48  # of one client: sums of any cohort's weights stay far inside float32


@dataclass(frozen=True)
class Ballot:
    """What is combined, and by which rule.

    Attributes:
        clients: whose updates the sources are, in their order; nobody's where they are sums.
        sources: opened.
        weights: shape (sources,), float64.
        positions: of the sources among all that could have been there, ascending.
        rule: that of the job.
    """

    clients: list[str] = field(default_factory=list)
    sources: list[UpdateSource] = field(default_factory=list)
    weights: Array = field(default_factory=lambda: np.ones(0))
    positions: tuple[int, ...] = ()
    rule: Aggregator = field(default_factory=Mean)


def collect(
    request: Request, place: Place, failures: Mapping[str, Mapping[str, str]]
) -> Aggregated:
    """Read the reports; `failures` are the clients that the engine knows to have failed."""
    reports, failures = collect_reports(request, place, failures)
    found = Aggregated(reports, absent_clients(request, reports, failures))
    found.drop(_clients_without_weight(request, reports))
    return found


def open_ballot(
    request: Request,
    place: Place,
    layout: Layout,
    reports: Reports,
    stack: ExitStack,
    open_file: OpenFile = open_file,
) -> Ballot:
    """Open the updates of all clients with a report; `stack` closes them. Raises BadClients."""
    clients = sorted(reports)
    sources = open_updates(request, place, layout, reports, stack, open_file)
    weights = _weights_of(request, reports)
    order = {client: position for position, client in enumerate(sorted(reports_of(request)))}
    positions = tuple(order[client] for client in clients)
    rule = _rule_of(request.settings["aggregation"], positions, weights.divisor)
    return Ballot(clients, sources, weights.values, positions, rule)


def open_sums(
    request: Request, place: Place, groups: Sequence[Aggregated], stack: ExitStack
) -> Ballot:
    """Open the sums of groups, in the groups' order; those without an update are left out."""
    sources: list[UpdateSource] = []
    shares, positions = [], []
    for position, group in enumerate(groups):
        if group.model is None:
            continue
        sums = group.model
        path = place.store.materialize(sums.key, place.work / "sums", digest=sums.digest)
        sources.append(_SumSource(stack.enter_context(ArrayFile(path))))
        # What a group made of one update alone is that update still.
        is_lone = len(group.reports) == 1
        shares.append(_weights_of(request, group.reports).values[0] if is_lone else SUMMED)
        positions.append(position)
    everyone = {client: report for group in groups for client, report in group.reports.items()}
    weights = _weights_of(request, everyone)
    divisor = total_weight(weights.values) if weights.divisor is None else weights.divisor
    rule = Mean(tuple(positions), divisor)
    return Ballot([], sources, np.array(shares), tuple(positions), rule)


def fold(ballot: Ballot, layout: Layout, base: ArrayFile, writer: NextModel) -> None:
    """Take what the rule makes of the ballot into the next model. Raises BadClients."""
    rule = ballot.rule
    if not rule.shows_bad_values:
        check_updates(ballot.clients, ballot.sources, layout)
    for block in rule.aggregate(ballot.sources, ballot.weights, layout):
        check_block(ballot, block)
        writer.step(base, block.name, block.start, block.values)


def check_block(ballot: Ballot, block: Block) -> None:
    """Find who is to blame for NaN or Inf in a block of the result. Raises BadClients or JobError."""
    if not np.isfinite(block.values).all():
        raise who_is_not_finite(ballot.clients, ballot.sources, block)


def _clients_without_weight(request: Request, reports: Reports) -> BadClients:
    """Find the clients that do not say, or not within reason, by how much to weigh their updates."""
    settings = request.settings
    is_normalized = settings["algorithm"] == _NORMALIZED
    counts_steps = is_normalized or settings["aggregation"]["weights"] == "steps"
    purpose = "fednova divides" if is_normalized else "spec.aggregation.weights: steps weighs"
    bad = {}
    for client, report in reports.items():
        examples, steps = report["num_examples"], report["num_steps"]
        if not _is_count(examples, 0):
            bad[client] = (
                "BadResult",
                f"num_examples: got {str(examples)[:40]}, expected an integer up to 2**48",
            )
        elif counts_steps and not _is_count(steps, 1 if is_normalized else 0):
            bad[client] = (
                "NoSteps",
                f"num_steps: got {str(steps)[:40]}, expected the number of optimisation steps, by "
                f"which {purpose} its update: fedloom.Update(..., num_steps=...) or num_steps in "
                "FEDLOOM_RESULT",
            )
    return BadClients(bad)


def _is_count(value: object, least: int) -> bool:
    return isinstance(value, int) and least <= value <= _MOST


def _weights_of(request: Request, reports: Reports) -> Weights:
    clients = sorted(reports)
    examples = [reports[client]["num_examples"] for client in clients]
    steps = [reports[client]["num_steps"] for client in clients]
    kind = request.settings["aggregation"]["weights"]
    if request.settings["algorithm"] == _NORMALIZED and clients:
        return weigh_normalized(kind, examples, steps)
    return weigh(kind, examples, steps)


def _rule_of(
    settings: Mapping[str, Any], positions: tuple[int, ...], divisor: float | None
) -> Aggregator:
    rule: Aggregator = Mean(positions, divisor)
    if settings["rule"] != "mean":
        rule = aggregator(settings["rule"], settings["parameters"])
    norm, quantile = settings["clip_norm"], settings["clip_quantile"]
    if norm is None and quantile is None:
        return rule
    from fedloom.algorithms.aggregation.clipping import ClipToNorm, ClipToQuantile

    return ClipToNorm(rule, norm) if norm is not None else ClipToQuantile(rule, quantile)


class _SumSource:
    """A file of sums as an `UpdateSource`."""

    def __init__(self, file: ArrayFile) -> None:
        self._file = file

    def read(self, name: str, start: int, stop: int, scratch: Array) -> Array:
        out = scratch[: stop - start]
        self._file.read_into(name, start, out)
        return out
