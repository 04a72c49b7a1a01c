"""unpack (cloud): lay the clients' weights out for a program that combines them itself.

In the work folder: `clients/clients.json`, a list of {`name`, `num_examples`, `path`} sorted by name, and
beside it a safetensors file per client with its full new weights, in names, shapes and dtypes of the model.
They are written block by block, one client after the other. A client whose update is missing or wrong is
named and left out.

As a command it also leaves the global model there, and `unpacked.json` for the `aggregate` behind the
program.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from components import user_code
from components.aggregate import too_few
from components.aggregated import Aggregated
from components.ballot import collect
from components.command import run_command
from components.next_model import layouts_of, open_model
from components.request import Place, Request
from components.update_file import Array
from components.updates import BadClients, open_updates
from fedloom.algorithms.aggregation.source import UpdateSource
from fedloom.algorithms.layout import BLOCK_ELEMENTS, Layout, accumulator_dtype, check_finite
from fedloom.algorithms.optimizers.casting import to_dtype
from fedloom.artifacts.arrays import ArrayFile, ArrayFileWriter
from fedloom.errors import UpdateError

UNPACKED = "unpacked.json"
_INDEX = "clients.json"
_ANYBODY, _READABLE = 0o755, 0o644  # the user's container may run as anybody


def folder_of(work: Path) -> Path:
    """Where the clients' weights lie in a work folder."""
    return work / user_code.CLIENTS


def run(request: Request, place: Place, failures: Mapping[str, Mapping[str, str]]) -> Aggregated:
    """Lay out the weights of every client whose update is good; give who they are. It has no model yet."""
    folder = folder_of(place.work)
    user_code.clear(folder)
    folder.mkdir(parents=True)
    folder.chmod(_ANYBODY)
    found = collect(request, place, failures)
    with open_model(request, place) as base:
        layout, _ = layouts_of(request, base)
        for client in sorted(found.reports):
            try:
                _unpack(request, place, found, client, base, layout)
            except BadClients as bad:
                found.drop(bad)
    entries = [
        {"name": client, "num_examples": report["num_examples"], "path": f"{client}.safetensors"}
        for client, report in sorted(found.reports.items())
    ]
    (folder / _INDEX).write_text(json.dumps(entries, indent=1))
    return found


def _unpack(
    request: Request,
    place: Place,
    found: Aggregated,
    client: str,
    base: ArrayFile,
    layout: Layout,
) -> None:
    """Write one client's weights. Raises BadClients."""
    path = folder_of(place.work) / f"{client}.safetensors"
    with ExitStack() as stack:
        report = {client: found.reports[client]}
        (source,) = open_updates(request, place, layout, report, stack)
        shapes = {name: (spec.dtype, spec.shape) for name, spec in layout.items()}
        try:
            with ArrayFileWriter(path, shapes) as writer:
                _write_weights(base, source, layout, writer)
        except UpdateError as error:
            raise BadClients({client: (error.reason, error.message)}) from error
    path.chmod(_READABLE)


def _write_weights(
    base: ArrayFile, source: UpdateSource, layout: Layout, writer: ArrayFileWriter
) -> None:
    """Add an update to the global model, block by block. Raises UpdateError where that is not finite."""
    for name, spec in layout.items():
        dtype = accumulator_dtype(spec.dtype)
        scratch: Array = np.empty(min(spec.size, BLOCK_ELEMENTS), dtype)
        old: Array = np.empty(scratch.size, spec.dtype)
        for start in range(0, spec.size, BLOCK_ELEMENTS):
            stop = min(start + BLOCK_ELEMENTS, spec.size)
            before = old[: stop - start]
            base.read_into(name, start, before)
            delta = source.read(name, start, stop, scratch)
            check_finite(name, [delta])
            weights = to_dtype(before.astype(dtype) + delta, spec.dtype)
            check_finite(name, [weights])
            writer.write(name, start, weights)


def _run_as_command(request: Request, place: Place) -> dict[str, Any]:
    """Leave what the program needs, for a container that runs behind this one.

    Raises JobError("TooFewClients"), after writing down which were missing and why.
    """
    started = time.time()
    place.work.mkdir(parents=True, exist_ok=True)
    found = run(request, place, {})
    if len(found.reports) < request.settings["min_clients"]:
        raise too_few(request, place, found)
    model = request.inputs["model"]
    path = place.store.materialize(model["key"], place.work / "models", digest=model["digest"])
    shutil.copyfile(path, place.work / "model.safetensors")
    document = found.to_document() | {"steps": {"unpack": [started, time.time()]}}
    (place.work / UNPACKED).write_text(json.dumps(document))
    return {"accepted": sorted(found.reports), "failures": found.failures}


if __name__ == "__main__":
    run_command("unpack", _run_as_command)
