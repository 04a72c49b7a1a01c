"""The containers that Fedloom adds to a pod: its own steps, with no more rights than they need."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipelines.engines.argo_containers import (
    EDGE,
    EDGE_MOUNT,
    LAST_WORDS,
    NODE,
    NODE_MOUNT,
    PLAN,
    WORK,
    WORK_MOUNT,
    Container,
    keeps_on_node,
    parameter,
)
from pipelines.engines.argo_groups import Group
from pipelines.engines.argo_library import LIBRARY, library_mount, needs_library
from pipelines.engines.argo_needs import OWN, without_devices
from pipelines.engines.argo_places import Folder
from pipelines.engines.argo_setting import Setting
from pipelines.plan import Task

PLAN_FILE = f"{PLAN}/plan.json"
CLIENT_STORE = f"presigned://{PLAN_FILE}"
USER = 65532
CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")

_MOUNTS = (
    WORK_MOUNT,
    {"name": "fedloom-plan", "mountPath": PLAN, "readOnly": True},
    {"name": "fedloom-tmp", "mountPath": "/tmp"},  # noqa: S108 (a folder of the container)
)
_NODE_VARIABLE = {
    "name": "FEDLOOM_NODE",
    "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}},
}


def fetch_container(group: Group, setting: Setting) -> Container:
    """Bring what a client's tasks start from onto its node."""
    options, mounts = ["--client", parameter("client")], list[dict[str, Any]]()
    if any(task.step == "assess" for task in group.tasks):  # a client's second group
        options += ["--group", f"judge-{parameter('client')}"]
    if any(map(keeps_on_node, group.tasks)):
        options += ["--node", NODE]
        mounts.append(NODE_MOUNT)
    if needs_library(group):
        options += ["--library", LIBRARY]
        mounts.append(library_mount(is_writable=True))
    container = _client_container("fetch", "components.fetch", options, setting)
    return {**container, "volumeMounts": [*container["volumeMounts"], *mounts]}


def library_container(setting: Setting) -> Container:
    """Lay out the library for the user's containers of the cloud's side."""
    return {
        **_container("library", "components.library", [LIBRARY], setting),
        "volumeMounts": [_MOUNTS[-1], library_mount(is_writable=True)],
        "securityContext": _rights(is_root=False),
    }


def download_container(group: Group, setting: Setting) -> Container:
    """Bring what the user's containers of the group need from elsewhere onto the node."""
    if group.client is not None:
        options = ("--client", parameter("client"))
        return _client_container("download", "components.download", options, setting)
    arguments = ["--plan", PLAN_FILE, "--store", CLIENT_STORE, "--workdir", WORK, "--edge", EDGE]
    arguments += ["--group", group.name]
    return {
        **_container("download", "components.download", arguments, setting),
        "volumeMounts": [*_MOUNTS, EDGE_MOUNT],
        "securityContext": _rights(is_root=False),
    }


def step_container(
    task: Task, setting: Setting, secret: str, folders: Sequence[Folder] = ()
) -> Container:
    """Run one of our steps, by the command that the plan names for it; it sees these folders."""
    module, options = _read(task)
    if task.client is None:
        container = _server_container(task.step, module, options, setting, secret)
        return _seeing(container, folders)
    # The same for every client, so that all share one template.
    same = [parameter("client") if option == task.client else option for option in options]
    return _client_container(task.step, module, same, setting)


def adopting_container(setting: Setting, secret: str) -> Container:
    """Store the first model that the user's container left."""
    return _server_container("adopt", "components.initialize", (), setting, secret)


def telling_container(setting: Setting, secret: str) -> Container:
    """Store what the user's container said about the job."""
    return _server_container("tell", "components.describe", (), setting, secret)


def server_container(
    group: Group, setting: Setting, secret: str, folders: Sequence[Folder] = ()
) -> Container:
    """Run a whole group of our steps in one process; it sees these folders."""
    options = ("--group", group.name)
    container = _server_container("server", "components.server", options, setting, secret)
    return _seeing(container, folders)


