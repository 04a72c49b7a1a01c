"""Tracking of an embedded run: describes the job to the publish process and hands it committed rounds."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from controller.embedded.state import StateFolder
from controller.publisher import Publisher
from fedloom.artifacts.store import Store
from fedloom.errors import FedloomError
from fedloom.tracking.tracker import JobDescription

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


class OpenedLater:
    """Opens the real one with the first round: what it is told of the job must be settled by then."""

    def __init__(self, open_tracking: Callable[[], Tracking]) -> None:
        self._open = open_tracking
        self._opened: Tracking | None = None

    def publish(self, result: Mapping[str, Any]) -> None:
        if self._opened is None:
            self._opened = self._open()
        self._opened.publish(result)

    def finish(self, status: str) -> dict[str, Any]:
        return {"available": True} if self._opened is None else self._opened.finish(status)


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


def tracking_uri_of(environ: Mapping[str, str] = os.environ) -> str | None:
    """MLFLOW_TRACKING_URI, if somebody set it."""
    return environ.get("MLFLOW_TRACKING_URI") or None
