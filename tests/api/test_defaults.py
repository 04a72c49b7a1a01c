"""What is left out is filled in, from the workers' environment first; what is set stays."""

from __future__ import annotations

import pytest

from fedloom.api.defaults import with_defaults
from fedloom.api.reading import read_job
from fedloom.errors import InvalidJobError


@pytest.fixture
def filled(job_document):
    """Fill in a job with this spec, and this environment of the aggregator and the first trainer."""

    def build(aggregator=None, trainer=None, **spec):
        document = job_document(**spec)
        parts = document["spec"]["aggregationWorker"], document["spec"]["trainingWorkers"][1]
        for part, variables in zip(parts, (aggregator or {}, trainer or {}), strict=True):
            env = [{"name": name, "value": value} for name, value in variables.items()]
            part["template"]["spec"]["containers"][0]["env"] = env
        return with_defaults(read_job(document)).spec

    return build


def test_a_bare_job_is_one_round_of_fedavg_with_everybody(filled):
    spec = filled()
    assert spec.rounds == 1
    assert (spec.algorithm.name, spec.algorithm.parameters) == (
        "fedavg",
        {"serverLearningRate": 1.0},
    )
    assert (spec.participation.clients_per_round, spec.participation.min_clients) == (3, 3)
    assert spec.compression.uplink.codec == "none"


def test_sednas_jobs_are_registered_by_their_models_name_and_others_where_they_say(filled):
    spec = filled()
    assert spec.compat == "sedna"
    assert spec.output.registered_model == spec.aggregation_worker.model.name
    assert filled(rounds=2).output.registered_model is None


@pytest.mark.parametrize(
    ("arguments", "rounds"),
    [
        pytest.param({"rounds": 7, "aggregator": {"exit_round": "3"}}, 7, id="spec"),
        pytest.param({"aggregator": {"exit_round": "3", "rounds": "4"}}, 3, id="exit-round-first"),
        pytest.param({"aggregator": {"rounds": "4"}}, 4, id="rounds"),
        pytest.param({"aggregator": {"EXIT_ROUND": " 5 "}}, 5, id="upper-case"),
        pytest.param({"aggregator": {"ROUNDS": "6", "rounds": "4"}}, 4, id="lower-case-first"),
        pytest.param(
            {"aggregator": {"rounds": "4"}, "trainer": {"rounds": "9"}}, 4, id="aggregator"
        ),
        pytest.param({"trainer": {"rounds": "9"}}, 9, id="trainer"),
        pytest.param({"aggregator": {"rounds": ""}, "trainer": {"rounds": "9"}}, 9, id="empty"),
    ],
)
def test_rounds_come_from_the_spec_else_the_environment(filled, arguments, rounds):
    assert filled(**arguments).rounds == rounds


@pytest.mark.parametrize("text", ["0", "-1", "five", "1.5", "1e3", "100001", "9" * 5000, "٣"])
def test_an_environment_s_rounds_that_are_none_are_refused(filled, text):
    with pytest.raises(InvalidJobError, match="expected a number of rounds") as caught:
        filled(trainer={"rounds": text})
    path = "spec.trainingWorkers[1].template.spec.containers[0].env[rounds]"
    assert caught.value.problems[0].field == path


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        pytest.param(
            {"algorithm": {"name": "fedavg"}, "aggregator": {"aggregation_algorithm": "fedavgm"}},
            "fedavg",
            id="spec",
        ),
        pytest.param(
            {"aggregator": {"aggregation_algorithm": "fedavgm"}}, "fedavgm", id="aggregator"
        ),
        pytest.param(
            {"aggregator": {"AGGREGATION_ALGORITHM": "FedAvgM"}}, "fedavgm", id="upper-case"
        ),
        pytest.param({"trainer": {"aggregation_algorithm": "fedavgm"}}, "fedavgm", id="trainer"),
    ],
)
def test_the_algorithm_comes_from_the_spec_else_the_environment(filled, arguments, name):
    assert filled(**arguments).algorithm.name == name


def test_parameters_that_are_left_out_are_filled_in(filled):
    spec = filled(
        algorithm={"name": "fedavgm", "parameters": {"momentum": 0.5}},
        compression={"uplink": {"codec": "int8"}},
    )
    assert spec.algorithm.parameters == {"momentum": 0.5, "serverLearningRate": 1.0}
    assert spec.compression.uplink.parameters == {"blockSize": 256}
    spec = filled(compression={"uplink": {"codec": "int4"}})
    assert spec.compression.uplink.parameters == {"blockSize": 32}


@pytest.mark.parametrize(
    ("participation", "expected"),
    [
        ({}, (3, 3)),
        ({"clientsPerRound": 2}, (2, 2)),
        ({"minClients": 1}, (3, 1)),
        ({"clientsPerRound": 2, "minClients": 1}, (2, 1)),
    ],
    ids=str,
)
def test_by_default_nobody_of_a_round_may_be_missing(filled, participation, expected):
    spec = filled(participation=participation)
    assert (spec.participation.clients_per_round, spec.participation.min_clients) == expected


def test_filling_in_twice_changes_nothing_more(job_document):
    job = with_defaults(read_job(job_document(algorithm={"name": "fedavgm"})))
    assert with_defaults(job) == job


def test_the_job_that_was_given_stays_as_it_is(job_document):
    job = read_job(job_document())
    with_defaults(job)
    assert job == read_job(job_document())
