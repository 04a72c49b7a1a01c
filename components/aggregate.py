"""aggregate (cloud): combine the accepted updates of a round into the next global model.

Updates are opened, checked against the model and folded block by block in the order of the clients'
names, so the memory is one block per client and the result does not depend on who answered first. A
client whose update is missing or wrong is named and left out; fewer than `min_clients` end the attempt.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from components.aggregated import Aggregated, read_parts
from components.ballot import Ballot, collect, fold, open_ballot, open_sums
from components.command import run_command
from components.next_model import NextModel, layouts_of, open_model
from components.request import Place, Request
from components.updates import BadClients
from fedloom.algorithms.layout import Layout
from fedloom.algorithms.optimizers.registry import server_optimizer
from fedloom.api.capabilities import SCRIPT_RULE
from fedloom.artifacts.arrays import ArrayFile
from fedloom.artifacts.artifact import Artifact
from fedloom.artifacts.layout import attempt_key
from fedloom.errors import JobError

if TYPE_CHECKING:
    from components.private_round import PrivateRound
    from components.unmask import UnmaskedSum

__all__ = ["Aggregated", "run"]


def run(
    request: Request,
    place: Place,
    failures: Mapping[str, Mapping[str, str]],
    *,
    is_durable: bool = True,
) -> Aggregated:
    """Aggregate the round's updates.

    `failures` are the clients that the engine already knows to have failed; `is_durable` says
    whether the model must outlive a loss of power when this returns.
    """
    parts = read_parts(place, request.settings.get("parts", ()))
    if parts:
        found = Aggregated.joined(parts)
    elif "masking" in request.settings:
        from components import unmask

        found = Aggregated(*unmask.read_reports(request, place))
    else:
        found = collect(request, place, failures)
    with open_model(request, place) as base:
        if "shards" in request.settings:
            from components import shard

            if shard.assemble(request, place, base, found, parts, is_durable=is_durable):
                return found
            parts = []
        while len(found.reports) >= request.settings["min_clients"]:
            try:
                _combine(request, place, base, found, parts, is_durable)
            except BadClients as bad:
                found.drop(bad)
            else:
                break
    return found


def _combine(
    request: Request,
    place: Place,
    base: ArrayFile,
    found: Aggregated,
    groups: Sequence[Aggregated],
    is_durable: bool,
) -> None:
    """Take the updates of all clients with a report into the next model, and store it."""
    layout, kept = layouts_of(request, base)
    with ExitStack() as stack:
        masked = _masked_sum(request, place, layout, stack)
        if masked is not None:  # nobody's own update can be looked at
            ballot = Ballot(rule=masked)
        elif groups:
            ballot = open_sums(request, place, groups, stack)
        else:
            ballot = open_ballot(request, place, _sent(request, layout), found.reports, stack)
        private = _private_round(request, place)
        if private is not None and private.is_noised:
            ballot = replace(ballot, rule=private if masked is None else private.over(masked))
        optimizer = server_optimizer(request.settings["algorithm"], request.settings["parameters"])
        writer = stack.enter_context(NextModel(request, place, layout, optimizer, kept))
        variate = _advanced_variate(request, place, layout, ballot)
        fold(ballot, layout, base, writer)
        writer.keep(base)
        found.model, found.states = writer.store(is_durable=is_durable)
        found.states |= variate
        if private is not None:
            found.states |= private.store_state()
            found.privacy = private.report(layout)
        if masked is not None:
            about = {"secure_aggregation": masked.report(request.settings["masking"])}
            found.privacy = (found.privacy or {}) | about
            masked.add_traffic(found.reports)


def _sent(request: Request, layout: Layout) -> Layout:
    """Give the layout of the updates: that of the model, and of scaffold's variates beside it."""
    if "control" not in request.settings:
        return layout
    from components.control_variates import layout_with_changes

    return layout_with_changes(layout)


def _advanced_variate(
    request: Request, place: Place, layout: Layout, ballot: Ballot
) -> dict[str, Artifact]:
    """Take the clients' changes into scaffold's common variate; nothing for other algorithms."""
    if "control" not in request.settings:
        return {}
    from components.control_variates import NAME, advance

    return {NAME: advance(request, place, layout, ballot)}


def _private_round(request: Request, place: Place) -> PrivateRound | None:
    """Give the privacy of this aggregation; None for a job without."""
    if "privacy" not in request.settings:
        return None
    from components.private_round import PrivateRound

    return PrivateRound(request, place)


def _masked_sum(
    request: Request, place: Place, layout: Layout, stack: ExitStack
) -> UnmaskedSum | None:
    """Open the sum of masked updates; None where the updates are not masked."""
    if "masking" not in request.settings:
        return None
    from components import unmask

    return stack.enter_context(unmask.open_sum(request, place, layout))


def _run_as_command(request: Request, place: Place) -> dict[str, Any]:
    """Aggregate what is in the store; the model is left for an evaluation in the user's container too.

    Raises JobError("TooFewClients"), after writing down which were missing and why.
    """
    started = time.time()
    place.work.mkdir(parents=True, exist_ok=True)
    found, steps = _found(request, place)
    if found.model is None:
        raise too_few(request, place, found)
    model = place.store.materialize(
        found.model.key, place.work / "models", digest=found.model.digest
    )
    shutil.copyfile(model, place.work / "model.safetensors")
    document = found.to_document() | {"steps": {**steps, "aggregate": [started, time.time()]}}
    (place.work / "aggregated.json").write_text(json.dumps(document))
    return {
        "accepted": sorted(found.reports),
        "failures": found.failures,
        "model": document["model"],
    }


def _found(request: Request, place: Place) -> tuple[Aggregated, dict[str, Any]]:
    """Aggregate, or take over what the aggregation worker's program made; and what ran before this."""
    if request.settings["aggregation"]["rule"] != SCRIPT_RULE:
        return run(request, place, {}), {}
    from components import script

    return script.adopt_as_command(request, place)


def too_few(request: Request, place: Place, found: Aggregated) -> JobError:
    """Write down, for a step as a command, that too few updates are good; give the error to raise."""
    from components import commit

    message = commit.too_few(request, found)
    end = replace(request, outputs={"attempt": attempt_key(request.round, request.attempt)})
    commit.record_failure(end, place, "TooFewClients", message, found)
    return JobError("TooFewClients", message)


if __name__ == "__main__":
    run_command("aggregate", _run_as_command)
