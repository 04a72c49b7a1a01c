"""send (edge, beside release): look at the release once more as the cloud will, and hand it over.

It is the only thing that leaves the node, and nothing of it is believed that was not looked at: its own
manifest, its fraction of ones, the extractor and the noise that the job asked for.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.command import run_command
from components.edge_state import EdgeState
from components.outcome import read_outcome
from components.request import Place, Request
from components.split_files import RESULT_FILE, UPDATE_FILE
from components.user_code import fetch
from fedloom.artifacts.arrays import ArrayFile
from fedloom.artifacts.artifact import digest_of_file
from fedloom.artifacts.pooled_releases import Expected, open_release
from fedloom.errors import ArtifactError, UpdateError
from fedloom.training.split_environment import mechanism_of
from fedloom.training.split_parts import ExtractorFacts


def run(request: Request, place: Place, release: Path, result: Path) -> dict[str, Any]:
    """Check and store a release; give its report. Raises UpdateError where it is not what was asked for."""
    assert request.client is not None
    if not release.exists():
        raise UpdateError(
            "NoUpdate", "the program ended with exit code 0 but wrote no FEDLOOM_UPDATE"
        )
    outcome = read_outcome(None, result)
    digest = digest_of_file(release)
    try:
        expected = expectation(request, fetch(place, request.inputs["model"]))
        with open_release(release, digest, request.client, expected) as opened:
            manifest = opened.manifest
    except ArtifactError as error:
        raise UpdateError("MalformedRelease", f"FEDLOOM_UPDATE: {error.message}") from error
    stored = place.store.put_file(request.outputs["update"], release, replace=True)
    return {
        "client": request.client,
        "num_examples": manifest.images,
        "num_steps": None,
        "metrics": dict(outcome.metrics or {}),
        "uplink_bytes": stored.size_bytes,
        "downlink_bytes": request.settings["downlink_bytes"],
        "update": {"key": stored.key, "digest": stored.digest},
        **_left_out(manifest.duplicates, manifest.dropped),
    }


def expectation(request: Request, extractor: Path) -> Expected:
    """Give what every release of the job has to be; `extractor` is the file that was sent down."""
    with ArrayFile(extractor) as file:
        facts = ExtractorFacts.read(file.metadata, str(extractor))
    flips = mechanism_of(request.settings["split"]).flips
    return Expected(facts.digest, facts.shape, facts.label_columns, flips)


def write_report(request: Request, place: Place, report: Mapping[str, Any]) -> None:
    """Store the report: from here on the server may use the release."""
    data = json.dumps(report, sort_keys=True, allow_nan=False).encode()
    place.store.put(request.outputs["report"], data, replace=True)


def _left_out(duplicates: int, dropped: int) -> dict[str, str]:
    """Tell how many images are not in it; which they are stays on the edge."""
    if not duplicates and not dropped:
        return {}
    return {"message": f"left out {duplicates} copies and {dropped} images that cannot be used"}


def _run_as_command(request: Request, place: Place) -> dict[str, Any]:
    """Send what the user's container left in the work folder."""
    started = time.time()
    report = run(request, place, place.work / UPDATE_FILE, place.work / RESULT_FILE)
    assert request.client is not None
    EdgeState(place.edge / request.client).finish(report["update"]["digest"])
    finished = time.time()
    steps = {"send": [started, finished]}
    fetched = place.work / "fetched.json"
    if fetched.exists():
        before = json.loads(fetched.read_bytes())
        steps = {**before["steps"], "release": [before["finished"], started], **steps}
    begun = min(start for start, _ in steps.values())
    report |= {"steps": steps, "seconds": round(finished - begun, 6)}
    if node := os.environ.get("FEDLOOM_NODE"):
        report["node"] = node
    write_report(request, place, report)
    return {"report": report}


if __name__ == "__main__":
    run_command("send", _run_as_command)
