"""Symmetric randomised response on bits: each is told as it is with probability p, else turned.

Warner, "Randomized Response", JASA 1965; as MistNet uses it on binarised features. For one bit the
chances of any answer under its two values are p : q apart, q = 1 - p, so epsilon = ln(p / q) **per
bit**; the bits of one image compose (`accounting`).

A coin is an integer of 32 random bits that is compared with another one, so the chances are exact:
q is `flips` / 2**32, the next such fraction above 1 / (1 + e^epsilon). Rounding up makes ln(p / q) at
most the epsilon that was asked for. Where q * 2**32 rounds to 0 (epsilon above 22.9) nothing is ever
turned: that is no noise, and its epsilon is infinite.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from fedloom.algorithms.layout import BLOCK_ELEMENTS, Array
from fedloom.algorithms.mistnet.bits import packed_size, unpack_bits
from fedloom.algorithms.parameters import require
from fedloom.errors import JobError, UpdateError

MECHANISM = "srr-v1"
"""What a release says of how it was made: the coins, their order, the packing."""
CONVENTIONS = ("paper", "plato-sue")
"""`paper`: p = sigmoid(epsilon), epsilon of one bit. `plato-sue`: p = sigmoid(epsilon / 2)."""

Noise: TypeAlias = Callable[[int], bytes]
"""Gives the next so many bytes of one image's noise."""

_SIDES = 1 << 32
_HALF = _SIDES >> 1


@dataclass(frozen=True)
class RandomizedResponse:
    """The mechanism, and the words in which it was asked for.

    Args:
        asked: epsilon in the job's convention, > 0; infinity for no noise.
        convention: one of CONVENTIONS.

    Raises:
        JobError: `InvalidParameter`, also for an epsilon so small (below 1e-9) that a bit would be told
            and turned equally often: nothing could be learnt from that.
    """

    asked: float
    convention: str = CONVENTIONS[0]

    def __post_init__(self) -> None:
        is_known = self.convention in CONVENTIONS
        require(is_known, "epsilonConvention", self.convention, f"one of {CONVENTIONS}")
        require(self.asked > 0, "epsilon", self.asked, "a number above 0")
        require(self.flips < _HALF, "epsilon", self.asked, "a number above 1e-8")

    @classmethod
    def chosen(
        cls, epsilon: float | None, convention: str, *, is_private: bool
    ) -> RandomizedResponse:
        """Give what a job chose: an epsilon, or none and in so many words no privacy.

        Raises:
            JobError: `InvalidParameter` for neither, or both.
        """
        if is_private and epsilon is None:
            raise JobError(
                "InvalidParameter",
                "epsilon: got none, expected a number above 0 (per bit), or privacy: none for bits "
                "without noise",
            )
        if not is_private and epsilon is not None:
            raise JobError(
                "InvalidParameter",
                f"epsilon: got {epsilon!r} together with privacy: none, expected one of them",
            )
        return cls(math.inf if epsilon is None else float(epsilon), convention)

    @property
    def flips(self) -> int:
        """How many of 2**32 sides of the coin turn a bit; 0 is no noise."""
        tail = math.exp(-self._bit_epsilon)
        sides = tail / (1.0 + tail) * _SIDES
        return 0 if sides < 0.5 else math.ceil(sides)

    @property
    def is_noiseless(self) -> bool:
        return self.flips == 0

    @property
    def p(self) -> float:
        """The chance that a bit is told as it is; exact."""
        return (_SIDES - self.flips) / _SIDES

    @property
    def q(self) -> float:
        """The chance that a bit is turned; exact."""
        return self.flips / _SIDES

    @property
    def epsilon(self) -> float:
        """Of one bit, as the paper counts: a bound of ln(p / q); infinite where there is no noise."""
        return math.inf if self.is_noiseless else self._bit_epsilon

    @property
    def _bit_epsilon(self) -> float:
        return self.asked / 2 if self.convention == "plato-sue" else self.asked

    @property
    def variance(self) -> float:
        """Of one debiased bit around its true value: p q / (p - q)^2."""
        return self.p * self.q / (self.p - self.q) ** 2

    def __str__(self) -> str:
        if self.is_noiseless:
            return "no noise: epsilon infinite, p = 1"
        return (
            f"epsilon {self.epsilon:g} per bit (paper), {2 * self.epsilon:g} (plato-sue), "
            f"p = {self.p:.6f}"
        )


