"""commit (cloud): make a round done, or write down why its attempt failed.

`result.json` is the one commit point of a round: it exists = the round is done. It is written last, after
everything that it names.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from components.aggregate import Aggregated
from components.command import run_command
from components.outcome import read_outcome
from components.request import Place, Request
from fedloom.artifacts.artifact import Artifact

NOT_NEEDED = "NotNeeded"
"""Why a reserve client has no update: nobody asked it. It is no client of the round."""
_DURABLE_SECONDS = 1.0


def commit_round(
    request: Request,
    place: Place,
    found: Aggregated,
    evaluation: Mapping[str, float],
    steps: Mapping[str, Any],
) -> dict[str, Any]:
    """Write result.json of a round whose model was made, and give it."""
    assert found.model is not None
    clients = _clients(found)
    result = {
        **_head(request),
        "metrics": {**_train_metrics(found), **_other_metrics(found), **evaluation},
        "clients": clients,
        "server": {"steps": dict(steps)},
        "traffic": {
            key: sum(client[key] or 0 for client in clients.values())
            for key in ("uplink_bytes", "downlink_bytes")
        },
        "model": _named(place, found.model),
        "state": {name: _named(place, state) for name, state in found.states.items()},
        **({"privacy": found.privacy} if found.privacy is not None else {}),
        **({"inner": found.inner} if found.inner is not None else {}),
        **({"disclosure": found.disclosure} if found.disclosure is not None else {}),
    }
    if "lineage" in request.settings:
        result["lineage"] = request.settings["lineage"]
    return _write(request.outputs["result"], place, result, is_durable=is_durable(request))


def commit_initial(
    request: Request,
    place: Place,
    model: Artifact,
    states: Mapping[str, Artifact],
    steps: Mapping[str, Any],
    beginning: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write result.json of round 0: a first model, no clients, and how its scripts describe the job.

    `beginning` is what a job that learns from others begins with (see `components.beginning`).
    """
    result = {
        **_head(request),
        "metrics": {},
        "clients": {},
        "server": {"steps": dict(steps)},
        "traffic": {"uplink_bytes": 0, "downlink_bytes": 0},
        "model": _named(place, model),
        "state": {name: _named(place, state) for name, state in states.items()},
    }
    if beginning is not None:
        result |= {"transfer": dict(beginning), "traffic": dict(beginning["traffic"])}
    if "description" in request.settings:
        from components import describe

        result["description"] = describe.read(place, request.settings["description"])
    return _write(request.outputs["result"], place, result)


def record_failure(
    request: Request, place: Place, reason: str, message: str, found: Aggregated | None
) -> dict[str, Any]:
    """Write down an attempt that gave no model: its reason and its clients' states."""
    attempt = {
        "round": request.round,
        "attempt": request.attempt,
        "finished": time.time(),
        "reason": reason,
        "message": message,
        "clients": _clients(found) if found is not None else {},
    }
    return _write(request.outputs["attempt"], place, attempt)


def is_durable(request: Request) -> bool:
    """Say whether what this round stores must outlive a loss of power at once.

    Rounds shorter than a second are left to the system's own pace, except the last one: running
    again the few that a power cut takes costs less than waiting for the disk in each of them, and
    gives the same bits.
    """
    seconds = time.time() - float(request.settings["started"])
    return request.round == request.rounds or seconds >= _DURABLE_SECONDS


def too_few(request: Request, found: Aggregated) -> str:
    """Say which clients were missing and why."""
    failures = [
        (name, failure)
        for name, failure in sorted(found.failures.items())
        if failure["reason"] != NOT_NEEDED
    ]
    failed = "; ".join(
        f"{name}: {failure['reason']} ({failure['message']})" for name, failure in failures[:5]
    )
    more = f"; and {len(failures) - 5} more" if len(failures) > 5 else ""
    return (
        f"round {request.round} needs {request.settings['min_clients']} updates "
        f"(spec.participation.minClients), got {len(found.reports)}. {failed}{more}"
    )


def _head(request: Request) -> dict[str, Any]:
    started, finished = request.settings["started"], time.time()
    return {
        "job": dict(request.job),
        "round": request.round,
        "rounds": request.rounds,
        "attempt": request.attempt,
        "started": started,
        "finished": finished,
        "seconds": round(finished - started, 6),
    }


