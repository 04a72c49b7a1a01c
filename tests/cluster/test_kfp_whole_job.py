"""A whole job as one pipeline on a real Kubeflow Pipelines, without the controller."""

from __future__ import annotations

import copy
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.compile import compile_job
from controller.cluster.kfp_api import KfpApi, KfpConnection
from fedloom.api.documents import render_documents

EXAMPLE = Path(__file__).parent.parent.parent / "examples/08-kfp"
RUNS = os.environ.get("KFP_NAMESPACE", "kubeflow")
ENDED = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")
LONGEST_SECONDS = 500.0

pytestmark = pytest.mark.skipif(
    not os.environ.get("KFP_ENDPOINT"), reason="no $KFP_ENDPOINT: no Kubeflow Pipelines to run on"
)


@pytest.fixture
def keys(kubectl):
    """The keys of the quickstart's store, where KFP runs pods."""
    found = json.loads(
        kubectl("-n", "fedloom-system", "get", "secret", "fedloom-store", "-o", "json")
    )
    head = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "fedloom-s3"}}
    kubectl("-n", RUNS, "apply", "-f", "-", text=json.dumps(head | {"data": found["data"]}))
    yield
    kubectl("-n", RUNS, "delete", "secret", "fedloom-s3", "--ignore-not-found")


def test_an_uploaded_job_stops_early_and_gives_the_models_of_the_embedded_run(
    kubectl, keys, tmp_path, embedded_digest
):
    documents: list[dict[str, Any]] = list(yaml.safe_load_all((EXAMPLE / "job.yaml").read_text()))
    spec = documents[0]["spec"]
    spec["rounds"] = 3
    spec["stopCondition"] = {"metric": "accuracy", "goal": "maximize", "threshold": 0.8}
    spec["aggregationWorker"]["template"]["spec"]["nodeSelector"] = {
        "kubernetes.io/hostname": "cloud"
    }
    path = tmp_path / "job.yaml"
    path.write_text(render_documents(documents))
    pipeline, platform = yaml.safe_load_all(compile_job([path]))
    api = KfpApi(KfpConnection(os.environ["KFP_ENDPOINT"].rstrip("/")))
    experiment = api.create_experiment("whole-jobs", "jobs as one pipeline", "")
    body = {
        "experiment_id": experiment["experiment_id"],
        "display_name": f"whole job {int(time.time())}",
        "pipeline_spec": {"pipeline_spec": pipeline, "platform_spec": platform},
    }
    run = api.create_run(body)
    assert run is not None
    state = _ended(api, run["run_id"])
    assert state == "SUCCEEDED"
    told = _told(kubectl, run["run_id"])
    assert sorted(told) == [0, 1, 2]  # the third round is skipped
    assert told[2]["metrics"]["accuracy"] >= 0.8
    embedded = copy.deepcopy(documents)
    folder = tmp_path / "embedded"
    folder.mkdir()
    assert told[2]["model"]["digest"] == embedded_digest(EXAMPLE, embedded, folder)


def _ended(api: KfpApi, run: str) -> str:
    end = time.monotonic() + LONGEST_SECONDS
    while time.monotonic() < end:
        state: str = api.get_runs([run], "")[run]["state"]
        if state in ENDED:
            return state
        time.sleep(2)
    return "not ended"


def _told(kubectl, run: str) -> dict[int, dict[str, Any]]:
    """What the server's tasks printed of their rounds."""
    pods = json.loads(
        kubectl("-n", RUNS, "get", "pods", "-l", f"pipeline/runid={run}", "-o", "json")
    )
    found = {}
    for pod in pods["items"]:
        name = pod["metadata"]["name"]
        for line in kubectl("-n", RUNS, "logs", name, "-c", "main", check=False).splitlines():
            if line.startswith('{"round"'):
                document = json.loads(line)
                found[document["round"]] = document
    return found
