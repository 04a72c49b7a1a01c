"""The streamed mean against its three-line twin, and what may go wrong with it."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedloom.algorithms.aggregation.mean import weighted_mean
from fedloom.algorithms.aggregation.source import ArraySource
from fedloom.algorithms.layout import BLOCK_ELEMENTS, accumulator_dtype, layout_of
from fedloom.errors import JobError

Arrays = Mapping[str, np.ndarray]

SHAPES = [(), (0,), (3, 0, 2), (1,), (2, 3), (4, 1, 5)]
BORDERS = [BLOCK_ELEMENTS - 1, BLOCK_ELEMENTS, BLOCK_ELEMENTS + 1, 2 * BLOCK_ELEMENTS]
DTYPES = ["float16", "float32", "float64", "int64", "uint8", "bool"]

small = settings(derandomize=True, deadline=None, max_examples=40)
shapes = st.sampled_from(SHAPES) | st.sampled_from(BORDERS).map(lambda size: (size,))
specs = st.dictionaries(
    st.text("ab.c", min_size=1, max_size=4),
    st.tuples(shapes, st.sampled_from(DTYPES)),
    min_size=1,
    max_size=4,
)


def arrays_of(wanted: Mapping[str, tuple], seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        name: np.asarray(rng.normal(0, 50, shape)).astype(dtype, order=rng.choice(["C", "F"]))
        if dtype != "uint8"
        else np.asarray(rng.integers(0, 256, shape)).astype(dtype)
        for name, (shape, dtype) in wanted.items()
    }


def slow_sum(terms: Mapping[int, np.ndarray], first: int, size: int) -> np.ndarray | None:
    """What is there of positions first to first + size: the left half and the right half."""
    if size == 1:
        return terms.get(first)
    left, right = (slow_sum(terms, first + half, size // 2) for half in (0, size // 2))
    return right if left is None else left if right is None else left + right


def slow_mean(updates: Sequence[Arrays], weights: Sequence[float]) -> dict[str, np.ndarray]:
    """The oracle: whole arrays, one line per step of the definition."""
    result = {}
    for name, first in updates[0].items():
        dtype = accumulator_dtype(first.dtype).type
        terms = {
            client: update[name].astype(dtype) * dtype(weight * 2**-32)
            for client, (update, weight) in enumerate(zip(updates, weights, strict=True))
        }
        total = slow_sum(terms, 0, 64)
        result[name] = total * dtype(1 / (math.fsum(weights) * 2**-32))
        if len(updates) == 1:
            result[name] = first.astype(dtype)
    return result


def fast_mean(updates: Sequence[Arrays], weights: Sequence[float]) -> dict[str, np.ndarray]:
    layout = layout_of(updates[0])
    result = {
        name: np.full(spec.size, 7, accumulator_dtype(spec.dtype)) for name, spec in layout.items()
    }
    sources = [ArraySource(update) for update in updates]
    for block in weighted_mean(sources, np.array(weights, np.float64), layout):
        result[block.name][block.start : block.start + block.values.size] = block.values
    return {name: values.reshape(layout[name].shape) for name, values in result.items()}


def bits(arrays: Arrays) -> dict[str, tuple]:
    return {name: (array.shape, array.dtype.str, array.tobytes()) for name, array in arrays.items()}


@small
@given(specs, st.lists(st.floats(0, 1e6), min_size=1, max_size=5), st.integers(0, 2**32))
def test_the_streamed_mean_equals_its_slow_twin_bit_for_bit(wanted, weights, seed):
    weights[0] += 0.25
    updates = [arrays_of(wanted, seed + client) for client in range(len(weights))]
    assert bits(fast_mean(updates, weights)) == bits(slow_mean(updates, weights))


@small
@given(
    st.dictionaries(st.text("xyz", min_size=1, max_size=3), st.integers(1, 1000), min_size=2),
    st.randoms(use_true_random=False),
)
def test_sorted_by_name_the_order_of_arrival_changes_no_bit(clients, random):
    wanted = {"w": ((300,), "float32"), "b": ((), "float64")}
    arrived = [(name, examples, arrays_of(wanted, examples)) for name, examples in clients.items()]
    expected = None
    for _ in range(3):
        random.shuffle(arrived)
        ordered = sorted(arrived, key=lambda client: client[0])
        weights = [examples for _, examples, _ in ordered]
        got = bits(fast_mean([update for _, _, update in ordered], weights))
        assert expected in (None, got)
        expected = got


@small
@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=6), st.integers(-20, 20))
def test_weights_scaled_by_a_power_of_two_change_no_bit(weights, exponent):
    updates = [arrays_of({"w": ((50,), "float32")}, seed) for seed in range(len(weights))]
    scaled = [math.ldexp(weight, exponent) for weight in weights]
    assert bits(fast_mean(updates, scaled)) == bits(fast_mean(updates, weights))


@small
@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=6), st.floats(1e-6, 1e6))
def test_weights_count_only_by_their_ratio(weights, factor):
    updates = [arrays_of({"w": ((50,), "float64")}, seed) for seed in range(len(weights))]
    scaled = [weight * factor for weight in weights]
    np.testing.assert_allclose(
        fast_mean(updates, scaled)["w"], fast_mean(updates, weights)["w"], rtol=1e-9, atol=1e-9
    )


def test_an_element_has_the_same_bits_at_whatever_position():
    updates = [arrays_of({"w": ((BLOCK_ELEMENTS + 77,), "float32")}, seed) for seed in range(5)]
    weights = [3.0, 1.0, 4.0, 1.0, 5.0]
    whole = fast_mean(updates, weights)["w"]
    for start, stop in [(1, 2), (3, 70), (BLOCK_ELEMENTS - 3, BLOCK_ELEMENTS + 5)]:
        part = fast_mean([{"w": update["w"][start:stop]} for update in updates], weights)["w"]
        assert part.tobytes() == whole[start:stop].tobytes()


def test_a_mean_that_can_be_checked_by_hand():
    updates = [{"w": np.array([1, 0], np.float32)}, {"w": np.array([5, 8], np.float32)}]
    assert fast_mean(updates, [3, 1])["w"].tolist() == [2, 2]


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_client_is_its_own_mean(dtype):
    update = arrays_of({"w": ((70000,), dtype)}, 1)
    result = fast_mean([update], [17])["w"]
    np.testing.assert_array_equal(result, update["w"].astype(result.dtype))


@pytest.mark.parametrize("clients", [2, 3, 7, 50])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_equal_updates_are_their_own_mean_up_to_rounding(clients, dtype):
    update = arrays_of({"w": ((500,), dtype)}, 5)
    result = fast_mean([update] * clients, list(range(1, clients + 1)))["w"]
    tolerance = clients * np.finfo(result.dtype).eps
    np.testing.assert_allclose(result, update["w"].astype(result.dtype), rtol=tolerance)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_in_one_of_many_shows_in_that_element_only(bad):
    updates = [arrays_of({"w": ((1000,), "float32")}, seed) for seed in range(20)]
    updates[13]["w"][271] = bad
    result = fast_mean(updates, [1.0] * 12 + [0.0] * 3 + [1.0] * 5)["w"]
    assert np.flatnonzero(~np.isfinite(result)).tolist() == [271]


def test_a_client_of_weight_zero_counts_nothing():
    updates = [arrays_of({"w": ((100,), "float32")}, seed) for seed in range(3)]
    with_it = fast_mean(updates, [2.0, 0.0, 6.0])["w"]
    without = fast_mean([updates[0], updates[2]], [2.0, 6.0])["w"]
    np.testing.assert_array_equal(with_it, without)


@pytest.mark.parametrize(
    ("weights", "reason"),
    [
        pytest.param([], "NoUpdates", id="no-client"),
        pytest.param([0.0, 0.0], "ZeroWeight", id="all-zero"),
        pytest.param([1.0, -1.0], "InvalidWeights", id="negative"),
        pytest.param([1.0, math.nan], "InvalidWeights", id="nan"),
        pytest.param([1.0, math.inf], "InvalidWeights", id="infinite"),
        pytest.param([1e308, 1e308], "InvalidWeights", id="sum-overflows"),
        pytest.param([1e-20, 1e-20], "InvalidWeights", id="sum-vanishes"),
    ],
)
def test_weights_that_give_no_mean_are_refused_before_anything_is_read(weights, reason):
    sources = [ArraySource({}) for _ in weights]
    with pytest.raises(JobError) as caught:
        weighted_mean(sources, np.array(weights), layout_of({"w": np.zeros(3)}))
    assert caught.value.reason == reason


def test_as_many_weights_as_updates_are_needed():
    with pytest.raises(JobError, match=r"shape \(3,\), expected \(2,\)"):
        weighted_mean([ArraySource({}), ArraySource({})], np.ones(3), {})


def test_inputs_are_not_written_to():
    updates = [arrays_of({"w": ((70000,), "float32"), "b": ((3,), "int64")}, s) for s in range(3)]
    before = [bits(update) for update in updates]
    weights = np.array([1.0, 2.0, 3.0])
    list(weighted_mean([ArraySource(u) for u in updates], weights, layout_of(updates[0])))
    assert [bits(update) for update in updates] == before
    assert weights.tolist() == [1.0, 2.0, 3.0]
    assert all(array.flags.writeable for update in updates for array in update.values())


def test_a_source_gives_no_writable_view_of_an_update():
    view = ArraySource({"w": np.ones(8, np.float32)}).read("w", 2, 5, np.empty(3, np.float32))
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 9


@pytest.mark.parametrize(
    "stretch",
    [
        pytest.param(lambda a: a[::2], id="strided"),
        pytest.param(lambda a: a[::-1], id="reversed"),
        pytest.param(lambda a: a.T, id="transposed"),
        pytest.param(lambda a: a[:, 1:4], id="columns"),
        pytest.param(lambda a: np.broadcast_to(a[0], (9, *a[0].shape)), id="broadcast"),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float16", "int64"])
def test_arrays_in_any_memory_order_are_read_in_c_order(stretch, dtype):
    wanted = {"w": ((300, 500), dtype)}
    updates = [{"w": stretch(arrays_of(wanted, seed)["w"])} for seed in range(3)]
    copies = [{"w": np.ascontiguousarray(update["w"])} for update in updates]
    weights = [1.0, 2.0, 4.0]
    assert bits(fast_mean(updates, weights)) == bits(slow_mean(copies, weights))


def test_every_tensor_is_yielded_in_order_from_start_to_end():
    layout = layout_of(
        {"b": np.zeros(2 * BLOCK_ELEMENTS + 5, np.float32), "a": np.zeros(0), "c": np.zeros(())}
    )
    source = ArraySource({"a": np.zeros(0), "b": np.zeros(140000, np.float32), "c": np.zeros(())})
    blocks = [
        (block.name, block.start, block.values.size)
        for block in weighted_mean([source], np.ones(1), dict(reversed(layout.items())))
    ]
    size = BLOCK_ELEMENTS
    assert blocks == [
        ("a", 0, 0),
        ("b", 0, size),
        ("b", size, size),
        ("b", 2 * size, 5),
        ("c", 0, 1),
    ]


class Counting:
    """An update of any size that takes no memory: every element is 1."""

    def read(self, name: str, start: int, stop: int, scratch: np.ndarray) -> np.ndarray:
        scratch[: stop - start] = 1
        return scratch[: stop - start]


@pytest.mark.parametrize(("clients", "size"), [(2, 100_000), (2, 8_000_000), (40, 1_000_000)])
def test_memory_grows_with_the_logarithm_of_the_clients_alone(clients, size):
    layout = layout_of({"w": np.broadcast_to(np.float32(0), (size,))})
    tracemalloc.start()
    try:
        mean = weighted_mean([Counting()] * clients, np.ones(clients), layout)
        assert sum(int(block.values.size) for block in mean) == size
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < (2 + math.log2(clients)) * 4 * BLOCK_ELEMENTS


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("examples", [1, 60_000, 50_000_000])
def test_the_largest_values_do_not_overflow_on_the_way(dtype, examples):
    top = np.finfo(dtype).max
    updates = [{"w": np.array([top, -top, top / 3], dtype)} for _ in range(50)]
    result = fast_mean(updates, [examples] * 50)["w"]
    np.testing.assert_allclose(result, updates[0]["w"], rtol=1e-6)


def test_small_values_of_many_examples_lose_nothing():
    updates = [{"w": np.array([1e-25, -3e-20], np.float32)} for _ in range(10)]
    result = fast_mean(updates, [1.0] * 10)["w"]
    np.testing.assert_allclose(result, updates[0]["w"], rtol=1e-6)
