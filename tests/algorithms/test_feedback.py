"""What is not sent is not lost: it is in the state, and comes later."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedloom.algorithms.compression.feedback import (
    ErrorFeedback,
    Feedback,
    MomentumCorrection,
    feedback_of,
)
from fedloom.algorithms.compression.protocol import ArrayParts, Codec
from fedloom.algorithms.compression.registry import codec
from fedloom.api import capabilities
from fedloom.errors import JobError

small = settings(derandomize=True, deadline=None, max_examples=60)
SHAPES = [(), (1,), (500,), (40, 30), (0,)]
State = dict[str, np.ndarray]


def through(made: Codec, values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    out = np.empty(values.size, values.dtype)
    made.decode(ArrayParts(made.encode(values, rng)), values.shape, 0, values.size, out)
    return out.reshape(values.shape)


def zeros(feedback: Feedback, like: np.ndarray) -> State:
    return {slot: np.zeros(like.shape, like.dtype) for slot in feedback.slots}


def deltas_of(shape: tuple[int, ...], rounds: int, dtype: Any = np.float32) -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    drift = rng.normal(size=shape)
    return [np.asarray(drift + rng.normal(size=shape), dtype) for _ in range(rounds)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", sorted(capabilities.BIASED_CODECS))
def test_what_arrived_and_what_is_kept_add_up_to_all_there_was(name, shape):
    made, feedback = codec(name, {}), ErrorFeedback()
    deltas = deltas_of(shape, 80)
    state, rng = zeros(feedback, deltas[0]), np.random.default_rng(0)
    arrived = np.zeros(shape)
    for delta in deltas:
        outgoing = feedback.outgoing(delta, state)
        decoded = through(made, outgoing, rng)
        state = feedback.kept(outgoing, decoded, state)
        arrived += decoded
    np.testing.assert_allclose(arrived + state["residual"], sum(deltas), atol=2e-3)


@pytest.mark.parametrize("name", sorted(capabilities.BIASED_CODECS))
def test_with_feedback_the_mean_of_what_arrives_comes_to_the_update(name):
    delta = np.random.default_rng(5).normal(size=(40, 30)).astype(np.float32)
    parameters = {"fraction": 0.05} if name in ("topk", "stc") else {}
    made, feedback, rounds = codec(name, parameters), ErrorFeedback(), 400
    state, rng = zeros(feedback, delta), np.random.default_rng(0)
    with_feedback, without = np.zeros(delta.shape), np.zeros(delta.shape)
    for _ in range(rounds):
        outgoing = feedback.outgoing(delta, state)
        decoded = through(made, outgoing, rng)
        state = feedback.kept(outgoing, decoded, state)
        with_feedback += decoded
        without += through(made, delta, rng)
    scale = np.linalg.norm(delta)
    assert np.linalg.norm(with_feedback / rounds - delta) < 0.15 * scale
    assert np.linalg.norm(without / rounds - delta) > 0.3 * scale


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_dgc_without_momentum_that_sends_everything_is_plain_sending(shape):
    made = codec("dgc", {"fraction": 1, "momentum": 0, "warmupRounds": 0})
    feedback = feedback_of("dgc", made.parameters, False)
    assert feedback is not None
    deltas = deltas_of(shape, 5)
    state = zeros(feedback, deltas[0])
    for delta in deltas:
        outgoing = feedback.outgoing(delta, state)
        decoded = through(made, outgoing, np.random.default_rng(0))
        assert decoded.tobytes() == delta.tobytes()
        state = feedback.kept(outgoing, decoded, state)
        assert not any(array.any() for array in state.values())


def test_dgc_without_momentum_is_error_feedback():
    made = codec("topk", {"fraction": 0.1})
    one, two = MomentumCorrection(0.0), ErrorFeedback()
    deltas = deltas_of((300,), 30)
    first, second = zeros(one, deltas[0]), zeros(two, deltas[0])
    for delta in deltas:
        sent = [one.outgoing(delta, first), two.outgoing(delta, second)]
        assert sent[0].tobytes() == sent[1].tobytes()
        decoded = through(made, sent[0], np.random.default_rng(0))
        first, second = one.kept(sent[0], decoded, first), two.kept(sent[1], decoded, second)
        assert first["residual"].tobytes() == second["residual"].tobytes()


def test_momentum_correction_is_what_the_paper_writes():
    made, feedback = codec("topk", {"fraction": 0.05}), MomentumCorrection(0.9)
    deltas = deltas_of((200,), 40, np.float64)
    state = zeros(feedback, deltas[0])
    u, v = np.zeros(200), np.zeros(200)
    for delta in deltas:
        outgoing = feedback.outgoing(delta, state)
        decoded = through(made, outgoing, np.random.default_rng(0))
        state = feedback.kept(outgoing, decoded, state)
        u = 0.9 * u + delta
        v = v + u
        sent = np.argsort(-np.abs(v))[:10]
        assert sorted(sent) == np.flatnonzero(decoded).tolist()
        u[sent] = v[sent] = 0
        np.testing.assert_allclose(state["velocity"], u, atol=1e-9)
        np.testing.assert_allclose(state["residual"], v, atol=1e-9)


@pytest.mark.parametrize("feedback", [ErrorFeedback(), MomentumCorrection(0.5)], ids=repr)
def test_an_update_that_never_arrived_is_still_to_be_sent(feedback):
    delta = deltas_of((100,), 1)[0]
    state = zeros(feedback, delta)
    outgoing = feedback.outgoing(delta, state)
    state = feedback.kept(outgoing, np.zeros_like(outgoing), state)
    assert state["residual"].tolist() == delta.tolist()
    nothing = np.zeros_like(delta)
    momentum = getattr(feedback, "momentum", 0)
    np.testing.assert_allclose(feedback.outgoing(nothing, state), (1 + momentum) * delta, rtol=1e-6)


@small
@given(
    st.sampled_from([ErrorFeedback(), MomentumCorrection(0.9)]),
    st.sampled_from([np.float32, np.float64]),
    st.data(),
)
def test_any_part_of_a_tensor_gives_that_part_of_the_result(feedback, dtype, data):
    arrays = [
        data.draw(hnp.arrays(dtype, 12, elements=st.floats(-8, 8, width=32)))
        for _ in range(2 + len(feedback.slots))
    ]
    for array in arrays:
        array.flags.writeable = False
    delta, decoded, *slots = arrays
    state = dict(zip(feedback.slots, slots, strict=True))
    outgoing = feedback.outgoing(delta, state)
    kept = feedback.kept(outgoing, decoded, state)
    cut = slice(*sorted(data.draw(st.tuples(st.integers(0, 12), st.integers(0, 12)))))
    part = {name: array[cut] for name, array in state.items()}
    assert feedback.outgoing(delta[cut], part).tobytes() == outgoing[cut].tobytes()
    again = feedback.kept(outgoing[cut], decoded[cut], part)
    assert {name: array.tobytes() for name, array in again.items()} == {
        name: array[cut].tobytes() for name, array in kept.items()
    }
    assert set(kept) == set(feedback.slots)
    assert {array.dtype for array in [outgoing, *kept.values()]} == {np.dtype(dtype)}
    assert not any(np.shares_memory(array, outgoing) for array in kept.values())


@pytest.mark.parametrize(
    ("name", "parameters", "error_feedback", "expected"),
    [
        ("none", {}, True, None),
        ("int8", {}, False, None),
        ("int8", {}, True, ErrorFeedback()),
        ("topk", {}, True, ErrorFeedback()),
        ("topk", {"fraction": 0.1}, False, None),
        ("lowrank", {"rank": 1}, True, ErrorFeedback()),
        ("dgc", {}, False, MomentumCorrection(0.5)),
        ("dgc", {"momentum": 0.9}, True, MomentumCorrection(0.9)),
    ],
)
def test_which_feedback_a_codec_has(name, parameters, error_feedback, expected):
    assert feedback_of(name, parameters, error_feedback) == expected


def test_parameters_of_a_feedback_are_checked_like_those_of_its_codec():
    with pytest.raises(JobError, match="momentum: got 1"):
        feedback_of("dgc", {"momentum": 1}, True)
    with pytest.raises(JobError, match="got codec 'zip'"):
        feedback_of("zip", {}, True)
