"""Rounds that one Workflow cannot hold are cut into several. Pure.

    <workflow>           the server's part: all tasks of the cloud; made first, and suspended
    <workflow>-p1, ...   the clients' parts: neighbours of the cohort, who wait for nobody

The server's part begins when those of the clients have ended: the controller, which follows them all, takes
its `suspend` away. It owns the others, so that they vanish with it and not before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pipelines.engines import argo_names as names
from pipelines.engines.argo_nodes import nodes_of
from pipelines.engines.argo_status import WorkflowStatus
from pipelines.plan import Plan, Task

_ENDED = ("Succeeded", "Failed")
_DISPATCHED = ("Succeeded", "Failed", "Error", "Omitted", "Skipped")


def is_cuttable(plan: Plan) -> bool:
    """Say whether no client waits for the server, and the server for every client before it begins."""
    groups = {task.name: task.group for task in plan.tasks}
    waiting, awaited, clients = set[str](), set[str](), set[str]()
    for task in plan.tasks:
        before = {groups[name] for name in task.depends} - {task.group}
        if task.client is None:
            awaited |= before
        else:
            clients.add(task.group)
            waiting |= before
    return not waiting and clients <= awaited


def cut(plan: Plan, count: int) -> tuple[Plan, ...]:
    """Give the server's part and `count` parts of clients, as equal as can be."""
    tasks: dict[str, list[Task]] = {name: [] for name in plan.cohort}
    server = []
    for task in plan.tasks:
        if task.client is None:
            server.append(task)
        else:
            tasks[task.client].append(task)
    parts = [replace(plan, tasks=_alone(server), parts=count)]
    for number in range(count):
        cohort = _slice(plan.cohort, number, count)
        own = tuple(task for name in cohort for task in tasks[name])
        reserves = plan.reserves & set(cohort)
        made = replace(
            plan, cohort=cohort, tasks=own, reserves=reserves, part=number + 1, parts=count
        )
        parts.append(made)
    return tuple(parts)


def annotations_of(plan: Plan, awaited: int) -> dict[str, str]:
    """Give what a part must say of itself; `awaited` counts the tasks whose end is its end."""
    if not plan.parts:
        return {}
    if not plan.part:
        return {names.PARTS: str(plan.parts), names.COHORT: _digest(plan.cohort)}
    return {names.AWAITED: str(awaited), names.COHORT: _digest(plan.cohort)}


def part_of(workflow: Mapping[str, Any]) -> int:
    """Which part of its round a Workflow is; 0 for the server's, and where there is but one."""
    return int((workflow["metadata"].get("labels") or {}).get(names.PART, 0))


def is_held(workflow: Mapping[str, Any]) -> bool:
    """Whether this is a server's part that still waits for those of the clients."""
    return _noted(workflow, names.PARTS) > 0 and bool((workflow.get("spec") or {}).get("suspend"))


def is_whole(server: Mapping[str, Any], parts: Sequence[Mapping[str, Any]]) -> bool:
    """Whether all parts of a round are there."""
    return len(parts) >= _noted(server, names.PARTS)


def has_ended(part: Mapping[str, Any], status: WorkflowStatus) -> bool:
    """Whether all clients of a part have ended, though Argo 3.7 may keep its Workflow open."""
    if status.is_closed:
        return True
    ended = sum(client.state in _ENDED for client in status.clients.values())
    dispatcher = f"{part['metadata']['name']}.dispatch"
    ended += any(
        node.get("name") == dispatcher and node.get("phase") in _DISPATCHED
        for node in nodes_of(part.get("status") or {}).values()
    )
    return ended >= max(1, _noted(part, names.AWAITED))


def _noted(workflow: Mapping[str, Any], name: str) -> int:
    return int((workflow["metadata"].get("annotations") or {}).get(name, 0))


def _alone(tasks: list[Task]) -> tuple[Task, ...]:
    """Tasks that wait for no task of another part."""
    own = {task.name for task in tasks}
    return tuple(
        replace(task, depends=tuple(name for name in task.depends if name in own)) for task in tasks
    )


def _slice(cohort: tuple[str, ...], number: int, count: int) -> tuple[str, ...]:
    return cohort[number * len(cohort) // count : (number + 1) * len(cohort) // count]


def _digest(cohort: tuple[str, ...]) -> str:
    return hashlib.sha256("\n".join(cohort).encode()).hexdigest()[:16]
