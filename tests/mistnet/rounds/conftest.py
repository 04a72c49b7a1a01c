"""A small mistnet job in a temporary folder: the digits of example 07, three edges with forty each."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

from controller.decide import Decision
from controller.embedded.run import Order, run_embedded
from fedloom.api.documents import read_documents
from fedloom.api.validation import job_to_run
from fedloom.artifacts import layout

EXAMPLE = Path(__file__).resolve().parents[3] / "examples/07-mistnet-digits"
EDGES = ("a", "b", "c")
PER_EDGE = 40


@dataclass
class Job:
    """A job that can be written, changed and run."""

    folder: Path
    spec: dict[str, Any]
    extra: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def state(self) -> Path:
        """In the default place, so that what a node keeps outlives it."""
        return self.folder / ".fedloom/default/digits"

    @property
    def parameters(self) -> dict[str, Any]:
        return self.spec["algorithm"]["parameters"]

    def write(self) -> Path:
        documents = [
            _named("FederatedLearningJob", "digits", self.spec),
            _named("Model", "out", {"url": "out/model.safetensors", "format": "safetensors"}),
            *(
                _named("Dataset", name, {"url": name, "format": "dir", "nodeName": f"edge-{name}"})
                for name in (*EDGES, "held-out")
            ),
            *self.extra,
        ]
        path = self.folder / "job.yaml"
        path.write_text("\n---\n".join(json.dumps(document) for document in documents))
        return path

    def run(self, state: Path | None = None) -> Decision:
        documents = read_documents([self.write()])
        state = state or self.state
        order = Order(documents, job_to_run(documents), state, 2, is_tracked=False)
        self.events = []
        return run_embedded(order, self.events.append)

    def run_well(self, state: Path | None = None) -> dict[str, Any]:
        """Run it, and give the result of its round."""
        decision = self.run(state)
        assert decision.phase == "Succeeded", (decision.message, self.logs())
        return self.result(state)

    def store(self, state: Path | None = None) -> Path:
        (found,) = ((state or self.state) / "artifacts/default").iterdir()
        return found

    def result(self, state: Path | None = None, number: int = 1) -> dict[str, Any]:
        path = self.store(state) / layout.result_key(number)
        return json.loads(path.read_bytes())

    def report(self, state: Path | None = None) -> dict[str, Any]:
        path = self.store(state) / self.result(state)["disclosure"]["report"]["key"]
        return json.loads(path.read_bytes())

    def notices(self, reason: str) -> list[str]:
        return [e["message"] for e in self.events if e.get("reason") == reason]

    def logs(self) -> str:
        return "\n".join(path.read_text() for path in (self.state / "logs").glob("*.log"))

    def forget(self) -> None:
        """Throw the job's state away, as a user would; the nodes keep what is theirs."""
        shutil.rmtree(self.state)

    def set_environment(self, worker: int | None, variables: Mapping[str, str]) -> None:
        """Set the environment of a training worker, or of the aggregation worker."""
        at = (
            self.spec["aggregationWorker"]
            if worker is None
            else self.spec["trainingWorkers"][worker]
        )
        (container,) = at["template"]["spec"]["containers"]
        container["env"] = [{"name": name, "value": value} for name, value in variables.items()]


def _named(kind: str, name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "sedna.io/v1alpha1",
        "kind": kind,
        "metadata": {"name": name, "namespace": "default"},
        "spec": dict(spec),
    }


def template(*command: str) -> dict[str, Any]:
    container: dict[str, Any] = {"name": "train", "image": "digits:1"}
    return {"spec": {"containers": [{**container, **({"command": [*command]} if command else {})}]}}


def write_digits(folder: Path, first: int, count: int) -> None:
    data = load_digits()
    folder.mkdir()
    for index in range(first, first + count):
        pixels = np.rint(data.images[index] * (255 / 16)).astype(np.uint8).tobytes()
        (folder / f"{index:04}-{data.target[index]}.pgm").write_bytes(b"P5 8 8 255\n" + pixels)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    shutil.copy(EXAMPLE / "train.py", tmp_path)
    for number, name in enumerate(EDGES):
        write_digits(tmp_path / name, number * PER_EDGE, PER_EDGE)
    write_digits(tmp_path / "held-out", 1000, 60)
    spec = {
        "rounds": 1,
        "algorithm": {"name": "mistnet", "parameters": {"cutLayer": 1, "epsilon": 2}},
        "hyperparameters": {"epochs": 8, "batchSize": 16, "learningRate": 0.005},
        "participation": {"minClients": 3, "retries": 0, "seed": 3},
        "evaluation": {"dataset": {"name": "held-out"}},
        "aggregationWorker": {"model": {"name": "out"}, "template": template()},
        "trainingWorkers": [
            {"dataset": {"name": name}, "template": template("python", "train.py")}
            for name in EDGES
        ],
    }
    return Job(tmp_path, spec)
