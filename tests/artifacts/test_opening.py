"""From an address to a store."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fedloom.artifacts.credentials import S3Credentials
from fedloom.artifacts.local import LocalStore
from fedloom.artifacts.opening import open_store
from fedloom.errors import JobError

SOMEBODY = S3Credentials("somebody", "the-secret")
VARIABLES = (
    *("AWS_ENDPOINT_URL", "S3_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION"),
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
)


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch):
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)


def test_a_path_and_its_file_address_are_the_same_store(tmp_path):
    folder = tmp_path / "with space, 100% ü"
    by_path, by_address = open_store(str(folder)), open_store(folder.as_uri())
    by_path.put("a", b"x")
    assert by_address.get("a") == b"x"
    assert by_path.uri == by_address.uri == folder.as_uri()
    assert by_path.uri_of("b/ü") == (folder / "b/ü").as_uri()


def test_a_relative_path_is_meant_from_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = open_store(".fedloom/x")
    assert isinstance(store, LocalStore)
    assert store.root == tmp_path / ".fedloom/x"


def test_an_s3_address_is_bucket_and_prefix():
    for address, uri in (
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/", "s3://bucket"),
        ("s3://bucket/a/b/", "s3://bucket/a/b"),
    ):
        store = open_store(address, SOMEBODY, "http://host:9000")
        assert store.uri == uri
        assert store.uri_of("k/x") == f"{uri}/k/x"


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "S3_ENDPOINT_URL"])
def test_endpoint_and_credentials_come_from_the_environment(variable, monkeypatch):
    monkeypatch.setenv(variable, "https://host:9000/")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the-secret")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    store = open_store("s3://bucket/prefix")
    assert store.uri == "s3://bucket/prefix"
    assert "the-secret" not in repr(store)


@pytest.mark.parametrize(
    ("uri", "credentials", "endpoint", "words"),
    [
        ("", None, None, "empty address"),
        ("gs://bucket/a", None, None, "gs://bucket/a"),
        ("file://elsewhere/a", None, None, "file:///folder"),
        ("file://", None, None, "file:///folder"),
        ("s3://", SOMEBODY, "http://host:9000", "bucket ''"),
        ("s3://b", SOMEBODY, "http://host:9000", "bucket 'b'"),
        ("s3://bucket", SOMEBODY, None, "set AWS_ENDPOINT_URL"),
        ("s3://bucket", None, "http://host:9000", "set AWS_ACCESS_KEY_ID"),
        ("s3://bucket", SOMEBODY, "host:9000", "expected http://"),
        ("s3://bucket", SOMEBODY, "ftp://host", "expected http://"),
        ("s3://bucket", SOMEBODY, "http://host/path", "expected http://"),
        ("s3://bucket", SOMEBODY, "http://somebody:the-secret@host", "holds credentials"),
    ],
)
def test_an_address_that_leads_nowhere_is_refused(uri, credentials, endpoint, words):
    with pytest.raises(JobError, match=words) as caught:
        open_store(uri, credentials, endpoint)
    assert caught.value.reason == "InvalidStore"
    assert "the-secret" not in str(caught.value)


def test_a_folder_is_opened_without_loading_the_s3_library():
    program = (
        "import sys; from fedloom.artifacts.opening import open_store; open_store('x');"
        "import fedloom.artifacts.arrays; print('minio' in sys.modules, 'urllib3' in sys.modules)"
    )
    folder = Path(__file__).resolve().parents[2]
    output = subprocess.check_output([sys.executable, "-c", program], cwd=folder, text=True)
    assert output.split() == ["False", "False"]
