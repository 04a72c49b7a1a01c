"""Which jobs are taken for Sedna's, and what a description makes of them. Nothing runs here."""

from __future__ import annotations

from typing import Any

import pytest

from fedloom.api.compatibility import compatibility_of
from fedloom.api.defaults import with_defaults
from fedloom.api.reading import read_job
from fedloom.api.sedna import checked_description, described
from fedloom.api.validation import invalid_fields
from fedloom.errors import InvalidJobError, JobError


def job(env: dict[str, str] | None = None, **spec: Any) -> Any:
    variables = [{"name": name, "value": value} for name, value in (env or {}).items()]
    template = {"spec": {"containers": [{"name": "w", "image": "x", "env": variables}]}}
    four = {
        "aggregationWorker": {"model": {"name": "m"}, "template": template},
        "trainingWorkers": [
            {"dataset": {"name": name}, "template": template} for name in ("a", "b", "c")
        ],
    }
    return read_job(
        {
            "apiVersion": "sedna.io/v1alpha1",
            "kind": "FederatedLearningJob",
            "metadata": {"name": "j", "namespace": "default"},
            "spec": {**four, **spec},
        }
    )


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, "sedna"),
        ({"suspend": True}, "sedna"),
        ({"pretrainedModel": {"name": "p"}}, "sedna"),
        ({"pretrainedModel": {"name": ""}}, "sedna"),
        ({"transmitter": {"ws": {}}}, "sedna"),
        ({"transmitter": {"ws": {}, "s3": {"aggDataPath": "s3://b/p"}}}, "sedna"),
        ({"rounds": 1}, ""),
        ({"algorithm": {"name": "fedavg"}}, ""),
        ({"hyperparameters": {"epochs": 1}}, ""),
        ({"participation": {"minClients": 1}}, ""),
        ({"edge": {"runtime": "direct"}}, ""),
        ({"rounds": 1, "compat": "sedna"}, "sedna"),
        ({"compat": "websocket"}, "websocket"),
    ],
)
def test_a_job_with_sednas_fields_only_is_sednas(spec, expected):
    written = job(**spec)
    assert compatibility_of(written.spec) == expected
    filled = with_defaults(written)
    assert compatibility_of(filled.spec) == expected
    assert compatibility_of(with_defaults(filled).spec) == expected
    assert with_defaults(filled) == filled


def test_no_other_word_is_a_compatibility():
    with pytest.raises(InvalidJobError, match="sedna or websocket"):
        job(compat="plato")


EVERYTHING = {"algorithm": "FedProx", "aggregation": "Mine", "rounds": 4, "participants": 2}


@pytest.mark.parametrize("fill", [lambda given: given, with_defaults])
def test_what_is_not_written_is_taken_from_the_description(fill):
    found = described(fill(job()), EVERYTHING)
    spec = found.spec
    assert (spec.rounds, spec.algorithm.name, spec.aggregation.rule) == (4, "fedprox", "script")
    assert spec.algorithm.parameters == {"proximalMu": 0.1, "serverLearningRate": 1.0}
    assert (spec.participation.min_clients, spec.participation.clients_per_round) == (2, 3)
    assert compatibility_of(spec) == "sedna"
    assert described(found, EVERYTHING) == found
    assert described(found, {}).spec.rounds == 1


def test_what_is_written_stays():
    written = job(
        compat="sedna",
        rounds=1,
        algorithm={"name": "fedavg"},
        aggregation={"rule": "median"},
        participation={"minClients": 3},
    )
    assert described(with_defaults(written), EVERYTHING) == with_defaults(written)


def test_what_the_environment_says_stays():
    written = job({"exit_round": "7", "AGGREGATION_ALGORITHM": "fedavg"})
    spec = described(with_defaults(written), EVERYTHING).spec
    assert (spec.rounds, spec.algorithm.name) == (7, "fedavg")
    # An algorithm that is a rule by itself is a rule that is written.
    spec = described(with_defaults(job({"aggregation_algorithm": "median"})), EVERYTHING).spec
    assert (spec.algorithm.name, spec.aggregation.rule) == ("median", "median")


