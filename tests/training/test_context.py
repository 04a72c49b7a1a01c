"""What a training class is given: Round and its drift correction, and the names of the package."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import fedloom
from fedloom.training import context as context_module
from fedloom.training import script


def test_a_round_without_correction_gives_the_very_gradients_back():
    plain = fedloom.Round(number=1, total=3, seed=7)
    gradients = {"w": np.ones(3, np.float32)}
    assert not plain.corrects
    assert plain.correct(gradients, {"w": np.zeros(3, np.float32)}) is gradients


def test_a_round_with_correction_gives_what_the_correction_makes_of_gradients_and_weights():
    def pull_to_zero(gradients, model):
        return {name: gradients[name] + np.float32(0.5) * model[name] for name in gradients}

    pulled = fedloom.Round(number=1, total=3, seed=7, correction=pull_to_zero)
    after = pulled.correct({"w": np.ones(2)}, {"w": np.full(2, 4.0), "frozen": np.ones(1)})
    assert pulled.corrects
    assert list(after) == ["w"]
    np.testing.assert_array_equal(after["w"], [3.0, 3.0])


def test_what_a_script_is_given_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        fedloom.Round(number=1, total=3, seed=7).number = 2


def test_the_package_gives_the_names_of_its_rooms():
    assert fedloom.Round is context_module.Round
    assert fedloom.Client is context_module.Client
    assert fedloom.Update is context_module.Update
    assert fedloom.Evaluation is context_module.Evaluation
    assert fedloom.main is script.main
    assert all(hasattr(fedloom, name) for name in fedloom.__all__)


def test_a_name_that_the_package_has_not_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'fedloom' has no attribute 'mian'"):
        _ = fedloom.mian
