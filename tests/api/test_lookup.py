"""What a job refers to is looked up in its own namespace."""

from __future__ import annotations

import copy

from fedloom.api.lookup import datasets_of, models_of, secret_of


def test_objects_of_another_namespace_are_not_found(job_document, other_documents, read):
    elsewhere = copy.deepcopy(other_documents)
    for document in elsewhere:
        document["metadata"]["namespace"] = "elsewhere"
        document.get("spec", {})["url"] = "elsewhere"
    documents = read([job_document(), *other_documents, *elsewhere])
    (job,) = documents.jobs
    assert set(datasets_of(documents, job)) == {"ward-a", "ward-b", "ward-c", "ward-test"}
    assert models_of(documents, job)["digits-model"].spec.url == "output/model.safetensors"
    assert secret_of(documents, job, "minio").metadata.namespace == "default"
