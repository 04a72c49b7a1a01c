"""fetch (edge, before train): lay out on the node what the user's container starts from.

In the work folder: the model, the drift correction where the job has one, and `fetched.json` with the
times. In the edge folder: the client's own state, as the last accepted round left it. The embedded engine
needs no such step, its workers hand these over in memory.
"""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

from components.command import Steps, run_group_command
from components.edge_state import EdgeState
from components.request import Place, Request
from components.user_code import Given, UserCode, fetch
from fedloom.artifacts.arrays import dump_arrays
from fedloom.errors import JobError

MODEL, CORRECTION, TIMES = "model.safetensors", "correction.safetensors", "fetched.json"
_ANYBODY = 0o777  # the user's container may run as anybody


def run(steps: Steps, place: Place) -> dict[str, Any]:
    """Prepare the client whose tasks these are; give what was fetched."""
    started = time.time()
    if "score" in steps or "assess" in steps:
        return _fetch_candidates(steps, place, started)
    training = steps.get("train") or steps.get("release")
    if training is None:
        raise JobError("NoSuchTask", f"got the steps {', '.join(steps)}, expected train among them")
    client = training.client
    assert client is not None
    place.work.mkdir(parents=True, exist_ok=True)
    if (
        place.node is not None
    ):  # its user keeps the key there, whoever that is, and nobody else reads it
        place.node.mkdir(parents=True, exist_ok=True)
        place.node.chmod(_ANYBODY)
    if "compress" in steps and "masking" in steps["compress"].settings:
        from components import masking

        masking.prepare(steps["compress"], place)
    if "receive" in steps:
        from components import receive

        receive.run_as_command(steps["receive"], place)
        training = receive.received_of(place.work).given_to(training)
    folder = EdgeState(place.edge / client).begin(training.settings["accepted"])
    folder.chmod(_ANYBODY)
    _lay_out(training, place)
    finished = time.time()
    times = {"steps": {"fetch": [started, finished]}, "finished": finished}
    (place.work / TIMES).write_text(json.dumps(times))
    return {"seconds": round(finished - started, 6), "kept": sorted(_names(folder))}


def _fetch_candidates(steps: Steps, place: Place, started: float) -> dict[str, Any]:
    """Lay out the models that the client compares."""
    from components import heads, probe

    last = steps.get("score") or steps["assess"]
    assert last.client is not None
    place.work.mkdir(parents=True, exist_ok=True)
    EdgeState(place.edge / last.client).begin(None).chmod(_ANYBODY)
    if "score" in steps:
        probe.lay_out(last, place, last.settings["slots"])
    else:
        heads.lay_out_judging(last, place)
    finished = time.time()
    (place.work / TIMES).write_text(json.dumps({"steps": {}, "finished": finished}))
    return {"seconds": round(finished - started, 6)}


def _lay_out(training: Request, place: Place) -> None:
    """Leave the client's model and its correction where the user's container finds them."""
    target = place.work / MODEL
    if "drift" not in training.settings:
        shutil.copyfile(fetch(place, training.inputs["model"]), target)
        return
    from components.drift import belongings_of
    from fedloom.training.correction import write_correction

    own = belongings_of(training, place, UserCode())
    if own.personal is not None and own.personal.given is not None:
        _lay_out_own(own.personal.given, place)
    given = own.given
    if given.arrays is None:
        shutil.copyfile(fetch(place, training.inputs["model"]), target)
    else:
        target.write_bytes(dump_arrays(given.arrays))
    if given.correction is not None:
        write_correction(place.work / CORRECTION, given.correction)


def _lay_out_own(given: Given, place: Place) -> None:
    """Leave the client's own model for the container that trains it."""
    from fedloom.training.correction import write_correction

    folder = place.work / "personal"
    folder.mkdir(exist_ok=True)
    folder.chmod(_ANYBODY)
    assert given.arrays is not None
    assert given.correction is not None
    (folder / MODEL).write_bytes(dump_arrays(given.arrays))
    write_correction(folder / CORRECTION, given.correction)


def _names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


if __name__ == "__main__":
    run_group_command("fetch", run)
