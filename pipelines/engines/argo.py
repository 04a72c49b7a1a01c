"""Argo Workflows: the plan of a round becomes one Workflow. Pure; the one door to hera.

    a client's group     a pod on its node: fetch, then the user's container, then ours
    many clients         above a thousand direct ones, a task with items per distinct template
    dispatched groups    one task `dispatch`: a process in the cloud that starts and follows plain Jobs
    the server's group   a pod in the cloud
    too many for one     several Workflows: see `argo_parts`

A task waits for the groups that the plan names; where these may fail, for their end, whatever it is. The
verdict of the workflow is that of its last task, which holds `commit`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fedloom.errors import JobError
from pipelines.engines import argo_names as names
from pipelines.engines import argo_parts
from pipelines.engines.argo_checks import check_texts, check_workflow
from pipelines.engines.argo_names import workflow_name
from pipelines.engines.argo_setting import Owner, Setting
from pipelines.engines.argo_tasks import DagTask, TaskTable
from pipelines.plan import Plan

__all__ = ["MOST_CLIENTS", "Owner", "Setting", "compile_plan", "compile_round", "workflow_name"]

MOST_CLIENTS = 4_000
"""What the status of one Workflow holds."""
MOST_PARTS = 64
_ENTRYPOINT = "round"
_PART_SECONDS = 7 * 86_400
"""For how long clients' parts stay: nearly always they go with the server's, which needs them."""


def compile_round(plan: Plan, setting: Setting) -> Iterator[tuple[Plan, dict[str, Any]]]:
    """Give the Workflows of one attempt of one round, one after another, each with its part of the plan.

    One, if that holds it; else the server's first, which owns the others. Raises JobError as
    `compile_plan` does, before it gives any.
    """
    if len(plan.cohort) <= _most(setting):
        try:
            whole = compile_plan(plan, setting)
        except JobError as error:
            if error.reason != "WorkflowTooLarge" or not argo_parts.is_cuttable(plan):
                raise
        else:
            yield plan, whole
            return
    for part in _parts(plan, setting):
        yield part, compile_plan(part, setting)


def _most(setting: Setting) -> int:
    return min(setting.clients_per_workflow, MOST_CLIENTS)


def _parts(plan: Plan, setting: Setting) -> tuple[Plan, ...]:
    """Cut the plan into as few parts as hold it; they are compiled once here, and forgotten."""
    if not argo_parts.is_cuttable(plan):
        raise JobError(
            "TooManyClients",
            f"round {plan.round}: got {len(plan.cohort)} clients who need the server in mid-round "
            f"(secure aggregation, websocket), expected at most {_most(setting)}, what one workflow "
            "holds. Lower spec.participation.clientsPerRound",
        )
    count = max(1, -(-len(plan.cohort) // _most(setting)))
    most = min(MOST_PARTS, len(plan.cohort))
    while True:
        server, *clients = argo_parts.cut(plan, count)
        compile_plan(server, setting)
        try:
            for part in clients:
                compile_plan(part, setting)
        except JobError as error:
            if error.reason != "WorkflowTooLarge" or count >= most:
                raise
            count = min(2 * count, most)
        else:
            return (server, *clients)


def compile_plan(plan: Plan, setting: Setting) -> dict[str, Any]:
    """Give the Workflow of one attempt of one round, or of a part of it.

    It refers to the Secrets that `argo_secrets` makes for the same plan and setting; those come first.
    Raises JobError: `TooManyClients`, `TemplateBraces`, `BadTemplate`, `WorkflowTooLarge`,
    `BadWorkflow`.
    """
    if len(plan.cohort) > MOST_CLIENTS and not plan.parts:
        raise JobError(
            "TooManyClients",
            f"round {plan.round}: got {len(plan.cohort)} clients, expected at most {MOST_CLIENTS}, what "
            "one workflow holds; compile_round cuts it",
        )
    check_texts(plan)
    table = TaskTable(plan, setting)
    workflow = _built(plan, setting, table)
    # What hera has no field for, and the user's containers as they are: its models drop unknown fields.
    workflow["metadata"]["ownerReferences"] = [setting.owner.reference()]
    if plan.parts and not plan.part:
        workflow["spec"]["suspend"] = True
    dag = workflow["spec"]["templates"][0]
    del dag["failFast"]  # of a template it would stop at the first client that fails
    workflow["spec"]["templates"] += [
        {"name": name, **template} for name, template in table.templates.items()
    ]
    check_workflow(workflow, table.pods)
    return workflow


def _built(plan: Plan, setting: Setting, table: TaskTable) -> dict[str, Any]:
    """Build the workflow's head and its DAG; the templates of its tasks come later."""
    # Half a second and 40 MB: only who makes workflows pays for it.
    from hera.workflows import DAG, Workflow
    from hera.workflows.models import PodGC, TTLStrategy

    with (
        Workflow(
            name=names.workflow_of(plan),
            namespace=setting.namespace,
            labels=names.job_labels(plan),
            annotations=_annotations(plan, table),
            entrypoint=_ENTRYPOINT,
            service_account_name=setting.service_account,
            pod_gc=PodGC(strategy="OnWorkflowSuccess", delete_delay_duration="600s"),
            ttl_strategy=TTLStrategy(
                seconds_after_success=_PART_SECONDS if plan.part else setting.success_seconds,
                seconds_after_failure=_PART_SECONDS if plan.part else setting.failure_seconds,
            ),
        ) as workflow,
        DAG(name=_ENTRYPOINT, fail_fast=False),
    ):
        for task in table.tasks.values():
            _add(task)
    document: dict[str, Any] = workflow.to_dict()
    return document


def _annotations(plan: Plan, table: TaskTable) -> dict[str, str]:
    last = {} if plan.part else {names.LAST_TASK: table.last}
    return last | argo_parts.annotations_of(plan, table.pods + table.dispatchers)


def _add(task: DagTask) -> None:
    """Add the task to the DAG at hand."""
    from hera.workflows import Task

    arguments: dict[str, str] = {}
    if task.is_fan_out:
        arguments = {name: "{{item." + name + "}}" for name in task.values[0]}
    elif task.values:
        arguments = task.values[0]
    Task(
        name=task.name,
        template=task.template,
        arguments=arguments or None,
        depends=task.depends or None,
        with_items=list(task.values) if task.is_fan_out else None,
    )
