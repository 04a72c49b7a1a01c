"""The tasks and templates of a workflow: which groups a task stands for, and what it waits for."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipelines.engines import argo_names as names
from pipelines.engines.argo_containers import parameters
from pipelines.engines.argo_dispatch import dispatch_template, is_dispatched, stages_of
from pipelines.engines.argo_groups import Group, groups_of
from pipelines.engines.argo_pods import pod_of
from pipelines.engines.argo_setting import Setting
from pipelines.engines.argo_templates import pod_template, used_parameters
from pipelines.plan import Plan

MOST_NAMED = 1_000
"""Above so many direct clients, they are items of few tasks instead of tasks of their own."""
_ENDED = ("Succeeded", "Failed", "Errored", "Skipped", "Omitted")


@dataclass
class DagTask:
    """A task of the workflow.

    Attributes:
        name, template: its own, and what it runs.
        groups: the groups of the plan that it stands for.
        values: per group the values of the template's parameters; of more than one where it fans out.
        is_fan_out: whether each of `values` is an item.
        depends: the expression of what it waits for; empty for nothing.
    """

    name: str
    template: str
    groups: list[Group]
    values: list[dict[str, str]] = field(default_factory=list)
    is_fan_out: bool = False
    depends: str = ""


class TaskTable:
    """All tasks and templates of one round, by name.

    `pods` counts those of clients, `dispatchers` the tasks that start others as Jobs.
    """

    def __init__(self, plan: Plan, setting: Setting) -> None:
        self._plan, self._setting = plan, setting
        self.groups = groups_of(plan)
        self.templates: dict[str, dict[str, Any]] = {}
        self.tasks: dict[str, DagTask] = {}
        self._shapes: dict[str, tuple[str, frozenset[str]]] = {}
        self._clients = len({g.client for g in self.groups.values() if g.client is not None})
        direct = [group for group in self.groups.values() if not is_dispatched(group, setting)]
        self.pods = sum(group.client is not None for group in direct)
        self._is_fan_out = self.pods > MOST_NAMED
        stages = stages_of(self.groups, setting)
        self.dispatchers = len(stages)
        for name, stage in stages.items():
            self.templates[name] = dispatch_template(name, stage, plan, setting)
            self.tasks[name] = DagTask(name, name, stage)
        for group in direct:
            self._add(group)
        self._connect()

    @property
    def last(self) -> str:
        """The task that nobody waits for: the one with `commit`."""
        waited_for = {name for group in self.groups.values() for name in group.depends}
        ends = [name for name in self.groups if name not in waited_for]
        return self._owners()[ends[-1]]

    def _add(self, group: Group) -> None:
        is_client = group.client is not None
        template = pod_template(
            pod_of(group, self._plan, self._setting), self._setting, is_client=is_client
        )
        if not is_client:
            name = names.task_name(group.name)
            self.templates[name] = template
            self.tasks[name] = DagTask(name, name, [group])
            return
        given = parameters(group, self._clients)
        shape, used = self._shape(template, group)
        values = {name: value for name, value in given.items() if name in used}
        if not self._is_fan_out:
            name = names.task_name(group.name)
            self.tasks[name] = DagTask(name, shape, [group], [values])
            return
        key = shape + str(group.depends)
        task = self.tasks.get(key)
        if task is None:
            number = sum(task.is_fan_out for task in self.tasks.values()) + 1
            task = self.tasks[key] = DagTask(f"clients-{number}", shape, [], is_fan_out=True)
        task.groups.append(group)
        task.values.append(values)

    def _shape(self, template: Mapping[str, Any], group: Group) -> tuple[str, frozenset[str]]:
        """Give the name of a client's template and its parameters; the same for all that look alike."""
        text = json.dumps(template, sort_keys=True)
        if text not in self._shapes:
            is_users = any(task.template is not None for task in group.tasks)
            stem = names.task_name("client" if is_users else group.tasks[-1].step)
            alike = sum(name.startswith(stem) for name, _ in self._shapes.values())
            name = f"{stem}-{alike + 1}" if alike else stem
            used = used_parameters(text)
            inputs = {"parameters": [{"name": each} for each in sorted(used)]}
            self.templates[name] = {"inputs": inputs, **template}
            self._shapes[text] = name, used
        return self._shapes[text]

    def _connect(self) -> None:
        owners = self._owners()
        for task in self.tasks.values():
            before = dict.fromkeys(depended for group in task.groups for depended in group.depends)
            task.depends = depends_on((owners[name], self.groups[name].may_fail) for name in before)

    def _owners(self) -> dict[str, str]:
        """Give for each group the task that stands for it."""
        return {group.name: task.name for task in self.tasks.values() for group in task.groups}


def depends_on(before: Iterable[tuple[str, bool]]) -> str:
    """Write the expression that is true when all tasks have ended; (name, whether it may fail).

    `.AnySucceeded` would not do: it exists for tasks with items only, and a task none of whose
    clients succeeded must let the server say so.
    """
    may_fail: dict[str, bool] = {}
    for name, may in before:
        may_fail[name] = may_fail.get(name, True) and may
    return " && ".join(
        "(" + " || ".join(f"{name}.{end}" for end in _ENDED) + ")" if may else f"{name}.Succeeded"
        for name, may in may_fail.items()
    )
