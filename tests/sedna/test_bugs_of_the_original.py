"""What went wrong in Sedna, bug by bug, and must not here: each at the level where it lived."""

from __future__ import annotations

import base64
import copy
import json
from typing import Any

import pytest

from compat.sedna.algorithms.aggregation import MistNet
from compat.sedna.common.config import Context
from controller.cluster.resources import (
    BATCH_JOBS,
    DATASETS,
    JOBS,
    MODELS,
    PODS,
    SECRETS,
    WORKFLOWS,
)
from fedloom.artifacts.arrays import load_arrays

Document = dict[str, Any]
NAME = "federatedlearningjob.sedna.io/name"
MADE = (WORKFLOWS, SECRETS, BATCH_JOBS)


def of_job(bench, name: str) -> list[Document]:
    """All that the controller has made for a job."""
    found = [each for kind in MADE for each in bench.cluster.all(kind)]
    return [each for each in found if each["metadata"].get("labels", {}).get(NAME) == name]


def workflow(bench, run: str) -> Document:
    found = bench.cluster.all(WORKFLOWS)
    return next(each for each in found if each["metadata"]["name"].endswith(f"-{run}"))


def reason_of(bench, kind: str) -> str:
    return next(each["message"] for each in bench.status["conditions"] if each["type"] == kind)


@pytest.fixture
def two_jobs(bench, make_job):
    """Job toy and job other, both in their round 0; other was looked at last."""
    bench.apply_job()
    other = make_job("other")
    other["metadata"]["uid"] = "77777777-0000-4000-8000-000000000000"
    bench.apply(other)
    bench.look()
    bench.look("other")
    return bench


@pytest.mark.parametrize("is_restarted", [False, True])
def test_cross_job_pod_deletion(two_jobs, is_restarted):
    """The selector of the job that was synced last was used: an edit of one deleted the other's pods."""
    bench = two_jobs
    before = of_job(bench, "other")
    assert before
    if is_restarted:
        bench.restart()
        bench.look("other")
    workers = copy.deepcopy(bench.job["spec"]["trainingWorkers"])
    workers[0]["template"]["spec"]["containers"][0]["image"] = "busybox:2"
    bench.edit(trainingWorkers=workers)
    bench.look()
    bench.commit(0)
    (own,) = [each for each in of_job(bench, "toy") if each["kind"] == "Workflow"]
    bench.cluster.set_status(WORKFLOWS, "ns", own["metadata"]["name"], {"phase": "Succeeded"})
    bench.look()
    assert of_job(bench, "other") == before
    made = workflow(bench, "r1-a1")
    assert "busybox:2" in json.dumps(made)
    assert [owner["name"] for owner in made["metadata"]["ownerReferences"]] == ["toy"]
    bench.cluster.delete(JOBS, "ns", "toy")
    bench.look()
    assert of_job(bench, "toy") == []
    assert of_job(bench, "other") == before


@pytest.mark.parametrize("cut_layer", ["4", "conv3"])
def test_epsilon_taken_from_cut_layer(monkeypatch, cut_layer):
    """Values of the environment are texts: epsilon "100" became int(cut_layer), or an error."""
    monkeypatch.setenv("cut_layer", cut_layer)
    monkeypatch.setenv("epsilon", "100")
    mechanism = MistNet(
        cut_layer=Context.get_parameters("cut_layer"), epsilon=Context.get_parameters("epsilon")
    )
    assert mechanism.parameters["epsilon"] == 100
    assert str(mechanism.parameters["cut_layer"]) == cut_layer


def test_crash_loop_shown_as_running(mover):
    """OnFailure restarted a crashing container for ever: no pod ever failed, nor did the job."""
    mover.describe({"rounds": 1})
    crash = "raise RuntimeError('out of order') if task == 'train' else None\nmodel ="
    mover.files["train.py"] = mover.files["train.py"].replace("model =", crash, 1)
    decision = mover.run()
    assert (decision.phase, decision.reason) == ("Failed", "TooFewClients")
    assert "out of order" in decision.message


