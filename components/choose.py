"""choose (cloud): sum up what the clients say of the candidates, and begin with the best one.

Starting from scratch is one of them. It is what a job begins with unless another one is surely better.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from components.beginning import SCRATCH, Beginning, from_scratch
from components.candidates import Candidate, Roster
from components.probe import NO_METRIC
from components.request import Place, Request
from fedloom.algorithms.transfer.answers import Probe
from fedloom.algorithms.transfer.body import transferred
from fedloom.algorithms.transfer.decision import SCRATCH_BODY, Choice, choose
from fedloom.artifacts.arrays import dump_arrays, load_arrays
from fedloom.artifacts.artifact import Artifact
from fedloom.errors import ArtifactError, JobError, UpdateError

Failures = Mapping[str, Mapping[str, str]]
Probes = dict[str, dict[str, Probe]]
_ABSENT = {"reason": "NoAnswer", "message": "no answer arrived before the probe was closed"}
_MOST_SLOTS = 16
_BODY = "#body"


def run(request: Request, place: Place, failures: Failures) -> Beginning:
    """Store the first model and say what it is and why.

    Raises JobError where the clients' scripts cannot be probed, or no source can be used and the job
    may not begin without one.
    """
    settings = request.settings
    staged = json.loads(place.store.get(request.inputs["staged"]["key"]))
    roster = Roster.read(place.store.get(request.inputs["roster"]["key"]))
    reports, clients = _reports(settings["reports"], place, failures)
    if not staged["sources"]:
        model = _stored(request, place, staged["scratch"])
        return from_scratch(settings, staged["unusable"], model)
    _check_scripts(clients)
    kinds = {each.name: each.kind for each in roster.candidates if each.kind in ("scratch", "full")}
    names = {each.slot: each.name for each in roster.candidates if each.name in kinds}
    probes = _probes(reports, names)
    if "judged" in settings:
        judged, _ = _reports(settings["judged"], place, failures)
        bodies = {e.slot: _body_name(e) for e in roster.candidates if e.kind != SCRATCH}
        probes |= _probes(judged, bodies)
        kinds |= {n: SCRATCH if n == SCRATCH_BODY else "body" for n in bodies.values()}
        reports |= {f"{name} again": report for name, report in judged.items()}
    noise, least = 0.0, settings["min_samples"]
    if "privacy" in settings:
        probes, noise = noised(probes, settings["privacy"])
        least = 1
    choice = choose(probes, kinds, least_samples=least, noise=noise)
    model = _begun(request, place, choice, staged, roster)
    return _beginning(request, choice, staged, model, (reports, clients))


def _probes(reports: Mapping[str, Any], names: Mapping[int, str]) -> Probes:
    """Give what each client says of each candidate, of these slots."""
    probes: Probes = {name: {} for name in names.values()}
    for client, report in reports.items():
        for slot, name in names.items():
            if str(slot) in report["answers"]:
                loss, samples = report["answers"][str(slot)]
                probes[name][client] = Probe(math.nan if loss is None else loss, samples)
    return probes


def _body_name(candidate: Candidate) -> str:
    return SCRATCH_BODY if candidate.kind == "own" else f"{candidate.name}{_BODY}"


def _begun(
    request: Request, place: Place, choice: Choice, staged: Mapping[str, Any], roster: Roster
) -> Artifact:
    """Store what the job begins with: a whole model as it is, or a body with the job's own last layer."""
    source = staged["sources"].get(choice.candidate.removesuffix(_BODY))
    if source is None or choice.kind != "body":
        return _stored(request, place, source or staged["scratch"])
    own, other = (
        load_arrays(place.store.get(each["key"], digest=each["digest"]))[0]
        for each in (staged["scratch"], source)
    )
    body = source["taken"] or [name for name in roster.layout if name not in roster.head]
    data = dump_arrays(transferred(own, other, body))
    return place.store.put(request.outputs["model"], data, replace=True)


def _beginning(
    request: Request,
    choice: Choice,
    staged: Mapping[str, Any],
    model: Artifact,
    answered: tuple[Mapping[str, Any], Mapping[str, Any]],
) -> Beginning:
    reports, clients = answered
    source = staged["sources"].get(choice.candidate.removesuffix(_BODY))
    return Beginning(
        mode="auto",
        choice=choice.candidate,
        kind=choice.kind,
        reason=choice.reason,
        message=choice.message,
        is_sure=choice.is_sure,
        source=None if source is None else source["lineage"],
        unusable=staged["unusable"],
        scores=[_plain(vars(score)) for score in choice.scores],
        clients=clients,
        epsilon=request.settings.get("privacy", {}).get("epsilon"),
        traffic={
            "uplink_bytes": sum(
                each["size_bytes"] + each["heads_bytes"] for each in reports.values()
            ),
            "downlink_bytes": sum(report["downlink_bytes"] for report in reports.values()),
        },
        model=model,
    )


