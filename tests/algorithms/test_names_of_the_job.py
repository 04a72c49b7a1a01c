"""What a job may ask for is what there is: names, parameters, defaults."""

from __future__ import annotations

import pytest

from fedloom.algorithms.compression.registry import CODECS, codec
from fedloom.algorithms.optimizers.registry import SERVER_OPTIMIZERS, server_optimizer
from fedloom.api import capabilities
from fedloom.errors import JobError


def test_the_algorithms_of_the_job_are_those_of_the_registry():
    assert set(SERVER_OPTIMIZERS) == set(capabilities.ALGORITHMS)


def test_the_codecs_of_the_job_are_those_of_the_registry():
    assert set(CODECS) == set(capabilities.CODECS)


def test_nothing_planned_is_there_already():
    assert not capabilities.PLANNED_ALGORITHMS & set(SERVER_OPTIMIZERS)
    assert not capabilities.PLANNED_CODECS & set(CODECS)


@pytest.mark.parametrize("name", sorted(capabilities.ALGORITHMS))
def test_an_algorithm_s_defaults_are_the_job_s(name):
    defaults = {key: value.default for key, value in capabilities.ALGORITHMS[name].items()}
    assert server_optimizer(name, defaults) == server_optimizer(name, {})


@pytest.mark.parametrize("name", sorted(capabilities.CODECS))
def test_a_codec_s_defaults_are_the_job_s(name):
    defaults = {key: value.default for key, value in capabilities.CODECS[name].items()}
    assert codec(name, {}).parameters == defaults


@pytest.mark.parametrize("name", sorted(SERVER_OPTIMIZERS))
@pytest.mark.parametrize("parameter", ["serverLearningRate", "momentum", "proximalMu"])
def test_an_algorithm_has_no_parameter_that_the_job_does_not_know(name, parameter):
    if parameter in capabilities.ALGORITHMS[name]:
        server_optimizer(name, {parameter: 0.5})
    else:
        with pytest.raises(JobError, match=parameter):
            server_optimizer(name, {parameter: 0.5})
