"""An edge's view of S3: single objects through URLs, on a real server, and nothing besides."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path

import pytest

from fedloom.artifacts.credentials import S3Credentials
from fedloom.artifacts.opening import open_store
from fedloom.artifacts.presigned import PresignedStore
from fedloom.artifacts.presigning import Presigner
from fedloom.artifacts.retry import RetryPolicy
from fedloom.errors import (
    ArtifactNotFoundError,
    CorruptArtifactError,
    JobError,
    StoreUnavailableError,
)

ONCE = RetryPolicy(attempts=2, sleep=lambda seconds: None)
OTHER = "sha256:" + "0" * 64


@pytest.fixture
def bucket(minio_server, s3_bucket, tmp_path):
    """A store with all rights, and a presigner for the same objects."""
    credentials = S3Credentials(minio_server.access_key, minio_server.secret_key)
    prefix = f"presigned/{tmp_path.name}"
    store = open_store(f"s3://{s3_bucket}/{prefix}", credentials, minio_server.url)
    return store, Presigner(minio_server.url, s3_bucket, prefix, credentials)


def edge(presigner, get=(), put=(), seconds=60):
    gets = {key: presigner.get_url(key, seconds) for key in get}
    puts = {key: presigner.put_url(key, seconds) for key in put}
    return PresignedStore(gets, puts, ONCE)


def test_what_an_edge_puts_the_server_finds_and_the_other_way_round(bucket, tmp_path):
    store, presigner = bucket
    down = store.put("round-0001/model.safetensors", b"m" * 3_000_000)
    here = edge(presigner, get=[down.key], put=["update", "file"])
    assert here.get(down.key, digest=down.digest) == b"m" * 3_000_000
    path = here.materialize(down.key, tmp_path, digest=down.digest)
    assert path.read_bytes() == b"m" * 3_000_000
    up = here.put("update", b"u" * 1000)
    assert store.get("update", digest=up.digest) == b"u" * 1000
    large = tmp_path / "large"
    large.write_bytes(b"l" * 2_000_000)
    up = here.put_file("file", large)
    assert store.get("file", digest=up.digest) == large.read_bytes()
    assert here.exists(down.key)


def test_an_edge_reaches_nothing_that_it_has_no_url_for(bucket):
    store, presigner = bucket
    store.put("secret", b"s")
    here = edge(presigner, get=["mine"], put=["mine"])
    for attempt in (
        lambda: here.get("secret"),
        lambda: here.put("secret", b""),
        lambda: here.list(""),
        lambda: here.delete("mine"),
        lambda: here.read("mine", 0, 1),
    ):
        with pytest.raises(JobError) as caught:
            attempt()
        assert caught.value.reason == "StoreDenied"


def test_an_expired_or_altered_url_is_refused_and_never_shown(bucket):
    store, presigner = bucket
    store.put("model", b"m")
    expired = edge(presigner, get=["model"], seconds=1)
    time.sleep(2.1)
    with pytest.raises(JobError, match="the URL has expired") as caught:
        expired.get("model")
    assert "Signature" not in str(caught.value)
    url = presigner.get_url("model", 60)
    altered = PresignedStore({"model": url.replace("/model?", "/modem?")}, {}, ONCE)
    with pytest.raises(JobError, match="refused") as caught:
        altered.get("model")
    assert "Signature" not in str(caught.value) + repr(altered)


def test_what_is_not_there_or_not_what_was_promised_is_said(bucket, tmp_path):
    store, presigner = bucket
    store.put("model", b"m")
    here = edge(presigner, get=["model", "absent"])
    with pytest.raises(ArtifactNotFoundError):
        here.get("absent")
    assert not here.exists("absent")
    with pytest.raises(CorruptArtifactError):
        here.get("model", digest=OTHER)
    with pytest.raises(CorruptArtifactError):
        here.materialize("model", tmp_path, digest=OTHER)
    assert not (tmp_path / "model").exists()


def test_a_server_that_is_away_is_asked_again_and_then_said_to_be_away():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{probe.getsockname()[1]}/object?X-Amz-Signature=abc"
    waits: list[float] = []
    patient = RetryPolicy(attempts=3, sleep=waits.append)
    with pytest.raises(StoreUnavailableError, match="tried 3 times") as caught:
        PresignedStore({"model": address}, {}, patient).get("model")
    assert len(waits) == 2
    assert "abc" not in str(caught.value)


def test_urls_come_from_the_plan_s_file(tmp_path):
    file = tmp_path / "plan.json"
    file.write_text(json.dumps({"job": {}, "urls": {"get": {"a": "http://x/a"}, "put": {}}}))
    assert repr(open_store(f"presigned://{file}")) == "PresignedStore(['a'], [])"
    file.write_text("{}")
    with pytest.raises(JobError, match=r"expected JSON with urls\.get"):
        open_store(f"presigned://{file}")
    with pytest.raises(JobError, match="FileNotFoundError"):
        open_store(f"presigned://{Path(tmp_path, 'absent')}")


@pytest.mark.parametrize("endpoint", ["minio:9000", "ftp://minio", "http://a:b@minio:9000", ""])
def test_an_endpoint_that_is_none_signs_nothing(endpoint):
    with pytest.raises(JobError) as caught:
        Presigner(endpoint, "bucket", "", S3Credentials("key", "secret"))
    assert caught.value.reason == "InvalidStore"
    assert "a:b" not in str(caught.value)
