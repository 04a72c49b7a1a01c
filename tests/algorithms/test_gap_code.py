"""The Golomb code of positions: what it says, how long it is, and what is no code."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedloom.algorithms.compression import gaps

small = settings(derandomize=True, deadline=None, max_examples=150)
POSITIONS = st.sets(st.integers(0, 65535), min_size=1, max_size=300).map(sorted) | st.sets(
    st.integers(0, 40), min_size=1
).map(sorted)


def bits_of(data: np.ndarray) -> str:
    return "".join(str(byte >> bit & 1) for byte in data.tolist() for bit in range(8))


def plainly(positions: list[int], low_bits: int) -> tuple[str, str]:
    """The unary and the lower bits as text, lowest bit first."""
    found = np.diff([-1, *positions]) - 1
    unary = "".join("0" * (gap >> low_bits) + "1" for gap in found.tolist())
    fixed = "".join(str(gap >> bit & 1) for gap in found.tolist() for bit in range(low_bits))
    return unary, fixed


@small
@given(POSITIONS)
def test_a_code_is_what_a_plain_loop_writes_and_is_read_back(positions):
    low_bits, code = gaps.encode(np.array(positions))
    unary, fixed = plainly(positions, low_bits)
    unary_bytes = math.ceil(len(unary) / 8)
    assert bits_of(code[:unary_bytes]).rstrip("0") == unary
    assert bits_of(code[unary_bytes:])[: len(fixed)] == fixed
    assert code.size == unary_bytes + math.ceil(len(fixed) / 8)
    found = gaps.decode(code, len(positions), low_bits)
    assert found is not None
    assert found.tolist() == positions


@small
@given(POSITIONS)
def test_a_code_is_shorter_than_its_bound(positions):
    low_bits, code = gaps.encode(np.array(positions))
    unary, fixed = plainly(positions, low_bits)
    assert len(unary) + len(fixed) <= gaps.bits_bound(len(positions), 65536)
    assert len(unary) + len(fixed) <= gaps.bits_bound(len(positions), positions[-1] + 1)
    assert code.dtype == np.uint8


@pytest.mark.parametrize("low_bits", range(16))
def test_any_divisor_is_read(low_bits):
    positions = [0, 1, 5, 700, 701, 40_000, 65_535]
    unary, fixed = plainly(positions, low_bits)
    texts = [text + "0" * (-len(text) % 8) for text in (unary, fixed)]
    data = [int(text[at : at + 8][::-1], 2) for text in texts for at in range(0, len(text), 8)]
    found = gaps.decode(np.array(data, np.uint8), len(positions), low_bits)
    assert found is not None
    assert found.tolist() == positions


@pytest.mark.parametrize(("fraction", "bits"), [(0.1, 4.8), (0.01, 8.2), (0.001, 11.6)])
def test_positions_at_random_take_little_more_than_their_entropy(fraction, bits):
    rng = np.random.default_rng(0)
    blocks = [np.flatnonzero(rng.random(1 << 16) < fraction) for _ in range(20)]
    taken = sum(gaps.encode(positions)[1].size * 8 for positions in blocks)
    count = sum(positions.size for positions in blocks)
    entropy = -math.log2(fraction) - (1 - fraction) / fraction * math.log2(1 - fraction)
    assert entropy < taken / count < min(bits, entropy * 1.03)


def test_all_positions_take_a_bit_each():
    low_bits, code = gaps.encode(np.arange(65536))
    assert (low_bits, code.size) == (0, 8192)


@pytest.mark.parametrize(
    ("data", "count", "low_bits"),
    [
        ([], 1, 0),
        ([0], 1, 0),
        ([0b11], 1, 0),
        ([0b1], 2, 0),
        ([0b1, 0], 1, 0),
        ([0b1, 0, 0, 0], 1, 0),
        ([0b1], 1, 8),
        ([0b1, 5, 0], 1, 8),
        ([255] * 8, 65, 0),
        ([0, 3], 1, 8),
    ],
    ids=str,
)
def test_what_is_too_short_too_long_or_of_another_number_is_no_code(data, count, low_bits):
    assert gaps.decode(np.array(data, np.uint8), count, low_bits) is None


@small
@given(st.binary(max_size=60), st.integers(1, 600), st.integers(0, 15))
def test_any_bytes_are_increasing_positions_or_no_code(data, count, low_bits):
    found = gaps.decode(np.frombuffer(data, np.uint8), count, low_bits)
    if found is not None:
        assert found.size == count
        assert found[0] >= 0
        assert np.all(np.diff(found) >= 1)
