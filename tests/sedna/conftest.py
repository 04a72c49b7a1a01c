"""What the tests that stand right here borrow of their neighbours, and example 10 in a folder of its own.

Borrowed: a controller over an API server in memory, the TLS link to edges, Sedna's documents and the pods
that they become, a small embedded job.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from controller.embedded.run import Order, run_embedded
from fedloom.api.documents import read_documents
from fedloom.api.validation import job_to_run

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples/10-from-sedna"


def load(name: str, path: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, ROOT / "tests" / path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


_LINK = load("sedna_link", "sedna/edge/conftest.py")
_PODS = load("sedna_pods", "sedna/places/conftest.py")
_JOBS = load("sedna_jobs", "sedna/plan/conftest.py")

cloud, edge, cable, wait, secret_of = (
    _LINK.cloud,
    _LINK.edge,
    _LINK.cable,
    _LINK.wait,
    _LINK.secret_of,
)
controllers = _LINK.shared  # tests/cluster_controller/conftest.py
cluster, store_settings, bench = controllers.cluster, controllers.store_settings, controllers.bench
make_job, make_node, make_pod = controllers.make_job, controllers.make_node, controllers.make_pod
sedna, setting, planned, seen = _PODS.sedna, _PODS.setting, _PODS.planned, _PODS.seen
mover = _JOBS.mover


@pytest.fixture(scope="session")
def example(tmp_path_factory) -> Path:
    """A copy of example 10, its data prepared as the guide says."""
    root = tmp_path_factory.mktemp("repository")
    folder = root / EXAMPLE.relative_to(ROOT)
    made = shutil.ignore_patterns("data", "output", "compiled", ".fedloom", "__pycache__")
    shutil.copytree(EXAMPLE, folder, ignore=made)
    command = [sys.executable, str(folder / "prepare.py")]
    subprocess.run(command, cwd=root, check=True, timeout=100)
    return folder


@dataclass(frozen=True)
class Run:
    """What a run of example 10 left behind."""

    state: Path
    events: list[dict[str, Any]]

    def model(self, number: int) -> Path:
        (path,) = self.state.glob(f"artifacts/**/round-{number:04d}/model.safetensors")
        return path


@pytest.fixture(scope="session")
def run_example(example, tmp_path_factory) -> Callable[..., Run]:
    """Run example 10 for some rounds with some of its workers, without tracking."""

    def run(rounds: int, *workers: int) -> Run:
        documents = list(yaml.safe_load_all((example / "job.yaml").read_text()))
        spec = documents[-1]["spec"]
        spec["trainingWorkers"] = [spec["trainingWorkers"][number] for number in workers]
        container = spec["aggregationWorker"]["template"]["spec"]["containers"][0]
        container["env"] = [{"name": "exit_round", "value": str(rounds)}]
        path = example / f"job-{'-'.join(map(str, workers))}.yaml"
        path.write_text(yaml.safe_dump_all(documents))
        read = read_documents([path])
        found = Run(tmp_path_factory.mktemp("state"), [])
        order = Order(read, job_to_run(read), found.state, parallel=2, is_tracked=False)
        assert run_embedded(order, found.events.append).phase == "Succeeded"
        return found

    return run
