"""What a mistnet job must say and cannot have: refused before anything runs, each with the reason."""

from __future__ import annotations

import pytest

from fedloom.api.documents import read_documents
from fedloom.api.validation import job_to_run, validate

NO_UPDATES = "mistnet has one round, in which edges send features and no updates"


def found(job):
    problems = validate(read_documents([job.write()]))
    return {problem.field.rpartition(" ")[2]: problem.message for problem in problems}


def test_the_job_as_it_is_has_no_problem(job):
    assert found(job) == {}


@pytest.mark.parametrize(
    ("parameters", "field", "words"),
    [
        ({}, "epsilon", "got none, expected a number above 0 (of one bit), or privacy: none"),
        ({"epsilon": 0}, "epsilon", "at least"),
        ({"epsilon": -1}, "epsilon", "at least"),
        ({"epsilon": "two"}, "epsilon", "expected a number"),
        ({"epsilon": 1, "privacy": "none"}, "epsilon", "together with privacy: none"),
        ({"privacy": "none", "maxEpsilon": 5}, "maxEpsilon", "infinite"),
        ({"privacy": "some", "epsilon": 1}, "privacy", "randomized-response or none"),
        ({"epsilon": 1, "epsilonConvention": "sue"}, "epsilonConvention", "paper or plato-sue"),
        ({"epsilon": 1, "cutLayer": 0}, "cutLayer", "at least 1"),
        ({"epsilon": 1, "cutLayer": 1.5}, "cutLayer", "expected an integer"),
        ({"epsilon": 1, "holdOut": 1}, "holdOut", "at most 0.9"),
        ({"epsilon": 1, "momentum": 0.9}, "momentum", "parameter of mistnet"),
    ],
)
def test_parameters(job, parameters, field, words):
    job.spec["algorithm"]["parameters"] = parameters
    assert words in found(job)[f"spec.algorithm.parameters.{field}"]


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("rounds", 2, "expected 1 (or nothing): an edge releases its images once"),
        ("aggregation", {"rule": "median"}, NO_UPDATES),
        ("aggregation", {"weights": "uniform"}, NO_UPDATES),
        ("aggregation", {"clipNorm": 1.0}, NO_UPDATES),
        ("aggregation", {"exclude": ["*.bn"]}, NO_UPDATES),
        ("aggregation", {"fanIn": 4}, NO_UPDATES),
        ("aggregation", {"shards": 2}, NO_UPDATES),
        ("compression", {"uplink": {"codec": "int8"}}, "bits already"),
        ("compression", {"uplink": {"codec": "none", "lossless": "zstd"}}, "bits already"),
        ("compression", {"downlink": {"codec": "bf16"}}, "the extractor as it is"),
        ("privacy", {"clipNorm": 1.0, "noiseMultiplier": 1.0}, "algorithm.parameters.epsilon"),
        ("transfer", {"anchor": {}}, NO_UPDATES),
        ("stopCondition", {"metric": "accuracy", "threshold": 0.9}, NO_UPDATES),
        ("compat", "websocket", "compat: websocket"),
    ],
)
def test_combinations(job, field, value, words):
    job.spec[field] = value
    assert any(words in message for message in found(job).values()), found(job)


def test_workers_whose_environment_says_something_else_are_named(job):
    job.set_environment(1, {"EPSILON": "4", "cut_layer": "1"})
    job.set_environment(2, {"cut_layer": "3"})
    problems = found(job)
    where = "spec.trainingWorkers[{}].template.spec.containers[0].env[{}]"
    assert problems.keys() == {where.format(1, "EPSILON"), where.format(2, "cut_layer")}
    assert "the job has epsilon 2" in problems[where.format(1, "EPSILON")]


def test_a_number_that_is_none_in_the_environment_is_refused(job):
    job.spec["algorithm"] = {"name": "mistnet"}
    job.set_environment(None, {"epsilon": "much"})
    assert "expected a number" in found(job)["spec.algorithm.parameters.epsilon"]


def test_defaults_filled_in_twice_are_the_same(job):
    from fedloom.api.defaults import with_defaults

    job.set_environment(None, {"epochs": "9", "Learning_Rate": "0.5"})
    job.spec["hyperparameters"] = {"batch_size": 4}
    once = job_to_run(read_documents([job.write()]))
    assert with_defaults(once) == once
    assert once.spec.hyperparameters == {"batch_size": 4, "epochs": 9, "learningRate": 0.5}
