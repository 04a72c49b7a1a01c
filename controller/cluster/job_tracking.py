"""The tracking of jobs as the reconciler sees it: with MLflow behind it, or with nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from controller.cluster.conditions import TrackingFacts
from controller.cluster.job_run import JobRun
from controller.cluster.publishing import Publishing
from controller.decide import Decision
from controller.description import describe
from fedloom.api import status as words
from fedloom.api.status import JobStatus

_NO_FOLDER = Path("/nonexistent")  # a job's script is in the user's image, not here


class JobTracking:
    """Tells `publishing` of jobs; None where nothing is tracked. Nothing here waits."""

    def __init__(self, publishing: Publishing | None) -> None:
        self._publishing = publishing

    def take(
        self, run: JobRun, results: Sequence[Mapping[str, Any]], on_change: Callable[[], None]
    ) -> None:
        """Hand over committed rounds; `on_change` is called when there is news of the tracking."""
        publishing, uid = self._publishing, run.job.metadata.uid
        if publishing is None or not run.is_settled:
            return
        if not publishing.knows(uid):
            description = describe(run.job, run.resolved.datasets, _NO_FOLDER)
            publishing.open(description, run.store, on_change)
        if results:
            publishing.publish(uid, list(results))

    def go_on(self, run: JobRun) -> None:
        """The job has not ended; if it had, it goes on in MLflow, too."""
        if self._publishing is not None:
            self._publishing.reopen(run.job.metadata.uid)

    def end(self, run: JobRun, decision: Decision) -> bool:
        """End the run in MLflow; say whether all of it is there."""
        publishing, uid = self._publishing, run.job.metadata.uid
        if publishing is None:
            return True
        self.close(run, decision)
        if publishing.knows(uid) and not publishing.is_done(uid):
            return False  # it says when it is
        publishing.forget(uid)
        return True

    def close(self, run: JobRun, decision: Decision) -> None:
        """End the run in MLflow, while there is more to do for the job than to track it."""
        if self._publishing is not None:
            status = "FINISHED" if decision.phase == words.SUCCEEDED else "FAILED"
            self._publishing.finish(run.job.metadata.uid, status)

    def forget(self, uid: str) -> None:
        """The job is gone."""
        if self._publishing is not None:
            self._publishing.forget(uid)

    def facts(self, run: JobRun | None) -> TrackingFacts | None:
        """What is known of the tracking of a job that runs (None: of one that does not)."""
        if self._publishing is None:
            return None
        if run is None:
            return TrackingFacts()
        return self._publishing.facts(run.job.metadata.uid)

    def is_owed(self, status: JobStatus) -> bool:
        """Whether an ended job may have rounds that MLflow does not know yet."""
        if self._publishing is None or status.aggregation_count is None:
            return False
        states = {condition.type: condition.status for condition in status.conditions}
        return states.get(words.TRACKING_AVAILABLE) != words.TRUE
