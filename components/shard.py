"""shard (cloud): combine a stretch of every update into a stretch of the next model, beside the others.

    python -I -m components.shard --plan plan.json --store URI --workdir DIR --task shard-0000

A large update is read in ranges, only as far as the stretch needs it. Its digest is that of the whole, so
the shards share the checking: each verifies the updates of its share of the clients. Whoever is found out
by one shard only is out for all: `aggregate` then combines the updates again, without the client.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any

from components.aggregated import Aggregated, write_part
from components.ballot import collect, fold, open_ballot
from components.command import run_command
from components.next_model import NextModel, layouts_of, open_model
from components.request import Place, Request
from components.updates import BadClients, open_file
from fedloom.algorithms.aggregation.source import UpdateSource
from fedloom.algorithms.aggregation.stretches import Stretch, StretchSource, stretches
from fedloom.algorithms.layout import Layout
from fedloom.algorithms.optimizers.protocol import ServerOptimizer
from fedloom.algorithms.optimizers.registry import server_optimizer
from fedloom.artifacts.arrays import ArrayFile
from fedloom.artifacts.artifact import Artifact


def run(request: Request, place: Place, failures: Mapping[str, Mapping[str, str]]) -> Aggregated:
    """Combine one stretch and store what was found.

    `model` and `states` of the result are the artifacts of the stretch: tensors of one axis. None
    where fewer than `min_clients` updates were good.
    """
    found = collect(request, place, failures)
    place.work.mkdir(parents=True, exist_ok=True)
    with open_model(request, place) as base:
        while len(found.reports) >= request.settings["min_clients"]:
            try:
                _combine(request, place, base, found)
            except BadClients as bad:
                found.drop(bad)
            else:
                break
    write_part(place, request.outputs["found"], found)
    return found


def assemble(
    request: Request,
    place: Place,
    base: ArrayFile,
    found: Aggregated,
    parts: Sequence[Aggregated],
    *,
    is_durable: bool,
) -> bool:
    """Put the stretches together into the next model of `found`, if they are of the same clients."""
    if any(part.model is None or part.reports.keys() != found.reports.keys() for part in parts):
        return False
    layout, kept = layouts_of(request, base)
    with ExitStack() as stack:
        optimizer = _optimizer_of(request)
        writer = stack.enter_context(NextModel(request, place, layout, optimizer, kept))
        for part, stretch in zip(parts, stretches(layout, len(parts)), strict=True):
            assert part.model is not None
            state = part.states.get("server-optimizer")
            writer.copy(
                stack.enter_context(_open(place, part.model)),
                None if state is None else stack.enter_context(_open(place, state)),
                stretch.starts,
            )
        writer.keep(base)
        found.model, found.states = writer.store(is_durable=is_durable)
    return True


def _combine(request: Request, place: Place, base: ArrayFile, found: Aggregated) -> None:
    layout, _ = layouts_of(request, base)
    shard, shards = request.settings["shard"], request.settings["shards"]
    stretch = stretches(layout, shards)[shard]
    with ExitStack() as stack:
        mine = frozenset(sorted(found.reports)[shard::shards])
        opener = partial(_open_update, mine)
        ballot = open_ballot(request, place, layout, found.reports, stack, opener)
        writer = stack.enter_context(_writer(request, place, stretch))
        sources: list[UpdateSource] = [
            StretchSource(source, stretch.starts) for source in ballot.sources
        ]
        fold(replace(ballot, sources=sources), stretch.layout, base, writer)
        found.model, found.states = writer.store(is_durable=False)


def _writer(request: Request, place: Place, stretch: Stretch) -> NextModel:
    nothing: Layout = {}
    optimizer = _optimizer_of(request)
    return NextModel(request, place, stretch.layout, optimizer, nothing, stretch.starts)


def _optimizer_of(request: Request) -> ServerOptimizer:
    return server_optimizer(request.settings["algorithm"], request.settings["parameters"])


def _open_update(
    verified: frozenset[str], place: Place, report: Mapping[str, Any], is_small: bool
) -> ArrayFile:
    """Open an update: a small one verified in memory, of a large one only what will be read."""
    if is_small:
        return open_file(place, report, is_small)
    key, digest = report["update"]["key"], report["update"]["digest"]
    if report["client"] in verified:
        return ArrayFile(place.store.materialize(key, place.work / "updates", digest=digest))
    return ArrayFile.from_ranges(partial(place.store.read, key), report["uplink_bytes"], key)


def _open(place: Place, artifact: Artifact) -> ArrayFile:
    folder = place.work / "stretches"
    return ArrayFile(place.store.materialize(artifact.key, folder, digest=artifact.digest))


def _run_as_command(request: Request, place: Place) -> dict[str, Any]:
    found = run(request, place, {})
    return {"accepted": sorted(found.reports), "failures": found.failures}


if __name__ == "__main__":
    run_command("shard", _run_as_command)
