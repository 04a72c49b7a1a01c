"""What the tests of the KFP engine share: its setting, and a bench on which compiled packages run."""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from fedloom.api.documents import read_documents
from fedloom.api.lookup import datasets_of, models_of
from fedloom.api.validation import job_to_run
from pipelines.engines.argo import Owner
from pipelines.engines.kfp_setting import KfpSetting
from pipelines.rounds import RoundPlanner

UID = "8c2f1a77-5b1e-4c0e-9f57-0c8d1f0a2b3c"
MOUNT = "/fedloom/plan"


@pytest.fixture
def kfp_setting() -> KfpSetting:
    """How rounds run in a stock, single-user Kubeflow Pipelines."""
    return KfpSetting(
        namespace="kubeflow",
        owner=Owner("sedna.io/v1alpha1", "FederatedLearningJob", "digits", UID),
        service_account="fedloom-worker",
        steps_image="fedloom/steps:0.1.0",
        store_uri="s3://fedloom/jobs/default/digits-8c2f1a77",
        store_endpoint="http://minio.minio.svc:9000",
    )


class NoEngine:
    """Nothing runs: the store says all there is to know."""

    def status(self) -> None:
        return None


@pytest.fixture
def crowd(crowd: Callable[[int], list[dict[str, Any]]]) -> Callable[[int], list[dict[str, Any]]]:
    """The same with the data in the image: a pod of KFP has no folders of its node."""

    def documents(count: int) -> list[dict[str, Any]]:
        found = crowd(count)
        for each in found:
            if each["kind"] == "Dataset":
                each["spec"]["url"] = each["spec"]["url"].removeprefix("/")
        return found

    return documents


# Each client pulls the weights half way to the mean of its own numbers, with noise of its own.
SCRIPT = """
import numpy as np
import fedloom

class Pull:
    def __init__(self, client):
        self.name = client.name
        self.numbers = np.loadtxt(client.dataset, ndmin=1).astype(np.float32)

    @staticmethod
    def initialize(seed):
        return {"w": np.random.default_rng(seed).normal(size=(3, 2)).astype(np.float32)}

    def train(self, model, context):
        if self.name == FAILING:
            raise ValueError("the disk of this edge is full")
        noise = np.random.default_rng(context.seed).normal(scale=0.01, size=(3, 2))
        model["w"] += np.float32(0.5) * (self.numbers.mean() - model["w"]) + noise.astype(np.float32)
        print(f"{self.name} has trained")
        return fedloom.Update(model, num_examples=len(self.numbers), metrics={"loss": 0.25})

    def evaluate(self, model, context):
        error = float(np.abs(model["w"] - self.numbers.mean()).mean())
        return fedloom.Evaluation(num_examples=len(self.numbers), metrics={"error": error})

fedloom.main(Pull)
"""


@dataclass
class Bench:
    """A small job whose packages run on this machine: Secrets are folders, the store is a real one."""

    folder: Path
    spec: dict[str, Any]
    clients: dict[str, str]
    failing: str = ""

    def write(self) -> Path:
        """Write script, data and documents; give the job's file."""
        (self.folder / "train.py").write_text(SCRIPT.replace("FAILING", repr(self.failing)))
        documents = [_object("FederatedLearningJob", "pull", self.spec)]
        documents.append(
            _object("Model", "out", {"url": "out/m.safetensors", "format": "safetensors"})
        )
        for name, numbers in self.clients.items():
            (self.folder / f"{name}.txt").write_text(numbers.replace(" ", "\n") + "\n")
            spec = {
                "url": f"{name}.txt",
                "format": "txt",
                "nodeName": f"edge-{name}",
            }
            documents.append(_object("Dataset", name, spec))
        path = self.folder / "job.yaml"
        path.write_text("\n---\n".join(json.dumps(document) for document in documents))
        return path

    def planner(self) -> tuple[Any, RoundPlanner]:
        read = read_documents([self.write()])
        job = job_to_run(read)
        job = replace(job, metadata=replace(job.metadata, uid=UID))
        return job, RoundPlanner(job, datasets_of(read, job), models_of(read, job))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    container = {
        "name": "train",
        "image": "python-and-fedloom",
        "command": ["python", "train.py"],
        "workingDir": str(tmp_path),
    }
    template = {"spec": {"containers": [container]}}
    spec = {
        "rounds": 2,
        "participation": {"minClients": 1, "deadlineSeconds": 60, "retries": 0, "seed": 5},
        "evaluation": {"dataset": {"name": "held-out"}},
        "aggregationWorker": {"model": {"name": "out"}, "template": {"spec": {"containers": []}}},
        "trainingWorkers": [
            {"dataset": {"name": name}, "template": template} for name in ("a", "b")
        ],
    }
    spec["aggregationWorker"]["template"] = template
    return Bench(
        tmp_path, json.loads(json.dumps(spec)), {"a": "1 2 3", "b": "4 5", "held-out": "3 4"}
    )


@contextmanager
def containers_run_here(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let kfp.local run container components as subprocesses, which it does for Python ones only."""
    from kfp.local import subprocess_task_handler

    name = "validate_not_container_component"
    beside = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    with monkeypatch.context() as patch:
        patch.setenv("PATH", beside)  # whose `python` is the one with Fedloom in it
        patch.setattr(subprocess_task_handler.SubprocessTaskHandler, name, lambda *_: None)
        yield


@pytest.fixture
def run_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Path]:
    """Run a compiled package in kfp.local; what pods would find mounted lies in a folder instead."""

    def run(text: str, files: Mapping[str, bytes], **arguments: str) -> Path:
        from kfp import components, local

        secrets, root = tmp_path / "mounted", tmp_path / "root"
        secrets.mkdir(exist_ok=True)
        for name, data in files.items():
            (secrets / name).write_bytes(data)
        local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(root))
        with containers_run_here(monkeypatch), warnings.catch_warnings():
            # It says which settings of a pod mean nothing on one machine.
            warnings.simplefilter("ignore")
            components.load_component_from_text(text.replace(MOUNT, str(secrets)))(**arguments)
        return root

    return run


def _object(kind: str, name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    head = {"apiVersion": "sedna.io/v1alpha1", "kind": kind, "metadata": {"name": name}}
    return {**head, "spec": dict(spec)}
