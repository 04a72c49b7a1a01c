"""survivors (cloud): freeze whose masked updates are in, and add them up.

Every update is read here and nowhere else. From here on its client cannot be left out any more: what
would take its masks out of the sum is not asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import numpy as np

from components.command import run_command
from components.masked_file import open_masked, ring_name, rule_of
from components.next_model import layouts_of, open_model
from components.request import Place, Request
from components.roster import check_enough
from components.session import Exchange, Survivors, freeze, session_of, take
from components.updates import Failures, Reports, absent_clients, collect_reports
from fedloom.algorithms.privacy.integer_grid import GridLayout
from fedloom.algorithms.privacy.masks import blocks, new_scratch
from fedloom.artifacts.arrays import ArrayFile, ArrayFileWriter
from fedloom.errors import ArtifactError, UpdateError


def run(request: Request, place: Place, failures: Mapping[str, Mapping[str, str]]) -> Survivors:
    """Check the masked updates that are there, write their sum, freeze the list of their clients.

    `failures` are the clients that the engine knows to have failed. Raises JobError `TooFewClients`
    where fewer are left than must answer, or than the round needs.
    """
    key, session = request.outputs["survivors"], session_of(request)
    if place.store.exists(key):
        return Survivors.read(place.store.get(key), session)
    exchange = take(place, request, "exchange", Exchange.read)
    reports, failures = collect_reports(request, place, failures)
    lost = absent_clients(request, reports, failures)
    with open_model(request, place) as base:
        grid = GridLayout(layouts_of(request, base)[0], rule_of(request.settings["masking"]))
    with ExitStack() as stack:
        files, wrong = _open_all(request, place, grid, exchange, reports)
        lost |= wrong
        for file in files.values():
            stack.enter_context(file)
        check_enough(request, "masked updates", files, {k: v["message"] for k, v in lost.items()})
        total = _add_up(request, place, grid, files)
    survivors = Survivors(exchange.digest, tuple(sorted(files)), lost, total)
    data = survivors.to_bytes(session)
    freeze(place.store, key, data)
    return Survivors.read(data, session)


def _open_all(
    request: Request, place: Place, grid: GridLayout, exchange: Exchange, reports: Reports
) -> tuple[dict[str, ArrayFile], Failures]:
    """Open what is whole and of this exchange; say what is wrong with the others."""
    files, wrong = {}, {}
    for client, report in sorted(reports.items()):
        whose = session_of(request), client, exchange.digest
        try:
            if client not in exchange.mailboxes:
                raise UpdateError("NotInExchange", "it shared too late or not at all")
            files[client] = open_masked(place, report["update"], grid, whose)
        except (ArtifactError, UpdateError) as error:
            wrong[client] = {"reason": error.reason, "message": error.message}
    return files, wrong


def _add_up(
    request: Request, place: Place, grid: GridLayout, files: Mapping[str, ArrayFile]
) -> dict[str, str]:
    """Write the sum of the masked updates, each ring modulo its own power of two."""
    path = place.work / "masked-sum.safetensors"
    shapes = {ring_name(ring): (ring, (size,)) for ring, size in grid.sizes.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch, total = new_scratch(), new_scratch()
    with ArrayFileWriter(path, shapes) as writer:
        for ring, start, stop in blocks(grid):
            name, size_bytes = ring_name(ring), (stop - start) * ring.itemsize
            values, one = (memory[:size_bytes].view(ring) for memory in (total, scratch))
            values.fill(0)
            for file in files.values():
                file.read_into(name, start, one)
                np.add(values, one, out=values)
            writer.write(name, start, values)
    stored = place.store.put_file(request.outputs["masked-sum"], path, replace=True)
    path.unlink()
    return {"key": stored.key, "digest": stored.digest}


def _run_as_command(request: Request, place: Place) -> dict[str, Any]:
    place.work.mkdir(parents=True, exist_ok=True)
    found = run(request, place, {})
    return {"clients": list(found.clients), "failures": dict(found.failures)}


if __name__ == "__main__":
    run_command("survivors", _run_as_command)
