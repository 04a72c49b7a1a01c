"""The embedded engine: runs a plan on warm workers of this machine.

The groups of a plan become messages, each as soon as what it depends on has ended (see `local_run`), as
many at once as there are workers. A client always meets the same worker, where its training class is still
loaded. Its deadline counts from when it starts, not from when the round does: waiting for a free worker is
no fault of a client.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from fedloom.artifacts import layout
from fedloom.artifacts.store import Store
from pipelines.engine import RunPhase, RunStatus
from pipelines.engines.local_run import LocalRun
from pipelines.engines.worker_pool import Answer, Order, WorkerPool
from pipelines.plan import Plan, Task


class LocalEngine:
    """Runs one plan at a time; see the module.

    Args:
        store: of the job; takes the plan document.
        parallel: how many workers, that is how many clients at once.
        settings: what every worker is told when it starts (see `components.worker`).
        loads: expected work per client, in any unit (bytes of its data); spreads clients over workers.
    """

    def __init__(
        self, store: Store, parallel: int, settings: Mapping[str, Any], loads: Mapping[str, float]
    ) -> None:
        self._store = store
        self._size = max(1, min(parallel, len(loads)))
        self._settings = settings
        self._slots = _spread(loads, self._size)
        self._pool: WorkerPool | None = None
        self._run: LocalRun | None = None

    def submit(self, plan: Plan) -> None:
        """Start the plan unless it is the one that runs already."""
        if self._run is not None and self._run.is_of(plan):
            return
        if self._pool is None:
            self._pool = WorkerPool(self._size, self._settings)
        self._run = LocalRun(plan, self._slots, self._size)
        self._dispatch(self._pool, self._run)
        # After the dispatch: the workers are at work while it is written. It is a record, not an input.
        self._store.put(layout.plan_key(plan.round, plan.attempt), plan.to_json(), replace=True)

    def status(self) -> RunStatus | None:
        return None if self._run is None else self._run.status()

    def wait(self, timeout_seconds: float) -> None:
        """Pump the workers until the run's phase or a client's state changed, or time is up."""
        run, pool = self._run, self._pool
        if run is None or pool is None or run.phase is not RunPhase.RUNNING:
            return
        until = time.monotonic() + timeout_seconds
        answers: Sequence[Answer] = ()
        while not answers and (left := until - time.monotonic()) > 0:
            answers = pool.receive(left)
        for answer in answers:
            run.take(answer)
        self._dispatch(pool, run)

    def close(self) -> None:
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    def _dispatch(self, pool: WorkerPool, run: LocalRun) -> None:
        """Send what is due: every worker's first order by itself, so that all begin at once."""
        for slots in run.due_groups():
            for slot, groups in slots.items():
                orders = [
                    Order(group, run.message(group), _deadline(run.groups[group]))
                    for group in groups
                ]
                pool.send(slot, orders)


def _spread(loads: Mapping[str, float], size: int) -> dict[str, int]:
    """Give each client a worker, the heaviest first to the least loaded."""
    totals = [0.0] * size
    slots = {}
    for client in sorted(loads, key=lambda name: (-loads[name], name)):
        slot = totals.index(min(totals))
        slots[client] = slot
        totals[slot] += max(loads[client], 1.0)
    return slots


def _deadline(tasks: Sequence[Task]) -> float | None:
    deadlines = [task.deadline_seconds for task in tasks if task.deadline_seconds is not None]
    return max(deadlines, default=None)
