"""A real cluster, by kubectl alone: whatever $KUBECONFIG names, with the quickstart in it.

Jobs run in a namespace of their own that is made anew for every session. Tests that pull cables need
$FEDLOOM_CLUSTER_TOOL (`edge offline|online|kill|revive NODE`) and are left out without it.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fedloom.api.documents import render_documents

ROOT = Path(__file__).parent.parent.parent
EXAMPLE = ROOT / "examples/05-on-a-cluster"
NAMESPACE = "fedloom-test"
Document = dict[str, Any]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.cluster)
            item.add_marker(pytest.mark.timeout(600))


@dataclass
class Kubectl:
    """kubectl in one namespace."""

    namespace: str

    def __call__(self, *arguments: str, text: str | None = None, check: bool = True) -> str:
        command = ["kubectl", "-n", self.namespace, *arguments]
        found = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
        assert found.returncode == 0 or not check, f"{' '.join(command)}: {found.stderr}"
        return found.stdout

    def apply(self, *documents: Document) -> None:
        self("apply", "-f", "-", text=render_documents(list(documents)))

    def get(self, *what: str) -> Document:
        return json.loads(self("get", *what, "-o", "json"))

    def until(
        self, look: Callable[[], Any], seconds: float = 120.0, every: float = 1.0, why: str = ""
    ) -> Any:
        """Look until there is something to see; give it."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if found := look():
                return found
            time.sleep(every)
        state = self("get", "fl,wf,pods", "-o", "wide", check=False)
        pytest.fail(f"{why or look} was not seen within {seconds:g} s:\n{state}")


@pytest.fixture(scope="session")
def kubectl() -> Iterator[Kubectl]:
    """kubectl in a new namespace with the accounts that a round's pods need."""
    if shutil.which("kubectl") is None:
        pytest.fail("no kubectl on the path: these tests need a cluster")
    here = Kubectl(NAMESPACE)
    here("delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait=true")
    here("create", "namespace", NAMESPACE)
    here("apply", "-k", str(ROOT / "manifests/base/worker"))
    yield here
    here("delete", "namespace", NAMESPACE, "--wait=false")


@pytest.fixture(scope="session")
def cluster_tool() -> str:
    tool = os.environ.get("FEDLOOM_CLUSTER_TOOL")
    if not tool:
        pytest.skip("no $FEDLOOM_CLUSTER_TOOL: nobody to pull a cable")
    return tool


@pytest.fixture(scope="session")
def example() -> list[Document]:
    """The documents of example 05."""
    import yaml

    return list(yaml.safe_load_all((EXAMPLE / "job.yaml").read_text()))


@dataclass
class Bench:
    """One job on the cluster, made from the example."""

    kubectl: Kubectl
    documents: list[Document]

    @property
    def job(self) -> Document:
        return self.documents[0]

    @property
    def spec(self) -> Document:
        return self.job["spec"]

    @property
    def name(self) -> str:
        return self.job["metadata"]["name"]

    def submit(self) -> None:
        self.kubectl.apply(*self.documents)

    def status(self) -> Document:
        return self.kubectl.get("fl", self.name).get("status", {})

    def condition(self, kind: str) -> Document:
        return next((c for c in self.status().get("conditions", []) if c["type"] == kind), {})

    def wait_for(self, kind: str, status: str = "True", seconds: float = 240.0) -> Document:
        """Wait for a condition; a job that has failed meanwhile is shown."""

        def look() -> Document | None:
            found = self.condition(kind)
            if kind != "Failed" and self.condition("Failed").get("status") == "True":
                pytest.fail(f"the job failed: {json.dumps(self.status(), indent=1)}")
            return found if found.get("status") == status else None

        return self.kubectl.until(look, seconds, why=f"{self.name} {kind}={status}")

    def client(self, name: str) -> Document:
        return next((c for c in self.status().get("clients", []) if c["name"] == name), {})

    def template(self, index: int) -> Document:
        """The container of a training worker, to be changed."""
        return self.spec["trainingWorkers"][index]["template"]["spec"]["containers"][0]


@pytest.fixture
def bench(kubectl: Kubectl, example: list[Document], request: pytest.FixtureRequest):
    """The example under a name of its own, two rounds; gone when the test is."""
    documents = copy.deepcopy(example)
    worker = documents[0]["spec"]["trainingWorkers"]
    documents[0]["spec"]["trainingWorkers"] = [copy.deepcopy(each) for each in worker]
    name = request.node.name.replace("test_", "").replace("_", "-").replace("[", "-")
    documents[0]["metadata"]["name"] = name.strip("]")[:40].strip("-")
    documents[0]["spec"]["rounds"] = 2
    documents[0]["spec"]["output"] = {}
    # A node that a test before this one has mended is left out of cohorts until it is Ready again.
    kubectl("wait", "node", "--all", "--for=condition=Ready", "--timeout=120s")
    made = Bench(kubectl, documents)
    yield made
    kubectl("delete", "fl", made.name, "--ignore-not-found", "--wait=false", check=False)


def _run_embedded(example: Path, documents: list[Document], folder: Path) -> str:
    for script in example.glob("*.py"):
        shutil.copy(script, folder)
    (folder / "job.yaml").write_text(render_documents(documents))
    subprocess.run([sys.executable, "prepare.py"], cwd=folder, check=True)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OPENBLAS")}
    found = subprocess.run(
        [sys.executable, "-m", "cli.main", "run", "-f", "job.yaml", "-o", "json"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(found.stdout.splitlines()[-1])["model"]["digest"]


@pytest.fixture
def embedded_digest() -> Callable[[Path, list[Document], Path], str]:
    """Run documents on this machine, in a copy of an example, as pods would; give the model's digest."""
    return _run_embedded
