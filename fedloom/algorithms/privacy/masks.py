"""Pairwise masks that cancel in the sum: the arithmetic of secure aggregation.

Bonawitz, Ivanov, Kreuter, Marcedone, McMahan, Patel, Ramage, Segal, Seth: "Practical Secure
Aggregation for Privacy-Preserving Machine Learning", CCS 2017, section 4.

Client u sends  y_u = x_u + PRG(b_u) + sum over v > u of PRG(s_uv) - sum over v < u of PRG(s_uv),
everything modulo 2**bits of the ring. The s_uv cancel in the sum over all clients. Of a client that
dropped out after the others had masked with it, they are removed again; of every client in the sum,
PRG(b_u) is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from fedloom.algorithms.layout import Array
from fedloom.algorithms.privacy.integer_grid import Dtype, GridLayout

BLOCK_BYTES = 512 * 1024
"""Of masks that are made at a time: large enough to hide the start of a keystream, small enough
for the L2 cache."""


class Keystream(Protocol):
    """A pseudo-random sequence of bytes, the same wherever it is read from."""

    def fill(self, start_byte: int, out: Array) -> None:
        """Write the bytes from `start_byte` (a multiple of 16) on to `out`, shape (bytes,), uint8."""
        ...


@dataclass(frozen=True)
class Mask:
    """A keystream and whether it is added (+1) or subtracted (-1)."""

    keystream: Keystream
    sign: int

    def inverse(self) -> Mask:
        """Give the mask that takes this one away."""
        return Mask(self.keystream, -self.sign)


def sign_of(own: str, other: str) -> int:
    """Give the sign of the mask that `own` shares with `other`: opposite for the two of them."""
    return 1 if own < other else -1


def threshold_of(clients: int) -> int:
    """Give how many of `clients` must answer: floor(2n/3) + 1.

    The paper's choice against a server that works together with clients (up to ceil(n/3) - 1 of
    them): there can be no two groups of answers, each of as many, that share honest clients only.
    """
    return 2 * clients // 3 + 1


def masks_left(
    survivors: Sequence[str],
    self_masks: Mapping[str, Keystream],
    pair_masks: Iterable[tuple[str, str, Keystream]],
) -> list[Mask]:
    """Give what stands between the sum of the survivors' masked updates and the sum of the updates.

    Args:
        survivors: whose updates are in the sum.
        self_masks: PRG(b_u) of each of them.
        pair_masks: (survivor u, client v that dropped out, PRG(s_uv)).
    """
    own = [Mask(self_masks[client], 1) for client in survivors]
    return own + [Mask(stream, sign_of(u, v)) for u, v, stream in pair_masks]


def apply_masks(
    values: Array, start: int, layout: GridLayout, masks: Sequence[Mask], scratch: Array
) -> None:
    """Add masks to elements of one ring, in place.

    Args:
        values: shape (elements,), of the ring's dtype: from element `start` of its flat array on.
        start: a multiple of 8 elements.
        layout: of the rings; says where in a keystream this ring's masks begin.
        masks: to add.
        scratch: shape (at least values.nbytes,), uint8.
    """
    place = layout.offset_bytes(values.dtype) + start * values.itemsize
    stream = scratch[: values.nbytes]
    for mask in masks:
        mask.keystream.fill(place, stream)
        operation = np.add if mask.sign > 0 else np.subtract
        operation(values, stream.view(values.dtype), out=values)


def mask_arrays(arrays: Mapping[Dtype, Array], layout: GridLayout, masks: Sequence[Mask]) -> None:
    """Add masks to whole flat arrays, in place, block by block."""
    scratch = new_scratch()
    for ring, start, stop in blocks(layout):
        apply_masks(arrays[ring][start:stop], start, layout, masks, scratch)


def blocks(layout: GridLayout) -> Iterator[tuple[Dtype, int, int]]:
    """Cut the flat arrays into stretches of BLOCK_BYTES: (ring, first element, behind the last)."""
    for ring, size in layout.sizes.items():
        step = BLOCK_BYTES // ring.itemsize
        for start in range(0, size, step):
            yield ring, start, min(start + step, size)


def new_scratch() -> Array:
    """Give memory for the masks of one block."""
    return np.empty(BLOCK_BYTES, np.uint8)
