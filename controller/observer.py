"""Observe a job: committed rounds from its store, the running attempt from its engine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from controller.observed import Observed, changes_after
from fedloom.artifacts import layout
from fedloom.artifacts.store import Store
from fedloom.errors import ArtifactError, ArtifactNotFoundError
from pipelines.engine import Engine, RunPhase, RunStatus


class Observer:
    """Keeps up with the store: each result is read once, when its round has been committed.

    Attributes:
        last: the last committed round's result; None before round 0.
        description: what the job's aggregation program said about it, in round 0; None where it was
            not asked, or not yet.
    """

    def __init__(self, store: Store, engine: Engine) -> None:
        self._store = store
        self._engine = engine
        self.last: Mapping[str, Any] | None = None
        self.description: Mapping[str, Any] | None = None
        self._count = 0
        self._new: list[Mapping[str, Any]] = []
        self._metrics: list[Mapping[str, float]] = []
        self._accepted: dict[str, str] = {}
        self._first_model: Mapping[str, Any] | None = None
        self._beginning: Mapping[str, Any] | None = None
        self._changes: tuple[Mapping[str, Any], ...] = ()
        self._given: dict[str, int] = {}
        self._traffic = {"uplink_bytes": 0, "downlink_bytes": 0}
        self._failures: dict[int, tuple[str, str]] = {}
        self._seen: tuple[int, int] | None = None

    def recover(self) -> None:
        """Find the last committed round and drop what was begun after it.

        A round whose model is not whole any more (a disk that lost power) is not taken for
        committed: it and everything after it is run again.
        """
        count = 0
        while self._read_result(count) is not None:
            count += 1
        whole = count
        while whole and not self._is_whole(self._read_result(whole - 1)):
            whole -= 1
        for number in range(whole, count + 1):
            self._store.delete(layout.round_folder(number))
        for number in range(whole):
            self._append(self._read_result(number))

    def take_new(self) -> list[Mapping[str, Any]]:
        """Give the results found since this was last asked, in order."""
        new, self._new = self._new, []
        return new

    def last_metrics(self) -> dict[str, float]:
        """The last measured value of each metric."""
        return {name: value for found in self._metrics for name, value in found.items()}

    def observe(self) -> Observed:
        """Look at the engine, and at the store where the engine says that a run has ended."""
        run = self._engine.status()
        has_ended = run is not None and run.phase is not RunPhase.RUNNING
        if run is not None and has_ended and (run.round, run.attempt) != self._seen:
            self._take_end(run)
            self._seen = (run.round, run.attempt)
        return Observed(
            last=self.last,
            metrics=self._metrics,
            accepted=self._accepted,
            uplink_bytes=self._traffic["uplink_bytes"],
            downlink_bytes=self._traffic["downlink_bytes"],
            run=run if run is not None and run.round == self._count else None,
            failed_attempts=max(self._failures, default=0),
            failure=self._failures[max(self._failures)] if self._failures else ("", ""),
            first_model=self._first_model,
            changes=self._changes,
            given=self._given,
            beginning=self._beginning,
        )

    def _take_end(self, run: RunStatus) -> None:
        """Take in a run that has ended, once."""
        if run.phase is RunPhase.SUCCEEDED:
            self._append(self._read_result(run.round))
        else:
            self._failures[run.attempt] = (run.reason, run.message)

    def _append(self, result: Mapping[str, Any] | None) -> None:
        if result is None:
            raise ArtifactNotFoundError(layout.result_key(self._count))
        self.last = result
        if self._count == 0:
            self._first_model = result["model"]
            self._beginning = result.get("transfer")
            self.description = result.get("description")
        self._count += 1
        self._new.append(result)
        self._metrics.append(result["metrics"])
        self._failures = {}
        for name, client in result["clients"].items():
            if client["state"] == "Succeeded":
                self._accepted[name] = client["digest"]
                self._given[name] = result["round"] - 1
        self._changes = changes_after(result, self._changes)
        for key in self._traffic:
            self._traffic[key] += result["traffic"][key]

    def _read_result(self, number: int) -> Mapping[str, Any] | None:
        try:
            result: Mapping[str, Any] = json.loads(self._store.get(layout.result_key(number)))
        except (ArtifactNotFoundError, ValueError):
            return None
        return result

    def _is_whole(self, result: Mapping[str, Any] | None) -> bool:
        if result is None:
            return False
        try:
            for artifact in (result["model"], *result["state"].values()):
                self._store.get(artifact["key"], digest=artifact["digest"])
        except ArtifactError:
            return False
        return True
