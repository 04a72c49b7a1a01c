"""Which image was released? The attack that needs no training: whose clean bits agree most.

An attacker has the extractor (it was shipped), some images that may be the one, and compares.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedloom.algorithms.layout import Array
from fedloom.errors import JobError

_BLOCK_BYTES = 2048


@dataclass(frozen=True)
class LinkageFigures:
    """How often the right candidate agrees most.

    Attributes:
        releases, candidates: how many there were.
        top1: the rate; a release whose best candidates tie counts as one over their number.
    """

    releases: int
    candidates: int
    top1: float

    @property
    def chance(self) -> float:
        """What guessing would reach."""
        return 1 / self.candidates


def linkage(released: Array, candidates: Array, truth: Array) -> LinkageFigures:
    """Link every release to the candidate whose bits agree most with it.

    Args:
        released: packed randomised bits, shape (releases, bytes), uint8; may be a memory map.
        candidates: packed clean bits of each candidate image, shape (candidates, bytes), uint8.
        truth: the index of the right candidate of each release, shape (releases,), integers.

    Returns:
        The rate. Besides the inputs, memory is 64 KiB per release and candidate.

    Raises:
        JobError: `InvalidParameter`, where the shapes do not fit.
    """
    if released.shape[1:] != candidates.shape[1:] or truth.shape != released.shape[:1]:
        raise JobError(
            "InvalidParameter",
            f"got releases of shape {released.shape}, candidates of {candidates.shape} and truths "
            f"of {truth.shape}, expected (n, bytes), (m, bytes) and (n,)",
        )
    if not (len(released) and len(candidates)):
        raise JobError("InvalidParameter", "got no release or no candidate, expected one or more")
    scores = np.zeros((len(released), len(candidates)))
    for start in range(0, released.shape[1], _BLOCK_BYTES):
        block = slice(start, start + _BLOCK_BYTES)
        # Agreements minus disagreements: whole numbers below 2**24, so exact in float32.
        scores += _signs(released[:, block]) @ _signs(candidates[:, block]).T
    best = scores == scores.max(axis=1, keepdims=True)
    hits = best[np.arange(len(released)), truth] / best.sum(axis=1)
    return LinkageFigures(len(released), len(candidates), float(hits.mean()))


def _signs(packed: Array) -> Array:
    signs: Array = np.unpackbits(np.ascontiguousarray(packed), axis=1).astype(np.float32)
    signs *= 2.0
    signs -= 1.0
    return signs
