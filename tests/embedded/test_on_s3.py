"""The same job with its artifacts in S3, on a real server."""

from __future__ import annotations

import pytest

from fedloom.errors import FedloomError


@pytest.fixture
def s3_bench(bench, minio_server, s3_bucket):
    bench.spec["transmitter"] = {
        "s3": {"aggDataPath": f"s3://{s3_bucket}/jobs", "credentialName": "minio"}
    }
    bench.extra = [
        a_secret(minio_server.endpoint, minio_server.access_key, minio_server.secret_key)
    ]
    bench.spec["participation"]["deadlineSeconds"] = 60
    return bench


def a_secret(endpoint: str, access_key: str, secret_key: str) -> dict:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": "minio",
            "annotations": {"s3-endpoint": endpoint, "s3-usehttps": "0"},
        },
        "stringData": {"ACCESS_KEY_ID": access_key, "SECRET_ACCESS_KEY": secret_key},
    }


def test_a_job_on_s3_gives_the_bits_of_a_local_one(s3_bench, minio_server, s3_bucket, tmp_path):
    assert s3_bench.run().phase == "Succeeded"
    digest = s3_bench.finished["model"]["digest"]
    uri = s3_bench.finished["model"]["uri"]
    assert uri.startswith(f"s3://{s3_bucket}/jobs/default/pull-")
    own = uri.removeprefix(f"s3://{s3_bucket}/").partition("round-")[0]
    listed = minio_server.client().list_objects(bucket_name=s3_bucket, prefix=own, recursive=True)
    names = [each.object_name for each in listed]
    assert [n for n in names if n.endswith("round-0003/updates/a/1/update.safetensors")]
    assert len([n for n in names if n.endswith("result.json")]) == 4

    del s3_bench.spec["transmitter"]
    s3_bench.run(tmp_path / "local")
    assert s3_bench.finished["model"]["digest"] == digest


def test_shards_read_large_updates_from_s3_in_ranges(s3_bench, tmp_path):
    wide = '"v": np.zeros(1_500_000, np.float32), "w": rng'
    moved = "model['v'] = model['v'] + rng.normal(size=1_500_000).astype(np.float32)"
    script = s3_bench.files["train.py"].replace('"w": rng', wide)
    s3_bench.files["train.py"] = script.replace(
        "return fedloom.Update(", f"{moved}\n        return fedloom.Update("
    )
    s3_bench.spec |= {"rounds": 1, "aggregation": {"shards": 2}}
    assert s3_bench.run().phase == "Succeeded"
    digest = s3_bench.finished["model"]["digest"]
    del s3_bench.spec["transmitter"]
    s3_bench.spec["aggregation"] = {}
    s3_bench.run(tmp_path / "local")
    assert s3_bench.finished["model"]["digest"] == digest


def test_a_job_on_s3_goes_on_where_it_stood(s3_bench):
    s3_bench.spec["rounds"] = 2
    s3_bench.run()
    s3_bench.spec["rounds"] = 4
    s3_bench.run()
    assert [event["round"] for event in s3_bench.rounds()] == [3, 4]


def test_the_secret_is_written_nowhere(s3_bench, minio_server):
    s3_bench.run()
    secret = minio_server.secret_key.encode()
    files = [path for path in s3_bench.state.rglob("*") if path.is_file()]
    assert len(files) > 3
    assert not [path for path in files if secret in path.read_bytes()]
    assert minio_server.secret_key not in str(s3_bench.events)


def test_a_wrong_key_is_said_to_be_wrong(s3_bench, minio_server):
    s3_bench.extra = [a_secret(minio_server.endpoint, minio_server.access_key, "not-the-secret")]
    with pytest.raises(FedloomError) as caught:
        s3_bench.run()
    assert minio_server.endpoint in str(caught.value)
    assert "not-the-secret" not in str(caught.value)
    assert not s3_bench.state.exists()


def test_a_bucket_that_does_not_exist_is_named(s3_bench):
    s3_bench.spec["transmitter"]["s3"]["aggDataPath"] = "s3://no-such-bucket/jobs"
    with pytest.raises(FedloomError, match="no-such-bucket"):
        s3_bench.run()
    assert not s3_bench.state.exists()


def test_a_server_that_refuses_is_named(s3_bench, unused_endpoint):
    s3_bench.extra = [a_secret(unused_endpoint, "key", "secret-key")]
    with pytest.raises(FedloomError, match=unused_endpoint):
        s3_bench.run()
    assert not s3_bench.state.exists()


@pytest.fixture
def unused_endpoint() -> str:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def test_a_job_that_names_no_secret_document_is_invalid(s3_bench):
    s3_bench.extra = []
    with pytest.raises(FedloomError, match=r"spec\.transmitter\.s3\.credentialName"):
        s3_bench.run()
    assert not s3_bench.state.exists()
