"""What a job may ask for is what there is: names, parameters, defaults."""

from __future__ import annotations

import pytest

from fedloom.algorithms.aggregation.registry import AGGREGATORS, RULE_PARAMETERS, aggregator
from fedloom.algorithms.compression.registry import CODECS, codec
from fedloom.algorithms.optimizers.registry import SERVER_OPTIMIZERS, server_optimizer
from fedloom.api import capabilities
from fedloom.api.quorum import least_updates
from fedloom.errors import JobError

RULES = {
    name: taken for name, taken in capabilities.RULES.items() if name != capabilities.SCRIPT_RULE
}
"""Those that are arithmetic of ours; `script` is a program of the user's."""


def test_the_algorithms_of_the_job_are_those_of_the_registry():
    assert {*SERVER_OPTIMIZERS, capabilities.MISTNET} == set(capabilities.ALGORITHMS)


def test_the_rules_of_the_job_are_those_of_the_registry():
    assert set(AGGREGATORS) == set(RULES)
    assert {rule: set(names) for rule, names in RULE_PARAMETERS.items()} == {
        rule: set(parameters) for rule, parameters in RULES.items()
    }


@pytest.mark.parametrize("name", sorted(RULES))
def test_a_rule_s_defaults_are_the_job_s(name):
    defaults = {key: value.default for key, value in capabilities.RULES[name].items()}
    assert aggregator(name, defaults) == aggregator(name, {})


@pytest.mark.parametrize("rule", sorted(RULES))
@pytest.mark.parametrize("parameter", ["trim", "byzantine", "keep", "iterations", "smoothing"])
def test_a_rule_takes_the_values_that_the_job_takes(rule, parameter):
    if parameter not in capabilities.RULES[rule]:
        with pytest.raises(JobError, match=parameter):
            aggregator(rule, {parameter: 1})
        return
    bounds = capabilities.RULES[rule][parameter].bounds
    for value in (-1, 0, 1, 7, 10_000, 10_001):
        if bounds.violation(value) is None:
            aggregator(rule, {parameter: value})
        else:
            with pytest.raises(JobError, match=parameter):
                aggregator(rule, {parameter: value})


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        *((name, {}) for name in sorted(RULES)),
        ("trimmed-mean", {"trim": 0}),
        ("trimmed-mean", {"trim": 4}),
        ("krum", {"byzantine": 0}),
        ("multi-krum", {"byzantine": 3}),
        ("multi-krum", {"byzantine": 1, "keep": 7}),
    ],
)
def test_validation_and_the_rule_agree_on_how_many_updates_it_needs(name, parameters):
    needed, _ = least_updates(name, parameters)
    assert aggregator(name, parameters).least_updates == needed


def test_the_codecs_of_the_job_are_those_of_the_registry():
    assert set(CODECS) == set(capabilities.CODECS)


def test_nothing_planned_is_there_already():
    assert not capabilities.PLANNED_ALGORITHMS & set(SERVER_OPTIMIZERS)


@pytest.mark.parametrize("name", sorted(SERVER_OPTIMIZERS))
def test_an_algorithm_s_defaults_are_the_job_s(name):
    defaults = {key: value.default for key, value in capabilities.ALGORITHMS[name].items()}
    assert server_optimizer(name, defaults) == server_optimizer(name, {})


@pytest.mark.parametrize("name", sorted(SERVER_OPTIMIZERS))
@pytest.mark.parametrize("parameter", ["serverLearningRate", "momentum", "beta1", "beta2", "tau"])
def test_a_server_optimizer_takes_the_values_that_the_job_takes(name, parameter):
    if parameter not in capabilities.ALGORITHMS[name]:
        return
    bounds = capabilities.ALGORITHMS[name][parameter].bounds
    for value in (-1, 0, 1e-300, 1e-13, 1e-12, 0.5, 1 - 1e-9, 1, 1e6, 1.1e6, 1e9):
        if bounds.violation(value) is None:
            server_optimizer(name, {parameter: value})
        else:
            with pytest.raises(JobError, match=parameter):
                server_optimizer(name, {parameter: value})


@pytest.mark.parametrize("name", sorted(capabilities.CODECS))
def test_a_codec_s_defaults_are_the_job_s(name):
    defaults = {key: value.default for key, value in capabilities.CODECS[name].items()}
    assert codec(name, {}).parameters == defaults


@pytest.mark.parametrize("name", sorted(capabilities.CODECS))
def test_a_codec_takes_the_values_that_the_job_takes(name):
    for parameter, declared in capabilities.CODECS[name].items():
        whole = isinstance(declared.default, int)
        for value in (-1, 0, 1e-9, 0.5, 1, 1 - 1e-9, 1.5, 16, 256, 257, 4096, 10_000, 65536, 1e9):
            if declared.bounds.violation(value) is None and (value == int(value) or not whole):
                assert codec(name, {parameter: value}).parameters[parameter] == value
            elif not declared.bounds.power_of_two:
                with pytest.raises(JobError, match=parameter):
                    codec(name, {parameter: value})


@pytest.mark.parametrize("name", sorted(SERVER_OPTIMIZERS))
@pytest.mark.parametrize(
    "parameter", ["serverLearningRate", "momentum", "beta1", "beta2", "tau", "proximalMu"]
)
def test_an_algorithm_has_no_parameter_that_the_job_does_not_know(name, parameter):
    if parameter in capabilities.ALGORITHMS[name]:
        server_optimizer(name, {parameter: 0.5})
    else:
        with pytest.raises(JobError, match=parameter):
            server_optimizer(name, {parameter: 0.5})
