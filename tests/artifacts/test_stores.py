"""The contract of a store, on a folder and on a real S3 server alike."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from fedloom.artifacts.artifact import Artifact, digest_of
from fedloom.artifacts.local import LocalStore
from fedloom.artifacts.opening import open_store
from fedloom.artifacts.s3 import S3Credentials, S3Store
from fedloom.artifacts.store import Store
from fedloom.artifacts.transfer import Transfer
from fedloom.errors import ArtifactError, ArtifactNotFoundError, CorruptArtifactError, JobError

PART_BYTES = 5 << 20  # the smallest that S3 takes
BIG = secrets.token_bytes(2 * PART_BYTES + 12345)
BAD_KEYS = {
    "empty": "",
    "absolute": "/a",
    "parent": "a/../b",
    "dot": "./a",
    "empty part": "a//b",
    "closing slash": "a/",
    "backslash": "a\\b",
    "control character": "a\nb",
    "NUL": "a\0b",
    "too long": "k/" * 450 + "k",
    "part too long": "k" * 201,
    "lone surrogate": "a\ud800",
    "a temporary's name": "a/.fedloom-tmp-0",
}


@dataclass
class Case:
    """A store to test and a way to change its bytes behind its back."""

    store: Store
    tamper: Callable[[str, bytes], None]
    is_local: bool


@pytest.fixture(params=["local", "s3"])
def case(request, tmp_path) -> Case:
    if request.param == "local":
        root = tmp_path / "store"
        return Case(LocalStore(root), lambda key, data: (root / key).write_bytes(data), True)
    return _s3_case(request.getfixturevalue("minio_server"), request.getfixturevalue("s3_bucket"))


@pytest.fixture
def store(case) -> Store:
    return case.store


def _s3_case(server, bucket) -> Case:
    prefix = f"contract/{secrets.token_hex(8)}"
    credentials = S3Credentials(server.access_key, server.secret_key)
    transfer = Transfer(part_bytes=PART_BYTES)
    store = S3Store(server.endpoint, bucket, prefix, credentials, transfer=transfer)

    def tamper(key: str, data: bytes) -> None:
        client, name = server.client(), f"{prefix}/{key}"
        metadata = client.stat_object(bucket_name=bucket, object_name=name).metadata
        client._put_object(bucket, name, data, {"X-Amz-Meta-Sha256": metadata["X-Amz-Meta-Sha256"]})

    return Case(store, tamper, False)


@pytest.mark.parametrize("data", [b"", b"x", b"hello" * 1000, BIG], ids=["0", "1", "5000", "big"])
def test_what_was_put_is_what_is_read(store, data, tmp_path):
    artifact = store.put("round-0001/model.safetensors", data)

    assert artifact == Artifact("round-0001/model.safetensors", len(data), digest_of(data))
    assert store.exists(artifact.key)
    assert store.get(artifact.key) == data
    assert store.get(artifact.key, digest=artifact.digest) == data
    path = store.materialize(artifact.key, tmp_path / "cache", digest=artifact.digest)
    assert path.read_bytes() == data
    assert store.materialize(artifact.key, tmp_path / "cache").read_bytes() == data


@pytest.mark.parametrize("data", [b"", b"hello", BIG], ids=["0", "5", "big"])
def test_a_file_is_stored_as_its_bytes_would_be_and_stays(store, data, tmp_path):
    path = tmp_path / "source"
    path.write_bytes(data)

    artifact = store.put_file("a/b", path)

    assert artifact == Artifact("a/b", len(data), digest_of(data))
    assert store.get("a/b") == data
    assert path.read_bytes() == data


def test_a_missing_source_file_is_named(store, tmp_path):
    with pytest.raises(JobError, match="nowhere"):
        store.put_file("a", tmp_path / "nowhere")
    assert not store.exists("a")


@pytest.mark.parametrize("data", [b"one", BIG], ids=["small", "big"])
def test_the_same_bytes_may_be_put_again_but_no_others(store, data, tmp_path):
    path = tmp_path / "source"
    path.write_bytes(data)
    first = store.put("k", data)
    other = data[:-1] + bytes([data[-1] ^ 1])

    assert store.put("k", data) == first
    assert store.put_file("k", path) == first
    with pytest.raises(ArtifactError, match="never overwritten") as caught:
        store.put("k", other)
    assert caught.value.reason == "ArtifactExists"
    assert first.digest in str(caught.value)
    assert digest_of(other) in str(caught.value)
    assert store.get("k") == data


def test_a_record_that_may_change_is_replaced_only_when_asked_to(store, tmp_path):
    (tmp_path / "source").write_bytes(BIG)
    store.put("record.json", b"1", replace=True)
    store.put("record.json", b"2", replace=True, durable=True)
    assert store.get("record.json") == b"2"
    store.put_file("record.json", tmp_path / "source", replace=True)
    assert store.get("record.json") == BIG


def test_of_many_writers_of_one_key_one_wins(store):
    def write(number: int) -> str:
        try:
            return store.put("contested", b"%d" % number).digest
        except ArtifactError as error:
            return error.reason

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(write, range(8)))

    assert sorted(outcomes)[:7] == ["ArtifactExists"] * 7
    assert digest_of(store.get("contested")) in outcomes


def test_what_is_not_there_is_not_found(store, tmp_path):
    store.put("folder/file", b"x")
    for key in ("missing", "folder", "folder/missing"):
        assert not store.exists(key)
        for read in (
            lambda key=key: store.get(key),
            lambda key=key: store.materialize(key, tmp_path),
            lambda key=key: store.materialize(key, tmp_path, digest=digest_of(b"x")),
            lambda key=key: store.read(key, 0, 1),
            lambda key=key: store.read(key, 0, 0),
        ):
            with pytest.raises(ArtifactNotFoundError) as caught:
                read()
            assert caught.value.key == key


@pytest.mark.parametrize("data", [b"hello", BIG], ids=["small", "big"])
def test_a_wrong_digest_is_refused_with_both_digests_and_the_key(store, data, tmp_path):
    store.put("some/key", data)
    expected = digest_of(b"else")
    for read in (
        lambda: store.get("some/key", digest=expected),
        lambda: store.materialize("some/key", tmp_path / "cache", digest=expected),
    ):
        with pytest.raises(CorruptArtifactError) as caught:
            read()
        for word in ("some/key", expected, digest_of(data)):
            assert word in str(caught.value)
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_a_flipped_bit_behind_the_stores_back_is_found(case, tmp_path):
    data = bytearray(b"hello" * 100)
    artifact = case.store.put("k", bytes(data))
    data[123] ^= 4
    case.tamper("k", bytes(data))

    with pytest.raises(CorruptArtifactError):
        case.store.get("k", digest=artifact.digest)
    with pytest.raises(CorruptArtifactError):
        case.store.materialize("k", tmp_path / "cache", digest=artifact.digest)
    if not case.is_local:  # there the object itself carries its digest
        with pytest.raises(CorruptArtifactError, match="its own metadata"):
            case.store.get("k")
        with pytest.raises(CorruptArtifactError, match="its own metadata"):
            case.store.materialize("k", tmp_path / "cache")


def test_a_range_is_read_exactly(store):
    store.put("k", b"0123456789")
    assert store.read("k", 0, 10) == b"0123456789"
    assert store.read("k", 3, 4) == b"3456"
    assert store.read("k", 9, 1) == b"9"
    assert store.read("k", 4, 0) == b""


@pytest.mark.parametrize(("offset", "length"), [(8, 3), (10, 1), (1000, 5), (0, 1 << 60)])
def test_a_range_beyond_the_end_is_refused(store, offset, length):
    store.put("k", b"0123456789")
    with pytest.raises(CorruptArtifactError):
        store.read("k", offset, length)


@pytest.mark.parametrize(("offset", "length"), [(-1, 3), (0, -1)])
def test_a_range_below_zero_is_the_callers_mistake(store, offset, length):
    store.put("k", b"0123456789")
    with pytest.raises(ValueError, match="below 0"):
        store.read("k", offset, length)


def test_a_listing_is_sorted_and_ends_where_parts_end(store):
    keys = ["state/x", "round-0001/b/c", "round-0001/a", "round-00011/a", "round-0010/a"]
    for key in keys:
        store.put(key, b"")

    assert store.list("") == sorted(keys)
    assert store.list("round-0001") == ["round-0001/a", "round-0001/b/c"]
    assert store.list("round-0001/") == ["round-0001/a", "round-0001/b/c"]
    assert store.list("round-0001/a") == ["round-0001/a"]
    assert store.list("round") == []
    assert store.list("nothing/here") == []


def test_a_listing_knows_more_keys_than_one_page(store):
    keys = [f"k/{number:04d}" for number in range(1005)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: store.put(key, b""), keys))
    assert store.list("k") == keys
    store.delete("k")
    assert store.list("") == []


def test_a_deletion_ends_where_parts_end_and_may_be_repeated(store):
    for key in ("a/1", "a/b/2", "ab", "c"):
        store.put(key, b"x")
    store.delete("a")
    store.delete("a")
    store.delete("nothing")
    assert store.list("") == ["ab", "c"]
    store.delete("c")
    assert store.list("") == ["ab"]


def test_an_empty_prefix_deletes_nothing(store):
    store.put("a", b"x")
    with pytest.raises(ArtifactError, match="empty prefix"):
        store.delete("")
    assert store.exists("a")


@pytest.mark.parametrize("key", BAD_KEYS.values(), ids=BAD_KEYS.keys())
def test_a_key_that_is_no_plain_relative_path_is_refused(store, key, tmp_path):
    calls = [
        lambda: store.put(key, b"x"),
        lambda: store.put_file(key, Path(__file__)),
        lambda: store.get(key),
        lambda: store.materialize(key, tmp_path),
        lambda: store.read(key, 0, 1),
        lambda: store.exists(key),
        lambda: store.uri_of(key),
    ]
    if key and not key.endswith("/"):
        calls += [lambda: store.list(key), lambda: store.delete(key)]
    for call in calls:
        with pytest.raises(ArtifactError) as caught:
            call()
        assert caught.value.reason == "InvalidKey"


@pytest.mark.parametrize("key", ["ünï/cödé", "a b/c+d", "100%/&?#=", "~x/@:y", "...a/.b"])
def test_unusual_names_are_names(store, key):
    store.put(key, b"x")
    assert store.get(key) == b"x"
    assert store.list("") == [key]
    store.delete(key)
    assert store.list("") == []


def test_the_address_of_a_store_opens_it_again(case, request, monkeypatch):
    if not case.is_local:
        server = request.getfixturevalue("minio_server")
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.access_key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.secret_key)
    case.store.put("a/b", b"x")

    again = open_store(case.store.uri)

    assert again.get("a/b") == b"x"
    assert again.uri == case.store.uri
    assert again.uri_of("a/b") == f"{case.store.uri}/a/b"
