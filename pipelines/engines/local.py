"""The embedded engine: runs a plan on warm workers of this machine.

The groups of a plan become messages: clients first, as many at once as there are workers, then the server.
A client always meets the same worker, where its training class is still loaded. Its deadline counts from
when it starts, not from when the round does: waiting for a free worker is no fault of a client.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from fedloom.artifacts import layout
from fedloom.artifacts.store import Store
from pipelines.engine import RunPhase, RunStatus
from pipelines.engines.worker_pool import Answer, Order, WorkerPool
from pipelines.plan import Plan, Task

_SERVER = "server"


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
        self._run: _Run | None = None

    def submit(self, plan: Plan) -> None:
        """Start the plan unless it is the one that runs already."""
        if self._run is not None and self._run.is_of(plan):
            return
        if self._pool is None:
            self._pool = WorkerPool(self._size, self._settings)
        self._run = _Run(plan, self._slots)
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

    def _dispatch(self, pool: WorkerPool, run: _Run) -> None:
        """Send what is due: every worker's first order by itself, so that all begin at once."""
        for slots in run.due_groups():
            for slot, groups in slots.items():
                orders = [
                    Order(group, run.message(group), _deadline(run.groups[group]))
                    for group in groups
                ]
                pool.send(slot, orders)


class _Run:
    """One plan on its way: what is open, what has failed, how it ended."""

    def __init__(self, plan: Plan, slots: Mapping[str, int]) -> None:
        self.phase = RunPhase.RUNNING
        self._plan = plan
        self._head = json.dumps(plan.head())
        self.groups = plan.groups()
        clients = [group for group in self.groups if group != _SERVER]
        self._slots = {group: slots[self._client(group)] for group in clients}
        self._open = set(clients)
        self._failures: dict[str, dict[str, str]] = {}
        self._states = dict.fromkeys(plan.cohort, "Pending")
        self._is_begun = False
        self._is_server_due = True
        self._end = ("", "")

    def is_of(self, plan: Plan) -> bool:
        return (plan.round, plan.attempt) == (self._plan.round, self._plan.attempt)

    def due_groups(self) -> list[dict[int, list[str]]]:
        """Give what can go to the workers now, by slot: their first groups, then the rest.

        That is all clients at first, and the server when they are done.
        """
        due: list[dict[int, list[str]]] = []
        if not self._is_begun:
            self._is_begun = True
            first, rest = dict[int, list[str]](), dict[int, list[str]]()
            for group, slot in self._slots.items():
                if slot in first:
                    rest.setdefault(slot, []).append(group)
                else:
                    first[slot] = [group]
            due = [first, rest]
            self._states = dict.fromkeys(self._states, "Running")
        if not self._open and self._is_server_due:
            self._is_server_due = False
            due.append({0: [_SERVER]})
        return due

    def message(self, group: str) -> bytes:
        """Give the line for a worker; tasks are encoded once, for this and for the plan's record."""
        failures = json.dumps(self._failures) if group == _SERVER else "{}"
        tasks = ",".join(task.to_json() for task in self.groups[group])
        name = json.dumps(group)
        return (
            f'{{"id":{name},"plan":{self._head},"failures":{failures},"tasks":[{tasks}]}}'.encode()
        )

    def take(self, answer: Answer) -> None:
        if answer.name == _SERVER:
            is_done = answer.state == "Succeeded"
            self.phase = RunPhase.SUCCEEDED if is_done else RunPhase.FAILED
            self._end = (answer.reason, answer.message)
            return
        client = self._client(answer.name)
        self._open.discard(answer.name)
        self._states[client] = answer.state
        if answer.state == "Failed":
            self._failures[client] = {"reason": answer.reason, "message": answer.message}

    def status(self) -> RunStatus:
        plan = self._plan
        return RunStatus(plan.round, plan.attempt, self.phase, *self._end, clients=self._states)

    def _client(self, group: str) -> str:
        client = self.groups[group][0].client
        assert client is not None
        return client


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
