"""What an embedded run tells its caller: the objects of `fedloom run -o json`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from controller.decide import Decision

Event = dict[str, Any]
_CLIENT_FIELDS = (
    "state",
    "reason",
    "num_examples",
    "seconds",
    "uplink_bytes",
    "downlink_bytes",
    "metrics",
)


def round_event(result: Mapping[str, Any]) -> Event:
    """A committed round."""
    clients = {
        name: {field: client[field] for field in _CLIENT_FIELDS} | _message(client)
        for name, client in result["clients"].items()
    }
    return {
        "event": "round",
        "round": result["round"],
        "rounds": result["rounds"],
        "seconds": result["seconds"],
        "metrics": result["metrics"],
        "clients": clients,
        "traffic": result["traffic"],
        "model": _model(result),
    }


def beginning_event(beginning: Mapping[str, Any]) -> Event:
    """What a job that learns from others begins with, and why."""
    names = ("mode", "choice", "kind", "reason", "message", "is_sure", "scores", "unusable")
    shown = {name: beginning[name] for name in (*names, "source", "traffic", "epsilon")}
    return {"event": "transfer", **shown}


def finished_event(
    decision: Decision,
    last: Mapping[str, Any] | None,
    metrics: Mapping[str, float],
    tracking: Mapping[str, Any],
) -> Event:
    """The end of a run; a job that is suspended ends a run with the phase it has.

    `last` is the last committed round's result, `metrics` the last measured value of each metric.
    """
    return {
        "event": "finished",
        "phase": decision.phase,
        "reason": decision.reason,
        "message": decision.message,
        "rounds": last["round"] if last else 0,
        "metrics": dict(metrics),
        "model": _model(last) if last else None,
        "tracking": dict(tracking),
    }


def _message(client: Mapping[str, Any]) -> Event:
    return {"message": client["message"]} if client["message"] else {}


def _model(result: Mapping[str, Any]) -> Event:
    return {"uri": result["model"]["uri"], "digest": result["model"]["digest"]}