def _seeing(container: Container, folders: Sequence[Folder]) -> Container:
    mounts = [folder.as_mount() for folder in folders]
    return {**container, "volumeMounts": [*container["volumeMounts"], *mounts]}


def _read(task: Task) -> tuple[str, list[str]]:
    """Take the module and its options out of the plan's command; the plan lies where the pod has it."""
    after = task.command[task.command.index("-m") + 1 :]
    place = after.index("--plan")
    return after[0], [*after[1:place], *after[place + 2 :]]


def _client_container(
    name: str, module: str, options: Sequence[str], setting: Setting
) -> Container:
    arguments = ["--plan", PLAN_FILE, "--store", CLIENT_STORE, "--workdir", WORK]
    arguments += ["--edge", EDGE, *options]
    container = _container(name, module, arguments, setting)
    return {
        **container,
        "env": [*container["env"], _NODE_VARIABLE],
        "volumeMounts": [*_MOUNTS, EDGE_MOUNT],
        # What is kept on the node is in a folder of its root's, as a job's edge state is.
        "securityContext": _rights(is_root=setting.edge_state_path is not None or NODE in options),
    }


def _server_container(
    name: str, module: str, options: Sequence[str], setting: Setting, secret: str
) -> Container:
    arguments = ["--plan", PLAN_FILE, "--store", setting.store_uri, "--workdir", WORK, *options]
    container = _container(name, module, arguments, setting)
    given = (setting.server_template.get("spec") or {}).get("containers") or [{}]
    return {
        **container,
        "env": [*container["env"], *_store_variables(setting, secret)],
        "resources": without_devices(given[0].get("resources") or {}) or OWN,
        "volumeMounts": list(_MOUNTS),
        "securityContext": _rights(is_root=False),
    }


def _container(name: str, module: str, arguments: list[str], setting: Setting) -> Container:
    image = (setting.steps_image, setting.image_pull_policy)
    container = our_container(name, module, arguments, image, is_root=False)
    del container["securityContext"]  # whoever asks knows better
    return container


def our_container(
    name: str, module: str, arguments: list[str], image: tuple[str, str], *, is_root: bool
) -> Container:
    """Run a module of ours, with as few rights as it needs; `image` and when it is pulled."""
    return {
        "name": name,
        "image": image[0],
        "imagePullPolicy": image[1],
        "command": ["python", "-I", "-m", module],
        "args": arguments,
        "env": [{"name": "HOME", "value": "/tmp"}],  # noqa: S108 (a folder of the container)
        "resources": OWN,
        "terminationMessagePolicy": LAST_WORDS,
        "securityContext": _rights(is_root=is_root),
    }


def _store_variables(setting: Setting, secret: str) -> list[dict[str, Any]]:
    plain = {"AWS_ENDPOINT_URL": setting.store_endpoint, "AWS_REGION": setting.store_region}
    variables: list[dict[str, Any]] = [
        {"name": name, "value": value} for name, value in plain.items() if value
    ]
    for name in CREDENTIALS:
        key = {"name": secret, "key": name, "optional": name == "AWS_SESSION_TOKEN"}
        variables.append({"name": name, "valueFrom": {"secretKeyRef": key}})
    return variables


def _rights(*, is_root: bool) -> dict[str, Any]:
    """Give the security context of our containers: that of the restricted standard.

    The kubelet makes a folder of a hostPath for root alone, whoever the user's container runs as:
    with such edge state our steps on the node are root, without any right but to set owners.
    """
    rights: dict[str, Any] = {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    if is_root:
        rights["capabilities"]["add"] = ["CHOWN", "DAC_OVERRIDE", "FOWNER"]
        return rights | {"runAsUser": 0, "runAsGroup": 0, "runAsNonRoot": False}
    return rights | {"runAsUser": USER, "runAsGroup": USER, "runAsNonRoot": True}
