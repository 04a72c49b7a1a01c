"""A matrix as the product of two thin ones.

Vogels et al., "PowerSGD: practical low-rank gradient compression for distributed optimization",
NeurIPS 2019, arXiv 1905.13727. A tensor of several axes is the matrix M of shape
(shape[0], all other axes). From a random start Q of `rank` columns, twice:

    P <- M Q with its columns made orthonormal, Q <- M^T P;   decoded: P Q^T

(PowerSGD makes one such step from the last round's Q. Here an update says everything itself: nothing
on the server belongs to a client, and one that was away for long is served as well.)

- **Bound.** P Q^T = P P^T M is a projection of M, so |x - decoded| <= |x| in the Euclidean norm, to
  float32's rounding; a matrix of rank <= `rank` comes through exactly, to the same.
- **Biased**, needs error feedback (`feedback.ErrorFeedback`).
- **Sent as they are**: tensors of one axis or none, and matrices whose factors would take no less.
- **Reproducible.** Decoding multiplies and adds element by element in one order: an edge and a server
  get the same bits on any processor, so a residual is exact. What `encode` gives, a product of
  matrices and a QR decomposition, can differ in last bits between processors or libraries.
- **Range.** All finite float32 (the matrix is scaled by a power of two), unless Q overflows: refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fedloom.algorithms.compression.chunks import float32_chunks, refuse_first_not_finite
from fedloom.algorithms.compression.identity import Identity
from fedloom.algorithms.compression.protocol import PartReader, Shape, check_parts, flat, size_of
from fedloom.algorithms.layout import BLOCK_ELEMENTS, Array, TensorSpec
from fedloom.errors import UpdateError

LEFT = "left"
RIGHT = "right"
_STEPS = 2
_CHUNK_ELEMENTS = 4 * BLOCK_ELEMENTS
_PLAIN_EXPONENT = 32
_PLAIN = Identity()


@dataclass(frozen=True)
class LowRank:
    """Two factors for a matrix.

    Parts: `left`, shape (rows * rank,), float32: P, row after row; `right`, shape (rank * columns,),
    float32: Q, column after column. Or, of what is sent as it is, those of `none`.

    Args:
        rank: of both factors, >= 1.
    """

    name: ClassVar[str] = "lowrank"
    is_whole: ClassVar[bool] = False
    rank: int = 2

    @property
    def parameters(self) -> Mapping[str, object]:
        """`rank`."""
        return {"rank": self.rank}

    def encode(self, values: Array, rng: np.random.Generator) -> dict[str, Array]:
        """Find the factors; draws columns * rank numbers from `rng`, none for what is sent as it is."""
        rows, columns = self._matrix(values.shape)
        if not rows:
            return _PLAIN.encode(values, rng)
        matrix = flat(values)
        exponent = _exponent(matrix)
        right = rng.standard_normal((columns, self.rank), np.float32)
        left = np.empty((rows, self.rank), np.float32)
        for _ in range(_STEPS):
            for first, some in _rows(matrix, columns, exponent):
                np.matmul(some, right, out=left[first : first + len(some)])
            left = np.linalg.qr(left.astype(np.float64))[0].astype(np.float32)
            right = np.zeros((columns, self.rank), np.float32)
            for first, some in _rows(matrix, columns, exponent):
                right += some.T @ left[first : first + len(some)]
        with np.errstate(over="ignore", under="ignore"):
            right = np.ldexp(right, exponent)
        if not np.isfinite(right).all():
            raise UpdateError(
                "NotFinite", f"codec {self.name!r}: the values are too large for float32 factors"
            )
        return {LEFT: left.reshape(-1), RIGHT: right.T.flatten()}

    def decode(self, parts: PartReader, shape: Shape, start: int, stop: int, out: Array) -> None:
        """Multiply the factors, for a stretch of the matrix."""
        rows, columns = self._matrix(shape)
        if not rows:
            _PLAIN.decode(parts, shape, start, stop, out)
            return
        done = start
        while done < stop:
            row, column = divmod(done, columns)
            count = max(1, (stop - done) // columns) if not column else 1
            width = min(columns - column, stop - done) if count == 1 else columns
            area = out[done - start : done - start + count * width].reshape(count, width)
            self._multiply(parts, (row, column, columns), area)
            done += area.size

    def check(self, parts_layout: Mapping[str, TensorSpec], shape: Shape) -> None:
        """Accept both factors for a matrix of that shape, or the values that are sent as they are."""
        rows, columns = self._matrix(shape)
        if not rows:
            _PLAIN.check(parts_layout, shape)
            return
        expected = {
            LEFT: TensorSpec((rows * self.rank,), np.dtype(np.float32)),
            RIGHT: TensorSpec((columns * self.rank,), np.dtype(np.float32)),
        }
        check_parts(self.name, parts_layout, expected)

    def _matrix(self, shape: Shape) -> tuple[int, int]:
        """Give rows and columns; (0, 0) for what is sent as it is."""
        if len(shape) < 2:
            return 0, 0
        rows, columns = shape[0], size_of(shape[1:])
        is_smaller = self.rank * (rows + columns) < rows * columns
        return (rows, columns) if is_smaller else (0, 0)

    def _multiply(self, parts: PartReader, place: tuple[int, int, int], area: Array) -> None:
        """Fill an area of the matrix, one rank after the other, so that no stretch adds otherwise.

        Args:
            parts: both factors.
            place: row and column of the area's first element, and the columns of the matrix.
            area: shape (count, width), float32 or float64, filled.
        """
        row, column, columns = place
        count, width = area.shape
        rows = parts.read(LEFT, row * self.rank, (row + count) * self.rank)
        left = rows.reshape(count, self.rank)
        result = area if area.dtype == np.float32 else np.empty(area.shape, np.float32)
        term = np.empty((count, width), np.float32)
        with np.errstate(over="ignore", invalid="ignore"):  # refused where it is used
            for rank in range(self.rank):
                first = rank * columns + column
                right = parts.read(RIGHT, first, first + width)
                np.multiply(left[:, rank, None], right, out=term if rank else result)
                if rank:
                    np.add(result, term, out=result)
            if result is not area:
                np.copyto(area, result)


def _exponent(matrix: Array) -> int:
    """Give the power of two by which the values are too large or too small to be multiplied."""
    peak = np.float32(0)
    for _, chunk in float32_chunks(matrix):
        peak = np.maximum(peak, np.abs(chunk).max())  # NaN stays
        if not np.isfinite(peak):
            refuse_first_not_finite(LowRank.name, matrix)
    exponent = int(np.frexp(peak)[1])
    return exponent if abs(exponent) > _PLAIN_EXPONENT else 0


def _rows(matrix: Array, columns: int, exponent: int) -> Iterator[tuple[int, Array]]:
    """Yield some whole rows at a time, float32, divided by 2**exponent, and the first one's number."""
    for start, chunk in float32_chunks(matrix, columns * max(1, _CHUNK_ELEMENTS // columns)):
        some = np.ldexp(chunk, -exponent) if exponent else chunk
        yield start // columns, some.reshape(-1, columns)
