"""Jobs that learn from one another, on a cluster: waited for, probed on the edges, the laptop's bits."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
EXAMPLE = ROOT / "examples/09-small-sample-transfer"
FILES = ("clean.yaml", "shifted.yaml", "job.yaml")
JOBS = ("digits-clean", "digits-shifted", "digits-worn")
ROUNDS_SECONDS = 900.0


@pytest.fixture
def applied(kubectl):
    """All three jobs of the example, the one that learns applied last."""
    kubectl("wait", "node", "--all", "--for=condition=Ready", "--timeout=120s")
    kubectl("apply", *(word for file in FILES for word in ("-f", str(EXAMPLE / file))))
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
    files = [word for file in FILES for word in ("-f", file)]
    command = [sys.executable, "-m", "cli.main", "run", *files, "-o", "json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
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
    assert float(status["metrics"]["accuracy"]) >= 0.7
    assert status["model"]["digest"] == embedded["model"]["digest"]
