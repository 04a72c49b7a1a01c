"""Small jobs in a temporary folder that learn from each other: a line is fitted, three clients."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.request import Request
from components.sequence import run_group
from components.user_code import UserCode
from components.worker import _place
from controller.decide import Decision
from controller.embedded.run import Order, run_embedded
from fedloom.api.documents import read_documents
from fedloom.api.validation import job_to_run
from fedloom.artifacts import layout
from fedloom.artifacts.arrays import dump_arrays, load_arrays
from fedloom.artifacts.store import Store
from fedloom.errors import JobError
from pipelines.engine import RunStatus
from pipelines.engines.local_run import LocalRun
from pipelines.engines.worker_pool import Answer
from pipelines.plan import Plan

# A network of one hidden layer that fits a line; every client's points are on it.
SCRIPT = """
import numpy as np
import fedloom

class Line:
    def __init__(self, client):
        self.client = client
        self.x = np.linspace(-1, 1, 8, dtype=np.float32)[:, None]
        self.y = np.float32(np.loadtxt(client.dataset)) * self.x

    @staticmethod
    def initialize(seed):
        rng = np.random.default_rng(seed)
        return {
            "body.w": rng.normal(size=(1, 4)).astype(np.float32),
            "head.w": np.zeros((4, 1), np.float32),
        }

    def train(self, model, context):
        for _ in range(5):
            hidden = self.x @ model["body.w"]
            slope = (hidden @ model["head.w"] - self.y) / len(self.x)
            gradients = {
                "head.w": hidden.T @ slope,
                "body.w": self.x.T @ (slope @ model["head.w"].T),
            }
            for name, gradient in context.correct(gradients, model).items():
                model[name] -= np.float32(0.1) * gradient
        return fedloom.Update(model, num_examples=len(self.x), num_steps=5)

    def evaluate(self, model, context):
        error = self.x @ model["body.w"] @ model["head.w"] - self.y
        loss = float((error ** 2).mean())
        return fedloom.Evaluation(num_examples=len(self.x), metrics={METRICS})

fedloom.main(Line)
"""

Arrays = dict[str, np.ndarray[Any, Any]]


def line(slope: float, hidden: int = 4, dtype: type = np.float32) -> Arrays:
    """A model that knows the line of this slope."""
    body = np.ones((1, hidden), dtype)
    return {"body.w": body, "head.w": np.full((hidden, 1), slope / hidden, dtype)}


def document(kind: str, name: str, spec: Mapping[str, Any], **meta: Any) -> dict[str, Any]:
    metadata = {"name": name, **meta}
    return {"apiVersion": "sedna.io/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}


class InlineEngine:
    """The embedded engine without processes: the same groups in the same order, one after another."""

    def __init__(self, store: Store, _: int, settings: Mapping[str, Any], loads: Any) -> None:
        self._store = store
        self._place = _place(settings)
        self._clients = dict.fromkeys(loads, 0)
        self._code = UserCode()
        self._run: LocalRun | None = None

    def submit(self, plan: Plan) -> None:
        self._store.put(layout.plan_key(plan.round, plan.attempt), plan.to_json(), replace=True)
        run = self._run = LocalRun(plan, self._clients, 1)
        while groups := [group for slots in run.due_groups() for group in slots[0]]:
            for group in groups:
                run.take(self._answer(json.loads(run.message(group))))

    def _answer(self, message: Mapping[str, Any]) -> Answer:
        requests = {each["step"]: Request.of(message["plan"], each) for each in message["tasks"]}
        try:
            run_group(requests, self._place, self._code, message["failures"])
        except JobError as error:
            return Answer(message["id"], "Failed", error.reason, error.message)
        return Answer(message["id"], "Succeeded")

    def status(self) -> RunStatus | None:
        return None if self._run is None else self._run.status()

    def wait(self, _: float) -> None:
        return

    def close(self) -> None:
        return


@dataclass
class Shop:
    """A folder of jobs, Models and state folders."""

    folder: Path
    script: str = SCRIPT
    metrics: str = '"loss": loss'
    parallel: int = 0
    """How many workers; 0 for none, all in this process."""
    slopes: tuple[float, ...] = (3.0, 3.1, 2.9)
    extra: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)

    def model(self, name: str, arrays: Arrays, **meta: Any) -> Path:
        """A Model and its file."""
        path = self.folder / f"{name}.safetensors"
        path.write_bytes(dump_arrays(arrays))
        spec = {"url": path.name, "format": "safetensors"}
        self.extra.append(document("Model", name, spec, **meta))
        return path

    def spec(self, transfer: Mapping[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
        template = {"containers": [{"name": "w", "image": "x", "command": ["python", "train.py"]}]}
        worker = {"template": {"spec": template}}
        names = [f"client-{number}" for number in range(len(self.slopes))]
        spec = {
            "rounds": 1,
            "participation": {"deadlineSeconds": 30, "retries": 0, "seed": 5},
            "aggregationWorker": {"model": {"name": "out"}, **worker},
            "trainingWorkers": [{"dataset": {"name": name}, **worker} for name in names],
            **fields,
        }
        return json.loads(json.dumps(spec | ({"transfer": transfer} if transfer else {})))

    def write(self, *jobs: tuple[str, Mapping[str, Any]], **meta: Any) -> Path:
        (self.folder / "train.py").write_text(
            self.script.replace("{METRICS}", f"{{{self.metrics}}}")
        )
        documents = [document("FederatedLearningJob", name, spec, **meta) for name, spec in jobs]
        documents.append(document("Model", "out", {"url": "out/m.safetensors", "format": "x"}))
        for number, slope in enumerate(self.slopes):
            (self.folder / f"{number}.txt").write_text(f"{slope}\n")
            url = {"url": f"{number}.txt", "format": "txt", "nodeName": f"n{number}"}
            documents.append(document("Dataset", f"client-{number}", url))
        path = self.folder / "job.yaml"
        path.write_text("\n---\n".join(map(json.dumps, [*documents, *self.extra])))
        return path

    def run(
        self, transfer: Mapping[str, Any] | None, name: str = "target", **fields: Any
    ) -> Decision:
        """Run one job in this process, without tracking."""
        meta = {"annotations": fields.pop("annotations")} if "annotations" in fields else {}
        documents = read_documents([self.write((name, self.spec(transfer, **fields)), **meta)])
        job = job_to_run(documents)
        state = self.folder / "state" / name
        self.events = []
        order = Order(documents, job, state, parallel=self.parallel, is_tracked=False)
        if self.parallel:
            return run_embedded(order, self.events.append)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("controller.embedded.run.LocalEngine", InlineEngine)
            patch.chdir(self.folder)
            patch.setattr(sys, "path", [*sys.path])
            patch.setattr(sys, "argv", [*sys.argv])
            return run_embedded(order, self.events.append)

    @property
    def beginning(self) -> dict[str, Any]:
        """What the last job that was run began with."""
        (found,) = (event for event in self.events if event["event"] == "transfer")
        return found

    def result(self, number: int = 0, name: str = "target") -> dict[str, Any]:
        (path,) = (self.folder / "state" / name).glob(
            f"artifacts/*/*/round-{number:04}/result.json"
        )
        return json.loads(path.read_bytes())

    def first_model(self, name: str = "target", number: int = 0) -> Arrays:
        folder = (self.folder / "state" / name).glob(f"artifacts/*/*/round-{number:04}")
        return load_arrays(next(folder) / "model.safetensors")[0]


@pytest.fixture(name="line")
def line_fixture() -> Callable[..., Arrays]:
    return line


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)
