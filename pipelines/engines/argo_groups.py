"""The groups of a plan as an engine of containers sees them: each is one pod, or a part of a fan-out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fedloom.errors import JobError
from pipelines.plan import Placement, Plan, Task


@dataclass(frozen=True)
class Group:
    """Tasks that run in one pod, in order.

    Attributes:
        name: as the plan has it.
        tasks: in order.
        client: whose they are; None for the server's.
        depends: the groups that must have ended before.
        may_fail: its end without success is data to whoever depends on it.
        index: its place among the groups with a client; 0 for the server's.
    """

    name: str
    tasks: tuple[Task, ...]
    client: str | None
    depends: tuple[str, ...]
    may_fail: bool
    index: int

    @property
    def placement(self) -> Placement:
        """Where its pod runs: where one of its tasks has to be, else where all may."""
        pinned = (task.placement for task in self.tasks if task.placement.node_name)
        return next(pinned, self.tasks[0].placement)

    @property
    def needs_entrypoint(self) -> bool:
        """Whether a container of the user's names no command, so that its image's own one is meant."""
        return any(
            task.template is not None and not container_of(task).get("command")
            for task in self.tasks
        )

    @property
    def deadline_seconds(self) -> float | None:
        """How long its tasks may take: the longest, since all count from the round's start."""
        deadlines = [task.deadline_seconds for task in self.tasks if task.deadline_seconds]
        return max(deadlines, default=None)


def groups_of(plan: Plan) -> dict[str, Group]:
    """Give the plan's groups by name, in plan order."""
    owners = {task.name: task.group for task in plan.tasks}
    found: dict[str, Group] = {}
    clients: dict[str, int] = {}
    for name, tasks in plan.groups().items():
        before = (owners[depended] for task in tasks for depended in task.depends)
        depends = tuple(dict.fromkeys(owner for owner in before if owner != name))
        client = tasks[0].client
        index = 0 if client is None else clients.setdefault(client, len(clients))
        may_fail = all(task.may_fail for task in tasks)
        found[name] = Group(name, tasks, client, depends, may_fail, index)
    return found


def container_of(task: Task) -> dict[str, Any]:
    """Give the one container of the task's template.

    Raises JobError("BadTemplate") where the template has none or several.
    """
    assert task.template is not None
    containers = (task.template.get("spec") or {}).get("containers") or []
    if len(containers) != 1:
        names = ", ".join(str(each.get("name")) for each in containers) or "none"
        raise JobError(
            "BadTemplate",
            f"the pod template of {task.name}: got the containers {names}, expected exactly one. "
            "Fedloom adds its own; what must run beside the script belongs in initContainers with "
            "restartPolicy: Always",
        )
    return dict(containers[0])
