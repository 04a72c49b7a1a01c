"""A small federated job in a temporary folder: a mean of numbers, three clients, any script."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from controller.decide import Decision
from controller.embedded.run import Order, run_embedded
from fedloom.api.documents import read_documents
from fedloom.api.validation import job_to_run

# Each client pulls the weights half way to the mean of its own numbers.
SCRIPT = """
import numpy as np
import fedloom

class Pull:
    def __init__(self, client):
        self.client = client
        self.numbers = np.loadtxt(client.dataset, ndmin=1).astype(np.float32)

    @staticmethod
    def initialize(seed):
        rng = np.random.default_rng(seed)
        return {"w": rng.normal(size=(3, 2)).astype(np.float32), "steps": np.array(0, np.int64)}

    def train(self, model, context):
        FAULT
        rng = np.random.default_rng(context.seed)
        noise = rng.normal(scale=0.01, size=(3, 2)).astype(np.float32)
        model["w"] += np.float32(0.5) * (self.numbers.mean() - model["w"]) + noise
        model["steps"] = model["steps"] + len(self.numbers)
        return fedloom.Update(model, num_examples=len(self.numbers), metrics={"loss": 1.0})

    def evaluate(self, model, context):
        error = float(np.abs(model["w"] - self.numbers.mean()).mean())
        return fedloom.Evaluation(num_examples=len(self.numbers), metrics={"error": error})

fedloom.main(Pull)
"""


@dataclass
class Bench:
    """A job that can be written, changed and run."""

    folder: Path
    spec: dict[str, Any]
    files: dict[str, str] = field(default_factory=dict)
    extra: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def job_file(self) -> Path:
        return self.folder / "job.json"

    @property
    def state(self) -> Path:
        return self.folder / "state"

    def write(self) -> Path:
        """Write the documents and scripts; give the job's file."""
        for name, text in self.files.items():
            (self.folder / name).write_text(text)
        documents = [
            {
                "apiVersion": "sedna.io/v1alpha1",
                "kind": "FederatedLearningJob",
                "metadata": {"name": "pull"},
                "spec": self.spec,
            },
            _named("Model", "out", {"url": "out/model.safetensors", "format": "safetensors"}),
            *(
                _named("Dataset", name, {"url": f"{name}.txt", "format": "txt", "nodeName": name})
                for name in ("a", "b", "c", "held-out")
            ),
            *self.extra,
        ]
        text = "\n---\n".join(json.dumps(document) for document in documents)
        path = self.folder / "job.yaml"
        path.write_text(text)
        return path

    def run(self, state: Path | None = None, parallel: int = 2) -> Decision:
        """Run the job in this process, without tracking."""
        documents = read_documents([self.write()])
        order = Order(
            documents=documents,
            job=job_to_run(documents),
            state=state or self.state,
            parallel=parallel,
            is_tracked=False,
        )
        self.events = []
        return run_embedded(order, self.events.append)

    def rounds(self) -> list[dict[str, Any]]:
        return [event for event in self.events if event["event"] == "round"]

    @property
    def finished(self) -> dict[str, Any]:
        return self.events[-1]

    def break_client(self, name: str, fault: str) -> None:
        """Let one client do something else than train well: Python statements, `model` at hand."""
        body = fault.replace("\n", "\n            ")
        self.files["train.py"] = SCRIPT.replace(
            "FAULT", f"if self.client.name == {name!r}:\n            {body}"
        )


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    for name, numbers in {"a": "1 2 3", "b": "4 5", "c": "10", "held-out": "3 4"}.items():
        (tmp_path / f"{name}.txt").write_text(numbers.replace(" ", "\n") + "\n")
    template = {
        "spec": {"containers": [{"name": "train", "image": "x", "command": ["python", "train.py"]}]}
    }
    spec = {
        "rounds": 3,
        "participation": {"minClients": 2, "deadlineSeconds": 30, "retries": 0, "seed": 5},
        "evaluation": {"dataset": {"name": "held-out"}},
        "aggregationWorker": {"model": {"name": "out"}, "template": template},
        "trainingWorkers": [
            {"dataset": {"name": name}, "template": template} for name in ("a", "b", "c")
        ],
    }
    spec = json.loads(json.dumps(spec))  # no two workers share a template object
    return Bench(tmp_path, spec, {"train.py": SCRIPT.replace("FAULT", "pass")})


@pytest.fixture
def read_model() -> Callable[[Mapping[str, Any]], dict[str, np.ndarray[Any, Any]]]:
    """Read the model that an event names."""
    from urllib.parse import urlsplit

    from fedloom.artifacts.arrays import load_arrays

    def read(event: Mapping[str, Any]) -> dict[str, np.ndarray[Any, Any]]:
        return load_arrays(Path(urlsplit(event["model"]["uri"]).path))[0]

    return read


def _named(kind: str, name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "sedna.io/v1alpha1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": dict(spec),
    }
