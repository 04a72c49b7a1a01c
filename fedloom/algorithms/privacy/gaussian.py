"""The Gaussian mechanism exactly: which noise gives which (epsilon, delta).

Balle and Wang: "Improving the Gaussian Mechanism for Differential Privacy: Analytical Calibration
and Optimal Denoising", ICML 2018, arXiv 1805.06530, theorem 8 (for every epsilon, not only for
those below 1). With s = standard deviation / sensitivity and Phi the normal distribution's

    delta(epsilon) = Phi(1 / (2 s) - epsilon s) - exp(epsilon) Phi(-1 / (2 s) - epsilon s)

n releases of noise s are together exactly one of noise s / sqrt(n), so a composition of Gaussian
mechanisms needs no bound: see `gaussian_epsilon`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

_STEPS = 200
_TAIL = 25.0  # beyond, erfc comes from its asymptotic series: good to 1e-14 there


def gaussian_delta(epsilon: float, noise_multiplier: float) -> float:
    """Give the delta of a Gaussian mechanism at an epsilon.

    Args:
        epsilon: >= 0.
        noise_multiplier: standard deviation over L2 sensitivity, > 0.
    """
    half = 0.5 / noise_multiplier
    high = _log_normal(half - epsilon * noise_multiplier)
    low = epsilon + _log_normal(-half - epsilon * noise_multiplier)
    return 0.0 if low >= high else -math.exp(high) * math.expm1(low - high)


def gaussian_epsilon(noise_multiplier: float, delta: float, releases: int = 1) -> float:
    """Give the epsilon of so many releases of a Gaussian mechanism at a delta in (0, 1).

    The least there is, rounded up in its last digits; infinite without noise, 0 for no release.
    """
    if releases == 0:
        return 0.0
    if noise_multiplier <= 0:
        return math.inf
    together = noise_multiplier / math.sqrt(releases)
    if gaussian_delta(0.0, together) <= delta:
        return 0.0
    # By the tail bound of the privacy loss, normal around 1 / (2 s^2) with deviation 1 / s.
    high = 0.5 / together**2 + math.sqrt(-2 * math.log(delta)) / together + 1.0
    return _least(lambda epsilon: gaussian_delta(epsilon, together) <= delta, 0.0, high)


def gaussian_noise_multiplier(epsilon: float, delta: float) -> float:
    """Give the least standard deviation, in units of the L2 sensitivity, for (epsilon, delta).

    Args:
        epsilon: > 0; above 1 too, where sqrt(2 log(1.25 / delta)) / epsilon would not hold.
        delta: in (0, 1).
    """

    def holds(logarithm: float) -> bool:
        return gaussian_delta(epsilon, math.exp(logarithm)) <= delta

    low, high = math.log(1e-9), 0.0
    while not holds(high):
        high += 1.0
    return math.exp(_least(holds, low, high))


def _least(holds: Callable[[float], bool], low: float, high: float) -> float:
    """Give the least number in (low, high] for which something holds that holds above it."""
    for _ in range(_STEPS):
        middle = 0.5 * (low + high)
        if middle in (low, high):
            break
        if holds(middle):
            high = middle
        else:
            low = middle
    return high


def _log_normal(x: float) -> float:
    """Give log(Phi(x)) without underflow, however far out."""
    tail = -x / math.sqrt(2.0)
    if tail < _TAIL:
        return math.log(0.5 * math.erfc(tail))
    square = 2.0 * tail * tail
    series = 1.0
    for odd in (9.0, 7.0, 5.0, 3.0, 1.0):  # 1 - 1/s + 1*3/s^2 - 1*3*5/s^3 + ...
        series = 1.0 - odd / square * series
    return -tail * tail - math.log(2.0 * tail * math.sqrt(math.pi)) + math.log(series)
