"""A client is its dataset's name, made unique by index where it has to be."""

from __future__ import annotations

import pytest

from fedloom.api.clients import clients_of
from fedloom.api.reading import read_job


@pytest.mark.parametrize(
    ("datasets", "names"),
    [
        pytest.param(["a", "b"], ["a", "b"], id="unique"),
        pytest.param(["a", "a"], ["a-0", "a-1"], id="twice"),
        pytest.param(["a", "b", "a"], ["a-0", "b", "a-2"], id="only-the-shared-one"),
        pytest.param(["a", "a", "a-1"], ["a-0", "a-1-1", "a-1"], id="taken-by-another"),
        pytest.param(["a-0", "a-0", "a", "a"], ["a-0-0", "a-0-1", "a-2", "a-3"], id="both-shared"),
        pytest.param(["a", "a-1", "a", "a-1"], ["a-0", "a-1-1", "a-2", "a-1-3"], id="interleaved"),
        pytest.param([], [], id="none"),
    ],
)
def test_names_are_unique_and_as_near_to_the_dataset_s_as_can_be(job_document, datasets, names):
    workers = job_document()["spec"]["trainingWorkers"]
    document = job_document(
        trainingWorkers=[{**workers[0], "dataset": {"name": name}} for name in datasets]
    )
    job = read_job(document)
    clients = clients_of(job)
    assert [client.name for client in clients] == names
    assert [client.index for client in clients] == list(range(len(datasets)))
    assert [client.dataset for client in clients] == datasets
    assert tuple(client.worker for client in clients) == job.spec.training_workers
