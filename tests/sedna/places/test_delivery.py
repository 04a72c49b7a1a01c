"""The final model on a cluster: to S3, to nodes of the cloud and the edge; told, retried, never lost."""

from __future__ import annotations

import base64
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from controller.cluster.delivery import targets_of
from controller.cluster.resources import BATCH_JOBS, MODELS, SECRETS
from fedloom.api.documents import read_documents
from fedloom.api.lookup import datasets_of, models_of
from fedloom.api.validation import job_to_run
from fedloom.artifacts.arrays import dump_arrays, load_arrays
from fedloom.artifacts.artifact import digest_of


def _controller_tests() -> Any:
    """The bench of the controller's own tests."""
    name = "controller_bench"
    path = Path(__file__).resolve().parents[2] / "cluster_controller" / "conftest.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


BENCH = _controller_tests()


@pytest.fixture
def store_settings(minio_server, s3_bucket, tmp_path):
    from controller.cluster.settings import StoreSettings
    from fedloom.artifacts.credentials import S3Credentials

    return StoreSettings(
        uri=f"s3://{s3_bucket}/{tmp_path.name}",
        endpoint=minio_server.url,
        edge_endpoint=minio_server.url,
        region="us-east-1",
        credentials=S3Credentials(minio_server.access_key, minio_server.secret_key),
    )


@pytest.fixture
def bench(store_settings):
    return BENCH.Bench(BENCH.fake.FakeCluster(), store_settings)


MODEL = dump_arrays({"w": np.arange(4, dtype=np.float32)})


def finish(bench, **spec: Any) -> None:
    """A whole job: two rounds; the last one's model is a real one."""
    bench.apply_job(**spec)
    bench.look()
    for number in (0, 1, 2):
        bench.commit(number)
        key = f"round-{number:04d}/model.safetensors"
        bench.job_store.put(key, MODEL)
        result = json.loads(bench.job_store.get(f"round-{number:04d}/result.json"))
        result["model"]["digest"] = digest_of(MODEL)
        bench.job_store.put(
            f"round-{number:04d}/result.json", json.dumps(result).encode(), replace=True
        )
        bench.end_workflow(f"r{number}-a1")
        bench.look()


def jobs(bench) -> dict[str, dict]:
    return {each["metadata"]["name"]: each for each in bench.cluster.all(BATCH_JOBS)}


def order_of(bench, job: dict) -> bytes:
    secret = bench.cluster.get(SECRETS, "ns", job["metadata"]["name"])
    return base64.b64decode(secret["data"]["order.json"])


