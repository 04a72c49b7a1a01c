"""The probe of bodies: how good a last layer is that other clients trained on a body, held still.

    tune (edge)    every client trains a new last layer, which begins at zero, on each body
    merge (cloud)  the mean of all clients' last layers, weighted by samples
    judge (edge)   every client takes its own part out of the mean, and evaluates what is left

So nobody's data judge a last layer that they trained: on its own data, any body looks better than none.
Last layers leave the node here, as updates do in a round; a job asks for that by spec.transfer.probe.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from components.candidates import Roster, decoded, encoded, read_candidates
from components.command import run_command
from components.edge_state import EdgeState
from components.outcome import Arrays, Outcome, read_outcome
from components.probe import ROSTER, answer_of, leave, report
from components.request import Place, Request
from components.user_code import Given, UserCode
from fedloom.algorithms.drift.correction import DriftCorrection
from fedloom.algorithms.layout import TensorSpec, check_update
from fedloom.algorithms.transfer.body import without_own, zero_head
from fedloom.errors import ArtifactError, UpdateError

Requests = Mapping[str, Request]
Failures = Mapping[str, Mapping[str, str]]
_CODEC, _SAMPLES = "int8", "samples"


def slots_of(roster: Roster) -> list[int]:
    """The slots whose bodies are compared."""
    return [each.slot for each in roster.candidates if each.kind != "scratch" and roster.head]


def beginnings(roster: Roster, models: Mapping[int, Arrays]) -> dict[int, Arrays]:
    """What training begins with in each slot: the body, and a last layer of zeros."""
    return {slot: zero_head(models[slot], roster.head) for slot in slots_of(roster)}


def held(roster: Roster) -> DriftCorrection:
    """What holds a body still."""
    return DriftCorrection(frozen=frozenset(roster.layout) - frozenset(roster.head))


def trained_head(roster: Roster, outcome: Outcome) -> Arrays:
    """Take the last layer out of what training made. Raises UpdateError."""
    assert outcome.arrays is not None
    check_update(roster.layout, outcome.arrays)
    return {name: outcome.arrays[name] for name in roster.head}


def tune(requests: Requests, place: Place, roster: Roster, models: Mapping[int, Arrays]) -> int:
    """Train every last layer and store them; give the bytes that went up. Raises UpdateError."""
    score = requests["score"]
    assert score.client is not None
    code = UserCode()  # told of more epochs than the client's own, which lives from round to round
    heads, samples = dict[int, Arrays](), 0
    for slot, arrays in beginnings(roster, models).items():
        request = requests[f"tune-{slot}"]
        state = EdgeState(place.edge / score.client).begin(None)
        outcome = code.perform(request, place, state, Given({"digest": ""}, arrays, held(roster)))
        heads[slot], samples = trained_head(roster, outcome), outcome.num_examples
    return send(score, place, heads, samples)


def send(score: Request, place: Place, heads: Mapping[int, Arrays], samples: int) -> int:
    """Store a client's last layers; give their size."""
    named = {f"{slot}/{n}": array for slot, head in heads.items() for n, array in head.items()}
    data = encoded({**named, _SAMPLES: np.array([samples])}, None, _CODEC, score.settings["seed"])
    place.store.put(score.outputs["heads"], data, replace=True)
    return len(data)


def merge(request: Request, place: Place, failures: Failures) -> dict[str, Any]:
    """Store the mean of all clients' last layers; give who is in it. One alone judges nobody."""
    roster = Roster.read(place.store.get(request.inputs["roster"]["key"]))
    total, sums, clients = 0, dict[str, Any](), []
    for client, key in sorted(request.settings["heads"].items()):
        try:
            heads, samples = received(place, key, roster, _CODEC)
        except (ArtifactError, UpdateError):
            continue  # a client without them has no part in it, and judges nothing
        clients.append(client)
        total += samples
        for name, array in heads.items():
            sums[name] = sums.get(name, 0.0) + array.astype(np.float64) * samples
    mean = {name: (array / total).astype(np.float32) for name, array in sums.items()}
    if len(clients) > 1:
        data = encoded({**mean, _SAMPLES: np.array([total])}, None, "none", 0)
        place.store.put(request.outputs["merged"], data, replace=True)
    return {"clients": clients}