def noised(probes: Probes, privacy: Mapping[str, Any]) -> tuple[Probes, float]:
    """Give the mean losses under Gaussian noise, the same of every client, and how uncertain each is.

    Every client counts the same, its losses are cut to [0, bound]: one client changes the sum of all
    losses by at most bound * sqrt(candidates). What follows is made of nothing but these means: how
    much clients differ is not told, so the most that a difference of two losses can vary (bound) stands
    in for it. Of what more is better, `shift` brings the best to 0.
    """
    bound, shift = float(privacy["bound"]), float(privacy["shift"])
    clients = sorted(set.intersection(*({*each} for each in probes.values())) if probes else ())
    if not clients:
        return {name: {} for name in probes}, 0.0
    sigma = float(privacy["noise_multiplier"]) * bound * math.sqrt(len(probes)) / len(clients)
    rng = np.random.Generator(np.random.PCG64())  # from the system: what is public hides nothing
    found: Probes = {}
    for name in sorted(probes):
        losses = [probes[name][client].loss for client in clients]
        cut = [min(max(x + shift, 0.0), bound) if math.isfinite(x) else bound for x in losses]
        mean = sum(cut) / len(cut) + float(rng.normal(0.0, sigma))
        found[name] = {client: Probe(mean, 1) for client in clients}
    return found, math.sqrt(sigma**2 + bound**2 / (2 * len(clients)))


def _reports(
    keys: Mapping[str, str], place: Place, failures: Failures
) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    """Give each client's report, and of every client how it went."""
    reports: dict[str, dict[str, Any]] = {}
    clients: dict[str, dict[str, Any]] = {}
    for client, key in sorted(keys.items()):
        try:
            data = place.store.get(key)
            document = json.loads(data)
            if "failure" in document:  # an engine that lets no client fail has it say so
                clients[client] = {"state": "Failed", **document["failure"]}
                continue
            reports[client] = {**_checked(document, client), "size_bytes": len(data)}
            clients[client] = {"state": "Succeeded", "reason": None, "message": None}
        except (ArtifactError, UpdateError, ValueError, KeyError, TypeError) as error:
            why = failures.get(client, _ABSENT)
            if not isinstance(error, ArtifactError):
                why = {"reason": "BadAnswer", "message": str(error)}
            clients[client] = {"state": "Failed", **why}
    return reports, clients


def _checked(document: Any, client: str) -> dict[str, Any]:
    """Look at what a client says before it counts. Raises UpdateError, KeyError, TypeError, ValueError."""
    if document["client"] != client or len(document["answers"]) > _MOST_SLOTS:
        raise UpdateError("BadAnswer", f"got {str(document)[:80]}, expected the answer of {client}")
    for loss, samples in document["answers"].values():
        if not (loss is None or isinstance(loss, int | float)):
            raise UpdateError("BadAnswer", f"got the loss {loss!r}, expected a number")
        if isinstance(samples, bool) or not isinstance(samples, int) or samples < 1:
            raise UpdateError("BadAnswer", f"got {samples!r} samples, expected 1 or more")
    sizes = {name: int(document.get(name, 0)) for name in ("downlink_bytes", "heads_bytes")}
    return {**document, **sizes}


def _check_scripts(clients: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse a job whose script no client can probe: waiting, or scratch, would hide a mistake."""
    failed = [each for each in clients.values() if each["state"] == "Failed"]
    if clients and len(failed) == len(clients):
        first = failed[0]
        if first["reason"] in (NO_METRIC, "ScriptFailed"):
            raise JobError("ProbeFailed", f"no client could be probed: {first['message']}")


def _stored(request: Request, place: Place, exact: Mapping[str, str]) -> Artifact:
    data = place.store.get(exact["key"], digest=exact["digest"])
    return place.store.put(request.outputs["model"], data, replace=True)


def _plain(score: Mapping[str, Any]) -> dict[str, Any]:
    """Give a score as JSON has it: a number that is none is left out."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in score.items()
    }
