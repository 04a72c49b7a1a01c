"""One plan on its way through the local engine: which groups are due, which failed, how it ended."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from pipelines.engine import RunPhase, RunStatus
from pipelines.engines.worker_pool import Answer
from pipelines.plan import Plan

_LAST_STEP = "commit"
_NOT_NEEDED = {"reason": "NotNeeded", "message": "the round had its updates without this reserve"}


class LocalRun:
    """The groups of a plan as a DAG: a group is due when all that it depends on have ended.

    A group whose tasks may fail is data for those behind it; any other failure ends the run. Groups
    of reserve clients are due only in the place of clients that failed.

    Args:
        plan: what to run.
        slots: client -> its worker; groups of the server go to any.
        size: number of workers.
    """

    def __init__(self, plan: Plan, slots: Mapping[str, int], size: int) -> None:
        self.phase = RunPhase.RUNNING
        self.groups = plan.groups()
        self._plan = plan
        self._head = json.dumps(plan.head())
        self._size = size
        self._clients = {group: tasks[0].client for group, tasks in self.groups.items()}
        self._slots = slots
        self._waits_for = _dependencies(plan)
        self._behind: dict[str, list[str]] = {}
        for group, others in self._waits_for.items():
            for other in others:
                self._behind.setdefault(other, []).append(group)
        self._end_group = next(
            (task.group for task in plan.tasks if task.step == _LAST_STEP), plan.tasks[-1].group
        )
        self._reserves = [
            group for group, client in self._clients.items() if client in plan.reserves
        ]
        self._due = [
            group
            for group, others in self._waits_for.items()
            if not others and group not in self._reserves
        ]
        self._running: set[str] = set()
        self._failures: dict[str, dict[str, str]] = {}
        self._states = dict.fromkeys(plan.cohort, "Pending")
        self._end = ("", "")
        if not self._due:
            self._settle_reserves()

    def is_of(self, plan: Plan) -> bool:
        return (plan.round, plan.attempt) == (self._plan.round, self._plan.attempt)

    def due_groups(self) -> list[dict[int, list[str]]]:
        """Take what can go to the workers now, by slot: the first group of each, then the rest."""
        first, rest = dict[int, list[str]](), dict[int, list[str]]()
        for place, group in enumerate(self._due):
            client = self._clients[group]
            slot = place % self._size if client is None else self._slots[client]
            if slot in first:
                rest.setdefault(slot, []).append(group)
            else:
                first[slot] = [group]
            if client is not None:
                self._states[client] = "Running"
        self._running.update(self._due)
        self._due = []
        return [slots for slots in (first, rest) if slots]

    def message(self, group: str) -> bytes:
        """Give the line for a worker; tasks are encoded once, for this and for the plan's record."""
        is_server = self._clients[group] is None
        failures = json.dumps(self._failures) if is_server else "{}"
        tasks = ",".join(task.to_json() for task in self.groups[group])
        name = json.dumps(group)
        return (
            f'{{"id":{name},"plan":{self._head},"failures":{failures},"tasks":[{tasks}]}}'.encode()
        )

    def take(self, answer: Answer) -> None:
        """Take note of how a group ended."""
        group, client = answer.name, self._clients[answer.name]
        self._running.discard(group)
        is_done = answer.state == "Succeeded"
        may_fail = client is not None or all(task.may_fail for task in self.groups[group])
        if group == self._end_group or not (is_done or may_fail):
            self.phase = RunPhase.SUCCEEDED if is_done else RunPhase.FAILED
            self._end = (answer.reason, answer.message)
            return
        if client is not None:
            self._states[client] = answer.state
            if not is_done:
                # The first failure is the reason: a client that is out fails at what follows, too.
                failure = {"reason": answer.reason, "message": answer.message}
                self._failures.setdefault(client, failure)
                if self._reserves:
                    self._due.append(self._reserves.pop(0))
        self._finish([group])
        if not self._running and not self._due:
            self._settle_reserves()

    def status(self) -> RunStatus:
        plan = self._plan
        return RunStatus(plan.round, plan.attempt, self.phase, *self._end, clients=self._states)

    def _finish(self, groups: Iterable[str]) -> None:
        for group in groups:
            for other in self._behind.get(group, ()):
                self._waits_for[other].discard(group)
                if not self._waits_for[other]:
                    self._due.append(other)

    def _settle_reserves(self) -> None:
        """Nobody failed any more: the reserves that are left stay at home."""
        unneeded, self._reserves = self._reserves, []
        for group in unneeded:
            client = self._clients[group]
            assert client is not None
            self._failures[client] = dict(_NOT_NEEDED)
            del self._states[client]
        self._finish(unneeded)


def _dependencies(plan: Plan) -> dict[str, set[str]]:
    """Give for each group the other groups that its tasks depend on."""
    group_of = {task.name: task.group for task in plan.tasks}
    waits_for: dict[str, set[str]] = {}
    for task in plan.tasks:
        others = waits_for.setdefault(task.group, set())
        others.update(group_of[name] for name in task.depends if group_of[name] != task.group)
    return waits_for
