"""Where a sparse tensor has values, and what they are, as one array of bytes.

One part and not one per kind of number: a part costs up to a hundred bytes of the file's header,
and a layer of a small model has less than that to say. All numbers are little-endian.

    head                         bytes that belong to the whole tensor, as many as the codec has
    ends                         uint32 (uint64 where the part could be longer than 4 GiB) for each
                                 block but the last: where the block's bytes end, from the end of `ends`
    for each block of 65,536 elements with any values, one after the other:
        count - 1                uint16: of the values
        b                        uint8: of the gap code
        positions                the gap code (`gaps`) of the positions in the block
        values                   as the codec writes them, `value_bits` for each, padded to bytes

The last block ends where the part ends. So a stretch is decoded from the bytes of the blocks it lies
in, in memory that depends on the size of a block alone. Positions are increasing by construction:
no bytes stand for two values in one place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from fedloom.algorithms.compression import gaps
from fedloom.algorithms.compression.largest import kept_count, largest
from fedloom.algorithms.compression.protocol import PartReader, check_parts, refuse
from fedloom.algorithms.layout import BLOCK_ELEMENTS, Array, TensorSpec

CODE = "code"
_BLOCK_HEAD_BYTES = 3
_BLOCK_SLACK_BYTES = _BLOCK_HEAD_BYTES + 3  # the paddings of its three strings of bits


@dataclass(frozen=True)
class SparseCode:
    """The layout of the part for a tensor.

    Args:
        codec: whose it is, for messages.
        size: elements of the tensor.
        fraction: of them that are sent, 0 < fraction <= 1.
        head_bytes: for the whole tensor; none for an empty tensor.
        value_bits: for each value sent.
    """

    codec: str
    size: int
    fraction: float
    head_bytes: int
    value_bits: int

    def encode(self, values: Array, write: Callable[[Array], Array]) -> Array:
        """Give the part, with the head still to be filled.

        Args:
            values: shape (size,), any float, may be strided.
            write: gives the bytes (uint8) for the float32 values that a block sends; called for each
                block with any, in order.

        Raises:
            UpdateError: `NotFinite`, with the place of the first such value.
        """
        code = np.empty(self._most_bytes(), np.uint8)  # memory that is not written to costs nothing
        ends = np.zeros(max(0, self._blocks() - 1), self._end_dtype())
        base = used = self._base()
        for start, positions, kept in largest(self.codec, values, self._count()):
            if kept.size:
                low_bits, places = gaps.encode(positions)
                head = np.array([kept.size - 1], "<u2").view(np.uint8)
                for piece in (head, np.array([low_bits], np.uint8), places, write(kept)):
                    code[used : used + piece.size] = piece
                    used += piece.size
            if start // BLOCK_ELEMENTS < ends.size:
                ends[start // BLOCK_ELEMENTS] = used - base
        code[base - ends.nbytes : base] = ends.view(np.uint8)
        code.resize(used, refcheck=False)
        return code

    def decode(
        self,
        parts: PartReader,
        stretch: tuple[int, int],
        out: Array,
        read: Callable[[Array, int], Array],
    ) -> None:
        """Write the elements of a stretch to `out`, zero where nothing was sent.

        Args:
            parts: which have passed `check`.
            stretch: flat indices [start, stop).
            out: shape (at least stop - start,), any float.
            read: gives the values for their bytes and their number.

        Raises:
            UpdateError: `MalformedUpdate`, for bytes that `encode` does not write.
        """
        start, stop = stretch
        result = out[: stop - start]
        result.fill(0)
        for block in range(
            start // BLOCK_ELEMENTS, -(-stop // BLOCK_ELEMENTS) if result.size else 0
        ):
            first = block * BLOCK_ELEMENTS
            positions, values = parts.once(block, partial(self._block, parts, block, read))
            lower, upper = np.searchsorted(positions, (start - first, stop - first))
            places = positions[lower:upper].astype(np.intp)
            with np.errstate(invalid="ignore"):  # a signalling NaN, refused where it is used
                result[places + (first - start)] = values[lower:upper]

    def check(self, parts_layout: Mapping[str, TensorSpec]) -> None:
        """Accept one part of bytes, no longer than that many values among so many elements take."""
        got = parts_layout.get(CODE)
        length = got.size if got and len(got.shape) == 1 else 0
        wanted = min(max(length, self._base()), self._most_bytes())
        check_parts(self.codec, parts_layout, {CODE: TensorSpec((wanted,), np.dtype(np.uint8))})

    def _block(
        self, parts: PartReader, block: int, read: Callable[[Array, int], Array]
    ) -> tuple[Array, Array]:
        """Give the positions in a block and their values, in 6 bytes each: many readers keep one."""
        payload = self._payload(parts, block)
        if not payload.size:
            return np.empty(0, np.uint16), np.empty(0, np.float32)
        positions, value_bytes = self._cut(payload, block)
        values = np.array(read(value_bytes, positions.size))  # the reader takes its memory again
        return positions.astype(np.uint16), values

    def _payload(self, parts: PartReader, block: int) -> Array:
        """Read the bytes of a block, as many as it may have at most."""
        base, last = self._base(), self._blocks() - 1
        dtype = self._end_dtype()
        first, stop = (dtype.itemsize * max(block - 1, 0), dtype.itemsize * min(block + 1, last))
        whole = parts.length(CODE) - base
        ends = parts.read(CODE, self.head_bytes + first, self.head_bytes + stop).view(dtype)
        start = int(ends[0]) if block else 0
        stop = int(ends[-1]) if block < last else whole
        elements = self._elements(block)
        bits = gaps.bits_bound(elements, elements) + elements * self.value_bits
        most = bits // 8 + _BLOCK_SLACK_BYTES
        if not start <= stop <= whole or stop - start > most:
            refuse(
                self.codec,
                f"block {block}: got bytes {start} to {stop} of {whole}, expected an increasing "
                f"stretch of at most {most}",
            )
        return parts.read(CODE, base + start, base + stop)

    def _cut(self, payload: Array, block: int) -> tuple[Array, Array]:
        """Give the positions in a block and the bytes of their values."""
        if payload.size < _BLOCK_HEAD_BYTES:
            refuse(self.codec, f"block {block}: got {payload.size} bytes, expected 3 or more")
        count, low_bits = int(payload[0]) + (int(payload[1]) << 8) + 1, int(payload[2])
        elements = self._elements(block)
        behind = payload.size - -(-count * self.value_bits // 8)
        positions = None
        if count <= elements and low_bits <= gaps.MOST_LOW_BITS and behind > _BLOCK_HEAD_BYTES:
            positions = gaps.decode(payload[_BLOCK_HEAD_BYTES:behind], count, low_bits)
        if positions is None or positions[-1] >= elements:
            refuse(
                self.codec,
                f"block {block}: got {payload.size} bytes that are no {count} increasing positions "
                f"below {elements} with {self.value_bits} bits of value each",
            )
        return positions, payload[behind:]

    def _most_bytes(self) -> int:
        count = self._count()
        bits = gaps.bits_bound(count, self.size) + count * self.value_bits
        return self._base() + bits // 8 + _BLOCK_SLACK_BYTES * min(self._blocks(), count)

    def _base(self) -> int:
        """Where the bytes of the blocks begin."""
        if not self.size:
            return 0
        return self.head_bytes + self._end_dtype().itemsize * (self._blocks() - 1)

    def _end_dtype(self) -> np.dtype[np.unsignedinteger]:
        count = self._count()
        bits = gaps.bits_bound(count, self.size) + count * self.value_bits
        is_long = bits // 8 + _BLOCK_SLACK_BYTES * self._blocks() >= 1 << 32
        return np.dtype("<u8" if is_long else "<u4")

    def _count(self) -> int:
        return kept_count(self.size, self.fraction)

    def _blocks(self) -> int:
        return -(-self.size // BLOCK_ELEMENTS)

    def _elements(self, block: int) -> int:
        return min(BLOCK_ELEMENTS, self.size - block * BLOCK_ELEMENTS)
