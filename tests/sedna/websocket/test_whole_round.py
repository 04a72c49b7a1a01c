"""The server's group of a websocket round as its container runs it, from the plan to result.json."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np

from components.request import Place, Request
from components.sequence import run_group
from components.user_code import UserCode
from fedloom.api.compatibility import SEDNA, WEBSOCKET
from fedloom.api.job import FederatedLearningJob
from fedloom.artifacts.arrays import load_arrays
from fedloom.artifacts.local import LocalStore

SCRIPT = Path(__file__).parents[1] / "scripts" / "websocket_client.py"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def requests_of(port):
    head = {
        "job": {"namespace": "default", "name": "old", "uid": "0" * 36},
        "round": 1,
        "rounds": 1,
        "attempt": 1,
        "cohort": ["a", "b"],
    }
    settings = {
        "workers": {"trainworker-a": "a", "trainworker-b": "b"},
        "nodes": {},
        "min_clients": 2,
        "deadline_seconds": 20.0,
        "inner_rounds": 2,
        "leave_seconds": 5.0,
        "host": "127.0.0.1",
        "port": port,
        "service": "old-aggregation",
        "aggregation": {"rule": "mean", "parameters": {}, "weights": "examples"},
    }
    tasks = [
        ("websocket", {"model": "round-0001/model.safetensors"}, settings),
        (
            "commit",
            {"result": "round-0001/result.json", "attempt": "round-0001/attempt-1.json"},
            {"started": 0.0, "min_clients": 2},
        ),
    ]
    documents = [
        {"step": step, "client": None, "inputs": {}, "outputs": outputs, "settings": given}
        for step, outputs, given in tasks
    ]
    return {task["step"]: Request.of(head, task) for task in documents}


def test_a_round_of_old_programs_is_committed_like_any_other(tmp_path):
    port, work = free_port(), tmp_path / "work"
    work.mkdir()
    store = LocalStore(tmp_path / "store")
    running = []
    for name in "ab":
        environment = {
            **os.environ,
            "AGG_IP": "127.0.0.1",
            "AGG_PORT": str(port),
            "WORKER_NAME": f"trainworker-{name}",
        }
        running.append(subprocess.Popen([sys.executable, str(SCRIPT)], env=environment))
    place = Place(store, work, work, work, work, work)
    run_group(requests_of(port), place, UserCode(), {})
    assert [process.wait(20) for process in running] == [0, 0]
    result = json.loads(store.get("round-0001/result.json"))
    assert sorted(result["clients"]) == ["a", "b"]
    assert {client["state"] for client in result["clients"].values()} == {"Succeeded"}
    assert {client["num_examples"] for client in result["clients"].values()} == {10}
    assert [each["inner"] for each in result["inner"]] == [1, 2]
    assert result["traffic"]["uplink_bytes"] > 400
    assert not list(work.glob("inner/*.safetensors"))
    model, _ = load_arrays(store.get(result["model"]["key"], digest=result["model"]["digest"]))
    assert model["0000"].shape == (2, 3)
    assert model["0000"].dtype == np.float32


def test_on_one_machine_such_a_job_runs_as_its_scripts(tmp_path):
    from dataclasses import replace

    from fedloom.api.job import AggregationWorker, JobSpec
    from fedloom.api.metadata import ObjectMeta, Reference
    from fedloom.api.pod import PodTemplate
    from fedloom.api.sedna import as_scripts

    worker = AggregationWorker(Reference("m"), PodTemplate({}))
    spec = JobSpec(worker, (), compat=WEBSOCKET)
    job = FederatedLearningJob(ObjectMeta("j"), spec)
    assert as_scripts(job).spec.compat == SEDNA
    other = replace(job, spec=replace(spec, compat=None))
    assert as_scripts(other) is other
