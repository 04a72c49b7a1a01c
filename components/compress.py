"""compress (edge, beside train): check the new weights, encode the delta, hand the update to the store."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from components.command import run_command
from components.edge_state import EdgeState, own_folder
from components.outcome import Outcome, read_outcome
from components.request import Place, Request
from components.residual import Residual
from components.update_file import Array, Encoding, delta_of, write_update
from components.user_code import UserCode, fetch
from fedloom.algorithms.compression.feedback import feedback_of
from fedloom.algorithms.layout import check_update, layout_of
from fedloom.artifacts.arrays import load_arrays
from fedloom.artifacts.artifact import Artifact

if TYPE_CHECKING:
    from components.control_variates import ControlMemory


def run(
    request: Request, place: Place, outcome: Outcome, model: Mapping[str, Array]
) -> dict[str, Any]:
    """Encode and store one client's update; give its report.

    `model` is the global model that the client trained from. Raises UpdateError where the new
    weights do not fit it or are not finite.
    """
    assert outcome.arrays is not None
    arrays, own, settings = outcome.arrays, outcome.own, request.settings
    check_update(layout_of(model), arrays)
    if own is not None:
        arrays, model = own.shared(arrays), own.shared(model)
    deltas, local = delta_of(arrays, model), settings.get("local")
    promise: dict[str, Any] = {}
    if local is not None:  # before the codec, whose residual must know no more than the server
        from components.local_noise import add_local_noise, local_promise

        deltas, promise = add_local_noise(deltas, model, local), {"privacy": local_promise(local)}
    memory = None if own is None else own.memory(request, outcome, arrays, model)
    if "masking" in settings:
        from components import masking

        update, notice = masking.store(request, place, deltas, layout_of(model)), ""
    else:
        update, notice = _store(request, place, deltas, memory)
    if own is not None:
        own.keep(update.digest, outcome, memory)
        notice = "; ".join(filter(None, (own.notice, notice)))
    return {
        "client": request.client,
        "num_examples": outcome.num_examples,
        "num_steps": outcome.num_steps,
        "metrics": {k: v for k, v in (outcome.metrics or {}).items() if math.isfinite(v)},
        "uplink_bytes": update.size_bytes,
        "downlink_bytes": settings["downlink_bytes"] + (own.downlink_bytes if own else 0),
        "update": {"key": update.key, "digest": update.digest},
        **({"message": notice} if notice else {}),
        **promise,
    }


def _store(
    request: Request,
    place: Place,
    deltas: Mapping[str, Array],
    variates: ControlMemory | None,
) -> tuple[Artifact, str]:
    """Encode and store the deltas, and those of scaffold's variates; also give what there is to say.

    What the codec leaves to be sent later is on the disk before a report can tell of the update.
    """
    settings = request.settings
    encoding = Encoding(
        settings["codec"], settings["parameters"], settings.get("lossless", "none"), request.round
    )
    rng = np.random.Generator(np.random.PCG64(settings["seed"]))
    key = request.outputs["update"]
    if variates is not None:
        deltas = {**deltas, **variates.changes}
    if "accepted" not in settings:
        return place.store.put(key, write_update(deltas, encoding, rng, variates), replace=True), ""
    feedback = feedback_of(encoding.codec, encoding.parameters, settings["error_feedback"])
    assert feedback is not None
    assert request.client is not None
    folder = own_folder(place.edge, request.client)
    with Residual(folder, feedback, request.round, settings["accepted"]) as residual:
        memory = residual if variates is None else variates.beside(residual)
        data = write_update(deltas, encoding, rng, memory)
        update = place.store.put(key, data, replace=True)
        residual.store(update.digest)
    return update, residual.notice


def write_report(request: Request, place: Place, report: Mapping[str, Any]) -> None:
    """Store the report: from here on the server may use the update."""
    data = json.dumps(report, sort_keys=True, allow_nan=False).encode()
    place.store.put(request.outputs["report"], data, replace=True)


def _run_as_command(request: Request, place: Place) -> dict[str, Any]:
    """Compress what the user's container left in the work folder."""
    started = time.time()
    outcome = read_outcome(place.work / "update.safetensors", place.work / "result.json")
    received = None
    if request.settings.get("is_received"):
        from components.receive import received_of

        received = received_of(place.work)
        request = received.given_to(request)
    if "drift" in request.settings:
        from components.drift import belongings_of

        own = belongings_of(request, place, UserCode())
        own.check(outcome)
        if own.personal is not None and own.personal.given is not None:
            from components.personal import left_in

            own.personal.take(left_in(place.work))
        outcome = replace(outcome, own=own)
    report = run(request, place, outcome, load_arrays(fetch(place, request.inputs["model"]))[0])
    if received is not None:
        received.tell(report)
    assert request.client is not None
    EdgeState(place.edge / request.client).finish(report["update"]["digest"])
    _tell_of_time(report, place, started)
    write_report(request, place, report)
    return {"report": report}


def _tell_of_time(report: dict[str, Any], place: Place, started: float) -> None:
    """Say where and when the client worked; what was before this step is known from `fetch`."""
    finished = time.time()
    steps = {"compress": [started, finished]}
    fetched = place.work / "fetched.json"
    if fetched.exists():
        before = json.loads(fetched.read_bytes())
        steps = {**before["steps"], "train": [before["finished"], started], **steps}
    begun = min(start for start, _ in steps.values())
    report |= {"steps": steps, "seconds": round(finished - begun, 6)}
    if node := os.environ.get("FEDLOOM_NODE"):
        report["node"] = node


if __name__ == "__main__":
    run_command("compress", _run_as_command)
