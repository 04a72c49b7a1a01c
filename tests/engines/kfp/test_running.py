"""A compiled package runs, and makes the very model that the embedded engine makes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.compile import compile_job
from controller.cluster.stores import StoreAccess
from controller.cluster.submission import url_signer
from controller.decide import start_of
from controller.embedded.run import Order, run_embedded
from controller.observer import Observer
from fedloom.api.documents import read_documents
from fedloom.api.validation import job_to_run
from fedloom.artifacts import layout
from fedloom.artifacts.credentials import S3Credentials
from fedloom.artifacts.local import LocalStore
from fedloom.artifacts.store import Store
from pipelines.engines.kfp import compile_plan
from pipelines.engines.kfp_secrets import files_of, secrets_of


class NoEngine:
    """Nothing runs: the store says all there is to know."""

    def status(self) -> None:
        return None


@pytest.fixture
def access(minio_server, s3_bucket, request) -> StoreAccess:
    name = request.node.name.replace("_", "-")[:40]
    return StoreAccess(
        uri=f"s3://{s3_bucket}/kfp/{name}",
        endpoint=minio_server.url,
        edge_endpoint=minio_server.url,
        region="us-east-1",
        credentials=S3Credentials(minio_server.access_key, minio_server.secret_key),
    )


@pytest.fixture
def run_round(bench, access, kfp_setting, run_package) -> Callable[..., Path]:
    """Plan, compile and run the next round; give where its outputs are."""
    setting = replace(kfp_setting, store_uri=access.uri, store_endpoint=access.endpoint)

    def run(**changes: Any) -> Path:
        job, planner = bench.planner()
        observer = Observer(access.open(), NoEngine())
        observer.recover()
        plan = planner.plan(start_of(job, observer.observe(), now=0.0))
        own = replace(setting, **changes)
        keys = {
            "AWS_ACCESS_KEY_ID": access.credentials.access_key,
            "AWS_SECRET_ACCESS_KEY": access.credentials.secret_key,
        }
        secrets = secrets_of(plan, own, url_signer(access, 60.0), keys)
        files = {name: data for each in secrets for name, data in files_of(each).items()}
        return run_package(compile_plan(plan, own).to_yaml(), files)

    return run


def embedded_rounds(bench, tmp_path) -> list[dict[str, Any]]:
    documents = read_documents([bench.write()])
    told: list[dict[str, Any]] = []
    state = tmp_path / "embedded"
    order = Order(documents, job_to_run(documents), state, parallel=1, is_tracked=False)
    assert run_embedded(order, told.append).phase == "Succeeded"
    return [event for event in told if event["event"] == "round"]


def digests(rounds: list[dict[str, Any]]) -> list[str]:
    return [each["model"]["digest"] for each in rounds]


def result_of(store: Store, number: int) -> dict[str, Any]:
    return json.loads(store.get(layout.result_key(number)))


def output_of(root: Path, pipeline: str, task: str) -> dict[str, Any]:
    """What a task left for KFP to record."""
    (file,) = root.glob(f"{pipeline}*/**/{task}/executor_output.json")
    return json.loads(file.read_text())


def test_rounds_make_the_model_of_the_embedded_engine_though_a_client_fails(
    bench, access, run_round, tmp_path, capfd
):
    bench.failing = "b"
    for _ in range(3):
        root = run_round(tracking={"run_id": "abc", "url": "http://mlflow/#/abc"})
    store, embedded = access.open(), embedded_rounds(bench, tmp_path)
    results = [result_of(store, number) for number in (1, 2)]
    assert digests(results) == digests(embedded)
    lost = results[1]["clients"]["b"]
    assert (lost["state"], lost["reason"]) == ("Failed", "ScriptFailed")
    assert "the disk of this edge is full" in lost["message"]
    assert results[1]["metrics"].keys() == {"error", "train/loss"}
    assert "a has trained" in capfd.readouterr().out  # in the log of its task

    def metadata(task: str, artifact: str = "metrics") -> dict[str, Any]:
        found = output_of(root, "pull-8c2f1a77-r2", task)["artifacts"][artifact]["artifacts"][0]
        return found["metadata"]

    assert metadata("client-a")["loss"] == 0.25
    assert metadata("client-a")["num_examples"] == 3
    assert metadata("client-b")["succeeded"] == 0
    assert "the disk of this edge is full" in metadata("client-b")["message"]
    assert metadata("server")["clients_failed"] == 1
    assert metadata("server")["error"] == results[1]["metrics"]["error"]
    model = metadata("server", "model")
    assert model["digest"] == results[1]["model"]["digest"]
    assert model["store_uri"] == f"{access.uri}/round-0002/model.safetensors"
    assert (model["round"], model["num_clients"]) == (2, 1)
    assert model["mlflow_run_id"] == "abc"
    (page,) = root.glob("pull-8c2f1a77-r2*/server/summary")
    assert "| a | edge-a | Succeeded | 3 |" in page.read_text()
    assert "| b |  | Failed: ScriptFailed" in page.read_text()
    assert "[MLflow run](http://mlflow/#/abc)" in page.read_text()
    (copy,) = root.glob("pull-8c2f1a77-r2*/server/model")
    assert copy.read_bytes() == store.get("round-0002/model.safetensors")


def test_a_round_in_loops_makes_the_same_model(bench, access, run_round, tmp_path):
    bench.spec["rounds"] = 1
    del bench.spec["evaluation"]
    run_round()
    run_round(most_unrolled=1)
    assert digests([result_of(access.open(), 1)]) == digests(embedded_rounds(bench, tmp_path))


def test_a_job_that_is_one_pipeline_plans_its_rounds_while_it_runs_and_stops_early(
    bench, run_package, tmp_path
):
    bench.spec["rounds"] = 3
    bench.spec["participation"]["clientsPerRound"] = 1  # whom it is, a round finds out when it runs
    bench.spec["stopCondition"] = {"metric": "error", "goal": "minimize", "threshold": 1.2}
    text = compile_job([bench.write()])
    pipeline = next(yaml.safe_load_all(text))
    groups = [
        task["taskInfo"]["name"]
        for own in (pipeline["root"], *pipeline["components"].values())
        for key, task in own.get("dag", {}).get("tasks", {}).items()
        if key.startswith("condition-")
    ]
    assert sorted(groups) == ["Round 1", "Round 2", "Round 3"]
    run_package(text, {}, store=(tmp_path / "store").as_uri(), endpoint="")
    (run,) = (tmp_path / "store/default").iterdir()
    store, embedded = LocalStore(run), embedded_rounds(bench, tmp_path)
    assert len(embedded) == 2  # it stops before its last round
    assert digests([result_of(store, number) for number in (1, 2)]) == digests(embedded)
    assert not store.exists(layout.plan_key(3, 1))
