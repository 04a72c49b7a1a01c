"""Jobs on a real Kubeflow Pipelines: whatever $KFP_ENDPOINT names, with the overlay quickstart-kfp.

A round takes half a minute there, most of it drivers that start: few tests, each of several claims.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from controller.cluster.kfp_api import KfpApi, KfpConnection

ROOT = Path(__file__).parent.parent.parent
EXAMPLE = ROOT / "examples/08-kfp"
RUNS = os.environ.get("KFP_NAMESPACE", "kubeflow")

pytestmark = pytest.mark.skipif(
    not os.environ.get("KFP_ENDPOINT"), reason="no $KFP_ENDPOINT: no Kubeflow Pipelines to run on"
)


@pytest.fixture(scope="session")
def api() -> KfpApi:
    return KfpApi(KfpConnection(os.environ["KFP_ENDPOINT"].rstrip("/")))


@pytest.fixture(scope="session")
def example() -> list[dict[str, Any]]:
    """The documents of example 08, in place of those that the other tests begin with."""
    import yaml

    return list(yaml.safe_load_all((EXAMPLE / "job.yaml").read_text()))


@pytest.fixture
def runs(bench, api) -> Callable[[], dict[str, list[dict[str, Any]]]]:
    """All runs of the job, by their names in the UI."""

    def look() -> dict[str, list[dict[str, Any]]]:
        uid = bench.kubectl.get("fl", bench.name)["metadata"]["uid"]
        experiment = api.find_experiment(f"{bench.name}-{uid[:8]}", "")
        if experiment is None:
            return {}
        found: dict[str, list[dict[str, Any]]] = {}
        for number in range(5):
            for attempt in ("", " / attempt 2", " / attempt 3"):
                name = f"{bench.name} / round {number:03}{attempt}"
                mine = [
                    run
                    for run in api.find_runs(name, "")
                    if run["experiment_id"] == experiment["experiment_id"]
                ]
                found |= {name: mine} if mine else {}
        return found

    return look


def left_of(bench, kind: str) -> list[str]:
    label = f"federatedlearningjob.sedna.io/name={bench.name}"
    found = bench.kubectl("-n", RUNS, "get", kind, "-l", label, "-o", "name")
    return found.split()


def test_a_job_whose_controller_dies_in_mid_round_gives_the_model_of_the_embedded_run(
    bench, runs, tmp_path, embedded_digest
):
    bench.submit()
    bench.kubectl.until(lambda: bench.status().get("aggregationCount") == 0, why="round 0")
    bench.kubectl.until(lambda: f"{bench.name} / round 001" in runs(), why="the run of round 1")
    system = ["-n", "fedloom-system"]
    bench.kubectl(*system, "delete", "pod", "-l", "app.kubernetes.io/component=controller", "--now")
    bench.wait_for("Complete", seconds=420)
    status, found = bench.status(), runs()
    assert {name: len(each) for name, each in found.items()} == {
        f"{bench.name} / round {number:03}": 1 for number in range(3)
    }
    assert status["workflow"]["engine"] == "kfp"
    assert status["workflow"]["url"].endswith(found[status["workflow"]["name"]][0]["run_id"])
    assert [client["state"] for client in status["clients"]] == ["Succeeded"] * 3
    assert {client["nodeName"] for client in status["clients"]} == {"edge-1", "edge-2", "edge-3"}
    assert status["model"]["digest"] == embedded_digest(EXAMPLE, bench.documents, tmp_path)
    bench.kubectl.until(lambda: not left_of(bench, "secrets"), why="the end of all Secrets")
    client = status["clients"][0]["name"]
    command = ["logs", bench.name, "-n", bench.kubectl.namespace, "--client", client]
    told = subprocess.run(
        [sys.executable, "-m", "cli.main", *command], capture_output=True, text=True, check=True
    )
    assert f"{client}/" in told.stdout
    bench.kubectl("delete", "fl", bench.name, "--wait=true")
    bench.kubectl.until(lambda: not left_of(bench, "configmaps"), why="the end of all records")


def test_a_cancelled_job_ends_its_run(bench, runs, api):
    bench.submit()
    bench.kubectl.until(lambda: f"{bench.name} / round 000" in runs(), why="the run of round 0")
    bench.kubectl("annotate", "fl", bench.name, "fedloom.io/cancel=true")
    bench.wait_for("Failed")
    assert bench.condition("Failed")["reason"] == "Cancelled"
    (run,) = runs()[f"{bench.name} / round 000"]
    bench.kubectl.until(
        lambda: api.get_runs([run["run_id"]], "")[run["run_id"]]["state"] in ("FAILED", "CANCELED"),
        why="the run's end",
    )
    bench.kubectl.until(lambda: not left_of(bench, "secrets"), why="the end of all Secrets")


def test_a_run_that_somebody_deletes_is_made_again_and_one_that_is_terminated_is_told(
    bench, runs, api
):
    bench.submit()
    first = f"{bench.name} / round 000"
    bench.kubectl.until(lambda: first in runs(), why="the run of round 0")
    (run,) = runs()[first]
    api._call("DELETE", f"/runs/{run['run_id']}")
    bench.kubectl.until(lambda: f"{first} / attempt 2" in runs(), why="another run")
    assert bench.condition("Failed") == {}
    (run,) = runs()[f"{first} / attempt 2"]
    api.terminate_run(run["run_id"])
    bench.wait_for("Failed")  # round 0 has no second try that counts
    assert bench.condition("Failed")["reason"] == "RunCancelled"
    command = ["retry", bench.name, "-n", bench.kubectl.namespace]
    subprocess.run([sys.executable, "-m", "cli.main", *command], check=True)
    bench.kubectl.until(lambda: f"{first} / attempt 3" in runs(), why="a third")
    bench.kubectl("annotate", "fl", bench.name, "fedloom.io/cancel=true")
    bench.wait_for("Failed")


def test_a_backend_that_is_down_is_told_and_a_client_that_cannot_start_is_left_out(bench, runs):
    bench.spec["rounds"] = 1
    bench.template(2)["image"] = "registry.invalid/no-such-image:1"  # round 0 has the first one's
    bench.spec["participation"] |= {"minClients": 2, "deadlineSeconds": 300}
    scale = ("-n", RUNS, "scale", "deployment/ml-pipeline", "--replicas")
    bench.kubectl(*scale, "0")
    try:
        bench.submit()
        bench.wait_for("Progressing", "False")
        bench.kubectl.until(
            lambda: bench.condition("Progressing").get("reason") == "KfpUnreachable", why="told"
        )
    finally:
        bench.kubectl(*scale, "1")
    bench.wait_for("Complete", seconds=420)
    states = [client["state"] for client in bench.status()["clients"]]
    assert states.count("Succeeded") == 2
    assert states.count("Failed") == 1
