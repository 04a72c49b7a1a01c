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
        if spec.transfer is not None and spec.transfer.anchor is not None:
            pulls["anchor"] = spec.transfer.anchor.mu
        self._pulls = {name: mu for name, mu in pulls.items() if mu > 0}
        self._has_variates = _is_scaffold(spec)
        self._local_tensors = list(spec.aggregation.exclude)
        self._is_nothing = not (self._pulls or self._has_variates or self._local_tensors)

    def added_to(self, train: Task, compress: Task, start: Start) -> list[Task]:
        """Give both tasks with what they need; what goes down beside the model is counted with it."""
        if self._is_nothing:
            return [train, compress]
        common = start.states.get(CONTROL_VARIATE) if self._has_variates else None
        shared = {} if common is None else {CONTROL_VARIATE: common}
        anchor = start.first_model if "anchor" in self._pulls else None
        given = shared if anchor is None else {**shared, "anchor": anchor}
        drift = {"drift": self._settings(train)}
        if anchor is not None:  # which a client keeps: only its step knows whether it goes down
            drift["drift"]["anchor_bytes"] = anchor["size_bytes"]
        beside = sum(each["size_bytes"] for each in shared.values())
        down = compress.settings["downlink_bytes"] + beside
        return [
            _extended(train, given, drift),
            _extended(compress, shared, drift | {"downlink_bytes": down}),
        ]

    def _settings(self, train: Task) -> dict[str, Any]:
        """What train and compress are both told."""
        settings: dict[str, Any] = {"accepted": train.settings["accepted"]}
        if self._pulls:
            settings["pulls"] = self._pulls
        if self._local_tensors:
            settings["local_tensors"] = self._local_tensors
        if self._has_variates:
            # Raw, of whatever type: a client with a wrong one is named by its step, not by the plan.
            values = train.settings["hyperparameters"]
            rates = (values[name] for name in LEARNING_RATES if name in values)
            settings["learning_rate"] = next(rates, None)
        return settings


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