def test_crash_loop_shown_as_running_on_a_cluster(bench, make_pod):
    bench.apply_job(participation={"retries": 0})
    bench.look()
    bench.round(0)
    assert '"restartPolicy": "OnFailure"' not in json.dumps(workflow(bench, "r1-a1"))
    assert '"restartPolicy": "Always"' not in json.dumps(workflow(bench, "r1-a1"))
    bench.end_workflow("r1-a1", "Running")
    for client in "ab":
        state = {"terminated": {"exitCode": 1, "reason": "Error"}}
        ended = [{"name": "train", "state": state}]
        bench.apply(make_pod(client, "Failed", containerStatuses=ended))
    bench.look()
    bench.end_workflow("r1-a1", "Failed")
    bench.look()
    assert bench.status["phase"] == "Failed"
    assert {each["state"] for each in bench.status["clients"]} == {"Failed"}
    assert "a: ScriptFailed" in reason_of(bench, "Failed")


@pytest.mark.parametrize(
    ("kind", "name", "reason"), [(DATASETS, "b", "DatasetNotFound"), (MODELS, "m", "ModelNotFound")]
)
def test_job_created_before_its_dataset_or_model(bench, kind, name, reason):
    """Some of its pods were made, so the rest never were."""
    bench.apply_job()
    late = bench.cluster.get(kind, "ns", name)
    del late["metadata"]["resourceVersion"]
    bench.cluster.delete(kind, "ns", name)
    for _ in range(2):
        bench.look()
        assert bench.condition("ResolvedRefs") == ("False", reason)
        assert (bench.status["phase"], of_job(bench, "toy")) == ("Pending", [])
    bench.apply(late)
    bench.look()
    for number in range(3):
        bench.round(number)
    assert bench.workflows() == ["r0-a1", "r1-a1", "r2-a1"]
    for client in "ab":
        assert f"client-{client}" in json.dumps(workflow(bench, "r1-a1"))
    assert bench.condition("Complete") == ("True", "RoundsDone")


def test_root_mount(sedna, seen):
    """The parent of /model is /: the whole node was mounted, to be written to."""
    sedna.models["out"]["spec"]["url"] = "/model"
    sedna.datasets["coco-1"]["spec"]["url"] = "/data"
    found = seen(sedna)
    mounted = [each["hostPath"]["path"] for each in found.volumes.values() if "hostPath" in each]
    assert {"/model", "/data"} <= set(mounted)
    assert "/" not in {path.rstrip("/") or "/" for path in mounted}
    assert found.env["MODEL_URL"] == "/home/data/model"


@pytest.mark.parametrize("is_restarted", [False, True])
def test_resurrection_of_deleted_pods(bench, make_pod, is_restarted):
    """Whoever cleaned up the pods of a finished job trained it once more."""
    bench.apply_job()
    bench.look()
    for number in range(3):
        bench.round(number)
    for client in "ab":
        bench.apply(make_pod(client, "Succeeded"))
    bench.look()
    ended = bench.status
    assert ended["phase"] == "Succeeded"
    for each in bench.cluster.all(PODS):
        bench.cluster.delete(PODS, "ns", each["metadata"]["name"])
    for each in bench.cluster.all(WORKFLOWS):
        bench.cluster.delete(WORKFLOWS, "ns", each["metadata"]["name"])
    if is_restarted:
        bench.restart()
    for _ in range(3):
        bench.look()
    assert (bench.workflows(), bench.cluster.all(PODS)) == ([], [])
    assert bench.status == ended


def test_resurrection_of_the_pods_of_a_deleted_job(bench):
    bench.apply_job()
    bench.look()
    bench.round(0)
    bench.cluster.delete(JOBS, "ns", "toy")
    for _ in range(3):
        bench.look()
    assert [each for kind in MADE for each in bench.cluster.all(kind)] == []


