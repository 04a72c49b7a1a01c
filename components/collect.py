"""collect (cloud): bring the releases of all edges to one place, each looked at before it counts.

In the work folder: `clients/clients.json`, a list of {`name`, `num_examples`, `path`, `digest`} sorted by
name. A client whose release is missing or wrong (another digest, shape, extractor, epsilon or fraction of
ones; somebody else's; one that another client sent as well) is named and left out.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from components.aggregate import too_few
from components.aggregated import Aggregated
from components.command import run_command
from components.request import Place, Request
from components.send import expectation
from components.split_files import EXTRACTOR, EXTRACTOR_FILE, MODEL_FILE, lay_out, releases_folder
from components.updates import absent_clients, collect_reports
from fedloom.artifacts.pooled_releases import Expected, open_release
from fedloom.errors import ArtifactError, UpdateError
from fedloom.training.split_tasks import RELEASES

COLLECTED = "collected.json"
_ANYBODY, _READABLE = 0o777, 0o644  # the user's container may run as anybody


def run(request: Request, place: Place, failures: Mapping[str, Mapping[str, str]]) -> Aggregated:
    """Collect; give whose releases are good, with their manifests. There is no model yet."""
    place.work.mkdir(parents=True, exist_ok=True)
    artifacts = {EXTRACTOR_FILE: request.inputs[EXTRACTOR], MODEL_FILE: request.inputs["model"]}
    lay_out(place, artifacts)
    expected = expectation(request, place.work / EXTRACTOR_FILE)
    reports, failures = collect_reports(request, place, failures)
    found = Aggregated(reports, absent_clients(request, reports, failures))
    folder = releases_folder(place.work)
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(_ANYBODY)
    entries, owners = [], dict[bytes, str]()
    for client in sorted(reports):
        try:
            entries.append(_entry(client, found.reports[client], place, expected, owners))
        except (ArtifactError, UpdateError) as error:
            found.reports.pop(client)
            found.failures[client] = {"reason": error.reason, "message": error.message}
    (folder / RELEASES).write_text(json.dumps(entries, indent=1))
    return found


def _entry(
    client: str,
    report: dict[str, Any],
    place: Place,
    expected: Expected,
    owners: dict[bytes, str],
) -> dict[str, Any]:
    """Fetch and check one release, and note its manifest in the report.

    `owners` holds the first image's name of every release so far: names are keyed by the edge, so two
    clients who share one sent the same images under the same key.
    """
    key, digest = report["update"]["key"], report["update"]["digest"]
    path = place.store.materialize(key, place.work / "updates", digest=digest)
    with ExitStack() as stack:
        release = stack.enter_context(open_release(path, digest, client, expected))
        other = owners.setdefault(release.identifier(0), client)
        if other != client:
            raise UpdateError(
                "DuplicateRelease",
                f"got the images that client {other!r} released, under the same key; expected a "
                "release of its own",
            )
        report["release"] = release.manifest.document()
        images = len(release)
    report["num_examples"] = images
    path.chmod(_READABLE)
    where = os.path.relpath(path, releases_folder(Path(place.work)))
    return {"name": client, "num_examples": images, "path": where, "digest": digest}


def _run_as_command(request: Request, place: Place) -> dict[str, Any]:
    """Leave what the user's container needs. Raises JobError("TooFewClients"), written down."""
    started = time.time()
    found = run(request, place, {})
    if len(found.reports) < request.settings["min_clients"]:
        raise too_few(request, place, found)
    document = found.to_document() | {"steps": {"collect": [started, time.time()]}}
    (place.work / COLLECTED).write_text(json.dumps(document))
    return {"accepted": sorted(found.reports), "failures": found.failures}


if __name__ == "__main__":
    run_command("collect", _run_as_command)
