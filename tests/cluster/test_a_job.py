"""`kubectl apply` runs a job: rounds become workflows, status tells the truth, the bits are the laptop's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
EXAMPLE = ROOT / "examples/05-on-a-cluster"


@pytest.mark.parametrize("runtime", ["direct", "dispatch"])
def test_the_example_completes_and_gives_the_model_of_the_embedded_run(
    bench, tmp_path, runtime, embedded_digest
):
    bench.spec["edge"] = {"runtime": runtime}
    bench.spec["rounds"] = 3
    bench.job["metadata"]["name"] = "digits-on-edges"
    bench.submit()
    bench.wait_for("Complete")
    status = bench.status()
    assert status["phase"] == "Succeeded"
    assert (status["currentRound"], status["aggregationCount"]) == (3, 3)
    assert [client["state"] for client in status["clients"]] == ["Succeeded"] * 3
    assert {client["nodeName"] for client in status["clients"]} == {"edge-1", "edge-2", "edge-3"}
    assert all(client["samples"] > 0 and client["uplinkBytes"] > 0 for client in status["clients"])
    assert status["traffic"]["uplinkBytes"] < status["traffic"]["downlinkBytes"]
    assert 0 < float(status["metrics"]["accuracy"]) <= 1
    documents = [bench.job, *bench.documents[1:]]
    assert status["model"]["digest"] == embedded_digest(EXAMPLE, documents, tmp_path)
    samples = bench.kubectl.get("dataset", "digits-1")["status"]["numberOfSamples"]
    assert samples == next(c["samples"] for c in status["clients"] if c["name"] == "digits-1")
    metrics = bench.kubectl.get("model.sedna.io", "digits-model")["status"]["metrics"]
    assert {"key": "accuracy", "value": status["metrics"]["accuracy"]} in metrics
    bench.kubectl("delete", "fl", bench.name, "--wait=true")


def test_kubectl_shows_where_a_job_stands(bench):
    bench.submit()
    bench.wait_for("Complete")
    head, line = bench.kubectl("get", "fl", bench.name).splitlines()
    assert head.split() == ["NAME", "PHASE", "ROUND", "CLIENTS", "METRIC", "AGE"]
    assert line.split()[:3] == [bench.name, "Succeeded", "2"]
    assert bench.condition("TrackingAvailable")["status"] == "True"
    assert bench.status()["tracking"]["runId"]
    reasons = bench.kubectl("get", "events", "-o", "jsonpath={.items[*].reason}")
    assert "RoundCommitted" in reasons
    workflows = bench.kubectl.get("wf", "-l", f"federatedlearningjob.sedna.io/name={bench.name}")
    assert len(workflows["items"]) == 3  # round 0 and two more
    assert "AWS_SECRET" not in json.dumps([w["spec"].get("arguments") for w in workflows["items"]])
    bench.kubectl("delete", "fl", bench.name, "--wait=true")
    bench.kubectl.until(
        lambda: (
            not bench.kubectl.get("wf", "-l", f"federatedlearningjob.sedna.io/name={bench.name}")[
                "items"
            ]
        ),
        why="the workflows' end",
    )


def test_a_suspended_job_waits_and_goes_on(bench):
    bench.spec["suspend"] = True
    bench.submit()
    bench.wait_for("Suspended")
    assert not bench.kubectl.get("wf", "-l", f"federatedlearningjob.sedna.io/name={bench.name}")[
        "items"
    ]
    patch = '{"spec": {"suspend": false}}'
    bench.kubectl("patch", "fl", bench.name, "--type=merge", "-p", patch)
    bench.wait_for("Complete")
    assert bench.condition("Suspended").get("status") != "True"


def test_a_controller_that_is_killed_goes_on_where_it_stood(bench):
    bench.spec["rounds"] = 3
    bench.submit()
    bench.kubectl.until(lambda: bench.status().get("aggregationCount") == 1, why="round 1")
    system = ["-n", "fedloom-system"]
    bench.kubectl(*system, "delete", "pod", "-l", "app.kubernetes.io/component=controller", "--now")
    bench.wait_for("Complete")
    workflows = bench.kubectl.get("wf", "-l", f"federatedlearningjob.sedna.io/name={bench.name}")
    assert len(workflows["items"]) == 4


@pytest.fixture
def one_client_per_workflow(kubectl):
    """Cut every round as those of thousands of clients are."""
    system = ("-n", "fedloom-system")

    def clients_per_workflow(value: str) -> None:
        change = '{"data": {"FEDLOOM_CLIENTS_PER_WORKFLOW": ' + value + "}}"
        kubectl(*system, "patch", "configmap", "fedloom-controller", "--type=merge", "-p", change)
        kubectl(*system, "rollout", "restart", "deployment/fedloom-controller")
        kubectl(*system, "rollout", "status", "deployment/fedloom-controller", "--timeout=120s")

    clients_per_workflow('"1"')
    yield
    clients_per_workflow("null")


def test_a_round_cut_into_several_workflows_gives_the_same_model(
    bench, tmp_path, one_client_per_workflow, embedded_digest
):
    bench.job["metadata"]["name"] = "digits-in-parts"
    bench.submit()
    bench.wait_for("Complete")
    workflows = bench.kubectl.get("wf", "-l", f"federatedlearningjob.sedna.io/name={bench.name}")
    names = {each["metadata"]["name"].rpartition("-r1-a1")[2] for each in workflows["items"]}
    assert {"", "-p1", "-p2", "-p3"} <= names
    assert [client["state"] for client in bench.status()["clients"]] == ["Succeeded"] * 3
    assert bench.status()["model"]["digest"] == embedded_digest(EXAMPLE, bench.documents, tmp_path)
    bench.kubectl("delete", "fl", bench.name, "--wait=true")
