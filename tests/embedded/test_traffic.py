"""Bytes up and down are the sizes of objects that lie in the store, for every client of every round."""

from __future__ import annotations

import pytest

from fedloom.artifacts.layout import model_delta_key, update_key

ROUNDS = 3


@pytest.fixture
def s3_bench(bench, minio_server, s3_bucket):
    """A job that keeps its updates: those of a local one go with their round."""
    bench.files["train.py"] = bench.files["train.py"].replace("(3, 2)", "(60, 50)")
    bench.spec["transmitter"] = {
        "s3": {"aggDataPath": f"s3://{s3_bucket}/traffic", "credentialName": "minio"}
    }
    annotations = {"s3-endpoint": minio_server.endpoint, "s3-usehttps": "0"}
    keys = {"ACCESS_KEY_ID": minio_server.access_key, "SECRET_ACCESS_KEY": minio_server.secret_key}
    bench.extra = [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "minio", "annotations": annotations},
            "stringData": keys,
        }
    ]
    bench.spec["participation"]["deadlineSeconds"] = 60
    bench.spec["compression"] = {
        "uplink": {"codec": "stc", "fraction": 0.02, "lossless": "zstd"},
        "downlink": {"codec": "topk", "fraction": 0.02, "lossless": "zstd"},
    }
    return bench


def test_what_is_counted_is_what_lies_in_the_bucket(s3_bench, minio_server, s3_bucket, tmp_path):
    assert s3_bench.run().phase == "Succeeded"
    listed = minio_server.client().list_objects(
        bucket_name=s3_bucket, prefix="traffic/", recursive=True
    )
    sizes = {each.object_name.split("/", 3)[3]: each.size for each in listed}
    for event in s3_bench.rounds():
        down = sizes[model_delta_key(event["round"] - 1)]
        for name, client in event["clients"].items():
            assert client["uplink_bytes"] == sizes[update_key(event["round"], name, 1)]
            assert client["downlink_bytes"] == down
        clients = event["clients"].values()
        assert event["traffic"] == {
            way: sum(client[way] for client in clients) for way in event["traffic"]
        }
    digest = s3_bench.finished["model"]["digest"]
    del s3_bench.spec["transmitter"]
    s3_bench.run(tmp_path / "local")
    assert s3_bench.finished["model"]["digest"] == digest
