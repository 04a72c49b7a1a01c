"""A job that no cluster would take is refused with the limit, before a cluster refuses it without."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fedloom.api.documents import read_documents
from fedloom.api.size import MOST_BYTES, size_problem, size_problems

EXAMPLE = Path(__file__).parents[2] / "examples/05-on-a-cluster/job.yaml"
DATASET = '{"apiVersion": "sedna.io/v1alpha1", "kind": "Dataset", "metadata": {"name": "%s"}, %s}'
REAL = {"image": "registry.example/vision/train:3.2.1", "command": ["python", "/app/train.py"]}
SPEC = '"spec": {"url": "/data/x.npz", "format": "npz", "nodeName": "edge-1"}'


def job(workers: int, **container: object) -> dict:
    template = {
        "spec": {"containers": [{"name": "t", "image": "i", "command": ["t"], **container}]}
    }
    return {
        "apiVersion": "sedna.io/v1alpha1",
        "kind": "FederatedLearningJob",
        "metadata": {"name": "many", "namespace": "default"},
        "spec": {
            "rounds": 1,
            "aggregationWorker": {"model": {"name": "m"}, "template": template},
            "trainingWorkers": [
                {"dataset": {"name": f"d{index}"}, "template": template} for index in range(workers)
            ],
        },
    }


@pytest.mark.parametrize("workers", [1, 1_000, 5_000])
def test_jobs_that_etcd_holds_are_no_problem(workers):
    assert size_problem(job(workers)) is None


def test_ten_thousand_workers_are_refused_with_the_limit():
    problem = size_problem(job(10_000, **REAL))
    assert problem.field == "spec.trainingWorkers"
    assert "got 10000 workers" in problem.message
    assert f"expected at most {MOST_BYTES} bytes" in problem.message
    room = int(problem.message.partition("(about ")[2].partition(" ")[0])
    assert size_problem(job(room - 10, **REAL)) is None


def test_what_else_is_too_large_is_not_blamed_on_the_workers():
    document = job(2)
    document["metadata"]["annotations"] = {"note": "x" * MOST_BYTES}
    assert size_problem(document).field == ""


def test_the_servers_own_fields_and_the_status_do_not_count():
    document = job(2)
    document["metadata"]["managedFields"] = ["x" * MOST_BYTES]
    document["status"] = {"phase": "x" * MOST_BYTES}
    assert size_problem(document) is None


def test_a_job_is_measured_as_the_api_server_gets_it(tmp_path):
    """A YAML anchor makes the file short, and not the object."""
    path = tmp_path / "job.yaml"
    datasets = [DATASET % (f"d{index}", SPEC) for index in range(8_000)]
    model = DATASET.replace("Dataset", "Model") % ("m", '"spec": {"url": "/m", "format": "pt"}')
    head = json.dumps({**job(1), "spec": {}})[:-3]
    template = '{"spec": {"containers": [{"name": "t", "image": "%s"}]}}' % ("i" * 150)
    workers = [
        f'{{"dataset": {{"name": "d{index}"}}, "template": *t}}' for index in range(1, 8_000)
    ]
    first = f'{{"dataset": {{"name": "d0"}}, "template": &t {template}}}'
    spec = f'{{"rounds": 1, "aggregationWorker": {{"model": {{"name": "m"}}, "template": {template}}}, '
    text = f'{head}{spec}"trainingWorkers": [{", ".join([first, *workers])}]}}}}'
    path.write_text("\n---\n".join([*datasets, model, text]))
    assert path.stat().st_size < MOST_BYTES * 2
    (problem,) = size_problems(read_documents([path]))
    assert problem.field.endswith("FederatedLearningJob/many spec.trainingWorkers")


def test_validate_says_so_and_that_one_machine_would_run_it(tmp_path):
    note = "x" * MOST_BYTES
    text = EXAMPLE.read_text().replace(
        "metadata:\n", f"metadata:\n  annotations: {{note: {note}}}\n", 1
    )
    (tmp_path / "job.yaml").write_text(text)
    command = [sys.executable, "-I", "-m", "cli.main", "validate", "-f", str(tmp_path)]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0
    assert "default/digits: valid" in found.stdout
    assert (
        f"not for a cluster: {tmp_path}/job.yaml FederatedLearningJob/digits: got " in found.stdout
    )
    assert f"expected at most {MOST_BYTES}" in found.stdout
