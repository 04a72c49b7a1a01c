"""A job as a Sedna user writes it: four fields, a training program, an aggregation program."""

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
from fedloom.artifacts.arrays import load_arrays

# A program that pulls the weights half way to the mean of its numbers; it knows FEDLOOM_* only.
TRAIN = """
import json, os
import numpy as np
from safetensors.numpy import load_file, save_file

task = os.environ["FEDLOOM_TASK"]
if task == "initialize":
    save_file({"w": np.zeros((3, 2), np.float32)}, os.environ["FEDLOOM_UPDATE"])
    raise SystemExit
model = load_file(os.environ["FEDLOOM_MODEL"])
numbers = np.loadtxt(os.environ["TRAIN_DATASET_URL"], ndmin=1).astype(np.float32)
rng = np.random.default_rng(int(os.environ["FEDLOOM_SEED"]))
noise = rng.normal(scale=0.01, size=(3, 2)).astype(np.float32)
model["w"] = model["w"] + np.float32(0.5) * (numbers.mean() - model["w"]) + noise
save_file(model, os.environ["FEDLOOM_UPDATE"])
with open(os.environ["FEDLOOM_RESULT"], "w") as file:
    json.dump({"num_examples": len(numbers), "metrics": {"loss": 1.0}}, file)
"""

# What describes the job and combines the updates, by their coordinate-wise median.
AGGREGATE = """
import json, os
import numpy as np
from safetensors.numpy import load_file, save_file

result = os.environ["FEDLOOM_RESULT"]
if os.environ["FEDLOOM_TASK"] == "describe":
    assert "FEDLOOM_MODEL" not in os.environ and "FEDLOOM_UPDATES" not in os.environ
    with open(result, "w") as file:
        json.dump(DESCRIPTION, file)
    raise SystemExit
assert os.environ["FEDLOOM_TASK"] == "aggregate"
folder = os.environ["FEDLOOM_UPDATES"]
with open(os.path.join(folder, "clients.json")) as file:
    clients = json.load(file)
assert [client["name"] for client in clients] == sorted(client["name"] for client in clients)
weights = [load_file(os.path.join(folder, client["path"])) for client in clients]
model = load_file(os.environ["FEDLOOM_MODEL"])
new = {name: np.median([each[name] for each in weights], axis=0).astype(model[name].dtype) for name in model}
FAULT
save_file(new, os.environ["FEDLOOM_UPDATE"])
with open(result, "w") as file:
    json.dump({"metrics": {"clients": len(clients)}}, file)
"""

NUMBERS = {"a": "1 2 3", "b": "4 5", "c": "10"}


@dataclass
class SednaBench:
    """The documents of a job and its programs in a folder, and what came of running it."""

    folder: Path
    spec: dict[str, Any]
    files: dict[str, str]
    events: list[dict[str, Any]] = field(default_factory=list)

    def describe(self, description: object, fault: str = "pass") -> None:
        """Let the aggregation program say this of the job, and do that before it writes its model."""
        text = AGGREGATE.replace("DESCRIPTION", repr(description)).replace("FAULT", fault)
        self.files["aggregate.py"] = text

    def keep_clients(self, count: int) -> None:
        """Leave only the first ones: every client of every round is a program that is started."""
        self.spec["trainingWorkers"] = self.spec["trainingWorkers"][:count]

    def write(self) -> Path:
        for name, text in self.files.items():
            (self.folder / name).write_text(text)
        documents = [
            _object("FederatedLearningJob", "mover", self.spec),
            _object("Model", "out", {"url": "out/model.pb", "format": "pb"}),
            *(
                _object("Dataset", name, {"url": f"{name}.txt", "format": "txt", "nodeName": name})
                for name in NUMBERS
            ),
        ]
        path = self.folder / "job.yaml"
        path.write_text("\n---\n".join(json.dumps(document) for document in documents))
        return path

    def run(self, state: str = "state", parallel: int = 2) -> Decision:
        documents = read_documents([self.write()])
        job, folder = job_to_run(documents), self.folder / state
        self.events = []
        order = Order(documents, job, folder, parallel=parallel, is_tracked=False)
        return run_embedded(order, self.events.append)

    def notices(self, reason: str) -> list[str]:
        return [event["message"] for event in self.events if event.get("reason") == reason]

    def rounds(self) -> list[dict[str, Any]]:
        return [event for event in self.events if event["event"] == "round"]

    def result(self, number: int, state: str = "state") -> dict[str, Any]:
        (path,) = (self.folder / state).glob(f"artifacts/**/round-{number:04d}/result.json")
        result: dict[str, Any] = json.loads(path.read_bytes())
        return result

    def model(self, number: int, state: str = "state") -> dict[str, np.ndarray[Any, Any]]:
        (path,) = (self.folder / state).glob(f"artifacts/**/round-{number:04d}/model.safetensors")
        return load_arrays(path)[0]


def template(script: str, *args: str) -> dict[str, Any]:
    container = {"name": "worker", "image": "x", "command": ["python", script], "args": list(args)}
    return {"spec": {"containers": [container]}}


@pytest.fixture
def mover(tmp_path: Path) -> SednaBench:
    return _mover(tmp_path)


@pytest.fixture(scope="session")
def make_mover() -> Callable[[Path], SednaBench]:
    return _mover


def _mover(tmp_path: Path) -> SednaBench:
    for name, numbers in NUMBERS.items():
        (tmp_path / f"{name}.txt").write_text(numbers.replace(" ", "\n") + "\n")
    spec = {
        "aggregationWorker": {"model": {"name": "out"}, "template": template("aggregate.py")},
        "trainingWorkers": [
            {"dataset": {"name": name}, "template": template("train.py", "-i", str(number))}
            for number, name in enumerate(NUMBERS, 1)
        ],
    }
    bench = SednaBench(tmp_path, spec, {"train.py": TRAIN})
    bench.describe({"rounds": 3, "participants": 2})
    return bench


def _object(kind: str, name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "sedna.io/v1alpha1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": dict(spec),
    }
