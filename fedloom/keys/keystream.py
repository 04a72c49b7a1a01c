"""A key as an endless pseudo-random sequence of bytes: AES-256 in counter mode (NIST SP 800-38A).

One key makes one sequence, so the counter starts at 0 and may be set to any block: reading from the
middle costs what reading from the start does. About 7 GB/s on a core with AES instructions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

_BLOCK_BYTES = 16
_ZEROS = bytes(512 * 1024)

Bytes = np.ndarray[Any, np.dtype[np.uint8]]


class AesKeystream:
    """The keystream of one key of 32 bytes. Holds nothing but the key: safe to share and to seek."""

    def __init__(self, key: bytes) -> None:
        self._algorithm = algorithms.AES256(key)

    def fill(self, start_byte: int, out: Bytes) -> None:
        """Write the bytes from `start_byte` (a multiple of 16) on to `out`, contiguous.

        Raises ValueError for another start.
        """
        if start_byte % _BLOCK_BYTES or start_byte < 0:
            raise ValueError(f"start_byte: got {start_byte}, expected a multiple of {_BLOCK_BYTES}")
        counter = modes.CTR((start_byte // _BLOCK_BYTES).to_bytes(_BLOCK_BYTES, "big"))
        encryptor = Cipher(self._algorithm, counter).encryptor()
        for start in range(0, out.size, len(_ZEROS)):
            piece = out[start : start + len(_ZEROS)]
            zeros = _ZEROS if piece.size == len(_ZEROS) else memoryview(_ZEROS)[: piece.size]
            encryptor.update_into(zeros, piece.data)
