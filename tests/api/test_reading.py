"""A document that is right becomes what it says."""

from __future__ import annotations

from fedloom.api.reading import read_job


def test_the_small_job_reads(job_document):
    job = read_job(job_document())
    assert [worker.dataset.name for worker in job.spec.training_workers] == [
        "ward-a",
        "ward-b",
        "ward-c",
    ]
    assert job.metadata.namespace == "default"
    assert job.spec.pretrained_model is None


def test_null_is_absent(job_document):
    document = job_document()
    document["spec"] |= {"rounds": None, "algorithm": None, "participation": None, "suspend": None}
    spec = read_job(document).spec
    assert (spec.rounds, spec.algorithm, spec.suspend) == (None, None, False)
    assert spec.participation.deadline_seconds == 600.0


def test_an_integer_is_a_number_but_stays_an_integer_where_the_field_is_free(job_document):
    spec = read_job(
        job_document(participation={"deadlineSeconds": 30}, hyperparameters={"epochs": 1})
    ).spec
    assert isinstance(spec.participation.deadline_seconds, float)
    assert isinstance(spec.hyperparameters["epochs"], int)


def test_a_pretrained_model_with_an_empty_name_is_absent(job_document):
    assert read_job(job_document(pretrainedModel={"name": ""})).spec.pretrained_model is None


def test_a_codec_s_parameters_stand_beside_its_name(job_document):
    uplink = {"codec": "int8", "blockSize": 64}
    codec = read_job(job_document(compression={"uplink": uplink})).spec.compression.uplink
    assert (codec.codec, codec.parameters) == ("int8", {"blockSize": 64})
