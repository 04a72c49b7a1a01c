"""What the rounds of a job have revealed together: the epsilon of so many rounds at a delta."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from fedloom.algorithms.layout import Array
from fedloom.algorithms.privacy.gaussian import gaussian_epsilon
from fedloom.algorithms.privacy.rdp import ORDERS, fixed_size_rdp, poisson_rdp

ADD_OR_REMOVE_ONE = "add-or-remove-one"
REPLACE_ONE = "replace-one"


@dataclass(frozen=True)
class NoisyRounds:
    """How every round of a job draws its clients and noises their sum.

    Attributes:
        sampling: `poisson` (every client by itself), `fixed` (so many, without replacement).
        rate: expected part of the clients in a round, in (0, 1]; at 1 all of them take part.
        noise_multiplier: standard deviation of the noise on the sum, in units of the clip norm.
    """

    sampling: str
    rate: float
    noise_multiplier: float

    @property
    def adjacency(self) -> str:
        """Which two sets of clients the promise makes hard to tell apart.

        `add-or-remove-one`: with and without any one client. `replace-one`, where a fixed number
        is drawn: with one client's data or with any other data in its place.
        """
        is_drawn = self.sampling == "fixed" and self.rate < 1.0
        return REPLACE_ONE if is_drawn else ADD_OR_REMOVE_ONE

    def epsilon(self, rounds: int, delta: float, probes: int = 0) -> float:
        """Give what so many rounds reveal at a delta in (0, 1): infinite without noise.

        `probes` are answers of all clients beside the rounds, noised alike: as a round without
        sampling.

        With all clients in every round the composition of Gaussians is one Gaussian, and epsilon is
        exact; sampled rounds are composed by their Renyi divergences, the best order counts.
        """
        return _epsilon(self, rounds, delta, probes)


def epsilon_of_curve(curve: Array, delta: float) -> float:
    """Turn Renyi divergences at `rdp.ORDERS` into the least epsilon at a delta, 0 or more.

    Canonne, Kamath, Steinke: "The Discrete Gaussian for Differential Privacy", NeurIPS 2020, arXiv
    2004.00010, proposition 12: for each order alpha,

        epsilon = curve + log((alpha - 1) / alpha) - (log(delta) + log(alpha)) / (alpha - 1).
    """
    epsilons = curve + np.log1p(-1.0 / ORDERS) - np.log(delta * ORDERS) / (ORDERS - 1.0)
    return max(0.0, float(epsilons.min()))


@lru_cache(maxsize=4096)
def _epsilon(rounds_of: NoisyRounds, rounds: int, delta: float, probes: int) -> float:
    if rounds + probes <= 0:
        return 0.0
    if rounds_of.noise_multiplier <= 0:
        return math.inf
    sensitivity = 2.0 if rounds_of.adjacency == REPLACE_ONE else 1.0
    deviation = rounds_of.noise_multiplier / sensitivity
    unsampled = gaussian_epsilon(deviation, delta, rounds + probes)
    if rounds_of.rate >= 1.0:
        return unsampled
    # Sampling takes nothing away: where the divergences' conversion says so, it is their looseness.
    curve = rounds * _curve(rounds_of) + probes * ORDERS / (2.0 * deviation**2)
    return min(unsampled, epsilon_of_curve(curve, delta))


@lru_cache(maxsize=64)
def _curve(rounds_of: NoisyRounds) -> Array:
    """Give the curve of one round: milliseconds of work, once for every job."""
    curve_of = fixed_size_rdp if rounds_of.sampling == "fixed" else poisson_rdp
    curve = curve_of(rounds_of.rate, rounds_of.noise_multiplier)
    curve.flags.writeable = False
    return curve