def carry_out(bench, job: dict, tmp_path: Path) -> dict:
    """Do what the Job's container does, with this machine's folders."""
    order = tmp_path / f"{job['metadata']['name']}.json"
    order.write_bytes(order_of(bench, job))
    command = [sys.executable, "-I", "-m", "components.deliver", "--order", str(order)]
    command += ["--workdir", str(tmp_path / "work"), "--target", str(tmp_path / "target")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "Signature" not in done.stdout + done.stderr
    return json.loads(done.stdout)


def end(bench, job: dict, kind: str = "Complete") -> None:
    status = {"conditions": [{"type": kind, "status": "True", "reason": "BackoffLimitExceeded"}]}
    bench.cluster.set_status(BATCH_JOBS, "ns", job["metadata"]["name"], status)


AGGREGATION = {
    "model": {"name": "m"},
    "template": {"spec": {"nodeName": "cloud-1", "containers": [{"name": "a", "image": "b"}]}},
}


def test_a_model_goes_to_the_clouds_node_and_the_status_says_when_it_is_there(bench, tmp_path):
    bench.apply(BENCH.node_document("cloud-1"))
    finish(bench, aggregationWorker=AGGREGATION)
    assert bench.status["phase"] == "Succeeded"
    assert bench.condition("ModelDelivered") == ("False", "Delivering")
    (job,) = jobs(bench).values()
    pod = job["spec"]["template"]["spec"]
    assert pod["nodeName"] == "cloud-1"
    target = next(each for each in pod["volumes"] if each["name"] == "target")
    assert target["hostPath"] == {"path": "/models/m", "type": "DirectoryOrCreate"}
    assert pod["automountServiceAccountToken"] is False
    assert "hostNetwork" not in pod
    assert "AWS" not in json.dumps(job)
    (secret,) = [
        s for s in bench.cluster.all(SECRETS) if s["metadata"]["name"] == job["metadata"]["name"]
    ]
    assert secret["metadata"]["ownerReferences"][0]["uid"] == job["metadata"]["uid"]
    said = carry_out(bench, job, tmp_path)
    assert (said["state"], said["is_new"]) == ("Succeeded", True)
    assert load_arrays(tmp_path / "target/m.safetensors")[0]["w"].tolist() == [0, 1, 2, 3]
    assert carry_out(bench, job, tmp_path)["is_new"] is False
    end(bench, job)
    bench.look()
    assert bench.condition("ModelDelivered") == ("True", "Delivered")
    assert bench.status["model"]["saved"] == ["cloud-1:/models/m/m.safetensors"]
    assert bench.condition("Complete")[0] == "True"


def test_a_failed_delivery_is_told_and_tried_again_also_by_the_next_controller(bench, monkeypatch):
    bench.apply(BENCH.node_document("cloud-1"))
    finish(bench, aggregationWorker=AGGREGATION)
    (job,) = jobs(bench).values()
    end(bench, job, "Failed")
    bench.look()
    assert bench.condition("ModelDelivered") == ("False", "DeliveryFailed")
    assert len(jobs(bench)) == 1  # not at once
    bench.restart()
    for _ in range(2):
        bench.look()
    from controller.cluster import delivering

    now = delivering.time.monotonic
    monkeypatch.setattr(delivering.time, "monotonic", lambda: now() + 700)
    bench.look()
    monkeypatch.undo()
    first, second = sorted(jobs(bench).values(), key=lambda each: each["metadata"]["name"])
    assert first["metadata"]["name"].endswith("-a1")
    assert second["metadata"]["name"].endswith("-a2")
    end(bench, second)
    bench.look()
    assert bench.condition("ModelDelivered") == ("True", "Delivered")
    assert bench.status["phase"] == "Succeeded"


def test_a_model_goes_to_s3_by_its_own_secret(bench, minio_server, s3_bucket, s3_secret, tmp_path):
    key = f"{tmp_path.name}/out/final.npz"
    finish_with = {"url": f"s3://{s3_bucket}/{key}", "format": "npz", "credentialName": "keys"}
    s3_secret["metadata"]["namespace"] = "ns"
    given = s3_secret.pop("stringData")
    s3_secret["data"] = {k: base64.b64encode(v.encode()).decode() for k, v in given.items()}
    bench.apply(s3_secret)
    document = BENCH.model_document("final")
    document["spec"] = finish_with
    bench.apply(document)
    finish(bench, output={"model": {"name": "final"}})
    (job,) = jobs(bench).values()
    assert "nodeName" not in job["spec"]["template"]["spec"]
    assert carry_out(bench, job, tmp_path)["state"] == "Succeeded"
    found = minio_server.client().get_object(bucket_name=s3_bucket, object_name=key)
    (tmp_path / "final.npz").write_bytes(found.read())
    found.close()
    assert np.load(tmp_path / "final.npz")["w"].tolist() == [0, 1, 2, 3]


def test_an_s3_that_no_secret_opens_is_told(bench):
    document = BENCH.model_document("final")
    document["spec"] = {"url": "s3://other/final.safetensors", "format": "safetensors"}
    bench.apply(document)
    finish(bench, output={"model": {"name": "final"}})
    assert bench.condition("ModelDelivered") == ("False", "DeliveryFailed")
    assert bench.status["phase"] == "Succeeded"
    assert not jobs(bench)


def test_a_job_whose_model_goes_nowhere_says_nothing(bench):
    finish(bench)
    assert bench.status["phase"] == "Succeeded"
    assert bench.condition("ModelDelivered") is None
    assert not jobs(bench)


def test_a_url_that_takes_no_model_is_told_until_it_is_another(bench):
    document = BENCH.model_document("final")
    document["spec"] = {"url": "https://h/final.safetensors", "format": "safetensors"}
    bench.apply(document)
    finish(bench, output={"model": {"name": "final"}})
    assert bench.condition("ModelDelivered") == ("False", "UrlNotWritable")
    assert bench.look() is None
    assert bench.cluster.get(MODELS, "ns", "final")["spec"]["url"].startswith("https")


@pytest.fixture
def targets(tmp_path):
    def found(sedna) -> list[str]:
        read = read_documents([sedna.write(tmp_path)])
        job = job_to_run(read)
        targets, trouble = targets_of(job, datasets_of(read, job), models_of(read, job))
        assert trouble is None
        return [target.shown for target in targets]

    return found


def test_sednas_jobs_leave_the_model_where_both_of_its_libraries_did(sedna, targets):
    assert targets(sedna) == ["e1:/model/yolo.pth.safetensors", "e2:/model/yolo.pth.safetensors"]
    sedna.spec["aggregationWorker"]["template"]["spec"]["nodeName"] = "cloud"
    assert targets(sedna)[0] == "cloud:/model/yolo.pth.safetensors"
    assert len(targets(sedna)) == 3
    sedna.spec["rounds"] = 3  # no longer a job of Sedna's
    assert targets(sedna) == ["cloud:/model/yolo.pth.safetensors"]


def test_a_model_right_below_the_root_goes_into_a_folder_or_nowhere(sedna, targets):
    sedna.models["out"]["spec"]["url"] = "/model/"
    assert targets(sedna)[0] == "e1:/model/out.safetensors"
    sedna.models["out"]["spec"]["url"] = "/yolo.pth"
    with pytest.raises(AssertionError, match="UrlInRoot"):
        targets(sedna)