def _clients(found: Aggregated) -> dict[str, dict[str, Any]]:
    clients: dict[str, dict[str, Any]] = {}
    for name, report in found.reports.items():
        clients[name] = {
            "state": "Succeeded",
            "reason": None,
            "message": report.get("message"),
            "num_examples": report["num_examples"],
            "num_steps": report["num_steps"],
            "seconds": report["seconds"],
            "uplink_bytes": report["uplink_bytes"],
            "downlink_bytes": report["downlink_bytes"],
            "metrics": report["metrics"],
            "digest": report["update"]["digest"],
            "node": report.get("node"),
            "steps": report["steps"],
        }
    for name, failure in found.failures.items():
        if failure["reason"] == NOT_NEEDED:
            continue
        empty = dict.fromkeys(
            (
                "num_examples",
                "num_steps",
                "seconds",
                "uplink_bytes",
                "downlink_bytes",
                "digest",
                "node",
            )
        )
        clients[name] = {"state": "Failed", **failure, **empty, "metrics": {}, "steps": {}}
    return dict(sorted(clients.items()))


def _other_metrics(found: Aggregated) -> dict[str, float]:
    """Give what privacy there is to follow from round to round, what was spent and how updates are cut;
    and what the aggregation worker's program said, as `aggregation/<name>`.
    """
    values = {name: (found.privacy or {}).get(name) for name in ("epsilon", "clip_norm")}
    privacy = {f"privacy/{name}": value for name, value in values.items() if value is not None}
    return privacy | {f"aggregation/{name}": value for name, value in found.metrics.items()}


def _train_metrics(found: Aggregated) -> dict[str, float]:
    """Average each metric over the clients that gave it, weighted by num_examples, as `train/<name>`.

    Where the cloud trains, its own metrics are meant.
    """
    sums: dict[str, float] = {}
    weights: dict[str, int] = {}
    for _, report in sorted(found.reports.items()):
        for name, value in report["metrics"].items():
            sums[name] = sums.get(name, 0.0) + value * report["num_examples"]
            weights[name] = weights.get(name, 0) + report["num_examples"]
    means = {f"train/{name}": sums[name] / weights[name] for name in sorted(sums)}
    return means | {f"train/{name}": value for name, value in sorted(found.tail.items())}


def _named(place: Place, artifact: Artifact) -> dict[str, Any]:
    return {
        "key": artifact.key,
        "uri": place.store.uri_of(artifact.key),
        "digest": artifact.digest,
        "size_bytes": artifact.size_bytes,
    }


def _write(
    key: str, place: Place, document: dict[str, Any], *, is_durable: bool = True
) -> dict[str, Any]:
    data = json.dumps(document, sort_keys=True, allow_nan=False).encode()
    place.store.put(key, data, replace=True, durable=is_durable)
    return document


def _run_as_command(request: Request, place: Place) -> dict[str, Any]:
    """Commit what initialize or aggregate, and evaluate where it ran, left in the work folder."""
    document = json.loads((place.work / "aggregated.json").read_bytes())
    found, steps = Aggregated.of(document), document.get("steps", {})
    if request.round == 0:
        assert found.model is not None
        beginning = None
        if "transfer" in request.settings:
            from components.beginning import left

            beginning = left(place.work)
        result = commit_initial(request, place, found.model, found.states, {}, beginning)
        return {"round": 0, "metrics": {}, "model": result["model"]}
    evaluation = place.work / "evaluation.json"
    outcome = read_outcome(None, evaluation) if evaluation.exists() else None
    metrics = {} if outcome is None else dict(outcome.metrics or {})
    if outcome is not None:  # in the user's container, between aggregate and this step
        before = max(end for _, end in steps.values())
        steps = {**steps, "evaluate": [before, time.time()]}
    if "privacy-report" in request.outputs:
        from components import disclosure

        metrics |= disclosure.disclose(request, place, found, metrics)
    result = commit_round(request, place, found, metrics, steps)
    return {"round": result["round"], "metrics": result["metrics"], "model": result["model"]}


if __name__ == "__main__":
    run_command("commit", _run_as_command)