def binarise(features: Array) -> Array:
    """Give which features are above 0: the same shape, bool. 0 and -0 are not.

    Raises:
        UpdateError: `NotFinite`, for NaN or an infinity, which no working extractor gives;
            `DtypeMismatch`, for other than floats.
    """
    if features.dtype.kind != "f":
        raise UpdateError("DtypeMismatch", f"features: got {features.dtype}, expected floats")
    if not np.isfinite(features).all():
        bad = int(features.size - np.count_nonzero(np.isfinite(features)))
        raise UpdateError(
            "NotFinite",
            f"features: got {bad} of {features.size} values NaN or infinite, expected only finite",
        )
    return features > 0


def randomise(bits: Array, mechanism: RandomizedResponse, noise: Noise) -> None:
    """Turn each bit by chance, in place.

    Args:
        bits: shape (bits,), bool.
        mechanism: whose chances.
        noise: four bytes a bit are taken from it, in order; none where there is no noise.
    """
    if mechanism.is_noiseless:
        return
    sides = np.uint32(mechanism.flips)
    for start in range(0, bits.size, BLOCK_ELEMENTS):
        block = bits[start : start + BLOCK_ELEMENTS]
        block ^= np.frombuffer(noise(4 * block.size), "<u4") < sides


def release_bits(features: Array, mechanism: RandomizedResponse, noise: Noise) -> Array:
    """Make of one image's features what may leave its edge.

    Args:
        features: any shape, floats, finite; not written to.
        mechanism: the noise's chances.
        noise: the image's own bytes; drawn in order, so blocks make no difference.

    Returns:
        The randomised bits, packed in C order: shape (packed_size(features.size),), uint8.

    Raises:
        UpdateError: as `binarise`.
    """
    flat = features.reshape(-1)
    packed: Array = np.empty(packed_size(flat.size), np.uint8)
    for start in range(0, flat.size, BLOCK_ELEMENTS):  # a multiple of 8: blocks end with a byte
        bits = binarise(flat[start : start + BLOCK_ELEMENTS])
        randomise(bits, mechanism, noise)
        packed[start // 8 : start // 8 + packed_size(bits.size)] = np.packbits(bits)
    return packed


def debias(packed: Array, shape: tuple[int, ...], mechanism: RandomizedResponse) -> Array:
    """Give features whose expectation is the clean bits: (bit - q) / (p - q), float32, of `shape`.

    Raises:
        UpdateError: `WrongBits`, where the bytes are not those of so many bits.
    """
    gap = mechanism.p - mechanism.q
    answers = np.array([-mechanism.q / gap, mechanism.p / gap], np.float32)
    bits = unpack_bits(packed, math.prod(shape)).view(np.uint8)
    features: Array = answers[bits].reshape(shape)
    return features


def check_fraction(ones: int, bits: int, mechanism: RandomizedResponse) -> None:
    """Refuse a fraction of ones that the mechanism cannot have made.

    Whatever the image, it lies between q and p, up to chance (five standard deviations); outside of
    that the noise was not what was said. Without noise, all bits equal means a dead extractor.

    Raises:
        UpdateError: `WrongFraction`.
    """
    fraction = ones / bits
    if mechanism.is_noiseless:
        low, high, is_wrong = 0.0, 1.0, ones in (0, bits)
    else:
        slack = 5.0 * math.sqrt(mechanism.p * mechanism.q / bits)
        low, high = mechanism.q - slack, mechanism.p + slack
        is_wrong = not low <= fraction <= high
    if is_wrong:
        raise UpdateError(
            "WrongFraction",
            f"got {ones} ones in {bits} bits, a fraction of {fraction:.4f}, expected one between "
            f"{max(low, 0):.4f} and {min(high, 1):.4f} at {mechanism}",
        )
