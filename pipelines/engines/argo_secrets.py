"""The Secrets of a round: what a pod is told that does not belong into a Workflow. Pure.

    <workflow>-edge-<n>      <client>.json: the client's tasks and presigned URLs, all that its node gets;
                             and the variables of its container that no other client has
    <workflow>-server        plan.json: the cloud's tasks, packed by gzip where they are many; and the keys
                             of the store
    <workflow>-dispatch-<n>  orders.json: what a dispatcher starts

They are made before the Workflow, owned by the job; once the Workflow has a uid, `owned_by` makes them
its own, so that they vanish with it.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from fedloom.errors import JobError
from pipelines.engines import argo_names as names
from pipelines.engines.argo_containers import private_variables
from pipelines.engines.argo_dispatch import dispatch_orders
from pipelines.engines.argo_setting import Setting
from pipelines.plan import Plan, Task

_NOTHING: Mapping[str, str] = {}
MOST_BYTES = 1 << 20
"""What Kubernetes lets a Secret hold."""

Urls = Mapping[str, Mapping[str, str]]
"""`get` and `put`: key in the job's store -> presigned URL; `signed`: url -> presigned URL."""


def client_secrets(
    plan: Plan, setting: Setting, urls: Callable[[Task], Urls]
) -> list[dict[str, Any]]:
    """Give the Secrets of the clients: each client's slice of the plan with the URLs of its tasks.

    Raises JobError("SecretTooLarge") where URLs and settings are longer than a Secret takes.
    """
    slices, tasks = client_slices(plan, urls), _client_tasks(plan)
    found: dict[str, dict[str, bytes]] = {}
    for secret, client in parts_of(plan, slices):
        files = found.setdefault(secret, {})
        files[f"{names.label_value(client)}.json"] = json.dumps(slices[client]).encode()
        for task in tasks[client]:
            if task.template is not None:
                variables = private_variables(task, plan)
                files |= {key: value.encode() for key, value in variables.items()}
    return [secret_of(name, files, plan, setting) for name, files in found.items()]


def client_slices(plan: Plan, urls: Callable[[Task], Urls]) -> dict[str, dict[str, Any]]:
    """Give by client all that its node gets to know of the plan, and the URLs of its tasks."""
    slices: dict[str, dict[str, Any]] = {}
    for client, own in _client_tasks(plan).items():
        given: dict[str, dict[str, str]] = {"get": {}, "put": {}}
        for task in own:
            for verb, pairs in urls(task).items():
                given.setdefault(verb, {}).update(pairs)
        slices[client] = {**head_of(plan), "tasks": [_told(task) for task in own], "urls": given}
    return slices


def parts_of(plan: Plan, clients: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Give for each client the Secret that its slice is in; (name, client)."""
    workflow, known = names.workflow_of(plan), list(clients)
    for index, client in enumerate(known):
        yield names.client_secret(workflow, names.secret_part(index, len(known))), client


def server_secret(
    plan: Plan, setting: Setting, access: Mapping[str, str], signed: Mapping[str, str] = _NOTHING
) -> dict[str, Any]:
    """Give the Secret of the cloud's pods; `access` holds AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY.

    `signed` are the presigned URLs of what the cloud's tasks download, by their urls.

    Raises JobError("NoStoreAccess") where one of them is missing, JobError("SecretTooLarge").
    """
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        if not access.get(key):
            raise JobError(
                "NoStoreAccess", f"{key}: got nothing, expected a key of the job's store"
            )
    tasks = [_told(task) for task in plan.tasks if task.client is None]
    document = {**head_of(plan), "cohort": list(plan.cohort), "tasks": tasks}
    if plan.reserves:
        document["reserves"] = sorted(plan.reserves)
    if any("downloads" in task.settings for task in plan.tasks if task.client is None):
        document["urls"] = {"get": {}, "put": {}, "signed": dict(signed)}
    files = {"plan.json": _packed(json.dumps(document).encode())}
    files |= {key: value.encode() for key, value in access.items() if value}
    return secret_of(names.server_secret(names.workflow_of(plan)), files, plan, setting)


def dispatch_secrets(plan: Plan, setting: Setting) -> list[dict[str, Any]]:
    """Give the Secrets with the orders of the round's dispatchers; none where nothing is dispatched.

    A shape holds the user's variables as they are in the job's template.
    """
    return [
        secret_of(name, {f"{name}.json": json.dumps(orders).encode()}, plan, setting)
        for name, orders in dispatch_orders(plan, setting).items()
    ]


def owned_by(workflow: Mapping[str, Any]) -> dict[str, Any]:
    """Give the merge patch that makes a Secret the Workflow's; the Workflow as the API server has it."""
    metadata = workflow["metadata"]
    owner = {
        "apiVersion": workflow["apiVersion"],
        "kind": workflow["kind"],
        "name": metadata["name"],
        "uid": metadata["uid"],
    }
    return {"metadata": {"ownerReferences": [owner]}}


def _packed(data: bytes) -> bytes:
    """Give what the cloud is told of very many clients packed: as it is, no Secret would hold it."""
    return data if len(data) <= MOST_BYTES // 2 else gzip.compress(data, 6, mtime=0)


def _client_tasks(plan: Plan) -> dict[str, list[Task]]:
    tasks: dict[str, list[Task]] = {}
    for task in plan.tasks:
        if task.client is not None:
            tasks.setdefault(task.client, []).append(task)
    return tasks


def head_of(plan: Plan) -> dict[str, Any]:
    """What a node must know of the round; not who else takes part."""
    head = plan.head()
    return {name: head[name] for name in ("job", "round", "rounds", "attempt")}


def _told(task: Task) -> dict[str, Any]:
    """Give the task's document without the template: that is what the pod is made of."""
    document = task.to_document()
    del document["template"]
    return document


def secret_of(
    name: str, files: Mapping[str, bytes], plan: Plan, setting: Setting
) -> dict[str, Any]:
    """Give a Secret of a round. Raises JobError("SecretTooLarge")."""
    size = sum(len(key) + len(data) for key, data in files.items())
    if size > MOST_BYTES:
        raise JobError(
            "SecretTooLarge",
            f"Secret {name}: got {size} bytes, expected at most {MOST_BYTES}. Lower "
            "spec.participation.clientsPerRound",
        )
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": name,
            "namespace": setting.namespace,
            "labels": names.job_labels(plan),
            "ownerReferences": [setting.owner.reference(is_controller=False)],
        },
        "type": "Opaque",
        "data": {key: base64.b64encode(data).decode() for key, data in files.items()},
    }