def test_one_failed_worker_failing_the_job(mover):
    """A single failed pod was the end of the job, whatever the others did."""
    mover.describe({"rounds": 2, "participants": 2})
    crash = "assert os.environ['DATASET_NAME'] != 'c' or task != 'train', 'no memory'\nmodel ="
    mover.files["train.py"] = mover.files["train.py"].replace("model =", crash, 1)
    assert mover.run().phase == "Succeeded"
    for number in (1, 2):
        clients = mover.result(number)["clients"]
        assert [clients[name]["state"] for name in "abc"] == ["Succeeded", "Succeeded", "Failed"]
        assert "no memory" in clients["c"]["message"]


def test_one_failed_worker_failing_the_job_though_all_are_needed(mover):
    """Where nobody may be missing the round is tried again; the worker may be back by then."""
    mover.describe({"rounds": 1, "participants": 3})
    crash = (
        "if task == 'train' and os.environ['DATASET_NAME'] == 'c' and not os.path.exists('once'):\n"
    )
    crash += "    open('once', 'w').close()\n    raise SystemExit('no memory')\nmodel ="
    mover.files["train.py"] = mover.files["train.py"].replace("model =", crash, 1)
    assert mover.run().phase == "Succeeded"
    assert mover.result(1)["attempt"] == 2
    assert {each["state"] for each in mover.result(1)["clients"].values()} == {"Succeeded"}


def test_restart_of_the_global_manager_in_mid_round(bench):
    bench.apply_job()
    bench.look()
    bench.round(0)
    before, status = of_job(bench, "toy"), bench.status
    bench.restart()
    bench.look()
    assert of_job(bench, "toy") == before
    assert bench.status == status
    bench.round(1)
    bench.restart()
    bench.round(2)
    assert bench.workflows() == ["r0-a1", "r1-a1", "r2-a1"]
    assert bench.condition("Complete") == ("True", "RoundsDone")


def test_restart_of_the_global_manager_and_an_edit_then(bench):
    """It had forgotten the aggregator's address: workers of a job that was edited got an empty one."""
    bench.apply_job(compat="websocket", rounds=3)
    bench.look()
    bench.restart()
    bench.edit(hyperparameters={"epochs": 2})
    bench.round(0)
    bench.restart()
    bench.look()
    made = json.dumps(workflow(bench, "r1-a1"))
    assert made.count('{"name": "AGG_IP", "value": "toy-aggregation.ns"}') >= 1
    assert '{"name": "AGG_PORT", "value": "7363"}' in made
    assert '"AGG_IP", "value": ""' not in made
    before = of_job(bench, "toy")
    bench.restart()
    bench.edit(hyperparameters={"epochs": 3})
    bench.look()
    assert of_job(bench, "toy") == before, "the round that runs is left alone"


def test_plain_credentials_in_pod_specs(bench, minio_server, s3_bucket):
    """The keys stood in the environment of every pod, for whoever may read pods."""
    keys = {
        "ACCESS_KEY_ID": minio_server.access_key,
        "SECRET_ACCESS_KEY": minio_server.secret_key,
    }
    meta = {"name": "mysecret", "namespace": "ns"}
    meta["annotations"] = {"s3-endpoint": minio_server.endpoint, "s3-usehttps": "0"}
    data = {name: base64.b64encode(value.encode()).decode() for name, value in keys.items()}
    bench.apply({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "data": data})
    place = {"aggDataPath": f"s3://{s3_bucket}/plain", "credentialName": "mysecret"}
    bench.apply_job(compat="sedna", transmitter={"s3": place})
    bench.look()
    assert bench.condition("ResolvedRefs") == ("True", "Resolved")
    made = json.dumps([bench.cluster.all(kind) for kind in (WORKFLOWS, BATCH_JOBS, PODS)])
    made += json.dumps(bench.job)
    for value in (*keys.values(), *data.values()):
        assert value not in made


def test_pickles_between_cloud_and_edge(mover):
    """V2 pickled its payload: whoever took part could run code wherever it arrived."""
    mover.describe({"rounds": 1})
    assert mover.run().phase == "Succeeded"
    artifacts = [each for each in (mover.folder / "state/artifacts").rglob("*") if each.is_file()]
    assert {each.suffix for each in artifacts} == {".json", ".safetensors"}
    for each in artifacts:
        if each.suffix == ".json":
            json.loads(each.read_bytes())
        else:
            load_arrays(each)
