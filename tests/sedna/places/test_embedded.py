"""The same urls on one machine: downloaded into the state folder; the final model where its Model says."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest

from controller.embedded.run import Order, run_embedded
from fedloom.api.documents import read_documents
from fedloom.api.validation import job_to_run, validate
from fedloom.artifacts.arrays import load_arrays

TRAIN = """
import json, os, numpy as np
from pathlib import Path
from safetensors.numpy import load_file, save_file

task = os.environ["FEDLOOM_TASK"]
told = {n: os.environ.get(n) for n in (
    "TRANSMITTER", "MODEL_URL", "ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "S3_ENDPOINT_URL", "TRAIN_DATASET_URL")}
Path("told-" + task + ".json").write_text(json.dumps(told))
if task == "initialize":
    save_file({"w": np.zeros(3, np.float32)}, os.environ["FEDLOOM_UPDATE"])
else:
    number = float(Path(os.environ["TRAIN_DATASET_URL"]).read_text())
    save_file({"w": load_file(os.environ["FEDLOOM_MODEL"])["w"] + np.float32(number)},
              os.environ["FEDLOOM_UPDATE"])
    Path(os.environ["FEDLOOM_RESULT"]).write_text(json.dumps({"num_examples": 1, "metrics": {}}))
"""


@pytest.fixture
def small(sedna, tmp_path):
    """One client, one round, a script without any library of ours."""
    (tmp_path / "train.py").write_text(TRAIN)
    (tmp_path / "one.txt").write_text("2")
    del sedna.spec["trainingWorkers"][1]
    del sedna.datasets["coco-2"]
    sedna.datasets["coco-1"]["spec"]["url"] = "one.txt"
    sedna.models["out"]["spec"]["url"] = "output/m.safetensors"
    sedna.container()["command"] = ["python", "train.py"]
    return sedna


@pytest.fixture
def run(tmp_path):
    def go(sedna) -> list[dict]:
        documents = read_documents([sedna.write(tmp_path)])
        events: list[dict] = []
        order = Order(documents, job_to_run(documents), tmp_path / "state", 1, is_tracked=False)
        decision = run_embedded(order, events.append)
        assert decision.phase == "Succeeded", decision
        return events

    return go


def notices(events: list[dict]) -> dict[str, str]:
    return {each["reason"]: each["message"] for each in events if each["event"] == "notice"}


def test_a_dataset_of_the_web_is_downloaded_once(small, run, web, host, tmp_path):
    web.files["/sets/one.txt"] = b"5"
    small.datasets["coco-1"]["spec"]["url"] = f"{web.url}/sets/one.txt"
    run(small)
    model = load_arrays(tmp_path / "output/m.safetensors")[0]
    assert model["w"].tolist() == [5.0] * 3
    assert (tmp_path / "state/downloads" / host / "sets/one.txt").read_text() == "5"
    run(small)
    assert web.sent == 1


def test_data_and_models_of_an_s3_are_opened_by_their_own_secret(
    small, run, minio_server, s3_bucket, s3_secret, tmp_path
):
    client, key = minio_server.client(), tmp_path.name
    client.put_object(
        bucket_name=s3_bucket, object_name=f"{key}/one.txt", data=io.BytesIO(b"7"), length=1
    )
    small.secrets["keys"] = s3_secret
    small.datasets["coco-1"]["spec"] |= {
        "url": f"s3://{s3_bucket}/{key}/one.txt", "credentialName": "keys"
    }  # fmt: skip
    small.models["out"]["spec"] |= {
        "url": f"s3://{s3_bucket}/{key}/final.safetensors", "credentialName": "keys"
    }  # fmt: skip
    events = run(small)
    assert "ModelNotSaved" not in notices(events)
    found = client.get_object(bucket_name=s3_bucket, object_name=f"{key}/final.safetensors")
    (tmp_path / "final.safetensors").write_bytes(found.read())
    found.close()
    assert load_arrays(tmp_path / "final.safetensors")[0]["w"].tolist() == [7.0] * 3
    told = json.loads((tmp_path / "told-train.json").read_text())
    assert told["ACCESS_KEY_ID"] is None  # those of the data are nobody's business
    # and in no file of the state
    for path in (tmp_path / "state").rglob("*"):
        if path.is_file():
            assert minio_server.secret_key.encode() not in path.read_bytes(), path


def test_a_sedna_program_gets_the_keys_of_the_jobs_own_s3_and_no_file_has_them(
    small, run, minio_server, s3_bucket, s3_secret, tmp_path
):
    small.secrets["keys"] = s3_secret
    s3 = {"aggDataPath": f"s3://{s3_bucket}/{tmp_path.name}", "credentialName": "keys"}
    small.spec["transmitter"] = {"s3": s3}
    run(small)
    told = json.loads((tmp_path / "told-train.json").read_text())
    assert told["TRANSMITTER"] == "s3"
    assert told["ACCESS_KEY_ID"] == minio_server.access_key
    assert told["SECRET_ACCESS_KEY"] == minio_server.secret_key
    assert told["S3_ENDPOINT_URL"] == minio_server.url
    objects = minio_server.client().list_objects(
        bucket_name=s3_bucket, prefix=f"{tmp_path.name}/", recursive=True
    )
    for each in objects:
        found = minio_server.client().get_object(
            bucket_name=s3_bucket, object_name=each.object_name
        )
        assert minio_server.secret_key.encode() not in found.read()
        found.close()


def test_a_dataset_that_cannot_be_had_is_told_before_any_round(small, run, web, tmp_path):
    from fedloom.errors import ArtifactNotFoundError

    small.datasets["coco-1"]["spec"]["url"] = f"{web.url}/none.txt"
    with pytest.raises(ArtifactNotFoundError, match=r"none\.txt"):
        run(small)
    assert not list((tmp_path / "state").rglob("result.json"))


def test_a_secret_that_is_not_given_is_a_problem(small, tmp_path):
    small.datasets["coco-1"]["spec"] |= {"url": "s3://b/x.txt", "credentialName": "keys"}
    (problem,) = validate(read_documents([small.write(tmp_path)]))
    assert "expected a Secret of namespace 'default'" in str(problem)


@pytest.mark.parametrize(
    ("url", "file", "is_told"),
    [
        ("output/m.safetensors", "output/m.safetensors", False),
        ("output/m.npz", "output/m.npz", False),
        ("output/m.pth", "output/m.pth.safetensors", True),
        ("output/folder", "output/folder/out.safetensors", True),
    ],
)
def test_the_final_model_is_where_its_model_says_in_a_format_that_its_name_tells(
    small, run, tmp_path: Path, url, file, is_told
):
    small.models["out"]["spec"]["url"] = url
    events = run(small)
    path = tmp_path / file
    arrays = dict(np.load(path)) if path.suffix == ".npz" else load_arrays(path)[0]
    assert arrays["w"].tolist() == [2.0] * 3
    assert ("ModelSaved" in notices(events)) is is_told
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_both_models_that_a_job_names_are_written(small, run, tmp_path):
    small.models["copy"] = {
        **small.models["out"], "metadata": {"name": "copy"},
        "spec": {"url": "elsewhere/c.npz", "format": "npz"},
    }  # fmt: skip
    small.spec["output"] = {"model": {"name": "copy"}}
    run(small)
    assert (tmp_path / "output/m.safetensors").exists()
    assert (tmp_path / "elsewhere/c.npz").exists()


def test_a_place_that_takes_no_model_is_told_and_the_job_is_complete(small, run):
    small.models["out"]["spec"]["url"] = "https://example.org/m.safetensors"
    assert "https://" in notices(run(small))["ModelNotSaved"]
