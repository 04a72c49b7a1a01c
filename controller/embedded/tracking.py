"""Tracking of an embedded run: describes the job to the publish process and hands it committed rounds."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from components.user_code import class_script
from controller.embedded.publisher import Publisher
from controller.embedded.state import StateFolder
from fedloom.api.clients import clients_of
from fedloom.api.dataset import Dataset
from fedloom.api.job import FederatedLearningJob
from fedloom.artifacts.store import Store
from fedloom.errors import FedloomError
from fedloom.tracking.tracker import DatasetDescription, JobDescription
from pipelines.environment import public_parameters

if TYPE_CHECKING:
    from fedloom.tracking.tracker import Goal, SavePolicy

_END_SECONDS = 90.0
_KILLED_END_SECONDS = 5.0


class Tracking(Protocol):
    """Where committed rounds are told of. Nothing behind it waits or fails a round."""

    def publish(self, result: Mapping[str, Any]) -> None:
        """Hand over a committed round; returns at once."""

    def finish(self, status: str) -> dict[str, Any]:
        """End with FINISHED, FAILED or KILLED; give where the run can be looked at."""


class NoTracking:
    """Tells nobody."""

    def publish(self, result: Mapping[str, Any]) -> None:
        return

    def finish(self, status: str) -> dict[str, Any]:
        return {"available": True}


class PublishedTracking:
    """Tracking through the publish process."""

    def __init__(
        self,
        state: StateFolder,
        description: JobDescription,
        tracking_uri: str | None,
        store: Store,
        notice: Callable[[str, str], None],
    ) -> None:
        self._store = store
        self._folder = state.work / "published"
        self._notice = notice
        self._found: dict[str, Any] = {"uri": tracking_uri or state.tracking_uri}
        self._saves_models = description.registered_model is not None
        begin = {
            "description": description.as_json(),
            "tracking_uri": tracking_uri or state.tracking_uri,
            "artifact_location": state.tracking_artifacts,
            "state": str(state.tracking),
        }
        self._publisher = Publisher(begin, state.logs / "publish.log", self._take)

    def publish(self, result: Mapping[str, Any]) -> None:
        """Hand over a committed round; returns at once."""
        self._publisher.publish(result, lambda: self._find_model(result["model"]))

    def _find_model(self, model: Mapping[str, Any]) -> Path | None:
        if not self._saves_models:
            return None
        try:
            return self._store.materialize(model["key"], self._folder, digest=model["digest"])
        except FedloomError as error:
            self._notice("ModelNotPublished", str(error))
            return None

    def finish(self, status: str) -> dict[str, Any]:
        """End the run in tracking; give where it can be looked at and whether all of it got there."""
        ended = self._publisher.finish(
            status, _KILLED_END_SECONDS if status == "KILLED" else _END_SECONDS
        )
        self._found.setdefault("available", False)
        if not ended and status != "KILLED":
            self._notice(
                "TrackingUnavailable", "the publish process did not end; see logs/publish.log"
            )
        return self._found

    def _take(self, event: Mapping[str, Any]) -> None:
        kind = event["event"]
        if kind == "tracking":
            names = ("experiment_id", "run_id", "url")
            self._found |= {name: event[name] for name in names}
        elif kind == "unavailable":
            self._notice("TrackingUnavailable", f"{event['message']}; the job goes on")
        elif kind == "registered":
            self._found["model_version"] = event["version"]
        elif kind == "finished":
            self._found |= {
                "available": event["available"],
                "pending_rounds": event["pending_rounds"],
            }


def describe(
    job: FederatedLearningJob, datasets: Mapping[str, Dataset], base: Path
) -> JobDescription:
    """Describe the job to tracking: settings and sources, never variables or credentials."""
    output, stop = job.spec.output, job.spec.stop_condition
    return JobDescription(
        namespace=job.metadata.namespace,
        name=job.metadata.name,
        uid=job.metadata.uid,
        rounds=job.spec.rounds or 1,
        parameters={name: str(value) for name, value in public_parameters(job).items()},
        datasets=tuple(_datasets(job, datasets)),
        registered_model=output.registered_model,
        alias=output.alias,
        save_policy=cast("SavePolicy", output.save_policy),
        best_metric=stop.metric if stop else None,
        best_goal=cast("Goal", stop.goal if stop else "maximize"),
        script=_script(job, base),
    )


def tracking_uri_of(environ: Mapping[str, str] = os.environ) -> str | None:
    """MLFLOW_TRACKING_URI, if somebody set it."""
    return environ.get("MLFLOW_TRACKING_URI") or None


def _datasets(
    job: FederatedLearningJob, datasets: Mapping[str, Dataset]
) -> Iterator[DatasetDescription]:
    for client in clients_of(job):
        source = datasets[client.dataset].spec.url
        yield DatasetDescription(client.dataset, source, client=client.name)
    if job.spec.evaluation is not None:
        name = job.spec.evaluation.dataset.name
        yield DatasetDescription(name, datasets[name].spec.url, context="evaluation")


def _script(job: FederatedLearningJob, base: Path) -> str | None:
    """The training script, where it is a Python class: its `predict` serves the registered model."""
    template = job.spec.training_workers[0].template
    found = class_script((*template.command, *template.args), base.absolute())
    return None if found is None else str(found[0])
