"""The one drift correction: what it adds to a gradient, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from fedloom.algorithms.drift.anchors import combined_pull, float_tensors
from fedloom.algorithms.drift.correction import DriftCorrection
from fedloom.errors import UpdateError

SHAPES = arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
STRENGTHS = st.floats(0, 10)
VALUES = st.floats(-100, 100, width=32)


@st.composite
def models(draw, count):
    """As many arrays of one random shape, float64: nothing is hidden by rounding."""
    shape = draw(SHAPES)
    return [draw(arrays.arrays(np.float64, shape, elements=VALUES)) for _ in range(count)]


@given(models(4), STRENGTHS)
def test_it_is_the_gradient_plus_offset_plus_pull(four, mu):
    gradient, weight, anchor, offset = four
    correction = DriftCorrection(mu, {"w": anchor}, {"w": offset})
    after = correction({"w": gradient.copy()}, {"w": weight})
    np.testing.assert_allclose(after["w"], gradient + offset + mu * (weight - anchor), rtol=1e-12)


@given(models(3), STRENGTHS, st.integers(0, 2**31))
def test_the_pull_is_the_gradient_of_half_mu_times_the_squared_distance(three, mu, seed):
    gradient, weight, anchor = three
    correction = DriftCorrection(mu, {"w": anchor})
    pull = correction({"w": gradient.copy()}, {"w": weight})["w"] - gradient

    def penalty(at):
        return mu / 2 * np.sum((at - anchor) ** 2)

    way = np.random.default_rng(seed).normal(size=weight.shape)
    slope = (penalty(weight + way) - penalty(weight - way)) / 2  # exact for a square
    np.testing.assert_allclose(np.sum(pull * way), slope, rtol=1e-6, atol=1e-4)


@given(models(2), STRENGTHS)
def test_at_the_anchor_nothing_changes_to_the_last_bit(two, mu):
    gradient, weight = two
    correction = DriftCorrection(mu, {"w": weight})
    after = correction({"w": gradient.copy()}, {"w": weight.copy()})
    np.testing.assert_array_equal(after["w"], gradient)


@given(models(4), st.lists(STRENGTHS, min_size=3, max_size=3))
def test_pulls_to_several_anchors_are_one_pull(four, strengths):
    weight, *anchors = four
    pulls = [(mu, {"w": anchor}) for mu, anchor in zip(strengths, anchors, strict=True)]
    after = DriftCorrection(*combined_pull(pulls))({"w": np.zeros_like(weight)}, {"w": weight})
    expected = sum(mu * (weight - anchor["w"]) for mu, anchor in pulls)
    np.testing.assert_allclose(after["w"], expected, rtol=1e-9, atol=1e-9)


@given(models(1), STRENGTHS, STRENGTHS)
def test_anchors_that_agree_are_that_anchor_to_the_last_bit(one, first, second):
    strength, anchor = combined_pull([(first, {"w": one[0]}), (second, {"w": one[0].copy()})])
    assert strength == first + second
    if strength:
        np.testing.assert_array_equal(anchor["w"], one[0])


def test_no_pull_at_all_has_no_anchor():
    assert combined_pull([]) == (0.0, {})
    assert combined_pull([(0.0, {"w": np.ones(2)})]) == (0.0, {})


def test_a_single_anchor_is_not_copied_and_counters_are_no_part_of_it():
    model = {"w": np.ones(3, np.float32), "half": np.ones(2, np.float16), "steps": np.array(4)}
    _, anchor = combined_pull([(0.1, model)])
    assert anchor["w"] is model["w"]
    assert (sorted(anchor), anchor["half"].dtype) == (["half", "w"], np.float32)
    assert sorted(float_tensors(model)) == ["half", "w"]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("weights_dtype", [np.float16, np.float32, np.float64])
def test_the_gradient_keeps_its_dtype_and_is_changed_in_place(dtype, weights_dtype):
    weights = {"w": np.full((2, 3), 2, weights_dtype)}
    anchor = float_tensors({"w": np.full((2, 3), 1, weights_dtype)})
    gradient = np.full((2, 3), 1, dtype)
    after = DriftCorrection(0.5, anchor, {"w": np.full((2, 3), 0.25, np.float32)})(
        {"w": gradient}, weights
    )
    assert after["w"] is gradient
    assert gradient.dtype == dtype
    np.testing.assert_array_equal(gradient, np.full((2, 3), 1.75))
    assert weights["w"][0, 0] == 2


def test_gradients_that_cannot_be_written_to_are_copied():
    frozen = np.broadcast_to(np.float32(1), (4,))
    after = DriftCorrection(offset={"w": np.ones(4, np.float32)})({"w": frozen}, {})
    np.testing.assert_array_equal(after["w"], np.full(4, 2))
    np.testing.assert_array_equal(frozen, np.ones(4))
    scalar = DriftCorrection(offset={"b": np.float32(1) * np.ones(())})({"b": np.float32(2)}, {})
    assert (scalar["b"], scalar["b"].shape, scalar["b"].dtype) == (3, (), np.float32)


def test_any_part_of_the_names_may_come_and_integers_and_own_tensors_pass():
    correction = DriftCorrection(
        1.0,
        {"w": np.zeros(2, np.float32), "bn": np.zeros(2, np.float32)},
        {"w": np.ones(2, np.float32)},
        untouched=frozenset({"bn"}),
    )
    assert correction({}, {}) == {}
    given = {"steps": np.array(3), "bn": np.ones(2, np.float32)}
    after = correction(dict(given), {"bn": np.full(2, 9, np.float32)})
    assert after["steps"] is given["steps"]
    np.testing.assert_array_equal(after["bn"], np.ones(2))


@pytest.mark.parametrize(
    ("gradients", "weights", "reason", "words"),
    [
        ({"v": np.ones(2)}, {"v": np.ones(2)}, "UnexpectedTensor", "'v'"),
        ({"w": np.ones(3)}, {"w": np.ones(2)}, "ShapeMismatch", "[3]"),
        ({"w": np.ones((1, 2))}, {"w": np.ones(2)}, "ShapeMismatch", "[1, 2]"),
        ({"w": np.ones(2)}, {"w": np.ones(1)}, "ShapeMismatch", "weight of tensor 'w'"),
        ({"w": np.ones(2)}, {}, "MissingTensor", "not its weights"),
    ],
)
def test_what_is_not_of_the_model_is_refused(gradients, weights, reason, words):
    correction = DriftCorrection(1.0, {"w": np.zeros(2)})
    with pytest.raises(UpdateError, match=words.replace("[", r"\[")) as caught:
        correction(gradients, weights)
    assert caught.value.reason == reason
