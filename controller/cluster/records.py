"""Observing a job whose rounds other processes run, and which another controller may have begun.

What failed is in the store: every attempt that gave no model has a record there, written by its commit
step or, where that could not, by the controller that saw it end. So a controller that starts knows as
much as the one that stopped. Nothing is ever deleted: a running attempt may be uploading.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from controller.observed import Observed
from controller.observer import Observer
from fedloom.artifacts import layout
from fedloom.artifacts.store import Store
from fedloom.errors import ArtifactError, ArtifactNotFoundError
from pipelines.engine import Engine, RunPhase, RunStatus

PASSING_REASONS = frozenset(
    {
        "EngineFailed",
        "Evicted",
        "NodeFull",
        "NodeLost",
        "PodDeleted",
        "Preempted",
        "RunDeleted",
        "StoreUnavailable",
        "StoreUnavailableError",
        "WorkflowLost",
    }
)
"""Reasons, of an attempt as a whole, that say nothing about the job: it is made again and does not count."""

_MOST_PASSING = 20  # in one round: then something is wrong for good
_FIRST_PAUSE_SECONDS = 5.0
_LONGEST_PAUSE_SECONDS = 120.0


class SharedObserver(Observer):
    """An Observer of a job on a cluster.

    `is_expecting`: the round's last step is at work, so its result may be there any moment: the store
    is asked for it, which is seconds faster than an engine. `forgive_before` (unix seconds) is when
    somebody asked for another try: attempts that ended before do not count as failed. `clock` gives
    unix seconds.
    """

    def __init__(
        self, store: Store, engine: Engine, clock: Callable[[], float] = time.time
    ) -> None:
        super().__init__(store, engine)
        self._clock = clock
        self._records: dict[int, Mapping[str, Any]] = {}
        self.forgive_before = 0.0
        self.is_expecting = False

    def recover(self) -> None:
        """Read every committed round and the failed attempts at the next one."""
        while (result := self._read_result(self._count)) is not None:
            self._append(result)
        self._read_records()

    def observe(self) -> Observed:
        observed = super().observe()
        is_running = observed.run is not None and observed.run.phase is RunPhase.RUNNING
        if self.is_expecting and is_running:
            result = self._read_result(self._count)
            if result is not None:
                self._append(result)
                observed = super().observe()
        if not self._failures:
            return observed
        return replace(observed, **self._forgiven())

    def _take_end(self, run: RunStatus) -> None:
        """Believe the store, not the engine: a round whose result is there is done."""
        if run.round != self._count:
            return  # an older run, seen again after a restart
        result = self._read_result(run.round)
        if result is not None:
            self._append(result)
            self._records.clear()
            return
        self._read_records()
        if run.attempt not in self._records:
            self._write_record(run)

    def _append(self, result: Mapping[str, Any] | None) -> None:
        super()._append(result)
        self._records.clear()

    def _read_records(self) -> None:
        """Read the records of failed attempts at the next round; they are numbered without gaps."""
        attempt = len(self._records) + 1
        while (record := self._read_record(attempt)) is not None:
            self._remember(attempt, record)
            attempt += 1

    def _read_record(self, attempt: int) -> Mapping[str, Any] | None:
        try:
            found = json.loads(self._store.get(layout.attempt_key(self._count, attempt)))
        except ArtifactNotFoundError:
            return None
        except (ArtifactError, ValueError):
            found = None
        known = {"reason": "RecordDamaged", "message": "its record cannot be read", "finished": 0.0}
        return known | (found if isinstance(found, dict) else {})

    def _write_record(self, run: RunStatus) -> None:
        record = {
            "round": run.round,
            "attempt": run.attempt,
            "finished": self._clock(),
            "reason": run.reason or "WorkflowFailed",
            "message": run.message,
            "clients": {},
        }
        key = layout.attempt_key(run.round, run.attempt)
        self._store.put(key, json.dumps(record, sort_keys=True).encode(), replace=True)
        self._remember(run.attempt, record)

    def _remember(self, attempt: int, record: Mapping[str, Any]) -> None:
        self._records[attempt] = record
        self._failures[attempt] = (str(record["reason"]), str(record["message"]))

    def _forgiven(self) -> dict[str, Any]:
        """Which attempts do not count, and how long to wait after the last of them."""
        forgiven, in_a_row, last = 0, 0, 0.0
        for _, record in sorted(self._records.items()):
            is_passing = record["reason"] in PASSING_REASONS and forgiven < _MOST_PASSING
            in_a_row = in_a_row + 1 if is_passing else 0
            forgiven += is_passing or float(record["finished"]) < self.forgive_before
            last = float(record["finished"])
        if not in_a_row:
            return {"forgiven_attempts": forgiven}
        pause = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2.0 ** min(in_a_row - 1, 10))
        return {"forgiven_attempts": forgiven, "not_before": last + pause}
