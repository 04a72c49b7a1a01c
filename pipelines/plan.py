"""Plan: one round of a job as a checked DAG of tasks, a plain value that every engine can run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from typing import Any

from fedloom.errors import JobError


@dataclass(frozen=True)
class Placement:
    """Where a task must run: `side` is `edge` or `cloud`; the rest as the worker's template has it."""

    side: str
    node_name: str | None = None
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class Task:
    """One step of the round.

    Attributes:
        name: unique in the plan.
        step: which of the steps in `components` it is.
        group: tasks of one group share one place and run in order (one pod on a cluster).
        client: whose work it is; None for the server's.
        depends: names of tasks that must have ended before this one starts.
        may_fail: an end without success is data for the tasks that depend on it, not an end of the run.
        inputs: name -> {`key`, `digest`} in the job's store.
        outputs: name -> key in the job's store.
        settings: the step's own parameters, plain JSON values.
        placement: where it runs.
        deadline_seconds: how long it may take; None for as long as it likes.
        command: how a container runs the step; empty where the user's own container is the step.
        template: the user's pod template where the step is the user's container.
    """

    name: str
    step: str
    group: str
    client: str | None
    depends: tuple[str, ...]
    may_fail: bool
    inputs: Mapping[str, Mapping[str, Any]]
    outputs: Mapping[str, str]
    settings: Mapping[str, Any]
    placement: Placement
    deadline_seconds: float | None = None
    command: tuple[str, ...] = ()
    template: Mapping[str, Any] | None = None

    def to_json(self) -> str:
        """Give the task's document as JSON, encoded once."""
        return self._json

    @cached_property
    def _json(self) -> str:
        return json.dumps(self.to_document())

    def to_document(self) -> dict[str, Any]:
        """Give the task as plain JSON values. Shallow: what is shared stays shared, it is only read."""
        document = {name: getattr(self, name) for name in _TASK_FIELDS}
        placement = {name: getattr(self.placement, name) for name in _PLACEMENT_FIELDS}
        return {**document, "placement": placement}


_TASK_FIELDS = tuple(field.name for field in fields(Task))
_PLACEMENT_FIELDS = tuple(field.name for field in fields(Placement))


@dataclass(frozen=True)
class Plan:
    """One attempt of one round.

    Attributes:
        job: `namespace`, `name`, `uid`.
        round: 0 for the initialisation.
        rounds: of the job.
        attempt: which try of this round, from 1.
        cohort: the clients of this attempt, sorted.
        tasks: in an order in which they could run one after another.
        reserves: clients of the cohort that are only needed in the place of others.
        part, parts: which part of the round this is, of how many with clients, where an engine has cut
            it; part 0 is the server's. Both 0 for a whole round.

    Raises JobError("BadPlan") when made with tasks that do not form such a DAG.
    """

    job: Mapping[str, str]
    round: int
    rounds: int
    attempt: int
    cohort: tuple[str, ...]
    tasks: tuple[Task, ...]
    reserves: frozenset[str] = frozenset()
    part: int = 0
    parts: int = 0

    def __post_init__(self) -> None:
        for problem in _problems(self.tasks):
            raise JobError("BadPlan", problem)

    def groups(self) -> dict[str, tuple[Task, ...]]:
        """Tasks by group, groups and tasks in plan order."""
        groups: dict[str, list[Task]] = {}
        for task in self.tasks:
            groups.setdefault(task.group, []).append(task)
        return {name: tuple(tasks) for name, tasks in groups.items()}

    def head(self) -> dict[str, Any]:
        """What all tasks share."""
        return {
            "job": dict(self.job),
            "round": self.round,
            "rounds": self.rounds,
            "attempt": self.attempt,
            "cohort": list(self.cohort),
            **({"reserves": sorted(self.reserves)} if self.reserves else {}),
        }

    def to_document(self) -> dict[str, Any]:
        """Give the plan as plain JSON values; `plan.json` of the round."""
        return {**self.head(), "tasks": [task.to_document() for task in self.tasks]}

    def to_json(self) -> bytes:
        head = json.dumps(self.head())
        tasks = ",".join(task.to_json() for task in self.tasks)
        return f'{head[:-1]},"tasks":[{tasks}]}}'.encode()


def _problems(tasks: tuple[Task, ...]) -> list[str]:
    problems = []
    names = [task.name for task in tasks]
    problems += [f"two tasks are named {n!r}" for n in _repeated(names)]
    outputs = [key for task in tasks for key in task.outputs.values()]
    problems += [f"two tasks write {key!r}" for key in _repeated(outputs)]
    known = set(names)
    for task in tasks:
        problems += [
            f"task {task.name!r} depends on {d!r}, which is not in the plan"
            for d in task.depends
            if d not in known
        ]
    try:
        TopologicalSorter({task.name: task.depends for task in tasks}).prepare()
    except CycleError as error:
        problems.append(f"tasks depend on each other in a circle: {' -> '.join(error.args[1])}")
    return problems


def _repeated(values: list[str]) -> list[str]:
    seen: set[str] = set()
    return [value for value in values if value in seen or seen.add(value)]  # type: ignore[func-returns-value]
