"""The product of two thin factors: a projection, exact where the rank allows it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedloom.algorithms.compression.lowrank import LowRank
from fedloom.algorithms.compression.protocol import ArrayParts
from fedloom.algorithms.layout import TensorSpec, layout_of
from fedloom.errors import UpdateError

small = settings(derandomize=True, deadline=None, max_examples=80)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def encoded(made: LowRank, values: np.ndarray) -> dict[str, np.ndarray]:
    parts = made.encode(values, np.random.default_rng(0))
    made.check(layout_of(parts), values.shape)
    return parts


def decoded(
    made: LowRank, parts: dict[str, np.ndarray], shape: tuple[int, ...], dtype: type = np.float32
) -> np.ndarray:
    out = np.empty(math.prod(shape), dtype)
    made.decode(ArrayParts(parts), shape, 0, out.size, out)
    return out.reshape(shape)


def roundtrip(made: LowRank, values: np.ndarray) -> np.ndarray:
    return decoded(made, encoded(made, values), values.shape)


@small
@given(st.integers(4, 60), st.integers(4, 60), st.integers(1, 3), st.integers(0, 5))
def test_a_matrix_of_low_rank_comes_through(rows, columns, rank, seed):
    values = normal(rows, rank, seed=seed) @ normal(rank, columns, seed=seed + 1)
    out = roundtrip(LowRank(rank), values)
    assert np.linalg.norm(out - values) <= 1e-4 * np.linalg.norm(values)


@small
@given(st.integers(2, 60), st.integers(2, 60), st.integers(1, 4), st.integers(0, 5))
def test_what_is_lost_is_no_more_than_there_was_and_no_less_than_it_must_be(r, c, rank, seed):
    values = normal(r, c, seed=seed)
    lost = float(np.linalg.norm(roundtrip(LowRank(rank), values) - values))
    least = float(np.linalg.norm(np.linalg.svd(values, compute_uv=False)[rank:]))
    if rank * (r + c) < r * c:
        assert lost >= least * (1 - 1e-4)
    assert lost <= np.linalg.norm(values) * (1 + 1e-5)


def test_two_steps_come_close_to_the_best_approximation():
    rng = np.random.default_rng(0)
    left, _ = np.linalg.qr(rng.normal(size=(200, 40)))
    right, _ = np.linalg.qr(rng.normal(size=(100, 40)))
    values = ((left * 0.7 ** np.arange(40)) @ right.T).astype(np.float32)
    lost = np.linalg.norm(roundtrip(LowRank(4), values) - values)
    best = np.linalg.norm(np.linalg.svd(values, compute_uv=False)[4:])
    assert lost < 1.3 * best


def test_the_decoded_matrix_is_the_product_of_the_factors():
    shape = (300, 7, 31)
    parts = encoded(LowRank(3), normal(*shape))
    product = parts["left"].reshape(300, 3).astype(np.float64) @ parts["right"].reshape(3, 217)
    np.testing.assert_allclose(
        decoded(LowRank(3), parts, shape).reshape(300, 217), product, rtol=1e-4, atol=1e-5
    )
    left = parts["left"].reshape(300, 3).astype(np.float64)
    np.testing.assert_allclose(left.T @ left, np.eye(3), atol=1e-6)


@small
@given(
    st.sampled_from([(40, 30), (7, 300), (300, 7), (3, 70_000), (70_000, 3), (20, 5, 8)]),
    st.data(),
)
def test_no_stretch_is_added_up_otherwise_than_the_whole(shape, data):
    parts = PARTS[shape]
    whole = WHOLE[shape].reshape(-1)
    start = data.draw(st.integers(0, whole.size))
    stop = data.draw(st.integers(start, min(whole.size, start + 70_000)))
    out = np.full(stop - start + 1, 99, np.float32)
    LowRank(2).decode(ArrayParts(parts), shape, start, stop, out)
    assert out[:-1].tobytes() == whole[start:stop].tobytes()
    assert out[-1] == 99


@pytest.mark.parametrize(
    "shape", [(), (5,), (100_000,), (1, 1000), (1000, 1), (4, 4), (0, 10), (10, 0), (3, 6)], ids=str
)
def test_what_factors_would_not_make_smaller_is_sent_as_it_is(shape):
    values = normal(*shape)
    parts = encoded(LowRank(2), values)
    assert list(parts) == ["values"]
    assert roundtrip(LowRank(2), values).tolist() == values.tolist()


def test_the_digits_model_is_a_thirteenth_at_rank_2_and_a_twenty_second_at_rank_1():
    shapes = [(64, 200), (200,), (200, 10), (10,)]
    for rank, ratio in ((2, 13.0), (1, 21.9)):
        parts = [encoded(LowRank(rank), normal(*shape)) for shape in shapes]
        taken = sum(part.nbytes for some in parts for part in some.values())
        assert 4 * 15_010 / taken == pytest.approx(ratio, abs=0.06)


@pytest.mark.parametrize("factor", [2.0**-149, 1e-40, 1e-20, 1e20, 1e34])
def test_very_small_and_very_large_values_are_factored(factor):
    values = (np.outer(np.arange(1, 41), np.arange(1, 31)) * factor).astype(np.float32)
    out = roundtrip(LowRank(1), values).astype(np.float64)
    assert np.abs(out - values).max() <= 1e-4 * values.max() + 40 * 2.0**-149


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_floats_are_encoded_like_their_float32(dtype):
    values = normal(50, 40).astype(dtype)
    one, two = encoded(LowRank(), values), encoded(LowRank(), values.astype(np.float32))
    assert {key: part.tobytes() for key, part in one.items()} == {
        key: part.tobytes() for key, part in two.items()
    }


def test_factors_that_overflow_are_refused():
    with pytest.raises(UpdateError, match="too large for float32 factors") as caught:
        encoded(LowRank(1), np.full((100, 100), 3e38, np.float32))
    assert caught.value.reason == "NotFinite"


def test_a_matrix_of_zeros_is_a_matrix_of_zeros():
    assert not roundtrip(LowRank(), np.zeros((40, 30), np.float32)).any()


@pytest.mark.parametrize("bad", [np.nan, np.inf, 3e38])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_factors_that_are_not_finite_decode_to_values_that_are_not(bad, dtype):
    parts = encoded(LowRank(), normal(40, 30))
    parts["left"][2 * 5] = bad
    parts["right"][:] = 1e20
    out = decoded(LowRank(), parts, (40, 30), dtype)
    assert not np.isfinite(out[5]).any()
    assert np.isfinite(out[6]).all()


def test_factors_of_another_matrix_are_refused():
    good = dict(layout_of(encoded(LowRank(), normal(40, 30))))
    for shape in [(30, 40), (1200,), (), (40, 31), (41, 30), (0, 30), (2**40, 2**40)]:
        with pytest.raises(UpdateError) as caught:
            LowRank().check(good, shape)
        assert caught.value.reason == "MalformedUpdate"
    for name, spec in good.items():
        for length in (0, spec.size - 1, spec.size + 1, 2**60):
            with pytest.raises(UpdateError):
                LowRank().check({**good, name: TensorSpec((length,), spec.dtype)}, (40, 30))
    with pytest.raises(UpdateError):
        LowRank().check({"values": TensorSpec((1200,), np.dtype(np.float32))}, (40, 30))


PARTS = {
    shape: encoded(LowRank(2), normal(*shape))
    for shape in [(40, 30), (7, 300), (300, 7), (3, 70_000), (70_000, 3), (20, 5, 8)]
}
WHOLE = {shape: decoded(LowRank(2), parts, shape) for shape, parts in PARTS.items()}
