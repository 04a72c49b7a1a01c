"""The user's container in a pod: as written, with the variables of its task.

Clients with the same template share one document. What differs between them is an input parameter where
Kubernetes needs it to make the pod (`parameters`), and a key of the client's Secret where only the
container needs it (`private_variables`): a workflow of thousands of clients must stay small.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedloom.api import places
from fedloom.errors import JobError
from fedloom.training.environment import (
    AGGREGATION_TASKS,
    WITH_MODEL,
    WITH_UPDATE,
    TaskEnvironment,
)
from fedloom.training.split_environment import SplitEnvironment
from pipelines.engines import argo_names as names
from pipelines.engines.argo_groups import Group, container_of
from pipelines.engines.argo_library import has_library, library_mount, library_variables
from pipelines.engines.argo_places import (
    DOWNLOADS,
    data_folder,
    has_downloads,
    sedna_entries,
    seen_at,
    seen_folders,
)
from pipelines.engines.argo_setting import Setting
from pipelines.plan import Plan, Task

WORK, PLAN, EDGE = "/fedloom/round", "/fedloom/plan", "/fedloom/edge"
WORK_MOUNT = {"name": "fedloom-work", "mountPath": WORK}
EDGE_MOUNT = {"name": "fedloom-edge", "mountPath": EDGE}
NODE = "/fedloom/node"
NODE_MOUNT = {"name": "fedloom-node", "mountPath": NODE}
LAST_WORDS = "FallbackToLogsOnError"
"""Where a container fails, the end of its log becomes its message, and so the client's."""
_MOST_TALKING = 200
"""Two kilobytes of each of more clients are too much for one Workflow."""

_PRIVATE = (
    "WORKER_NAME",
    "DATASET_NAME",
    "FEDLOOM_SEED",
    "FEDLOOM_CLIENT_SEED",
    "TRAIN_DATASET_URL",
)
_SYSTEM = frozenset(
    (
        "TRANSMITTER",
        "AGG_DATA_PATH",
        "NAMESPACE",
        "JOB_NAME",
        "PARTICIPANTS_COUNT",
        "MODEL_NAME",
        "WORKER_NAME",
        "DATASET_NAME",
    )
)
_RESULTS = {"evaluate": "evaluation.json", "leakage-report": "leakage.json"}
_DRIFT_SETTINGS = frozenset(("pulls", "learning_rate", "frozen"))
"""What a drift correction is made of; `learning_rate` is scaffold's. A personal model has one, too."""

Container = dict[str, Any]


def parameter(name: str) -> str:
    """Give the text that Argo replaces by the value of the input parameter `name`."""
    return "{{inputs.parameters." + name + "}}"


def parameters(group: Group, clients: int) -> dict[str, str]:
    """Give all that `parameter` may stand for in the pod of a client's group, by name."""
    assert group.client is not None
    values = {
        "client": group.client,
        "node": group.placement.node_name or "",
        "part": str(names.secret_part(group.index, clients)),
        "label": names.label_value(group.client),
    }
    for task in group.tasks:
        if task.template is not None:
            dataset = str(task.settings["dataset"])
            is_path = places.is_path(dataset)
            values["folder"] = places.folder_of(dataset) if is_path else dataset.rpartition("/")[0]
            values["folder"] = values["folder"] or dataset
    return values


def label_of(client: str) -> str:
    """Give the text of a client's label in a document: few names need a parameter of their own."""
    return parameter("client" if names.label_value(client) == client else "label")


def private_variables(task: Task, plan: Plan) -> dict[str, str]:
    """Give the variables that no other client's container has, by their keys in the Secret."""
    assert task.client is not None
    container, label = container_of(task), names.label_value(task.client)
    given = {**task.settings["environment"], **_told(task, plan, container)}
    return {_key(label, task, name): given[name] for name in _PRIVATE if name in given}


def user_container(task: Task, plan: Plan, setting: Setting) -> Container:
    """Give the user's container, exactly as in the template but for its name and what is added."""
    container = container_of(task)
    _check_mounts(task, container)
    mounts: list[dict[str, Any]] = [WORK_MOUNT, EDGE_MOUNT]
    if data_folder(task, container) is not None:
        path = places.DATA + parameter("folder")
        mounts.append({"name": "fedloom-data", "mountPath": path})
    mounts += [library_mount() for _ in range(has_library(task))]
    mounts += [folder.as_mount() for folder in seen_folders(task, container)]
    mounts += [NODE_MOUNT for _ in range(keeps_on_node(task))]
    if has_downloads(task):
        # Where `components.download` puts them on the node.
        kept = f"{parameter('client') if task.client else 'server'}/fedloom/downloads"
        mounts.append({**EDGE_MOUNT, "mountPath": DOWNLOADS, "subPath": kept, "readOnly": True})
    if len(plan.cohort) <= _MOST_TALKING:
        container.setdefault("terminationMessagePolicy", LAST_WORDS)
    return {
        **container,
        "name": task.step,
        "env": _variables(task, plan, container, setting),
        "volumeMounts": [*(container.get("volumeMounts") or ()), *mounts],
    }


