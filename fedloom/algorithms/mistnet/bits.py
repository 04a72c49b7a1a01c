"""Bits, eight to a byte, the first in the highest place; the last byte is filled up with zeros."""

from __future__ import annotations

import numpy as np

from fedloom.algorithms.layout import Array
from fedloom.errors import UpdateError

_ONES = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1, dtype=np.uint8)


def packed_size(bits: int) -> int:
    """Give the number of bytes that hold so many bits."""
    return -(-bits // 8)


def pack_bits(bits: Array) -> Array:
    """Pack booleans of any shape, in C order: shape (packed_size(bits.size),), uint8."""
    packed: Array = np.packbits(bits, axis=None)
    return packed


def unpack_bits(packed: Array, count: int) -> Array:
    """Give the first `count` bits: shape (count,), bool.

    Raises:
        UpdateError: `WrongBits`, where there are not exactly as many bytes as that takes, or the
            filling is not zero.
    """
    check_packed(packed, count)
    return np.unpackbits(packed, count=count).view(np.bool_)


def check_packed(packed: Array, count: int) -> None:
    """Refuse bytes that are not what `pack_bits` makes of `count` bits: UpdateError `WrongBits`."""
    if packed.dtype != np.uint8 or packed.shape != (packed_size(count),):
        raise UpdateError(
            "WrongBits",
            f"got {packed.dtype} of shape {packed.shape}, expected {packed_size(count)} bytes for "
            f"{count} bits",
        )
    if count % 8 and packed[-1] & (0xFF >> count % 8):
        raise UpdateError(
            "WrongBits",
            f"got the last byte {int(packed[-1]):#04x}, expected zeros behind its first "
            f"{count % 8} bits",
        )


def count_ones(packed: Array) -> int:
    """Give how many bits are set in bytes of any shape."""
    return int(_ONES[packed].sum(dtype=np.int64))
