"""Many clients as items of loops: one task for all that look alike, instead of one for each. Pure.

What differs between the iterations of a loop must be in its item. Where a client is bound to a node, the item
is the node's selector itself, the only form in which KFP takes one at run time; whose turn it is on that node
the task finds in a file. There is a loop per turn, or per node, whichever are fewer. Without nodes the items
are the clients' names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fedloom.errors import JobError
from pipelines.engines import argo_names
from pipelines.engines.argo_groups import Group, groups_of
from pipelines.engines.kfp_names import clients_of
from pipelines.engines.kfp_setting import KfpSetting
from pipelines.engines.kfp_tasks import (
    EXECUTOR_INPUT,
    HOSTNAME,
    PLAN,
    KfpTask,
    our_parts,
    placed,
    task_of,
)
from pipelines.plan import Plan

CLIENTS_FILE = "clients.json"
COHORT = "cohort"
MOST_LOOPS = 100


@dataclass(frozen=True)
class Loop:
    """A task with an item for each client.

    Attributes:
        task: what all have in common.
        items: selectors of nodes, or names of clients.
        has_selectors: which of the two.
    """

    task: KfpTask
    items: tuple[Any, ...]
    has_selectors: bool

    @property
    def name(self) -> str:
        """Name the list of its items."""
        return self.task.key.replace("-", "_")


@dataclass(frozen=True)
class Stage:
    """Loops of clients that wait for the same tasks; others wait for all of them."""

    key: str
    display_name: str
    loops: tuple[Loop, ...]
    depends: tuple[str, ...]


def crowd_secret(plan: Plan) -> str:
    """Name the Secret with the slices of all clients of a round in loops."""
    return f"{argo_names.workflow_of(plan)}-edge"


def stages_of(
    groups: Mapping[str, Group], plan: Plan, setting: KfpSetting
) -> tuple[dict[str, Stage], dict[str, str]]:
    """Give the stages by key, and for each client's group the stage that it is part of.

    Raises JobError("TooManyClients") where the clients differ too much for loops.
    """
    if "{" in setting.edge_state_claim:
        raise JobError(
            "TooManyClients",
            f"round {plan.round}: got {len(clients_of(plan))} clients with a claim each "
            f"({setting.edge_state_claim}), expected at most {setting.most_unrolled}, or one claim for all",
        )
    found: dict[tuple[str, ...], list[Group]] = {}
    for group in groups.values():
        if group.client is not None:
            steps = tuple(task.step for task in group.tasks)
            found.setdefault(steps, []).append(group)
    stages: dict[str, Stage] = {}
    owners: dict[str, str] = {}
    for steps, members in found.items():
        stage = _stage(steps, members, plan, setting)
        stages[stage.key] = stage
        owners |= {group.name: stage.key for group in members}
    for key, stage in stages.items():
        waits = dict.fromkeys(owners.get(n, argo_names.task_name(n)) for n in stage.depends)
        stages[key] = replace(stage, depends=tuple(waits))
    return stages, owners


def cohort_task(stages: Mapping[str, Stage], plan: Plan, setting: KfpSetting) -> KfpTask:
    """Give the task that gives all loops their items."""
    loops = [loop for stage in stages.values() for loop in stage.loops]
    where = next(task.placement for task in plan.tasks if task.client is None)
    parts = replace(our_parts(setting, COHORT), secrets=((crowd_secret(plan), PLAN),))
    told = ("--plan", f"{PLAN}/{CLIENTS_FILE}", "--executor-input", EXECUTOR_INPUT)
    return KfpTask(
        key=COHORT,
        display_name=f"cohort: {len(clients_of(plan))} clients",
        image=setting.steps_image,
        arguments=told,
        outputs=(),
        depends=(),
        parts=parts,
        **placed(where, setting),
        lists={loop.name: loop.has_selectors for loop in loops},
        module="components.kfp_cohort",
    )


def crowd_document(plan: Plan, setting: KfpSetting) -> dict[str, Any]:
    """Give what tasks in loops are told of who they are: the items of all loops, and turns by node."""
    stages, _ = stages_of(groups_of(plan), plan, setting)
    loops = {loop.name: loop.items for stage in stages.values() for loop in stage.loops}
    return {"loops": loops, "nodes": turns_of(plan)}


def turns_of(plan: Plan) -> dict[str, list[str]]:
    """Give the clients of each node, sorted, for tasks that know their node and their turn."""
    nodes: dict[str, list[str]] = {}
    for client, node in _nodes(plan).items():
        nodes.setdefault(node, []).append(client)
    return {node: sorted(clients) for node, clients in nodes.items()}


def _nodes(plan: Plan) -> dict[str, str]:
    return {
        task.client: task.placement.node_name
        for task in plan.tasks
        if task.client is not None and task.placement.node_name
    }


def _stage(
    steps: tuple[str, ...], members: Sequence[Group], plan: Plan, setting: KfpSetting
) -> Stage:
    verb = next((step for step in steps if step != "receive"), steps[0])
    secret = (crowd_secret(plan), PLAN)
    told = ("--plan", f"{PLAN}/{CLIENTS_FILE}", "--step", verb)
    alike: dict[str, tuple[KfpTask, list[Group]]] = {}
    for group in members:
        task = task_of(group, setting, told, secret)
        selector = {k: v for k, v in task.node_selector.items() if k != HOSTNAME}
        common = replace(task, key=verb, display_name=verb, node_selector=selector, client=None)
        alike.setdefault(f"{_is_bound(group)} {common!r}", (common, []))[1].append(group)
    loops = [loop for common, own in alike.values() for loop in _loops(common, own, plan)]
    if len(loops) > MOST_LOOPS:
        raise JobError(
            "TooManyClients",
            f"round {plan.round}: got {len(members)} clients that need {len(loops)} loops, expected at "
            f"most {MOST_LOOPS}: above {setting.most_unrolled} clients those that look alike share a task, "
            "so let their templates be one (a YAML anchor)",
        )
    named = tuple(
        replace(loop, task=replace(loop.task, key=f"{verb}-{number}"))
        for number, loop in enumerate(loops, start=1)
    )
    return Stage(f"clients-{verb}", f"{verb}: {len(members)} clients", named, members[0].depends)


def _loops(common: KfpTask, members: Sequence[Group], plan: Plan) -> list[Loop]:
    """Give the loops of clients that look alike but for their names and nodes."""
    clients = [str(group.client) for group in members]
    if not _is_bound(members[0]):
        return [Loop(common, tuple(clients), has_selectors=False)]
    nodes, turns = _nodes(plan), turns_of(plan)
    by_turn: dict[int, list[str]] = {}
    by_node: dict[str, list[str]] = {}
    for client in clients:
        node = nodes[client]
        by_turn.setdefault(turns[node].index(client), []).append(node)
        by_node.setdefault(node, []).append(client)
    if len(by_node) < len(by_turn):
        return [
            Loop(_at(common, {HOSTNAME: node}), tuple(own), has_selectors=False)
            for node, own in sorted(by_node.items())
        ]
    return [
        Loop(
            _saying(common, "--turn", str(turn)),
            tuple({HOSTNAME: n} for n in own),
            has_selectors=True,
        )
        for turn, own in sorted(by_turn.items())
    ]


def _is_bound(group: Group) -> bool:
    return bool(group.placement.node_name)


def _at(task: KfpTask, selector: Mapping[str, str]) -> KfpTask:
    return replace(task, node_selector={**task.node_selector, **selector})


def _saying(task: KfpTask, *options: str) -> KfpTask:
    return replace(task, arguments=(*task.arguments, *options))
