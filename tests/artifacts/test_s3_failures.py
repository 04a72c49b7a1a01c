"""An S3 server that refuses, breaks off, stalls or lies: the right bytes or the right error."""

from __future__ import annotations

import secrets

import pytest

from fedloom.artifacts.artifact import digest_of
from fedloom.artifacts.retry import RetryPolicy
from fedloom.artifacts.s3 import S3Credentials, S3Store
from fedloom.artifacts.transfer import Transfer
from fedloom.errors import (
    ArtifactError,
    ArtifactNotFoundError,
    CorruptArtifactError,
    JobError,
    StoreUnavailableError,
)

PART_BYTES = 5 << 20
BIG = secrets.token_bytes(2 * PART_BYTES + 12345)


class World:
    """A store behind the misbehaving proxy, and the pauses that it would have made."""

    def __init__(self, proxy, server, bucket, **changes) -> None:
        self.pauses: list[float] = []
        self.proxy = proxy
        self.server = server
        self.bucket = bucket
        self.prefix = f"failures/{secrets.token_hex(8)}"
        retry = RetryPolicy(attempts=4, sleep=self.pauses.append)
        settings = {"part_bytes": PART_BYTES, "read_timeout_seconds": 5.0, **changes}
        self.store = S3Store(
            proxy.endpoint,
            bucket,
            self.prefix,
            S3Credentials(server.access_key, server.secret_key),
            transfer=Transfer(retry=retry, **settings),
        )

    def store_at(self, uri: str, transfer: Transfer | None = None) -> S3Store:
        """Another store at this address, through the same proxy."""
        return S3Store(
            self.proxy.endpoint,
            self.bucket,
            uri.removeprefix(f"s3://{self.bucket}/"),
            S3Credentials(self.server.access_key, self.server.secret_key),
            transfer=transfer or Transfer(part_bytes=PART_BYTES),
        )

    def unfinished_uploads(self, key: str) -> list[object]:
        found = self.server.client()._list_multipart_uploads(
            bucket_name=self.bucket, prefix=f"{self.prefix}/{key}"
        )
        return found.uploads


@pytest.fixture
def world(proxy, minio_server, s3_bucket) -> World:
    return World(proxy, minio_server, s3_bucket)


@pytest.mark.parametrize(
    ("kind", "after_bytes"),
    [("refuse", 0), ("refuse", 10_000), ("refuse-in-html", 100), ("cut-upload", 10_000)],
)
def test_an_upload_that_is_refused_or_cut_is_sent_again(world, kind, after_bytes):
    data = secrets.token_bytes(60_000)
    world.proxy.plan("PUT ", kind, after_bytes=after_bytes, times=2)

    artifact = world.store.put("k", data)

    assert artifact.digest == digest_of(data)
    assert world.store.get("k") == data
    assert len(world.pauses) == 2
    assert world.proxy.count("PUT ") == 3