def test_more_participants_than_workers_are_all_of_them():
    assert described(job(), {"participants": 40}).spec.participation.min_clients == 3


def test_a_description_stays_sednas_where_somebody_edits_the_job():
    edited = job(rounds=9)
    found = described(with_defaults(edited), EVERYTHING)
    assert (found.spec.rounds, compatibility_of(found.spec)) == (9, "sedna")
    assert found.spec.aggregation.rule == "script"


@pytest.mark.parametrize("description", [{}, {"problem": "ScriptFailed: it crashed"}])
def test_a_description_that_says_nothing_changes_nothing(description):
    assert described(with_defaults(job()), description) == with_defaults(job())


@pytest.mark.parametrize(
    ("spec", "description", "field"),
    [
        ({}, {"algorithm": "fedmagic"}, "spec.algorithm.name"),
        ({}, {"algorithm": "fedadam", "aggregation": "Mine"}, "spec.aggregation.rule"),
        (
            {"compat": "sedna", "privacy": {"clipNorm": 1.0, "noiseMultiplier": 1.0}},
            {"aggregation": "Mine"},
            "spec.aggregation.rule",
        ),
    ],
)
def test_a_description_that_does_not_go_with_the_job_is_refused(spec, description, field):
    with pytest.raises(InvalidJobError) as caught:
        described(with_defaults(job(**spec)), description)
    assert field in {problem.field for problem in caught.value.problems}


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        "fedavg",
        {"rounds": 0},
        {"rounds": True},
        {"rounds": "3"},
        {"rounds": 2.0},
        {"rounds": 100_001},
        {"participants": -1},
        {"algorithm": ""},
        {"algorithm": 3},
        {"aggregation": "x" * 64},
        {"aggregation": {}},
    ],
)
def test_a_description_of_wrong_types_is_none(document):
    with pytest.raises(JobError) as caught:
        checked_description(document)
    assert caught.value.reason == "BadDescription"


def test_what_a_description_does_not_say_is_left_out():
    said = {"rounds": 3, "algorithm": None, "aggregation": None, "colour": "blue"}
    assert checked_description(said) == {"rounds": 3}


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"privacy": {"clipNorm": 1.0, "noiseMultiplier": 1.0}}, "spec.aggregation.rule"),
        ({"privacy": {"secureAggregation": True, "maxValue": 1.0}}, "spec.aggregation.rule"),
        ({"algorithm": {"name": "fedadam"}}, "spec.aggregation.rule"),
        ({"algorithm": {"name": "fedavgm"}}, "spec.aggregation.rule"),
        ({"algorithm": {"name": "scaffold"}}, "spec.aggregation.rule"),
        (
            {"algorithm": {"name": "fedavg", "parameters": {"serverLearningRate": 0.5}}},
            "spec.algorithm.parameters.serverLearningRate",
        ),
        ({"aggregation": {"rule": "script", "fanIn": 2}}, "spec.aggregation.fanIn"),
        ({"aggregation": {"rule": "script", "shards": 2}}, "spec.aggregation.shards"),
        ({"aggregation": {"rule": "script", "clipNorm": 1.0}}, "spec.aggregation.clipNorm"),
        ({"aggregation": {"rule": "script", "exclude": ["bn"]}}, "spec.aggregation.exclude"),
        ({"aggregation": {"rule": "script", "weights": "steps"}}, "spec.aggregation.weights"),
        ({"aggregation": {"rule": "script", "trim": 1}}, "spec.aggregation.trim"),
    ],
)
def test_what_a_script_cannot_honour_is_refused_beside_it(spec, field):
    problems = invalid_fields(job(**{"aggregation": {"rule": "script"}, **spec}))
    assert field in {problem.field for problem in problems}


@pytest.mark.parametrize("algorithm", ["fedavg", "fedprox"])
def test_a_script_goes_with_what_clients_do_themselves(algorithm):
    assert not invalid_fields(
        job(
            algorithm={"name": algorithm},
            aggregation={"rule": "script"},
            compression={"uplink": {"codec": "topk"}, "downlink": {"codec": "int8"}},
            participation={"clientsPerRound": 2, "minClients": 1},
        )
    )
