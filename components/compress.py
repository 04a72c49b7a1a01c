"""compress (edge, beside train): check the new weights, encode the delta, hand the update to the store."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from components.command import run_command
from components.request import Place, Request
from components.update_file import Array, delta_of, write_update
from components.user_code import Outcome, fetch, read_outcome
from fedloom.algorithms.layout import check_update, layout_of
from fedloom.artifacts.arrays import load_arrays


def run(
    request: Request, place: Place, outcome: Outcome, model: Mapping[str, Array]
) -> dict[str, Any]:
    """Encode and store one client's update; give its report.

    `model` is the global model that the client trained from. Raises UpdateError where the new
    weights do not fit it or are not finite.
    """
    assert outcome.arrays is not None
    check_update(layout_of(model), outcome.arrays)
    settings = request.settings
    rng = np.random.Generator(np.random.PCG64(settings["seed"]))
    data = write_update(
        delta_of(outcome.arrays, model), settings["codec"], settings["parameters"], rng
    )
    update = place.store.put(request.outputs["update"], data, replace=True)
    return {
        "client": request.client,
        "num_examples": outcome.num_examples,
        "num_steps": outcome.num_steps,
        "metrics": {k: v for k, v in (outcome.metrics or {}).items() if math.isfinite(v)},
        "uplink_bytes": update.size_bytes,
        "downlink_bytes": settings["downlink_bytes"],
        "update": {"key": update.key, "digest": update.digest},
    }


def write_report(request: Request, place: Place, report: Mapping[str, Any]) -> None:
    """Store the report: from here on the server may use the update."""
    data = json.dumps(report, sort_keys=True, allow_nan=False).encode()
    place.store.put(request.outputs["report"], data, replace=True)


def _run_as_command(request: Request, place: Place) -> dict[str, Any]:
    """Compress what the user's container left in the work folder."""
    started = time.time()
    outcome = read_outcome(place.work / "update.safetensors", place.work / "result.json")
    report = run(request, place, outcome, load_arrays(fetch(place, request.inputs["model"]))[0])
    finished = time.time()
    report |= {
        "steps": {"compress": [started, finished]},
        "seconds": round(finished - started, 6),
    }
    write_report(request, place, report)
    return {"report": report}


if __name__ == "__main__":
    run_command("compress", _run_as_command)