def received(place: Place, key: str, roster: Roster, codec: str) -> tuple[Arrays, int]:
    """Read last layers, a client's or the mean. Raises ArtifactError, UpdateError."""
    path = place.store.materialize(key, place.work / "heads")
    every = {f"{s}/{n}": roster.layout[n] for s in slots_of(roster) for n in roster.head}
    every[_SAMPLES] = TensorSpec((1,), np.dtype(np.int64))
    heads = decoded(path, dict(sorted(every.items())), codec)
    samples = int(heads.pop(_SAMPLES)[0])
    if samples < 1 or not all(np.isfinite(array).all() for array in heads.values()):
        raise UpdateError(
            "BadAnswer", f"{key}: got last layers that are not finite, or of no samples"
        )
    return heads, samples


def models_to_judge(assess: Request, place: Place) -> tuple[dict[int, Arrays], int]:
    """Give each body with the others' last layer on it, by slot, and how many bytes came down for it.

    Raises ArtifactError where there is no mean, UpdateError.
    """
    roster = Roster.read(place.store.get(assess.inputs["roster"]["key"]))
    merged, total = received(place, assess.inputs["merged"]["key"], roster, "none")
    own, samples = received(place, assess.inputs["heads"]["key"], roster, _CODEC)
    if samples >= total:
        raise UpdateError("NobodyElse", "no other client has trained a last layer")
    others = without_own(merged, own, samples / total)
    models = read_candidates(roster, place)
    size = sum(array.nbytes for array in merged.values())
    found = {
        slot: {
            **models[slot],
            **{n: _as(others[f"{slot}/{n}"], models[slot][n]) for n in roster.head},
        }
        for slot in slots_of(roster)
    }
    return found, size


def _as(values: Any, like: Any) -> Any:
    return np.asarray(values, dtype=like.dtype).reshape(like.shape)


def judge(requests: Requests, place: Place, code: UserCode) -> None:
    """Let a client evaluate every body; its answer is in the store when this returns."""
    assess, started = requests["assess"], time.time()
    assert assess.client is not None
    models, size = models_to_judge(assess, place)
    state = EdgeState(place.edge / assess.client).begin(None)
    answers = {}
    for slot, arrays in sorted(models.items()):
        outcome = code.perform(
            requests[f"judge-{slot}"], place, state, Given({"digest": ""}, arrays)
        )
        answers[slot] = answer_of(outcome, assess)
    report(assess, place, answers, size, {"judge": [started, time.time()]})


def lay_out_tuning(
    score: Request, place: Place, roster: Roster, models: Mapping[int, Arrays]
) -> None:
    """Leave what the containers that train last layers begin with, in `tune-<n>` of the work folder."""
    from fedloom.training.correction import write_correction

    every = beginnings(roster, models)
    first = next(iter(every.values()), models[0])
    for slot in range(1, score.settings["slots"] + 1):
        folder = leave(place.work / f"tune-{slot}", every.get(slot, first))
        write_correction(folder / "correction.safetensors", held(roster))


def lay_out_judging(assess: Request, place: Place) -> None:
    """Leave what the containers that judge evaluate, in `judge-<n>` of the work folder."""
    models, size = models_to_judge(assess, place)
    for slot in range(1, assess.settings["slots"] + 1):
        leave(place.work / f"judge-{slot}", models.get(slot, next(iter(models.values()))))
    told = {"slots": sorted(models), "downlink_bytes": size}
    (place.work / ROSTER).write_text(json.dumps(told))


def send_tuned(score: Request, place: Place) -> int:
    """Store what the containers trained; give its size. Raises UpdateError."""
    roster = Roster.read(place.store.get(score.inputs["roster"]["key"]))
    heads, samples = dict[int, Arrays](), 0
    for slot in slots_of(roster):
        folder = place.work / f"tune-{slot}"
        outcome = read_outcome(folder / "update.safetensors", folder / "result.json")
        heads[slot], samples = trained_head(roster, outcome), outcome.num_examples
    return send(score, place, heads, samples)


def _merge_as_command(request: Request, place: Place) -> dict[str, Any]:
    return merge(request, place, {})


if __name__ == "__main__":
    run_command("merge", _merge_as_command)
