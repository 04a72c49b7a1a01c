"""What must hold of a workflow before it leaves the engine: what would be refused late, by Argo or etcd."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fedloom.errors import JobError
from pipelines.engines.argo_names import MOST_CHARACTERS
from pipelines.engines.braces import text_with
from pipelines.plan import Plan

MOST_BYTES = 1 << 20
"""Of a Workflow with its status, as Argo limits it (MAX_WORKFLOW_SIZE)."""
_STATUS_BYTES = 160
"""What a client's pod adds to the packed status in the end, measured."""

_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
_DEPENDED = re.compile(r"([A-Za-z][-A-Za-z0-9]*)\.[A-Z][A-Za-z]+")
_BRACES, _SIGNED = "{{", "X-Amz-Signature="


def check_texts(plan: Plan) -> None:
    """Refuse a plan with `{{` in what the user wrote. Raises JobError("TemplateBraces").

    Argo would take it for one of its own variables.
    """
    seen: set[int] = set()
    for task in plan.tasks:
        if task.template is None:
            continue
        # Many clients share one template: it is looked at once.
        if id(task.template) not in seen:
            seen.add(id(task.template))
            _check_braces(f"the pod template of {task.name}", task.template)
        told = ("environment", "hyperparameters", "dataset")
        _check_braces(f"what {task.name} is told", {key: task.settings[key] for key in told})


def _check_braces(where: str, value: Any) -> None:
    shown = text_with((_BRACES,), value)
    if shown is not None:
        raise JobError(
            "TemplateBraces",
            f"{where}: got {shown!r}, expected a text without '{{{{': Argo replaces what is between "
            "such braces. Pass it in another spelling, or in a file of the image",
        )


def check_workflow(workflow: Mapping[str, Any], pods: int) -> None:
    """Check names, labels, references and size; `pods` are those of clients.

    Raises JobError("BadWorkflow" | "WorkflowTooLarge").
    """
    text = json.dumps(workflow, separators=(",", ":"))
    for problem in (*_problems(workflow), *_secrets(text)):
        raise JobError("BadWorkflow", f"{workflow['metadata']['name']}: {problem}")
    size = len(text) + _STATUS_BYTES * pods
    if size > MOST_BYTES:
        raise JobError(
            "WorkflowTooLarge",
            f"{workflow['metadata']['name']}: got {len(text)} bytes and a status of about "
            f"{size - len(text)}, expected at most {MOST_BYTES} in all. Let trainingWorkers share one "
            "template (a YAML anchor), or lower spec.participation.clientsPerRound",
        )


def _secrets(text: str) -> Iterator[str]:
    if _SIGNED in text:
        yield "got a presigned URL, expected it in a Secret"


def _problems(workflow: Mapping[str, Any]) -> Iterator[str]:
    metadata, spec = workflow["metadata"], workflow["spec"]
    if not _SUBDOMAIN.fullmatch(metadata["name"]) or len(metadata["name"]) > MOST_CHARACTERS:
        yield f"got the name {metadata['name']!r}, expected a DNS name of at most 63 characters"
    templates = spec["templates"]
    known = {template["name"] for template in templates}
    yield from _bad_names("template", [template["name"] for template in templates])
    labels = [metadata["labels"], *((t.get("metadata") or {}).get("labels", {}) for t in templates)]
    yield from _bad_labels(labels)
    if spec["entrypoint"] not in known:
        yield f"got the entrypoint {spec['entrypoint']!r}, which is no template"
    for template in templates:
        yield from _bad_tasks((template.get("dag") or {}).get("tasks", ()), known)
        yield from _bad_containers(template)


def _bad_names(kind: str, names: list[str]) -> Iterator[str]:
    for name, count in Counter(names).items():
        if count > 1:
            yield f"two {kind}s are named {name!r}"
        if not _NAME.fullmatch(name) or len(name) > MOST_CHARACTERS:
            yield f"got the {kind} {name!r}, expected a DNS label that starts with a letter"


def _bad_labels(labels: Iterable[Mapping[str, str]]) -> Iterator[str]:
    for name, value in (pair for each in labels for pair in each.items()):
        if _BRACES in value:
            continue
        if not _LABEL_VALUE.fullmatch(value) or len(value) > MOST_CHARACTERS:
            yield f"got the label {name}={value!r}, expected at most 63 of A-Z a-z 0-9 - _ ."


def _bad_tasks(tasks: Iterable[Mapping[str, Any]], templates: set[str]) -> Iterator[str]:
    tasks = list(tasks)
    names = [task["name"] for task in tasks]
    yield from _bad_names("task", names)
    known = set(names)
    for task in tasks:
        if task["template"] not in templates:
            yield f"task {task['name']!r} runs {task['template']!r}, which is no template"
        for depended in dict.fromkeys(_DEPENDED.findall(task.get("depends", ""))):
            if depended not in known or depended == task["name"]:
                yield f"task {task['name']!r} waits for {depended!r}, which is no other task"


def _bad_containers(template: Mapping[str, Any]) -> Iterator[str]:
    single = template.get("container")
    containers = [single] if single else (template.get("containerSet") or {}).get("containers", [])
    if "dag" not in template and not containers:
        yield f"template {template['name']!r} has no container"
    every = [*(template.get("initContainers") or ()), *(c for c in containers if c is not single)]
    yield from _bad_names("container", [str(container["name"]) for container in every])
    for container in containers:
        if not container.get("command"):
            yield f"template {template['name']!r} has a container without a command"
