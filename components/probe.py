"""probe (edge): how good each candidate is on one client's own data, by its script's own evaluate.

What leaves the node is a loss and a number of samples per candidate, and nothing else.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.candidates import Roster, read_candidates
from components.command import run_command
from components.edge_state import EdgeState
from components.outcome import Arrays, Outcome, read_outcome
from components.request import Place, Request
from components.user_code import Given, UserCode
from fedloom.artifacts.arrays import dump_arrays
from fedloom.errors import UpdateError

Requests = Mapping[str, Request]
NO_METRIC = "NoProbeMetric"
ROSTER, _TIMES = "roster.json", "fetched.json"


def run(requests: Requests, place: Place, code: UserCode) -> None:
    """Let one client evaluate every candidate; its report is in the store when this returns.

    Raises UpdateError for what the user's code does wrong, FedloomError for the store's.
    """
    score, started = requests["score"], time.time()
    assert score.client is not None
    data = place.store.get(score.inputs["roster"]["key"])
    roster = Roster.read(data)
    models = read_candidates(roster, place)
    state = EdgeState(place.edge / score.client).begin(None)
    answers = {}
    for slot in zero_shot_slots(roster, models):
        request = requests[f"probe-{slot}"]
        outcome = code.perform(request, place, state, Given({"digest": ""}, models[slot]))
        answers[slot] = answer_of(outcome, score)
    heads_bytes = 0
    if "heads" in score.outputs and models:
        from components import heads

        heads_bytes = heads.tune(requests, place, roster, models)
    EdgeState(place.edge / score.client).begin(None)  # what was left there belongs to no round
    steps = {"probe": [started, time.time()]}
    report(score, place, answers, roster.bytes_down + len(data), steps, heads_bytes)


def zero_shot_slots(roster: Roster, models: Mapping[int, Arrays]) -> list[int]:
    """The slots whose models are compared as they are."""
    kinds = {each.slot: each.kind for each in roster.candidates}
    return [slot for slot in sorted(models) if kinds[slot] in ("scratch", "full")]


def answer_of(outcome: Outcome, request: Request) -> list[float | int | None]:
    """Give loss and samples; None for a loss that is no finite number.

    Raises UpdateError("NoProbeMetric") where evaluate does not give the metric.
    """
    metrics, name = outcome.metrics or {}, request.settings["metric"]
    if name not in metrics:
        got = ", ".join(sorted(metrics)) or "no metric"
        message = (
            f"evaluate gave {got}, expected {name!r}: a probe compares it; spec.transfer.metric says "
            "which one, spec.transfer.goal whether more of it is better"
        )
        raise UpdateError(NO_METRIC, message)
    value = metrics[name] * (-1.0 if request.settings["goal"] == "maximize" else 1.0)
    return [value if math.isfinite(value) else None, outcome.num_examples]


def report(
    request: Request,
    place: Place,
    answers: Mapping[int, Any],
    downlink_bytes: int,
    steps: Mapping[str, Any],
    heads_bytes: int = 0,
) -> None:
    """Store what the client says: from here on the server may use it."""
    document = {
        "client": request.client,
        "answers": {str(slot): answer for slot, answer in sorted(answers.items())},
        "downlink_bytes": downlink_bytes,
        "heads_bytes": heads_bytes,
        "steps": dict(steps),
    }
    data = json.dumps(document, sort_keys=True, allow_nan=False).encode()
    place.store.put(request.outputs["report"], data, replace=True)


def lay_out(score: Request, place: Place, slots: int) -> None:
    """Leave every candidate where the user's containers find it: in `slot-<n>` of the work folder.

    A slot that nothing is in gets the first one's model: its container runs, and nobody asks it.
    Raises UpdateError("NothingToProbe") where there is no candidate at all.
    """
    data = place.store.get(score.inputs["roster"]["key"])
    roster = Roster.read(data)
    models = read_candidates(roster, place)
    if not models:
        raise UpdateError("NothingToProbe", "no source can be used: there is nothing to compare")
    for slot in range(slots):
        leave(place.work / f"slot-{slot}", models.get(slot, models[0]))
    if "heads" in score.outputs:
        from components import heads

        heads.lay_out_tuning(score, place, roster, models)
    zero_shot = zero_shot_slots(roster, models)
    told = {"slots": zero_shot, "downlink_bytes": roster.bytes_down + len(data)}
    (place.work / ROSTER).write_text(json.dumps(told))


def leave(folder: Path, arrays: Arrays) -> Path:
    """Leave a model where a container of the user finds it; give the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o777)  # the user's container may run as anybody
    (folder / "model.safetensors").write_bytes(dump_arrays(arrays))
    return folder


def tell(request: Request, place: Place) -> dict[str, Any]:
    """Report what the user's containers left in the work folder."""
    told = json.loads((place.work / ROSTER).read_bytes())
    prefix = request.settings["folders"]
    answers = {
        slot: answer_of(read_outcome(None, place.work / f"{prefix}-{slot}/result.json"), request)
        for slot in told["slots"]
    }
    heads_bytes = 0
    if "heads" in request.outputs:
        from components import heads

        heads_bytes = heads.send_tuned(request, place)
    started = json.loads((place.work / _TIMES).read_bytes())["finished"]
    steps = {"probe": [started, time.time()]}
    report(request, place, answers, told["downlink_bytes"], steps, heads_bytes)
    return {"slots": told["slots"]}


if __name__ == "__main__":
    run_command("score", tell)
