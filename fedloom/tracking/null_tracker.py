"""Tracking that keeps nothing: for jobs that nobody watches, and for tests of what calls a tracker."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fedloom.tracking.tracker import JobDescription, Result, Run, Status


class NullTracker:
    """A Tracker that takes everything and stores nothing; versions count up from 1."""

    def __init__(self) -> None:
        self._versions: dict[int, str] = {}

    def begin(self, description: JobDescription) -> Run:
        return Run(experiment_id="", run_id=description.uid, url=None)

    def record(self, results: Sequence[Result]) -> None:
        return

    def register(self, result: Result, model_file: Path) -> str:
        return self._versions.setdefault(result["round"], str(len(self._versions) + 1))

    def finish(self, status: Status, champion_round: int | None) -> None:
        return
