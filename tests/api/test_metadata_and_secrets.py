"""Metadata is held to what names can be; what is secret shows up nowhere."""

from __future__ import annotations

import pytest

from fedloom.api.reading import read_job, read_secret


@pytest.mark.parametrize(
    ("metadata", "field"),
    [
        pytest.param(None, "metadata", id="missing"),
        pytest.param({}, "metadata.name", id="nameless"),
        pytest.param({"generateName": "digits-"}, "metadata.name", id="generated"),
        pytest.param({"name": "Digits"}, "metadata.name", id="upper-case"),
        pytest.param({"name": "a" * 64}, "metadata.name", id="long"),
        pytest.param({"name": "a..b"}, "metadata.name", id="dots"),
        pytest.param({"name": "-a"}, "metadata.name", id="dash"),
        pytest.param({"name": "digits\n"}, "metadata.name", id="newline"),
        pytest.param({"name": "../up"}, "metadata.name", id="path"),
        pytest.param({"name": "a", "namespace": ""}, "metadata.namespace", id="namespace"),
        pytest.param({"name": "a", "label": {}}, "metadata.label", id="misspelt"),
        pytest.param({"name": "a", "labels": {"team": 7}}, "metadata.labels.team", id="label"),
    ],
)
def test_metadata_that_is_wrong_is_named(problems_of, job_document, metadata, field):
    document = job_document()
    document["metadata"] = metadata
    assert list(problems_of(document)) == [field]


def test_what_an_api_server_adds_to_metadata_is_taken(job_document):
    document = job_document()
    document["metadata"] |= {
        "uid": "9d1c",
        "generation": 3,
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "managedFields": [{"manager": "kubectl"}],
        "resourceVersion": "77",
    }
    document["status"] = {"phase": "Running"}
    meta = read_job(document).metadata
    assert (meta.uid, meta.generation) == ("9d1c", 3)


def test_a_secret_is_read_from_both_of_its_parts():
    secret = read_secret(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "minio"},
            "data": {"A": "aGVsbG8=", "B": "b2xk", "C": "/w=="},
            "stringData": {"B": "new"},
        }
    )
    assert secret.data == {"A": "hello", "B": "new", "C": "\udcff"}


def test_a_secret_s_values_show_up_neither_in_its_repr_nor_in_problems(problems_of):
    document = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "minio", "annotations": {"applied": "hunter2"}},
        "stringData": {"KEY": "hunter2"},
    }
    secret = read_secret(document)
    assert "KEY" in repr(secret)
    assert "hunter2" not in repr(secret) + repr(secret.metadata)
    assert "hunter2" not in str(problems_of(document | {"data": ["hunter2"]}, read_secret))
    document["data"] = {"KEY": "hunter2", "PIN": 1234567}
    document["metadata"]["annotations"]["pin"] = 1234567
    found = problems_of(document, read_secret)
    assert set(found) == {"data.KEY", "data.PIN", "metadata.annotations.pin"}
    assert not any("hunter2" in message or "1234567" in message for message in found.values())


def test_a_worker_s_environment_is_not_in_the_repr_of_a_job(job_document):
    document = job_document()
    container = document["spec"]["trainingWorkers"][0]["template"]["spec"]["containers"][0]
    container["env"] = [{"name": "SECRET_ACCESS_KEY", "value": "hunter2"}]
    assert "hunter2" not in repr(read_job(document))
