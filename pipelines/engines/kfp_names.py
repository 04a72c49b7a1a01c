"""Names of what a round is in Kubeflow Pipelines: experiment, run, pipeline, tasks. Pure, and no kfp.

Experiments and runs are found again by their names, for KFP knows no labels and no idempotency key.
"""

from __future__ import annotations

from pipelines.engines import argo_names
from pipelines.engines.argo_groups import Group, groups_of
from pipelines.engines.kfp_setting import MOST_UNROLLED
from pipelines.plan import Plan

_VERBS = {
    "train": "train",
    "release": "release",
    "advertise": "advertise",
    "share": "share",
    "reveal": "reveal",
    "websocket": "serve",
}


def experiment_name(plan: Plan) -> str:
    """`digits-8c2f1a77`: the job and its uid, so that a job deleted and made again gets one of its own."""
    return f"{plan.job['name']}-{plan.job['uid'][:8]}"


def run_name(plan: Plan) -> str:
    """`digits / round 003`; later attempts `digits / round 003 / attempt 2`."""
    again = f" / attempt {plan.attempt}" if plan.attempt > 1 else ""
    return f"{plan.job['name']} / round {plan.round:03}{again}"


def pipeline_name(plan: Plan) -> str:
    """`digits-8c2f1a77-r3-a1`: the pipeline of one attempt, and the stem of its Secrets."""
    return argo_names.workflow_of(plan)


def task_key(group: Group) -> str:
    """Give the name of a group's task in the IR."""
    return argo_names.task_name(group.name)


def display_name(group: Group) -> str:
    """`train: digits-1 on edge-1`; of the server's groups what they do."""
    steps = [task.step for task in group.tasks]
    if group.client is None:
        return " and ".join(dict.fromkeys(steps)) if len(steps) < 3 else _listed(steps)
    verb = next((_VERBS[step] for step in steps if step in _VERBS), steps[-1])
    node = group.placement.node_name
    return f"{verb}: {group.client}" + (f" on {node}" if node else "")


def clients_of(plan: Plan) -> list[str]:
    """Give the clients that have tasks in the plan, in its order."""
    return list(dict.fromkeys(task.client for task in plan.tasks if task.client is not None))


def clients_by_task(plan: Plan, most_unrolled: int = MOST_UNROLLED) -> dict[str, str]:
    """Give the client of each task, by the task's name in the IR and by its display name.

    Nothing where clients are items of loops, which have no names.
    """
    if len(clients_of(plan)) > most_unrolled:
        return {}
    found: dict[str, str] = {}
    for group in groups_of(plan).values():
        if group.client is not None:
            found[task_key(group)] = found[display_name(group)] = group.client
    return found


def _listed(steps: list[str]) -> str:
    return f"{', '.join(steps[:-1])} and {steps[-1]}"