def _check_mounts(task: Task, container: Mapping[str, Any]) -> None:
    for each in container.get("volumeMounts") or ():
        path = str(each.get("mountPath"))
        if f"{path}/".startswith("/fedloom/"):
            raise JobError(
                "BadTemplate",
                f"the pod template of {task.name}: got a mount at {path}, expected another path: "
                "/fedloom is where the script and Fedloom exchange files",
            )


def _variables(
    task: Task, plan: Plan, container: Mapping[str, Any], setting: Setting
) -> list[dict[str, Any]]:
    """Hyperparameters, then the template's own entries, then the system's; the last one wins.

    An own entry with `valueFrom` stays as it is, its value is known to the node only; but in a Sedna
    job none hides what the system says.
    """
    every = {**_told(task, plan, container), **library_variables(task)}
    told = {name: _plain(name, value) for name, value in every.items()}
    given = {name: _plain(name, value) for name, value in task.settings["environment"].items()}
    if task.client is not None:
        private = {name: _private(name, task, plan) for name in _PRIVATE}
        told |= {name: private[name] for name in _PRIVATE if name in told}
        given |= {name: private[name] for name in _PRIVATE if name in given}
    told |= {entry["name"]: entry for entry in sedna_entries(task, container, setting)}
    fixed = _SYSTEM if "sedna" in task.settings else ()
    entries = [dict(entry) for entry in container.get("env") or ()]
    own = {str(entry.get("name")): entry for entry in entries}
    kept = {
        name: entry if "valueFrom" in entry and name not in fixed else given.get(name, entry)
        for name, entry in own.items()
    }
    before = {name: entry for name, entry in given.items() if name not in own} | kept
    return [*(entry for name, entry in before.items() if name not in told), *told.values()]


def _told(task: Task, plan: Plan, container: Mapping[str, Any]) -> dict[str, str]:
    """Give the FEDLOOM_* variables of the task, and the place of its data."""
    settings, kind = task.settings, str(task.settings["task"])
    is_client = task.client is not None
    folder = Path(WORK, settings.get("folder", ""))
    result = "result.json" if "folder" in settings else _RESULTS.get(kind, "result.json")
    is_main = kind in AGGREGATION_TASKS or kind in ("prepare-extractor", "train-tail")
    server = "aggregation" if is_main else "evaluation"
    split = _split(task, container)
    sees_updates = kind == "aggregate" or (split and kind in ("train-tail", "evaluate"))
    is_corrected = bool(settings.get("drift", {}).keys() & _DRIFT_SETTINGS)
    is_corrected |= task.step == "personalize"
    return TaskEnvironment(
        task=kind,
        round=plan.round,
        rounds=plan.rounds,
        client=parameter("client") if is_client else server,
        seed=settings["seed"],
        client_seed=settings["client_seed"],
        model=folder / "model.safetensors" if kind in WITH_MODEL else None,
        update=folder / "update.safetensors" if kind in WITH_UPDATE else None,
        result=folder / result if kind != "initialize" else None,
        hyperparameters=settings["hyperparameters"],
        state=Path(EDGE, parameter("client"), "working") if is_client else Path(EDGE),
        dataset=seen_at(str(task.settings["dataset"]), container),
        correction=folder / "correction.safetensors" if is_corrected else None,
        updates=Path(WORK, "clients") if sees_updates else None,
        split=split,
    ).variables()


def keeps_on_node(task: Task) -> bool:
    """Whether the task keeps what outlives the job on its node: a noise key, and what was released."""
    return task.client is not None and task.step == "release"


def _split(task: Task, container: Mapping[str, Any]) -> SplitEnvironment | None:
    """Give what the container of a mistnet job is told beside; nothing for other jobs."""
    parameters = task.settings.get("split")
    if parameters is None:
        return None
    url = str(task.settings.get("pretrained", ""))
    return SplitEnvironment(
        parameters=parameters,
        extractor=None if task.client else Path(WORK, "extractor.safetensors"),
        node=Path(NODE) if keeps_on_node(task) else None,
        pretrained=seen_at(url, container) if url else "",
    )


def _plain(name: str, value: str) -> dict[str, Any]:
    return {"name": name, "value": value}


def _private(name: str, task: Task, plan: Plan) -> dict[str, Any]:
    assert task.client is not None
    secret = names.client_secret(names.workflow_of(plan), parameter("part"))
    key = {"name": secret, "key": _key(label_of(task.client), task, name)}
    return {"name": name, "valueFrom": {"secretKeyRef": key}}


def _key(label: str, task: Task, name: str) -> str:
    return f"{label}.{task.step}.{name}"
