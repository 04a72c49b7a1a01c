"""Where the steps of a mistnet job hand over in a work folder, and how their programs are told of it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from components import user_code
from components.request import Place, Request
from fedloom.errors import JobError, UpdateError
from fedloom.training.environment import TaskEnvironment
from fedloom.training.split_environment import SplitEnvironment

EXTRACTOR = "extractor"
EXTRACTOR_FILE, MODEL_FILE, UPDATE_FILE = (
    f"{name}.safetensors" for name in (EXTRACTOR, "model", "update")
)
RESULT_FILE, TRIAL_FILE, LEAKAGE_FILE = "result.json", "evaluation.json", "leakage.json"
_RESULTS = {"evaluate": TRIAL_FILE, "leakage-report": LEAKAGE_FILE}
_TRAINS = ("prepare-extractor", "train-tail")


def releases_folder(work: Path) -> Path:
    """Where the releases lie that a tail is trained on."""
    return work / user_code.CLIENTS


def perform(request: Request, place: Place, code: user_code.UserCode, state: Path) -> None:
    """Run the user's program for a task of the cloud, in the work folder's own files.

    Raises UpdateError, JobError.
    """
    work, task = place.work, request.settings["task"]
    environment = replace(
        told(request, place, state),
        client="aggregation" if task in _TRAINS else "evaluation",
        model=None if task == "prepare-extractor" else work / MODEL_FILE,
        update=work / UPDATE_FILE if task in _TRAINS else None,
        result=work / _RESULTS.get(task, RESULT_FILE),
        updates=releases_folder(work) if task in ("train-tail", "evaluate") else None,
    )
    work.mkdir(parents=True, exist_ok=True)
    code.perform_split(environment, request, place)


def told(request: Request, place: Place, state: Path) -> TaskEnvironment:
    """Describe the task to the user's program; paths as for any other task."""
    split = SplitEnvironment(
        parameters=request.settings["split"],
        extractor=place.work / EXTRACTOR_FILE if request.client is None else None,
        node=node_folder(place, request.client) if request.client is not None else None,
        pretrained=_pretrained(request, place),
    )
    return replace(user_code.task_environment(request, place, state), split=split)


def node_folder(place: Place, client: str) -> Path:
    """Give the folder of a node that outlives the job; on one machine every client has its own node.

    Raises JobError `NoNodeState` where the engine named none.
    """
    if place.node is None:
        raise JobError("NoNodeState", "got no folder of the node for its noise key and its ledger")
    return place.node / client


def lay_out(place: Place, artifacts: Mapping[str, Mapping[str, Any]]) -> None:
    """Copy artifacts of the store into the work folder: name of the file -> `key` and `digest`."""
    for name, artifact in artifacts.items():
        shutil.copyfile(user_code.fetch(place, artifact), place.work / name)


def clear(work: Path) -> None:
    """Remove what an earlier attempt left: nobody may take it for this one's."""
    files = (EXTRACTOR_FILE, MODEL_FILE, UPDATE_FILE, RESULT_FILE, TRIAL_FILE, LEAKAGE_FILE)
    for name in files:
        (work / name).unlink(missing_ok=True)
    user_code.clear(releases_folder(work))


def _pretrained(request: Request, place: Place) -> str:
    if not request.settings.get("pretrained"):
        return ""
    from components import initialize

    path = initialize.fetched(request, place)
    if not path.exists():
        raise UpdateError("NoPretrained", f"the pretrained model {path}: got no such file")
    return os.fspath(path.absolute())
