"""Random numbers that nobody can draw again: normal, Laplace, uniform, from a cryptographic source.

A normal number in floating point is not one of the real line. Mironov ("On Significance of the
Least Significant Bits for Differential Privacy", CCS 2012) shows how the gaps between the values
that a generator can give betray what they were added to. Two things stand against that:

- radius and angle of Box-Muller are made of 64 and 53 random bits in float64, so no tail ends
  before 9.4 standard deviations (which a draw passes with probability 2**-64);
- `add_gaussian` rounds value plus noise to a grid of about 2**-20 standard deviations. Each point
  of it collects some 2**30 different float64, so the gaps between those are no longer seen.

That is a mitigation, not a proof: chances on the grid are those of the real line up to about
2**-30 each, not exactly. An exact sampler (Canonne, Kamath, Steinke 2020) draws bit by bit and is
thousands of times slower. The timing of the draws does not depend on the values.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from fedloom.algorithms.layout import BLOCK_ELEMENTS, Array

Entropy: TypeAlias = Callable[[int], bytes]
"""Gives as many random bytes as it is asked for; `os.urandom` is one."""

_GRID_BITS = 20


def uniform(size: int, entropy: Entropy = os.urandom) -> Array:
    """Draw from the multiples of 2**-53 in [0, 1): shape (size,), float64."""
    values: Array = (_words(size, entropy) >> np.uint64(11)).astype(np.float64)
    values *= 2.0**-53
    return values


def standard_normal(size: int, entropy: Entropy = os.urandom) -> Array:
    """Draw independent normal numbers of mean 0 and variance 1: shape (size,), float64.

    Box and Muller 1958, block by block: besides the result, memory is a few blocks.
    """
    out: Array = np.empty(size, np.float64)
    for start in range(0, size, BLOCK_ELEMENTS):
        _box_muller(out[start : start + BLOCK_ELEMENTS], entropy)
    return out


def laplace(size: int, entropy: Entropy = os.urandom) -> Array:
    """Draw independent Laplace numbers of mean 0 and scale 1 (variance 2): shape (size,), float64.

    The difference of two exponential ones, each the negative logarithm of 64 random bits.
    """
    first, second = _logarithms(size, entropy), _logarithms(size, entropy)
    first -= second
    return first


def add_gaussian(values: Array, deviation: float, entropy: Entropy = os.urandom) -> None:
    """Add noise of a standard deviation to values in place, and round to a grid far below it.

    Args:
        values: shape (elements,), float64, finite.
        deviation: the standard deviation (not the variance) of the noise, >= 0; 0 changes nothing.
        entropy: where the random bits come from.
    """
    if deviation == 0:
        return
    noise = standard_normal(values.size, entropy)
    noise *= deviation
    values += noise
    snap(values, deviation)


def snap(values: Array, deviation: float) -> None:
    """Round values in place to multiples of the power of two next below deviation * 2**-20."""
    grid = math.ldexp(1.0, max(math.frexp(deviation)[1] - 1 - _GRID_BITS, -1021))
    if values.size == 0 or np.abs(values).max() * 2.0**-52 >= grid:
        return  # float64 is no finer there
    values /= grid  # by a power of two: exact, and so is the way back
    np.rint(values, out=values)
    values *= grid


def _words(size: int, entropy: Entropy) -> Array:
    return np.frombuffer(entropy(8 * size), np.uint64)


def _logarithms(size: int, entropy: Entropy) -> Array:
    """Give log(u) of u uniform in (0, 1], made of 64 bits: never minus infinity."""
    values: Array = _words(size, entropy).astype(np.float64)
    values += 0.5
    values *= 2.0**-64
    return np.log(values, out=values)


def _box_muller(out: Array, entropy: Entropy) -> None:
    pairs = (out.size + 1) // 2
    radius = _logarithms(pairs, entropy)
    radius *= -2.0
    np.sqrt(radius, out=radius)
    angle = uniform(pairs, entropy)
    angle *= 2.0 * np.pi
    np.multiply(radius, np.cos(angle), out=out[:pairs])
    rest = out.size - pairs
    np.multiply(radius[:rest], np.sin(angle[:rest]), out=out[pairs:])
