"""Argo Workflows: the plan of a round becomes one Workflow. Pure; the one door to hera.

    a client's group     a pod on its node: fetch, then the user's container, then ours
    many clients         above a thousand direct ones, a task with items per distinct template
    dispatched groups    one task `dispatch`: a process in the cloud that starts and follows plain Jobs
    the server's group   a pod in the cloud

A task waits for the groups that the plan names; where these may fail, for their end, whatever it is. The
verdict of the workflow is that of its last task, which holds `commit`.
"""

from __future__ import annotations

from typing import Any

from fedloom.errors import JobError
from pipelines.engines import argo_names as names
from pipelines.engines.argo_checks import check_texts, check_workflow
from pipelines.engines.argo_names import workflow_name
from pipelines.engines.argo_setting import Owner, Setting
from pipelines.engines.argo_tasks import DagTask, TaskTable
from pipelines.plan import Plan

__all__ = ["MOST_CLIENTS", "Owner", "Setting", "compile_plan", "workflow_name"]

MOST_CLIENTS = 4_000
"""What the status of one Workflow holds."""
_ENTRYPOINT = "round"


def compile_plan(plan: Plan, setting: Setting) -> dict[str, Any]:
    """Give the Workflow of one attempt of one round.

    It refers to the Secrets that `argo_secrets` makes for the same plan and setting; those come first.
    Raises JobError: `TooManyClients`, `TemplateBraces`, `BadTemplate`, `WorkflowTooLarge`,
    `BadWorkflow`.
    """
    if len(plan.cohort) > MOST_CLIENTS:
        raise JobError(
            "TooManyClients",
            f"round {plan.round}: got {len(plan.cohort)} clients, expected at most {MOST_CLIENTS}, what "
            "one workflow holds. Lower spec.participation.clientsPerRound",
        )
    check_texts(plan)
    table = TaskTable(plan, setting)
    workflow = _built(plan, setting, table)
    # What hera has no field for, and the user's containers as they are: its models drop unknown fields.
    workflow["metadata"]["ownerReferences"] = [setting.owner.reference()]
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
            annotations={names.LAST_TASK: table.last},
            entrypoint=_ENTRYPOINT,
            service_account_name=setting.service_account,
            pod_gc=PodGC(strategy="OnWorkflowSuccess", delete_delay_duration="600s"),
            ttl_strategy=TTLStrategy(
                seconds_after_success=setting.success_seconds,
                seconds_after_failure=setting.failure_seconds,
            ),
        ) as workflow,
        DAG(name=_ENTRYPOINT, fail_fast=False),
    ):
        for task in table.tasks.values():
            _add(task)
    document: dict[str, Any] = workflow.to_dict()
    return document


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
