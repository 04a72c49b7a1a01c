"""The largest magnitudes: as many as asked for unless they are 0, as by sorting, ties by place."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedloom.algorithms.compression.largest import kept_count, largest, threshold
from fedloom.errors import UpdateError

small = settings(derandomize=True, deadline=None, max_examples=100)
SAMPLES = hnp.arrays(
    np.float32,
    st.integers(1, 30),
    elements=st.floats(-(2.0**127), 2.0**127, width=32)
    | st.sampled_from([0.0, -0.0, 1.0, -1.0, 1e-45, -1e-45, 1e-40, np.nextafter(1, 2, dtype="f4")]),
)


def chosen(values: np.ndarray, count: int) -> tuple[list[int], list[float]]:
    places, kept = [], []
    for start, positions, some in largest("topk", values, count):
        places += (start + positions).tolist()
        kept += some.tolist()
    return places, kept


def by_sorting(values: np.ndarray, count: int) -> list[int]:
    magnitudes = np.abs(values.astype(np.float32))
    found = np.lexsort((np.arange(values.size), -magnitudes))[:count]
    return sorted(found[magnitudes[found] > 0].tolist())


@small
@given(SAMPLES, st.integers(0, 30), st.sampled_from([1, 700, 5000]))
def test_they_are_those_that_sorting_finds(sample, wanted, times):
    values = np.tile(sample, times)
    np.random.default_rng(wanted).shuffle(values)
    for count in {min(wanted, values.size), min(wanted * times, values.size), values.size}:
        places, kept = chosen(values, count)
        assert places == by_sorting(values, count)
        assert kept == values[places].tolist()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("size", [1, 16384, 16385, 65536, 65537, 200_000])
def test_of_any_dtype_and_size_there_are_exactly_as_many_as_asked_for(dtype, size):
    values = np.random.default_rng(size).normal(size=size).astype(dtype)[::-1]
    for count in {0, 1, size // 100, size // 2, size - 1, size}:
        places, _ = chosen(values, count)
        assert len(places) == count
        assert places == by_sorting(values, count)


@pytest.mark.parametrize("size", [10, 70_000])
def test_of_equal_magnitudes_the_first_are_chosen(size):
    values = np.where(np.arange(size) % 2, 1.0, -1.0).astype(np.float32)
    assert chosen(values, size // 3)[0] == list(range(size // 3))
    assert threshold("topk", values, size // 3).ties == size // 3


@pytest.mark.parametrize("size", [100, 70_000])
@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused_with_its_place(size, bad):
    values = np.ones(size, np.float32)
    values[size - 3] = bad
    with pytest.raises(UpdateError, match=f"at flat index {size - 3}, expected at most 3.40e") as e:
        chosen(values, 1)
    assert e.value.reason == "NotFinite"


@pytest.mark.parametrize(
    ("size", "fraction", "count"),
    [
        (0, 1.0, 0),
        (0, 0.01, 0),
        (1, 1e-9, 1),
        (100, 0.07, 7),
        (100, 0.004, 1),
        (149, 0.01, 1),
        (151, 0.01, 2),
        (1000, 1.0, 1000),
        (7, 1 - 1e-9, 7),
        (2**62, 0.5, 2**61),
    ],
)
def test_a_fraction_is_rounded_and_at_least_one(size, fraction, count):
    assert kept_count(size, fraction) == count


@pytest.mark.parametrize("size", [1 << 20, 1 << 22])
def test_they_are_found_in_memory_that_does_not_grow_with_the_tensor(size):
    values = np.random.default_rng(0).standard_normal(size, np.float32)
    tracemalloc.start()
    for _ in largest("topk", values, size // 100):
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 << 20
