"""Secrets by Sedna's, KServe's and AWS's names; nodes that disagree; urls that no pod can be made for."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from controller.cluster.resolve import resolve
from controller.cluster.resources import DATASETS, MODELS, SECRETS
from controller.cluster.signing import signed_downloads
from controller.credentials import (
    credentials_of,
    endpoint_of,
    external_endpoint_of,
    region_in,
)
from fedloom.api.documents import read_documents
from fedloom.api.reading import read_secret
from fedloom.api.validation import validate
from fedloom.errors import JobError

SEEDS = Path(__file__).resolve().parents[4] / "shared" / "seeds"


def secret(annotations: dict, entries: dict, name: str = "keys"):
    meta = {"name": name, "annotations": annotations}
    return read_secret(
        {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": entries}
    )


KEYS = {"ACCESS_KEY_ID": "id", "SECRET_ACCESS_KEY": "key"}


@pytest.mark.parametrize(
    ("annotations", "endpoint"),
    [
        ({}, "https://s3.amazonaws.com"),
        ({"s3-endpoint": "h:9000", "s3-usehttps": "0"}, "http://h:9000"),
        ({"s3-endpoint": "h", "s3-usehttps": "1"}, "https://h"),
        ({"s3-endpoint": "h", "s3-usehttps": ""}, "https://h"),
        ({"s3-endpoint": "http://h:9000"}, "http://h:9000"),
        (
            {"serving.kserve.io/s3-endpoint": "k", "serving.kserve.io/s3-usehttps": "0"},
            "http://k",
        ),
        ({"s3-endpoint": "h", "serving.kserve.io/s3-endpoint": "k"}, "https://h"),
    ],
)
def test_the_endpoint_is_read_by_either_name(annotations, endpoint):
    assert endpoint_of(secret(annotations, KEYS)) == endpoint


def test_region_and_the_edges_address_are_read():
    found = secret({"serving.kserve.io/s3-region": "eu-1", "s3-external-endpoint": "out"}, KEYS)
    assert (region_in(found), external_endpoint_of(found)) == ("eu-1", "https://out")
    old = secret({"s3-region": "us-9", "s3-edge-endpoint": "http://out:1"}, KEYS)
    assert (region_in(old), external_endpoint_of(old)) == ("us-9", "http://out:1")
    assert external_endpoint_of(secret({"s3-endpoint": "in"}, KEYS)) == ""


def test_keys_are_read_by_sednas_and_by_awss_names():
    assert credentials_of(secret({}, KEYS)) == {"access_key": "id", "secret_key": "key"}
    aws = secret(
        {}, {"AWS_ACCESS_KEY_ID": "i", "AWS_SECRET_ACCESS_KEY": "k", "AWS_SESSION_TOKEN": "t"}
    )
    assert credentials_of(aws) == {"access_key": "i", "secret_key": "k", "session_token": "t"}
    assert aws.entry_of("ACCESS_KEY_ID") == "AWS_ACCESS_KEY_ID"
    assert secret({}, {"ACCESS_KEY_ID": ""}).lacking == ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY")


def test_urls_are_signed_for_who_uses_them_and_never_with_the_controllers_keys():
    named = secret(
        {"s3-endpoint": "in:9000", "s3-usehttps": "0", "s3-external-endpoint": "out"}, KEYS
    )
    urls = {"s3://sets/x.csv": "keys", "s3://sets/y.csv": "", "https://h/z": ""}
    settings = {"downloads": urls}
    edge = signed_downloads(settings, {"keys": named}, None, 60, is_edge=True)
    assert list(edge) == ["s3://sets/x.csv"]
    assert urlsplit(edge["s3://sets/x.csv"]).netloc == "out"
    cloud = signed_downloads(settings, {"keys": named}, named, 60, is_edge=False)
    assert urlsplit(cloud["s3://sets/y.csv"]).netloc == "in:9000"
    assert urlsplit(cloud["s3://sets/y.csv"]).path == "/sets/y.csv"
    with pytest.raises(JobError, match="bucket name"):
        signed_downloads(
            {"downloads": {"s3://B/x": "keys"}}, {"keys": named}, None, 60, is_edge=True
        )


class Objects:
    """A cluster's objects, from documents."""

    def __init__(self, sedna) -> None:
        kinds = {"Dataset": DATASETS, "Model": MODELS, "Secret": SECRETS}
        self.known = {
            (kinds[each["kind"]], each["metadata"]["name"]): each for each in sedna.documents[1:]
        }

    def get(self, resource, namespace, name):
        return self.known.get((resource, name))

    def nodes(self):
        return None


