"""What a release of an image costs: its epsilon, and how much it can tell about the image at all."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from fedloom.algorithms.mistnet.bits import packed_size
from fedloom.algorithms.mistnet.randomized_response import RandomizedResponse


@dataclass(frozen=True)
class ReleaseCost:
    """The price of one image's release.

    Attributes:
        bits: in it, r.
        mechanism: by which each of them was randomised.
    """

    bits: int
    mechanism: RandomizedResponse

    @property
    def image_epsilon(self) -> float:
        """r times the epsilon of a bit (MistNet, Theorem 4.1): two images may differ in every bit."""
        return self.bits * self.mechanism.epsilon

    @property
    def information_bits(self) -> float:
        """The most that the release can tell about its image, in bits: r (1 - h2(q)).

        The capacity of r binary symmetric channels; it holds against any attacker, with any
        knowledge of other things.
        """
        return self.bits * capacity(self.mechanism)

    @property
    def information_bytes(self) -> float:
        return self.information_bits / 8

    @property
    def release_bytes(self) -> int:
        """Of the packed bits."""
        return packed_size(self.bits)

    def share_of(self, image_bytes: float) -> float:
        """Give the information bound over the size of the image's own file (a JPEG, say), > 0."""
        return self.information_bytes / image_bytes


def capacity(mechanism: RandomizedResponse) -> float:
    """Give how many bits of information one randomised bit can carry: 1 - h2(q), between 0 and 1."""
    if mechanism.is_noiseless:
        return 1.0
    p, q = mechanism.p, mechanism.q
    # Close to p = q = 1/2 the sum cancels; its first term of the series is a floor there.
    return max(1.0 + p * math.log2(p) + q * math.log2(q), (p - q) ** 2 / (2 * math.log(2)))


def composed_epsilon(costs: Iterable[ReleaseCost]) -> float:
    """Give the epsilon of all these releases of one image together: the sum.

    Releases under other noise each count; one that is the same, bit for bit, counts once, and the
    caller leaves it out.
    """
    return math.fsum(cost.image_epsilon for cost in costs)


def composed_information_bytes(costs: Iterable[ReleaseCost]) -> float:
    """Give the most that all these releases of one image can tell about it, in bytes: the sum.

    Noise of different releases is independent, so what they tell adds up at most.
    """
    return math.fsum(cost.information_bytes for cost in costs)