def test_only_the_refused_part_of_a_big_upload_is_sent_again(world, tmp_path):
    path = tmp_path / "big"
    path.write_bytes(BIG)
    world.proxy.plan("partNumber=2", "refuse", after_bytes=PART_BYTES // 2)
    world.proxy.plan("partNumber=3", "cut-upload", after_bytes=100)

    artifact = world.store.put_file("big", path)

    assert artifact.digest == digest_of(BIG)
    assert [world.proxy.count(f"partNumber={number}&") for number in (1, 2, 3)] == [1, 2, 2]
    assert world.store.get("big") == BIG
    assert world.unfinished_uploads("big") == []


def test_an_upload_that_fails_for_good_leaves_no_parts_and_no_object(world):
    world.proxy.plan("partNumber=2", "refuse", after_bytes=1000, times=99)

    with pytest.raises(StoreUnavailableError, match=r"SlowDown.*tried 4 times"):
        world.store.put("big", BIG)

    assert world.proxy.count("DELETE ") == 1
    assert world.unfinished_uploads("big") == []
    assert not world.store.exists("big")


def test_a_failed_clean_up_does_not_hide_the_first_error(world):
    world.proxy.plan("partNumber=2", "refuse", times=99)
    world.proxy.plan("DELETE ", "refuse-in-html", times=99)
    with pytest.raises(StoreUnavailableError, match="SlowDown"):
        world.store.put("big", BIG)


@pytest.mark.parametrize(
    ("data", "request_"),
    [
        (b"small", "PUT"),
        (BIG, "POST ?uploads="),
        (BIG, "PUT partNumber=2"),
        (BIG, "POST uploadId="),
    ],
    ids=["small", "begin", "part", "complete"],
)
@pytest.mark.parametrize("replace", [False, True], ids=["new", "replace"])
def test_a_lost_answer_to_a_write_is_no_conflict_with_itself(world, data, request_, replace):
    world.proxy.plan(request_, "lose-answer")

    world.store.put("k", data, replace=replace)

    assert world.store.get("k") == data
    assert len(world.pauses) == 1


def test_an_upload_whose_end_fails_after_a_hasty_200_is_ended_again(world):
    world.proxy.plan("POST uploadId=", "fail-in-200")
    world.store.put("big", BIG)
    assert world.store.get("big") == BIG
    assert world.proxy.count("POST") == 3


def test_a_refused_deletion_is_sent_again(world):
    world.store.put("k", b"x")
    world.proxy.plan("POST ?delete", "refuse")
    world.store.delete("k")
    assert world.store.list("") == []


def test_an_object_that_appears_during_a_big_upload_is_not_overwritten(world):
    def write_another(seconds: float) -> None:
        world.server.client()._put_object(world.bucket, f"{world.prefix}/k", b"first", {})

    racing = RetryPolicy(sleep=write_another)
    late = world.store_at(world.store.uri, Transfer(retry=racing, part_bytes=PART_BYTES))
    world.proxy.plan("partNumber=2", "refuse")

    with pytest.raises(ArtifactError, match="never overwritten"):
        late.put("k", BIG)

    assert world.store.get("k") == b"first"
    assert world.unfinished_uploads("k") == []


def test_a_download_that_is_cut_is_fetched_again(world, tmp_path):
    world.store.put("k", b"0123456789" * 1000)
    for number, read in enumerate(
        (
            lambda: world.store.get("k"),
            lambda: world.store.materialize("k", tmp_path).read_bytes(),
            lambda: world.store.read("k", 0, 10_000),
        )
    ):
        world.proxy.plan("GET ", "cut-download", after_bytes=5000)
        assert read() == b"0123456789" * 1000
        assert len(world.pauses) == number + 1


def test_only_the_cut_part_of_a_big_download_is_fetched_again(world, tmp_path):
    artifact = world.store.put("big", BIG)
    world.proxy.lines.clear()
    world.proxy.plan("GET ", "cut-download", after_bytes=5000)
    world.proxy.plan("GET ", "refuse")

    path = world.store.materialize("big", tmp_path, digest=artifact.digest)

    assert path.read_bytes() == BIG
    assert world.proxy.count("GET ") == 5
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / "big"]


def test_a_download_that_fails_for_good_leaves_no_file(world, tmp_path):
    world.store.put("big", BIG)
    world.proxy.plan("GET ", "cut-download", after_bytes=1000, times=99)
    with pytest.raises(StoreUnavailableError, match="tried 4 times"):
        world.store.materialize("big", tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_an_object_that_is_replaced_during_a_download_is_not_mixed(world, tmp_path):
    def replace(seconds: float) -> None:
        world.server.client()._put_object(world.bucket, f"{world.prefix}/big", bytes(len(BIG)), {})

    world.store.put("big", BIG)
    reader = world.store_at(
        world.store.uri, Transfer(retry=RetryPolicy(sleep=replace), part_bytes=PART_BYTES)
    )
    world.proxy.plan("GET ", "refuse")
    with pytest.raises(StoreUnavailableError, match="was replaced while read"):
        reader.materialize("big", tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("request_", ["PUT ", "HEAD ", "GET ", "partNumber=2"])
def test_a_server_that_stalls_is_asked_again(proxy, minio_server, s3_bucket, request_, tmp_path):
    world = World(proxy, minio_server, s3_bucket, read_timeout_seconds=0.4)
    proxy.plan(request_, "stall")
    world.store.put("k", b"x")
    world.store.put("big", BIG)
    assert world.store.get("k") == b"x"
    assert world.store.materialize("big", tmp_path).read_bytes() == BIG
    assert world.pauses


def test_an_object_without_a_digest_of_its_own_is_checked_against_the_readers(world, tmp_path):
    client = world.server.client()
    client._put_object(world.bucket, f"{world.prefix}/k", b"from the edge", {})
    digest = digest_of(b"from the edge")

    assert world.store.get("k", digest=digest) == b"from the edge"
    assert world.store.materialize("k", tmp_path, digest=digest).read_bytes() == b"from the edge"
    assert world.store.put("k", b"from the edge").digest == digest
    with pytest.raises(ArtifactError, match="never overwritten"):
        world.store.put("k", b"something else")
    with pytest.raises(CorruptArtifactError):
        world.store.get("k", digest=digest_of(b""))


def test_a_missing_object_is_asked_for_once(world):
    with pytest.raises(ArtifactNotFoundError):
        world.store.get("missing")
    assert len(world.proxy.lines) == 1
    assert world.pauses == []


def test_a_small_artifact_costs_one_request_each_way(world):
    world.store.put("k", b"x" * 60_000)
    world.store.get("k")
    assert [line.split()[0] for line in world.proxy.lines] == ["PUT", "GET"]


def test_something_that_is_no_s3_server_is_said_to_be_none(world):
    world.proxy.plan("GET ", "not-s3")
    with pytest.raises(JobError, match="is this an S3 server"):
        world.store.get("k")
