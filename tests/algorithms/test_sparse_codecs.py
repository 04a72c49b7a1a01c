"""topk, stc and dgc: what is sent, in how many bytes, and what bytes are refused."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedloom.algorithms.compression.dgc import DeepGradientCompression
from fedloom.algorithms.compression.largest import kept_count
from fedloom.algorithms.compression.protocol import ArrayParts, Codec
from fedloom.algorithms.compression.stc import SparseTernary
from fedloom.algorithms.compression.topk import TopK
from fedloom.algorithms.layout import TensorSpec, layout_of
from fedloom.errors import UpdateError

small = settings(derandomize=True, deadline=None, max_examples=100)
RNG = np.random.default_rng(0)
FRACTIONS = st.sampled_from([1e-9, 0.01, 0.1, 0.5, 1.0])
VALUES = hnp.arrays(
    np.float32,
    st.integers(0, 50),
    elements=st.floats(-(2.0**100), 2.0**100, width=32) | st.sampled_from([0.0, -0.0, 1e-45, 1.0]),
)
SPARSE = [TopK(0.01), SparseTernary(0.01), DeepGradientCompression(0.01, 0.9, 0)]
each = pytest.mark.parametrize("made", SPARSE, ids=lambda made: made.name)


def normal(size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(size, np.float32)


def encoded(made: Codec, values: np.ndarray) -> dict[str, np.ndarray]:
    parts = made.encode(values, RNG)
    made.check(layout_of(parts), values.shape)
    return parts


def decoded(
    made: Codec, parts: dict[str, np.ndarray], size: int, dtype: type = np.float32
) -> np.ndarray:
    out = np.full(size, 99, dtype)
    made.decode(ArrayParts(parts), (size,), 0, size, out)
    return out


def largest(values: np.ndarray, fraction: float) -> np.ndarray:
    """Where the largest magnitudes above 0 are, the first of equal ones, as a mask."""
    order = np.lexsort((np.arange(values.size), -np.abs(values)))
    mask = np.zeros(values.size, bool)
    mask[order[: kept_count(values.size, fraction)]] = True
    return mask & (values != 0)


@small
@given(VALUES, FRACTIONS)
def test_topk_sends_the_largest_exactly_and_nothing_else(values, fraction):
    out = decoded(TopK(fraction), encoded(TopK(fraction), values), values.size)
    assert out.tolist() == np.where(largest(values, fraction), values, 0).tolist()


@small
@given(VALUES, FRACTIONS)
def test_stc_sends_the_signs_of_the_largest_and_their_mean_magnitude(values, fraction):
    made = SparseTernary(fraction)
    out = decoded(made, encoded(made, values), values.size)
    mask = largest(values, fraction)
    mean = np.float32(np.abs(values[mask]).astype(np.float64).mean()) if mask.any() else 0
    expected = np.where(mask, np.where(values < 0, -mean, mean), 0)
    np.testing.assert_allclose(out, expected, rtol=1e-6)


@each
@pytest.mark.parametrize("size", [1, 100, 65536, 65537, 200_003])
def test_encoding_what_was_decoded_changes_nothing(made, size):
    once = decoded(made, encoded(made, normal(size)), size)
    assert decoded(made, encoded(made, once), size).tobytes() == once.tobytes()


@each
@pytest.mark.parametrize("size", [1, 49, 100, 151, 70_000, 300_000])
def test_exactly_the_fraction_is_sent_but_at_least_one(made, size):
    out = decoded(made, encoded(made, normal(size)), size)
    assert np.count_nonzero(out) == max(1, round(size / 100))


@each
@pytest.mark.parametrize("size", [40, 70_000])
def test_zeros_are_never_sent_even_where_a_fraction_would_have_room_for_them(made, size):
    values = np.zeros(size, np.float32)
    assert not decoded(made, encoded(made, values), size).any()
    values[size // 2] = -3
    out = decoded(made, encoded(made, values), size)
    assert np.flatnonzero(out).tolist() == [size // 2]
    assert out[size // 2] == -3


@each
@pytest.mark.parametrize("steps", [[7] * 300, [1, 65_535, 65_536, 5, 66_000], [140_000]], ids=str)
def test_reading_on_in_any_steps_gives_the_same_and_reads_each_block_once(made, steps):
    size = 200_000
    parts = encoded(made, normal(size))
    whole = decoded(made, parts, size)
    reader, start = CountingParts(parts), 0
    for step in steps:
        stop = min(start + step, size)
        out = np.empty(stop - start, np.float32)
        made.decode(reader, (size,), start, stop, out)
        assert out.tobytes() == whole[start:stop].tobytes()
        start = stop
    assert reader.blocks == -(-start // 65536)


class CountingParts(ArrayParts):
    """Counts how often a block was made anew."""

    blocks = 0

    def once(self, key, make):
        def counted():
            self.blocks += 1
            return make()

        return super().once(key, counted)


@each
def test_blocks_with_nothing_to_send_are_empty(made):
    values = np.zeros(5 * 65536, np.float32)
    values[3 * 65536 + 5 : 3 * 65536 + 5 + 3277] = np.arange(1, 3278)
    out = decoded(made, encoded(made, values), values.size)
    assert np.array_equal(out != 0, values != 0)


@pytest.mark.parametrize(
    ("made", "bytes_per_value"),
    [
        (TopK(0.01), 0.0506),
        (TopK(1.0), 4.1252),
        (SparseTernary(0.01), 0.0117),
        (SparseTernary(0.0025), 0.0036),
        (SparseTernary(1.0), 0.2502),
    ],
    ids=repr,
)
def test_values_take_the_bytes_that_are_stated(made, bytes_per_value):
    values = normal(1 << 20)
    taken = sum(part.nbytes for part in encoded(made, values).values()) / values.size
    assert bytes_per_value * 0.97 < taken <= bytes_per_value


def test_the_bytes_are_laid_out_as_documented():
    values = np.array([0, -2, 0, 0, 4, 0, 0, 0], np.float32)
    head = [1, 0, 0]  # two values, b = 0
    places = [0b0001_0010]  # gaps 1 and 2: 01 001, lowest bit first
    assert encoded(TopK(0.25), values)["code"].tolist() == [
        *head,
        *places,
        *np.array([-2, 4], "<f4").tobytes(),
    ]
    assert encoded(SparseTernary(0.25), values)["code"].tolist() == [
        *np.array([3], "<f4").tobytes(),
        *head,
        *places,
        0b01,
    ]
    two_blocks = np.zeros(65536 + 8, np.float32)
    two_blocks[65536:] = values
    assert encoded(TopK(2 / 65544), two_blocks)["code"][:4].view("<u4").tolist() == [0]


@each
def test_every_truncation_and_every_longer_part_is_refused(made):
    good = encoded(made, normal(70_000))["code"]
    for length in [*range(0, good.size, 37), good.size - 1, good.size + 1, good.size + 100, 2**60]:
        error = refusal(made, good, length)
        assert error.reason == "MalformedUpdate"
        assert made.name in error.message


def refusal(made: Codec, code: np.ndarray, length: int) -> UpdateError:
    """What is said of a part cut or repeated to another length, which must be refused."""
    with pytest.raises(UpdateError) as caught:
        read_as(made, code, length)
    return caught.value


def read_as(made: Codec, code: np.ndarray, length: int) -> None:
    made.check({"code": TensorSpec((length,), np.dtype(np.uint8))}, (70_000,))
    decoded(made, {"code": np.resize(code, length)}, 70_000)


@small
@given(st.sampled_from(SPARSE), st.data())
def test_damaged_bytes_are_refused_or_decoded_within_the_tensor(made, data):
    size = data.draw(st.sampled_from([1, 300, 70_000, 140_000]))
    code = encoded(made, normal(size))["code"]
    for _ in range(data.draw(st.integers(1, 6))):
        code[data.draw(st.integers(0, code.size - 1))] = data.draw(st.integers(0, 255))
    start = data.draw(st.integers(0, size - 1))
    stop = data.draw(st.integers(start, size))
    out = np.full(stop - start + 5, 99, np.float32)
    reason = "MalformedUpdate"
    try:
        made.decode(ArrayParts({"code": code}), (size,), start, stop, out)
    except UpdateError as error:
        reason = error.reason
    assert reason == "MalformedUpdate"
    assert out[stop - start :].tolist() == [99] * 5


@each
@pytest.mark.parametrize(
    "damage",
    [
        {0: 255, 1: 255},  # more values than bytes
        {0: 9, 1: 3},  # another number of values
        {2: 16},  # a gap code that there is not
        {2: 255},
        {3: 255, 4: 255},  # more positions than values
    ],
    ids=str,
)
def test_a_block_that_contradicts_itself_is_refused(made, damage):
    code = encoded(made, normal(60_000))["code"]
    base = 4 if made.name == "stc" else 0
    for place, value in damage.items():
        code[base + place] = value
    with pytest.raises(UpdateError, match="block 0: got") as caught:
        decoded(made, {"code": code}, 60_000)
    assert caught.value.reason == "MalformedUpdate"


@each
def test_a_position_behind_the_last_element_is_refused(made):
    values = np.zeros(1000, np.float32)
    values[-10:] = 1
    code = encoded(made, values)
    short = values[:-1]
    made.check(layout_of(code), short.shape)
    with pytest.raises(UpdateError, match="no 10 increasing positions below 999"):
        decoded(made, code, 999)


@each
@pytest.mark.parametrize("ends", [[2**32 - 1, 2**32 - 1], [40, 30], [0, 2**31]], ids=str)
def test_ends_that_lie_elsewhere_are_refused(made, ends):
    size = 3 * 65536
    code = encoded(made, normal(size))["code"]
    base = 4 if made.name == "stc" else 0
    code[base : base + 8] = np.array(ends, "<u4").view(np.uint8)
    out = np.empty(65536, np.float32)
    with pytest.raises(UpdateError, match="expected an increasing stretch of at most") as caught:
        made.decode(ArrayParts({"code": code}), (size,), 65536, 2 * 65536, out)
    assert caught.value.reason == "MalformedUpdate"


@each
def test_malformed_parts_are_refused_by_their_layout_alone(made):
    good = dict(layout_of(encoded(made, normal(1000))))
    spec = good["code"]
    wrong: list[dict[str, TensorSpec]] = [
        {},
        {"other": spec},
        {**good, "extra": spec},
        {"code": TensorSpec(spec.shape, np.dtype(np.int8))},
        {"code": TensorSpec((*spec.shape, 1), spec.dtype)},
        {"code": TensorSpec((), spec.dtype)},
        {"code": TensorSpec((4000,), spec.dtype)},
        {"code": TensorSpec((2**62,), spec.dtype)},
    ]
    for parts in wrong:
        with pytest.raises(UpdateError) as caught:
            made.check(parts, (1000,))
        assert caught.value.reason == "MalformedUpdate"
    for shape in [(0,), (3, 0), (2**31, 2**31)]:
        with pytest.raises(UpdateError):
            made.check(good, shape)


@each
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_that_are_not_finite_come_out_not_finite(made, dtype):
    values = np.zeros(100, np.float32)
    values[7] = 1
    code = encoded(made, values)["code"]
    place = 0 if made.name == "stc" else -4
    for bits in (0x7FC00000, 0x7F800001, 0x7F800000):
        code[place : place + 4 or None] = np.array([bits], "<u4").view(np.uint8)
        out = decoded(made, {"code": code}, 100, dtype)
        assert np.flatnonzero(~np.isfinite(out)).tolist() == [7]


@each
@pytest.mark.parametrize("size", [1 << 21, 1 << 22])
def test_memory_does_not_grow_with_the_tensor(made, size):
    values = normal(size)
    tracemalloc.start()
    parts = made.encode(values, RNG)
    _, peak = tracemalloc.get_traced_memory()
    assert peak < (4 << 20) + 2 * parts["code"].nbytes
    tracemalloc.reset_peak()
    before, _ = tracemalloc.get_traced_memory()
    out = np.empty(65536, np.float32)
    for start in range(0, size, 65536):
        made.decode(ArrayParts(parts), (size,), start, start + 65536, out)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak - before < 1 << 20
