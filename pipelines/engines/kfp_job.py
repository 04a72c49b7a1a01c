"""A whole job as one pipeline: the tasks of each round, planned while it runs. Pure, and no kfp.

    start                                  the run's place in the store, the plan of round 0
    round 0: initialize and commit
    plan: round 1
    if it goes on: Round 1                 the clients and the server, as in a pipeline of one round
        plan: round 2
        if it goes on: Round 2 ...

Nobody signs URLs: every task gets the keys of the store, from a Secret that the package names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fedloom.errors import JobError
from pipelines.engines.argo_groups import Group, groups_of
from pipelines.engines.argo_names import task_name
from pipelines.engines.kfp_setting import KfpSetting
from pipelines.engines.kfp_tasks import EXECUTOR_INPUT, KfpTask, our_parts, placed, task_of
from pipelines.plan import Plan

KEYS = "/fedloom/keys"
RUN, STORE, ENDPOINT = "run", "store", "endpoint"
GO_ON = "Output"
"""What KFP calls the output of a task that has one; its local runner knows conditions on no other."""
STEPS = "controller.kfp_steps"
"""What begins a run and plans its rounds: a module that a container runs, above this floor."""


@dataclass(frozen=True)
class JobSetting:
    """What a pipeline of a whole job is told beside its plans.

    Attributes:
        documents: the job and what it refers to, plain; no Secrets.
        store: where the runs of the pipeline keep their jobs; a parameter of the pipeline.
        endpoint: of S3; a parameter too.
        keys_secret: the Secret with the keys of the store, in the namespace of KFP.
    """

    documents: Sequence[Mapping[str, Any]]
    store: str
    endpoint: str
    keys_secret: str = "fedloom-s3"  # noqa: S105 (a name)


@dataclass(frozen=True)
class RoundTasks:
    """The tasks of one round; `plan` comes before the others, `end` after them."""

    number: int
    plan: KfpTask
    tasks: Mapping[str, KfpTask]
    end: str


def start_task(given: JobSetting, plan: Plan, setting: KfpSetting) -> KfpTask:
    """Give the task that begins a run."""
    told = ("start", "--job", plain_json({"kind": "List", "items": list(given.documents)}))
    task = _our_task("start", "start: " + plan.job["name"], told, plan, (given, setting))
    return replace(task, inputs=(STORE, ENDPOINT), texts=(RUN,))


def round_tasks(plan: Plan, given: JobSetting, setting: KfpSetting) -> RoundTasks:
    """Give the tasks of a round; `plan` has its shape, with every client that may take part.

    Raises JobError as a pipeline of one round does, and `NotInOnePipeline`.
    """
    number = str(plan.round)
    told = ("plan", "--round", number)
    planning = _our_task(f"plan-{number}", f"plan: round {number}", told, plan, (given, setting))
    tasks: dict[str, KfpTask] = {}
    groups = groups_of(plan)
    for group in groups.values():
        _check(group)
        options = ["--round", number, "--group", group.name, "--keys", KEYS]
        options += ["--client", group.client] if group.client is not None else []
        task = task_of(group, setting, options, (given.keys_secret, KEYS))
        key = f"{task.key}-{number}"
        depends = tuple(f"{task_name(name)}-{number}" for name in group.depends)
        tasks[key] = replace(task, key=key, depends=depends, inputs=(RUN, STORE, ENDPOINT))
    waited_for = {name for task in tasks.values() for name in task.depends}
    (end,) = (key for key in tasks if key not in waited_for)
    return RoundTasks(
        plan.round, replace(planning, inputs=(RUN, STORE, ENDPOINT), texts=(GO_ON,)), tasks, end
    )


def _our_task(
    key: str,
    display_name: str,
    told: Sequence[str],
    plan: Plan,
    settings: tuple[JobSetting, KfpSetting],
) -> KfpTask:
    given, setting = settings
    where = next(task.placement for task in plan.tasks if task.client is None)
    parts = replace(our_parts(setting, key), secrets=((given.keys_secret, KEYS),))
    return KfpTask(
        key=key,
        display_name=display_name,
        image=setting.dispatcher_image or setting.steps_image,
        arguments=(*told, "--keys", KEYS, "--executor-input", EXECUTOR_INPUT),
        outputs=(),
        depends=(),
        parts=parts,
        **placed(where, setting),
        module=STEPS,
    )


def _check(group: Group) -> None:
    """Refuse what somebody would have to sign or find out while the pipeline runs."""
    for task in group.tasks:
        wanted = task.settings.get("downloads", {})
        closed = [url for url, secret in wanted.items() if secret or url.startswith("s3:")]
        if closed:
            raise JobError(
                "NotInOnePipeline",
                f"{task.name}: got {closed[0].partition('?')[0]}, which a Secret opens, expected "
                "data that its container has or may fetch from anywhere: in a pipeline of a whole job "
                "nobody signs URLs. Let the controller run it (spec.engine.name: kfp)",
            )
        if task.step in ("adopt-source", "stage"):
            raise JobError(
                "NotInOnePipeline",
                "spec.transfer: got a job that learns from others, expected one that begins by itself: "
                "the controller looks for the sources and waits for them (spec.engine.name: kfp)",
            )
        if task.step == "describe":
            raise JobError(
                "NotInOnePipeline",
                "compat: sedna: got a job that its own program describes, expected its rounds in the "
                "document: a pipeline of a whole job is compiled before any of it runs",
            )


def plain_json(value: Any) -> str:
    """Write JSON without two braces side by side, which KFP and Argo would take for their own."""
    text = json.dumps(value, separators=(",", ":"))
    written: list[str] = []
    is_inside = is_escaped = False
    for character in text:
        if is_inside and character in "{}":
            written.append(f"\\u{ord(character):04x}")
            continue
        if not is_inside and character in "{}" and written[-1:] == [character]:
            written.append(" ")
        written.append(character)
        if character == '"' and not is_escaped:
            is_inside = not is_inside
        is_escaped = is_inside and character == "\\" and not is_escaped
    return "".join(written)
