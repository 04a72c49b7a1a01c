"""What a client's tasks are told beside the model: drift correction, and tensors that stay with it.

A job that has neither pays for neither: its tasks come back as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fedloom.api.combinations import LEARNING_RATES
from fedloom.api.job import JobSpec
from fedloom.artifacts import layout
from pipelines.plan import Task
from pipelines.start import Start, reference

CONTROL_VARIATE = "control-variate"
"""SCAFFOLD's common control variate: a state of the server and an input of its clients."""


class ClientDrift:
    """Adds to the tasks of any client of one job; what does not change is worked out once."""

    def __init__(self, spec: JobSpec) -> None:
        algorithm = spec.algorithm
        assert algorithm is not None
        pulls = {}
        if algorithm.name == "fedprox":
            pulls["proximal"] = float(algorithm.parameters["proximalMu"])
        transfer = spec.transfer
        anchor = transfer.anchor if transfer is not None else None
        if anchor is not None and anchor.kind == "l2sp":
            pulls["anchor"] = anchor.mu
        self._pulls = {name: mu for name, mu in pulls.items() if mu > 0}
        self._has_variates = _is_scaffold(spec)
        self._local_tensors = local_tensors(spec)
        self._personal: dict[str, Any] = {}
        if anchor is not None and anchor.kind == "ditto":
            self._personal = {"kind": "ditto", "mu": anchor.mu}
        elif transfer is not None and transfer.personalize is not None:
            self._personal = {"kind": transfer.personalize}
        kept = self._local_tensors or self._personal
        self._is_nothing = not (self._pulls or self._has_variates or kept)

    def added_to(self, train: Task, compress: Task, start: Start) -> list[Task]:
        """Give both tasks with what they need; what goes down beside the model is counted with it."""
        frozen = frozen_tensors(start)
        if self._is_nothing and not frozen:
            return [train, compress]
        common = start.states.get(CONTROL_VARIATE) if self._has_variates else None
        shared = {} if common is None else {CONTROL_VARIATE: common}
        anchor = start.first_model if "anchor" in self._pulls else None
        given = shared if anchor is None else {**shared, "anchor": anchor}
        drift = {"drift": self._settings(train)}
        if frozen:
            drift["drift"]["frozen"] = frozen
        if anchor is not None:  # which a client keeps: only its step knows whether it goes down
            drift["drift"]["anchor_bytes"] = anchor["size_bytes"]
        beside = sum(each["size_bytes"] for each in shared.values())
        down = compress.settings["downlink_bytes"] + beside
        tasks = [
            _extended(train, given, drift),
            _extended(compress, shared, drift | {"downlink_bytes": down}),
        ]
        if self._personal.get("kind") == "ditto":
            tasks.insert(1, _second(tasks[0]))
            tasks[2] = replace(tasks[2], depends=(tasks[1].name,))
        return tasks

    def _settings(self, train: Task) -> dict[str, Any]:
        """What train and compress are both told."""
        settings: dict[str, Any] = {"accepted": train.settings["accepted"]}
        if self._pulls:
            settings["pulls"] = self._pulls
        if self._local_tensors:
            settings["local_tensors"] = self._local_tensors
        if self._personal:
            settings["personal"] = self._personal
        if self._has_variates:
            # Raw, of whatever type: a client with a wrong one is named by its step, not by the plan.
            values = train.settings["hyperparameters"]
            rates = (values[name] for name in LEARNING_RATES if name in values)
            settings["learning_rate"] = next(rates, None)
        return settings


def local_tensors(spec: JobSpec) -> list[str]:
    """Give the patterns of the arrays that every client keeps for itself."""
    transfer = spec.transfer
    is_personal = transfer is not None and transfer.personalize == "body"
    own = transfer.head if transfer is not None and is_personal else ()
    return list(dict.fromkeys((*spec.aggregation.exclude, *own)))


def frozen_tensors(start: Start) -> list[str]:
    """Give the names of the arrays that are not trained: what was taken from another job, if that is so."""
    return list(start.beginning["frozen"]) if start.beginning is not None else []


def _second(train: Task) -> Task:
    """Train the client's own model too, which is pulled to the one that it was given."""
    return replace(
        train,
        name=f"personalize-{train.client}",
        step="personalize",
        depends=(train.name,),
        settings={**train.settings, "folder": "personal"},
    )


def variate_output(spec: JobSpec, number: int) -> dict[str, str]:
    """What aggregate makes of scaffold's updates beside the model; nothing for other algorithms."""
    key = layout.state_key(CONTROL_VARIATE, number)
    return {CONTROL_VARIATE: key} if _is_scaffold(spec) else {}


def variate_settings(spec: JobSpec) -> dict[str, Any]:
    """What aggregate has to know for that."""
    return {"control": {"clients": len(spec.training_workers)}} if _is_scaffold(spec) else {}


def _is_scaffold(spec: JobSpec) -> bool:
    return spec.algorithm is not None and spec.algorithm.name == "scaffold"


def _extended(
    task: Task, artifacts: Mapping[str, Mapping[str, Any]], settings: Mapping[str, Any]
) -> Task:
    inputs = {name: reference(artifact) for name, artifact in artifacts.items()}
    return replace(task, inputs={**task.inputs, **inputs}, settings={**task.settings, **settings})