def test_a_datasets_secret_is_missed_and_heals(sedna):
    sedna.datasets["coco-1"]["spec"] |= {"url": "s3://b/coco.zip", "credentialName": "keys"}
    found = resolve(sedna.job, Objects(sedna))
    assert found.missing.reason == "SecretNotFound"
    assert "'keys'" in found.missing.message
    data = {name: base64.b64encode(b"x").decode() for name in KEYS}
    sedna.secrets["keys"] = {
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "data": data
    }  # fmt: skip
    found = resolve(sedna.job, Objects(sedna))
    assert found.is_complete
    assert set(found.secrets) == {"keys"}
    assert found.secret is None
    sedna.secrets["keys"]["data"] = {}
    assert resolve(sedna.job, Objects(sedna)).missing.reason == "SecretIncomplete"


def test_a_path_needs_no_secret_whatever_its_object_says(sedna):
    sedna.datasets["coco-1"]["spec"]["credentialName"] = "gone"
    assert resolve(sedna.job, Objects(sedna)).is_complete


def test_a_worker_on_another_node_than_its_data_is_told_with_both_names(sedna, tmp_path):
    sedna.worker()["spec"]["nodeName"] = "e9"
    found = resolve(sedna.job, Objects(sedna))
    assert found.job is not None
    assert found.missing.reason == "NodeMismatch"
    for name in ("e9", "e1", "coco-1", "trainingWorkers[0]"):
        assert name in found.missing.message
    (problem,) = validate(read_documents([sedna.write(tmp_path)]))
    assert "trainingWorkers[0].template.spec.nodeName: got 'e9'" in str(problem)
    sedna.worker()["spec"]["nodeName"] = "e1"
    assert resolve(sedna.job, Objects(sedna)).is_complete
    assert not validate(read_documents([sedna.write(tmp_path)]))


def test_data_from_elsewhere_is_on_no_node(sedna):
    sedna.datasets["coco-1"]["spec"]["url"] = "https://example.org/coco.zip"
    sedna.worker()["spec"]["nodeName"] = "e9"
    assert resolve(sedna.job, Objects(sedna)).is_complete


@pytest.mark.parametrize(
    ("kind", "url", "reason"),
    [
        ("datasets", "/data/../../etc", "DatasetInvalid"),
        ("datasets", "/", "DatasetInvalid"),
        ("models", "/models/../x", "ModelInvalid"),
        ("models", "https://u:p@h/x", "ModelInvalid"),
    ],
)
def test_a_url_that_would_leave_its_folder_is_a_reason(sedna, kind, url, reason):
    next(iter(getattr(sedna, kind).values()))["spec"]["url"] = url
    found = resolve(sedna.job, Objects(sedna)).missing
    assert found.reason == reason
    assert "u:p" not in found.message


@pytest.mark.skipif(
    not SEEDS.is_dir(), reason="the original documents are not beside this checkout"
)
def test_the_example_of_sednas_documentation_is_understood(tmp_path):
    text = (SEEDS / "mistnet-yolov5-example.yaml").read_text()
    for name in ("CLOUD_NODE", "EDGE1_NODE", "EDGE2_NODE"):
        text = text.replace(f"${name}", name.lower().replace("_", "-"))
    path = tmp_path / "job.yaml"
    path.write_text(text)
    problems = validate(read_documents([path]))
    assert not [each for each in problems if "mistnet" not in json.dumps(str(each))]
