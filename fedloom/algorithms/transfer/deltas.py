"""Candidates sent as differences: siblings have much in common, and what they share is sent once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np

from fedloom.algorithms.layout import Array, accumulator_dtype, flat_blocks

Arrays: TypeAlias = Mapping[str, Array]


def common_base(candidates: Mapping[str, Arrays]) -> str:
    """Give the candidate that the others are sent as differences to.

    It is the one with the smallest sum of distances (L2, over the float arrays that all candidates
    have in one shape) to the others; of equal sums, the first by name.

    Raises:
        ValueError: there are no candidates.
    """
    if not candidates:
        raise ValueError("candidates: got none, expected at least one")
    names = sorted(candidates)
    sums = dict.fromkeys(names, 0.0)
    shared = _shared(candidates)
    for position, one in enumerate(names):
        for other in names[position + 1 :]:
            distance = _distance(candidates[one], candidates[other], shared)
            sums[one] += distance
            sums[other] += distance
    return min(names, key=lambda name: (sums[name], name))


def difference(candidate: Arrays, base: Arrays) -> dict[str, Array]:
    """Give candidate - base, in the accumulator dtype; whole arrays where the base has none such.

    Integers and bool are whole too: they have no small differences worth sending.
    """
    return {
        name: _minus(array, base[name]) if _is_shared(name, array, base) else array
        for name, array in candidate.items()
    }


def restored(delta: Arrays, base: Arrays) -> dict[str, Array]:
    """Give the candidate again: what `difference` made of it, put back on the base.

    In float32 the last bit may differ from the candidate's: a probe is of copies.
    """
    return {
        name: (array + base[name].astype(array.dtype, copy=False)).astype(base[name].dtype)
        if _is_shared(name, array, base)
        else array
        for name, array in delta.items()
    }


def _is_shared(name: str, array: Array, base: Arrays) -> bool:
    return name in base and base[name].shape == array.shape and array.dtype.kind == "f"


def _minus(array: Array, other: Array) -> Array:
    return np.asarray(np.subtract(array, other, dtype=accumulator_dtype(array.dtype)))


def _shared(candidates: Mapping[str, Arrays]) -> list[str]:
    first, *others = candidates.values()
    return [
        name
        for name, array in first.items()
        if array.dtype.kind == "f" and all(_is_shared(name, array, other) for other in others)
    ]


def _distance(one: Arrays, other: Arrays, names: list[str]) -> float:
    total = 0.0
    for name in names:
        for a, b in zip(flat_blocks(one[name]), flat_blocks(other[name]), strict=True):
            gap = np.subtract(a, b, dtype=np.float64)
            total += float(gap @ gap)
    return float(np.sqrt(total))
