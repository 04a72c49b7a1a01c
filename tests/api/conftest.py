"""Documents to start from: a small job that is valid, as plain data, and a way to read texts."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

from fedloom.api.documents import read_documents

API_VERSION = "sedna.io/v1alpha1"

JOB = {
    "apiVersion": API_VERSION,
    "kind": "FederatedLearningJob",
    "metadata": {"name": "digits"},
    "spec": {
        "aggregationWorker": {
            "model": {"name": "digits-model"},
            "template": {"spec": {"containers": [{"name": "aggregate", "image": "fedloom"}]}},
        },
        "trainingWorkers": [
            {
                "dataset": {"name": name},
                "template": {"spec": {"containers": [{"name": "train", "image": "fedloom"}]}},
            }
            for name in ("ward-a", "ward-b", "ward-c")
        ],
    },
}


def _object(kind: str, name: str, spec: dict) -> dict:
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}


OTHERS = (
    *(
        _object("Dataset", name, {"url": f"data/{name}", "format": "csv", "nodeName": "edge"})
        for name in ("ward-a", "ward-b", "ward-c", "ward-test")
    ),
    _object("Model", "digits-model", {"url": "output/model.safetensors", "format": "safetensors"}),
    _object("Model", "digits-pretrained", {"url": "first.safetensors", "format": "safetensors"}),
    {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "minio"},
        "stringData": {"ACCESS_KEY_ID": "reader", "SECRET_ACCESS_KEY": "hush-hush"},
    },
)


@pytest.fixture
def job_document():
    """Give a job's document with parts of its spec set or (None) left out."""

    def build(**spec):
        document = copy.deepcopy(JOB)
        for name, value in spec.items():
            if value is None:
                document["spec"].pop(name, None)
            else:
                document["spec"][name] = value
        return document

    return build


@pytest.fixture
def other_documents():
    """The datasets, models and the secret that the job may refer to."""
    return copy.deepcopy(list(OTHERS))


@pytest.fixture
def read(tmp_path: Path):
    """Read texts (or bytes, or documents to be written as YAML) as files named `job.yaml`, ..."""
    import json

    def build(*contents, name="job.yaml"):
        paths = []
        for index, content in enumerate(contents):
            path = tmp_path / (name if index == 0 else f"other-{index}.yaml")
            if isinstance(content, list):
                content = "\n---\n".join(json.dumps(document) for document in content)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
            paths.append(path)
        return read_documents(paths)

    return build
