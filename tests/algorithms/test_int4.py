"""Two values to a byte: where each lies, odd sizes, and stretches that begin inside a byte."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedloom.algorithms.compression.int4 import Int4
from fedloom.algorithms.compression.protocol import ArrayParts
from fedloom.algorithms.layout import TensorSpec
from fedloom.errors import UpdateError

small = settings(derandomize=True, deadline=None, max_examples=150)


def signed(nibble: int) -> int:
    return nibble - 16 if nibble >= 8 else nibble


def decoded(made: Int4, parts: dict, size: int, start: int, stop: int) -> np.ndarray:
    out = np.empty(stop - start, np.float32)
    made.decode(ArrayParts(parts), (size,), start, stop, out)
    return out


def test_the_first_value_of_a_pair_lies_in_the_lower_half_of_its_byte():
    values = np.array([1, -2, 7, -7, 0], np.float32)
    parts = Int4(5).encode(values, np.random.default_rng(0))
    assert parts["codes"].tolist() == [0xE1, 0x97, 0x00]
    assert parts["codes"].dtype == np.uint8
    assert parts["scales"].tolist() == [1]


def test_every_byte_is_decoded_to_its_two_numbers():
    codes = np.arange(256).astype(np.uint8)
    parts = {"codes": codes, "scales": np.full(16, 0.5, np.float32)}
    expected = [signed(half) * 0.5 for byte in range(256) for half in (byte & 15, byte >> 4)]
    assert decoded(Int4(), parts, 512, 0, 512).tolist() == expected


@small
@given(st.binary(min_size=1, max_size=60), st.booleans(), st.integers(1, 9), st.data())
def test_any_stretch_of_any_bytes_is_what_a_plain_loop_gives(data, is_odd, block_size, draw):
    size = 2 * len(data) - is_odd
    scales = np.arange(1, -(-size // block_size) + 1).astype(np.float32)
    parts = {"codes": np.frombuffer(data, np.uint8), "scales": scales}
    start = draw.draw(st.integers(0, size))
    stop = draw.draw(st.integers(start, size))
    expected = [
        signed(data[i // 2] >> 4 if i % 2 else data[i // 2] & 15) * float(scales[i // block_size])
        for i in range(start, stop)
    ]
    assert decoded(Int4(block_size), parts, size, start, stop).tolist() == expected


@pytest.mark.parametrize("size", [1, 3, 31, 33, 65535, 65537, 131071])
@pytest.mark.parametrize("block_size", [1, 5, 32, 65535])
def test_an_odd_size_leaves_the_last_half_byte_empty(size, block_size):
    values = np.ones(size, np.float32)
    parts = Int4(block_size).encode(values, np.random.default_rng(0))
    assert parts["codes"].size == (size + 1) // 2
    assert parts["codes"][-1] == 7
    assert decoded(Int4(block_size), parts, size, size - 1, size)[0] == pytest.approx(1)


def test_what_the_last_half_byte_holds_changes_nothing():
    parts = {"codes": np.array([0x21, 0xF3], np.uint8), "scales": np.ones(1, np.float32)}
    assert decoded(Int4(), parts, 3, 0, 3).tolist() == [1, 2, 3]


@pytest.mark.parametrize("size", [0, 1, 2, 3, 64, 65])
def test_codes_for_another_number_of_bytes_are_refused(size):
    made, blocks = Int4(), -(-size // 32)
    for codes in {(size + 1) // 2 + 1, max(0, (size + 1) // 2 - 1), size + 2, 2**61}:
        if codes == (size + 1) // 2:
            continue
        parts = {
            "codes": TensorSpec((codes,), np.dtype(np.uint8)),
            "scales": TensorSpec((blocks,), np.dtype(np.float32)),
        }
        with pytest.raises(UpdateError, match="part 'codes'") as caught:
            made.check(parts, (size,))
        assert caught.value.reason == "MalformedUpdate"
