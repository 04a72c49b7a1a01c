"""Jobs that learn from one another, on a cluster: waited for, probed on the edges, the laptop's bits."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from fedloom.api.documents import render_documents

ROOT = Path(__file__).parent.parent.parent
EXAMPLE = ROOT / "examples/09-small-sample-transfer"
FILES = ("clean.yaml", "shifted.yaml", "job.yaml")
JOBS = ("digits-clean", "digits-shifted", "digits-worn")
ROUNDS, ROUNDS_SECONDS = 3, 600.0


def in_few_rounds(file: str) -> str:
    """A file of the example whose job has as many rounds as it takes to tell good from bad."""
    documents = list(yaml.safe_load_all((EXAMPLE / file).read_text(encoding="utf-8")))
    for each in documents:
        if each["kind"] == "FederatedLearningJob":
            each["spec"]["rounds"] = ROUNDS
    return render_documents(documents)


@pytest.fixture
def applied(kubectl):
    """All three jobs of the example, the one that learns applied last."""
    kubectl("wait", "node", "--all", "--for=condition=Ready", "--timeout=120s")
    for file in FILES:
        kubectl("apply", "-f", "-", text=in_few_rounds(file))
    yield kubectl
    kubectl("delete", "fl", *JOBS, "--ignore-not-found", "--wait=false", check=False)


def conditions(kubectl, job: str) -> dict[str, dict]:
    status = kubectl.get("fl", job).get("status", {})
    return {each["type"]: each for each in status.get("conditions", [])}


@pytest.fixture
def embedded(tmp_path) -> dict:
    """The last event of the same three jobs on this machine."""
    folder = tmp_path / "example"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("data", "output", ".fedloom"))
    subprocess.run([sys.executable, "prepare.py"], cwd=folder, check=True)
    for file in FILES:
        (folder / file).write_text(in_few_rounds(file), encoding="utf-8")
    files = [word for file in FILES for word in ("-f", file)]
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", "run", *files, "-o", "json"],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if not name.startswith("OPENBLAS")},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.timeout(1200)
def test_a_small_job_waits_for_its_sources_and_begins_with_the_right_one(applied, embedded):
    def waits() -> bool:
        found = conditions(applied, "digits-worn").get("WaitingForSource", {})
        return found.get("status") == "True"

    applied.until(waits, why="WaitingForSource=True")
    for job in JOBS:

        def is_complete(job: str = job) -> bool:
            found = conditions(applied, job)
            assert found.get("Failed", {}).get("status") != "True", applied.get("fl", job)["status"]
            return found.get("Complete", {}).get("status") == "True"

        applied.until(is_complete, ROUNDS_SECONDS, 3.0, why=f"{job} Complete")
    status = applied.get("fl", "digits-worn")["status"]
    began = status["transfer"]
    assert (began["choice"], began["kind"], began["isSure"]) == ("job/digits-clean", "full", True)
    assert [score["candidate"] for score in began["scores"]] == [
        "job/digits-clean",
        "scratch",
        "job/digits-shifted",
    ]
    assert began["scores"][0]["samples"] == 20
    assert conditions(applied, "digits-worn")["WaitingForSource"]["status"] == "False"
    assert float(status["metrics"]["accuracy"]) >= 0.6, "from scratch it is about 0.3"
    assert status["model"]["digest"] == embedded["model"]["digest"]
