"""What reads well but cannot be run is refused before anything starts, every problem at once."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from fedloom.api.job import Algorithm
from fedloom.api.reading import read_job
from fedloom.api.validation import invalid_fields, job_to_run, validate
from fedloom.errors import InvalidJobError

STOP = {"metric": "accuracy", "threshold": 0.9}
EVALUATION = {"dataset": {"name": "ward-test"}}
S3 = {"s3": {"aggDataPath": "s3://fedloom/jobs", "credentialName": "minio"}}


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param({}, id="bare"),
        pytest.param(
            {"algorithm": {"name": "fedavgm", "parameters": {"momentum": 0}}}, id="momentum"
        ),
        pytest.param(
            {"algorithm": {"name": "fedavg", "parameters": {"serverLearningRate": 2}}}, id="rate"
        ),
        pytest.param(
            {
                "compression": {
                    "uplink": {"codec": "int8", "blockSize": 16},
                    "downlink": {"codec": "none"},
                }
            },
            id="int8",
        ),
        pytest.param({"compression": {"uplink": {"codec": "bf16"}}}, id="bf16"),
        pytest.param({"compression": {"uplink": {"codec": "int4", "blockSize": 64}}}, id="int4"),
        pytest.param({"algorithm": {"name": "median"}}, id="median"),
        pytest.param({"algorithm": {"name": "trimmed-mean"}}, id="trim"),
        pytest.param({"algorithm": {"name": "krum", "parameters": {"byzantine": 0}}}, id="krum"),
        pytest.param({"participation": {"clientsPerRound": 3, "minClients": 3}}, id="all"),
        pytest.param({"evaluation": EVALUATION, "stopCondition": STOP}, id="stop"),
        pytest.param(
            {"stopCondition": {"metric": "train/loss", "patience": 3}}, id="clients-metric"
        ),
        pytest.param(
            {
                "evaluation": EVALUATION,
                "stopCondition": STOP,
                "output": {
                    "savePolicy": "best",
                    "registeredModel": "digits model",
                    "alias": "champion",
                    "model": {"name": "digits-model"},
                },
            },
            id="best",
        ),
        pytest.param(
            {"transmitter": S3, "pretrainedModel": {"name": "digits-pretrained"}}, id="s3"
        ),
        pytest.param({"transmitter": {"ws": {}}, "pretrainedModel": {"name": ""}}, id="ws"),
        pytest.param({"transmitter": {"s3": {"aggDataPath": "s3://bucket"}}}, id="no-credentials"),
    ],
)
def test_a_job_that_can_be_run_has_no_problem(checked, spec):
    assert checked(**spec) == {}


@pytest.mark.parametrize(
    ("spec", "field", "message"),
    [
        pytest.param(
            {"trainingWorkers": []}, "spec.trainingWorkers", "at least one client", id="no-clients"
        ),
        pytest.param(
            {"participation": {"clientsPerRound": 4}},
            "spec.participation.clientsPerRound",
            "got 4, expected at most 3, the number of training workers",
            id="more-than-workers",
        ),
        pytest.param(
            {"participation": {"minClients": 4}},
            "spec.participation.minClients",
            "at most 3",
            id="min",
        ),
        pytest.param(
            {"participation": {"clientsPerRound": 2, "minClients": 3}},
            "spec.participation.minClients",
            "at most 2",
            id="min-over-cohort",
        ),
        *(
            pytest.param(
                {"algorithm": {"name": name, "parameters": parameters}, "participation": sizes},
                "spec.participation.minClients",
                message,
                id=f"too-few-for-{name}-{parameters}",
            )
            for name, parameters, sizes, message in (
                ("krum", {}, {}, "got 3 (every client of a round), expected at least 5: krum with"),
                ("multi-krum", {"byzantine": 0, "keep": 4}, {}, "expected at least 4: multi-krum"),
                ("trimmed-mean", {"trim": 2}, {}, "expected at least 5: trimmed-mean drops"),
                ("trimmed-mean", {}, {"minClients": 2}, "got 2, expected at least 3: trimmed-mean"),
                ("krum", {"byzantine": 0}, {"clientsPerRound": 2}, "got 2 (every client"),
            )
        ),
        pytest.param(
            {"stopCondition": {"metric": "train/loss"}},
            "spec.stopCondition",
            "neither threshold nor patience",
            id="stop-never",
        ),
        pytest.param(
            {"stopCondition": STOP},
            "spec.stopCondition.metric",
            "which nothing measures",
            id="unmeasured",
        ),
        pytest.param(
            {"output": {"savePolicy": "best"}},
            "spec.output.savePolicy",
            "spec.stopCondition",
            id="best",
        ),
        pytest.param(
            {"output": {"alias": "champion"}},
            "spec.output.alias",
            "spec.output.registeredModel",
            id="alias",
        ),
        *(
            pytest.param(
                {"output": {"registeredModel": "digits", "alias": alias}},
                "spec.output.alias",
                "which MLflow keeps for itself",
                id=alias,
            )
            for alias in ("latest", "Latest", "v1", "V22")
        ),
        pytest.param(
            {
                "transfer": {
                    "mode": "warmStart",
                    "from": [{"job": "a"}, {"job": "b"}],
                    "anchor": {"kind": "l2sp", "mu": 0.1},
                }
            },
            "spec.transfer.from",
            "auto finds out which of several is best",
            id="transfer",
        ),
        pytest.param(
            {"transmitter": {"s3": {"aggDataPath": "/data"}}},
            "spec.transmitter.s3.aggDataPath",
            "expected s3://bucket/prefix",
            id="no-s3",
        ),
        pytest.param(
            {"evaluation": {"dataset": {"name": "ward-tset"}}},
            "spec.evaluation.dataset.name",
            "expected a Dataset of namespace 'default' in the documents, did you mean 'ward-test'?",
            id="dataset",
        ),
        pytest.param(
            {"pretrainedModel": {"name": "digit-model"}},
            "spec.pretrainedModel.name",
            "expected a Model of namespace 'default' in the documents, did you mean 'digits-model'?",
            id="model",
        ),
        pytest.param(
            {"output": {"model": {"name": "xyzzy"}}},
            "spec.output.model.name",
            "got 'xyzzy'",
            id="output",
        ),
        pytest.param(
            {"transmitter": {"s3": {"aggDataPath": "s3://b", "credentialName": "mini"}}},
            "spec.transmitter.s3.credentialName",
            "expected a Secret of namespace 'default' in the documents, did you mean 'minio'?",
            id="secret",
        ),
    ],
)
def test_a_job_that_cannot_be_run_is_refused(checked, spec, field, message):
    problems = checked(**spec)
    assert list(problems) == [field]
    assert message in problems[field]


def test_the_environment_s_algorithm_is_checked_too(found, job_document, other_documents, read):
    document = job_document()
    container = document["spec"]["aggregationWorker"]["template"]["spec"]["containers"][0]
    container["env"] = [
        {"name": "aggregation_algorithm", "value": "mistnett"},
        {"name": "exit_round", "value": "many"},
    ]
    where = "spec.aggregationWorker.template.spec.containers[0].env"
    problems = found(read([document, *other_documents]))
    assert set(problems) == {f"{where}[aggregation_algorithm]", f"{where}[exit_round]"}
    assert "did you mean 'mistnet'?" in problems[f"{where}[aggregation_algorithm]"]


@pytest.mark.parametrize("key", ["ACCESS_KEY_ID", "SECRET_ACCESS_KEY"])
@pytest.mark.parametrize("value", [None, ""], ids=["absent", "empty"])
def test_a_secret_without_a_key_is_refused(found, job_document, other_documents, read, key, value):
    data = other_documents[-1]["stringData"]
    data.pop(key)
    if value is not None:
        data[key] = value
    problems = found(read([job_document(transmitter=S3), *other_documents]))
    assert problems == {"spec.transmitter.s3.credentialName": f"Secret 'minio' has no {key}"}


def test_names_are_looked_for_in_the_job_s_namespace(found, job_document, other_documents, read):
    document = job_document()
    document["metadata"]["namespace"] = "wards"
    problems = found(read([document, *other_documents]))
    assert set(problems) == {
        "spec.aggregationWorker.model.name",
        "spec.trainingWorkers[0].dataset.name",
        "spec.trainingWorkers[1].dataset.name",
        "spec.trainingWorkers[2].dataset.name",
    }
    message = problems["spec.trainingWorkers[0].dataset.name"]
    assert "there is one in namespace 'default'" in message


def test_documents_without_any_of_a_kind_say_so(found, job_document, read):
    problems = found(read([job_document()]))
    assert "there is no Model at all" in problems["spec.aggregationWorker.model.name"]


def test_a_problem_names_file_job_and_field(job_document, other_documents, read, tmp_path):
    documents = read([job_document(trainingWorkers=[]), *other_documents])
    (problem,) = validate(documents)
    assert problem.field == f"{tmp_path}/job.yaml FederatedLearningJob/digits spec.trainingWorkers"


def test_a_job_made_in_code_is_held_to_the_same_bounds(job_document):
    job = read_job(job_document())
    spec = replace(
        job.spec, rounds=-1, participation=replace(job.spec.participation, deadline_seconds=0.0)
    )
    fields = [problem.field for problem in invalid_fields(replace(job, spec=spec))]
    assert fields == ["spec.rounds", "spec.participation.deadlineSeconds"]


def test_a_parameter_made_in_code_is_finite(job_document):
    job = read_job(job_document())
    algorithm = Algorithm("fedavgm", {"momentum": math.nan})
    (problem,) = invalid_fields(replace(job, spec=replace(job.spec, algorithm=algorithm)))
    assert problem.message == "got nan (a number), expected a finite number"


def test_the_job_to_run_is_checked_and_filled_in(job_document, other_documents, read):
    job = job_to_run(read([job_document(), *other_documents]))
    assert (job.spec.rounds, job.spec.algorithm.name) == (1, "fedavg")


def test_every_problem_keeps_a_job_from_running(job_document, other_documents, read):
    document = job_document(
        trainingWorkers=[], privacy={"maxEpsilon": 1, "delta": 0.1}, output={"alias": "v1"}
    )
    with pytest.raises(InvalidJobError) as caught:
        job_to_run(read([document, *other_documents]))
    assert len(caught.value.problems) == 5


@pytest.mark.parametrize("count", [0, 2])
def test_exactly_one_job_is_run(job_document, other_documents, read, count):
    jobs = [job_document() for _ in range(count)]
    for index, job in enumerate(jobs):
        job["metadata"]["name"] = f"job-{index}"
    with pytest.raises(
        InvalidJobError, match="expected exactly one FederatedLearningJob"
    ) as caught:
        job_to_run(read([*jobs, *other_documents]))
    assert all(job["metadata"]["name"] in str(caught.value) for job in jobs)
