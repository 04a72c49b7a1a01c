"""Documents to start from: a small job that is valid, as plain data, and a way to read texts."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

from fedloom.api.documents import Documents, read_documents
from fedloom.api.reading import read_object
from fedloom.api.validation import validate
from fedloom.errors import InvalidJobError

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

    def build(*contents, name="job.yaml"):
        names = [name, *(f"other-{index}.yaml" for index in range(1, len(contents)))]
        for each, content in zip(names, contents, strict=True):
            (tmp_path / each).write_bytes(_bytes_of(content))
        return read_documents([tmp_path / each for each in names])

    return build


def _bytes_of(content: bytes | str | list) -> bytes:
    if isinstance(content, list):
        content = "\n---\n".join(json.dumps(document) for document in content)
    return content if isinstance(content, bytes) else content.encode()


@pytest.fixture
def problems_of():
    """Read a document that must be refused; give field -> message."""

    def build(document, read=read_object) -> dict[str, str]:
        with pytest.raises(InvalidJobError) as caught:
            read(document)
        return {problem.field: problem.message for problem in caught.value.problems}

    return build


@pytest.fixture
def found():
    """Validate documents; give field -> message, without the file and the job."""

    def build(documents: Documents) -> dict[str, str]:
        problems = validate(documents)
        return {problem.field.split(" ", 2)[-1]: problem.message for problem in problems}

    return build


@pytest.fixture
def checked(job_document, other_documents, read, found):
    """Validate a job with this spec beside all that it may refer to."""
    return lambda **spec: found(read([job_document(**spec), *other_documents]))
