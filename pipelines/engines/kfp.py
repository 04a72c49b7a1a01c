"""Kubeflow Pipelines: the plan of a round becomes a pipeline package. Pure; the one door to kfp.

    a client's group     a task of its own, bound to its node: one container for all that it does
    many clients         above a hundred, items of loops: see `kfp_loops`
    the server's group   a task in the cloud; the last one is the exit task of all clients, which runs
                         even where a client's pod was lost
    a whole job          one pipeline that plans its rounds while it runs: see `kfp_job`

Nothing is cached: KFP does not see the data that a client trains on. Clients and server hand over in the
store, by the plan's keys; what a task shows in the UI (metrics, page, model) is for people.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any

from fedloom.api.documents import render_documents
from fedloom.errors import JobError
from pipelines.engines.argo_groups import groups_of
from pipelines.engines.argo_names import server_secret, task_name, workflow_of
from pipelines.engines.kfp_building import Builder, job_inputs
from pipelines.engines.kfp_checks import check_package, check_texts
from pipelines.engines.kfp_job import ENDPOINT, STORE, JobSetting, round_tasks, start_task
from pipelines.engines.kfp_loops import COHORT, Stage, cohort_task, stages_of
from pipelines.engines.kfp_names import clients_of
from pipelines.engines.kfp_setting import KfpSetting
from pipelines.engines.kfp_tasks import PLAN, KfpTask, client_secret_of, slice_file, task_of
from pipelines.plan import Plan

__all__ = [
    "JobSetting",
    "KfpSetting",
    "Package",
    "builder",
    "compile_job",
    "compile_plan",
    "component_document",
]

_ONE_AT_A_TIME = Lock()
"""kfp keeps the pipeline at hand in a variable of a class."""


@dataclass(frozen=True)
class Package:
    """A pipeline as it is uploaded.

    Attributes:
        pipeline: the pipeline spec (IR).
        platform: what only Kubernetes can do; empty for nothing.
    """

    pipeline: Mapping[str, Any]
    platform: Mapping[str, Any]

    def to_documents(self) -> list[dict[str, Any]]:
        return [dict(self.pipeline), *([dict(self.platform)] if self.platform else [])]

    def to_yaml(self) -> str:
        """Write the package as KFP takes it: one document or two."""
        return render_documents(self.to_documents())


def compile_plan(plan: Plan, setting: KfpSetting) -> Package:
    """Give the pipeline of one attempt of one round.

    It refers to the Secrets that `kfp_secrets` makes for the same plan and setting. Raises JobError:
    `TemplateBraces`, `BadTemplate`, `HostPathNotSupported`, `NeedsEdgeState`, `NotOnKfp`,
    `TooManyClients`, `PackageTooLarge`.
    """
    tasks, stages = _tasks(plan, setting)
    check_texts([*tasks.values(), *(loop.task for s in stages.values() for loop in s.loops)])
    exit_key = "" if stages else _exit_key(tasks)
    build, inner = builder(), dict[str, Any]()

    def body() -> None:
        if exit_key:
            build.round_with_exit(tasks, exit_key)
        else:
            build.tasks(tasks, stages, inner)

    with _ONE_AT_A_TIME:
        inner |= {key: build.stage_pipeline(stage) for key, stage in stages.items()}
        made = build.pipeline(workflow_of(plan), body, root=setting.pipeline_root)
    return _package(made)


def compile_job(plans: Sequence[Plan], given: JobSetting, setting: KfpSetting) -> Package:
    """Give one pipeline for a whole job; `plans` are of the shape of its rounds, from round 0.

    Raises JobError as compile_plan does, and `NotInOnePipeline`.
    """
    start = start_task(given, plans[0], setting)
    rounds = [round_tasks(plan, given, setting) for plan in plans]
    check_texts([start, *(task for each in rounds for task in each.tasks.values())])
    build = builder()

    def body(*values: Any) -> None:
        build.job(start, rounds, job_inputs(values))

    defaults = {STORE: given.store, ENDPOINT: given.endpoint}
    name, types = task_name(plans[0].job["name"]), dict.fromkeys(defaults, str)
    with _ONE_AT_A_TIME:
        made = build.pipeline(name, body, types, defaults, setting.pipeline_root)
    return _package(made)


def builder() -> Builder:
    """Import kfp: a second, and only who makes pipelines pays for it. Raises JobError("NoKfp")."""
    try:
        from kfp import dsl, kubernetes
    except ImportError as error:
        raise JobError(
            "NoKfp",
            f"got no package {error.name or 'kfp.kubernetes'!r}, expected kfp and kfp-kubernetes: "
            "pip install 'fedloom[kfp]'",
        ) from error
    return Builder(dsl, kubernetes)


def component_document(build: Builder, task: KfpTask) -> dict[str, Any]:
    """Give a component by itself, as kfp loads it from a file."""
    from google.protobuf import json_format

    document: dict[str, Any] = json_format.MessageToDict(build.component(task).pipeline_spec)
    return dict(_sorted(document))


def _package(made: Any) -> Package:
    from google.protobuf import json_format

    pipeline = _sorted(json_format.MessageToDict(made.pipeline_spec))
    platform = _sorted(json_format.MessageToDict(made.platform_spec))
    check_package(pipeline, platform)
    return Package(pipeline, platform)


def _sorted(value: Any) -> Any:
    """Give the same document with the keys of all its objects in order, that equal ones look equal."""
    if isinstance(value, dict):
        return {name: _sorted(value[name]) for name in sorted(value)}
    return [_sorted(each) for each in value] if isinstance(value, list) else value


def _tasks(plan: Plan, setting: KfpSetting) -> tuple[dict[str, KfpTask], dict[str, Stage]]:
    """Give the tasks that have a name of their own, and the stages of those that have none."""
    groups = groups_of(plan)
    stages: dict[str, Stage] = {}
    owners: dict[str, str] = {}
    tasks: dict[str, KfpTask] = {}
    clients = clients_of(plan)
    if len(clients) > setting.most_unrolled:
        stages, owners = stages_of(groups, plan, setting)
        tasks[COHORT] = cohort_task(stages, plan, setting)
    for group in groups.values():
        if group.name in owners:
            continue
        if group.client is None:
            file, secret = "plan.json", server_secret(workflow_of(plan))
            told = ["--store", setting.store_uri, "--endpoint", setting.store_endpoint]
        else:
            file, secret = slice_file(group.client), client_secret_of(group, plan, len(clients))
            told = ["--client", group.client]
        told = ["--plan", f"{PLAN}/{file}", "--group", group.name, *told]
        task = task_of(group, setting, told, (secret, PLAN))
        waits = dict.fromkeys(owners.get(name, task_name(name)) for name in group.depends)
        tasks[task.key] = replace(task, depends=tuple(waits))
    return tasks, stages


def _exit_key(tasks: Mapping[str, KfpTask]) -> str:
    """Name the server's task that everything leads to, where clients come before it; else nothing."""
    waited_for = {name for task in tasks.values() for name in task.depends}
    ends = [task for key, task in tasks.items() if key not in waited_for]
    is_end = len(ends) == 1 and ends[0].client is None and bool(ends[0].depends)
    return ends[0].key if is_end and any(task.client for task in tasks.values()) else ""
