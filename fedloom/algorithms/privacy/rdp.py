"""What one round reveals: Renyi divergences of Gaussian noise on a random part of the clients.

Mironov: "Renyi Differential Privacy", CSF 2017, arXiv 1702.07476. A curve gives, for each order
alpha > 1, a bound on the divergence between the outputs of two neighbouring sets of clients;
curves of rounds add up. Everything is in logarithms: nothing overflows, nothing small is lost.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np

from fedloom.algorithms.layout import Array

_FRACTIONS = [1.01, 1.02, 1.05, *(number / 10 for number in range(11, 110) if number % 10)]
_WHOLE = [*range(2, 65), 72, 80, 96, 112, 128, 160, 192, 256, 320, 384, 512, 768, 1024]

ORDERS: Array = np.array(sorted([*_FRACTIONS, *_WHOLE]), np.float64)
"""The orders of every curve: fine below 11, where small noise is judged, then up to 1024."""

_LEAST_NOISE = 0.05  # below, a round reveals all there is, and the integral grows too fine
_TAIL = 13.0  # standard deviations, beyond which exp(-84) of the integral lie


def gaussian_rdp(noise_multiplier: float) -> Array:
    """Give the curve of Gaussian noise on the sum of all clients: alpha / (2 z^2) (Mironov 2017).

    Args:
        noise_multiplier: z, standard deviation over sensitivity, > 0.
    """
    curve: Array = ORDERS / (2.0 * noise_multiplier**2)
    return curve


def poisson_rdp(rate: float, noise_multiplier: float) -> Array:
    """Give the curve where every client takes part with a chance of its own: the sampled Gaussian.

    Mironov, Talwar, Zhang: "Renyi Differential Privacy of the Sampled Gaussian Mechanism", 2019,
    arXiv 1908.10530. Two sets of clients are neighbours when one has one client more; then the
    divergence of order alpha is exactly log(A) / (alpha - 1), with u(x) = exp((2x - 1) / (2 z^2)) - 1,

        A = E[(1 + rate u(x))^alpha],  x normal with mean 0 and standard deviation z.

    Whole orders by the binomial sum (their section 3.3); the others by the trapezoid rule over the
    integral itself, whose error falls exponentially with the step. Both give A - 1, every term of
    which is positive (u has mean 0, so 1 + alpha rate u may be taken off): a round that reveals
    1e-16 is not lost beside the 1, which the alternating series of their section does lose.

    Args:
        rate: in [0, 1].
        noise_multiplier: z > 0. Below 0.05 the orders that are not whole are bounded by the curve
            without sampling.
    """
    if rate >= 1.0:
        return gaussian_rdp(noise_multiplier)
    curve = gaussian_rdp(noise_multiplier)
    if rate <= 0.0:
        return np.zeros_like(curve)
    is_whole = np.floor(ORDERS) == ORDERS
    whole = [_binomial_excess(int(order), rate, noise_multiplier) for order in ORDERS[is_whole]]
    curve[is_whole] = np.minimum(curve[is_whole], _divergence(ORDERS[is_whole], np.array(whole)))
    if noise_multiplier >= _LEAST_NOISE:
        orders = ORDERS[~is_whole]
        excess = _integral_excess(orders, rate, noise_multiplier)
        curve[~is_whole] = np.minimum(curve[~is_whole], _divergence(orders, excess))
    return curve


def fixed_size_rdp(rate: float, noise_multiplier: float) -> Array:
    """Give the curve where a fixed number of clients is drawn without replacement.

    Wang, Balle, Kasiviswanathan: "Subsampled Renyi Differential Privacy and Analytical Moments
    Accountant", AISTATS 2019, arXiv 1808.00087, theorem 9, whose neighbours differ in what one
    client holds (their number is the same): the sum moves by up to **twice** the clip norm, so the
    Gaussian inside has e(alpha) = 2 alpha / z^2 and

        A <= 1 + rate^2 C(alpha, 2) min(4 (exp(e(2)) - 1), 2 exp(e(2)))
               + 2 sum over j = 3..alpha of rate^j C(alpha, j) exp((j - 1) e(j)).

    Between whole orders by convexity of log(A) (their corollary 10), and never above the curve
    without sampling.

    Args:
        rate: clients of a round over all clients, in [0, 1].
        noise_multiplier: z, standard deviation over the clip norm (not over the sensitivity), > 0.
    """
    curve = gaussian_rdp(0.5 * noise_multiplier)
    if rate <= 0.0:
        return np.zeros_like(curve)
    lower, upper = np.floor(ORDERS), np.ceil(ORDERS)
    found = {1: 0.0}
    for order in {*lower.astype(int).tolist(), *upper.astype(int).tolist()} - {1}:
        found[order] = float(np.logaddexp(0.0, _drawn_excess(order, rate, noise_multiplier)))
    low = np.array([found[int(order)] for order in lower])
    high = np.array([found[int(order)] for order in upper])
    logarithms = low + (ORDERS - lower) * (high - low)
    curve = np.minimum(curve, logarithms / (ORDERS - 1.0))
    # A divergence grows with its order, so what bounds a higher one bounds those below.
    return np.minimum.accumulate(curve[::-1])[::-1]


def _divergence(orders: Array, excess: Array) -> Array:
    """Turn log(A - 1) into log(A) / (alpha - 1)."""
    values: Array = np.logaddexp(0.0, excess) / (orders - 1.0)
    return values


def _binomial_excess(order: int, rate: float, noise_multiplier: float) -> float:
    """Give log(A - 1) of a whole order: the terms of k = 0 and 1 are what the 1 is made of."""
    k = np.arange(2, order + 1, dtype=np.float64)
    exponents = k * (k - 1.0) / (2.0 * noise_multiplier**2)
    terms = _log_binomials(order)[2:] + (order - k) * math.log1p(-rate) + k * math.log(rate)
    return _log_sum(terms + exponents + np.log(-np.expm1(-exponents)))


def _drawn_excess(order: int, rate: float, noise_multiplier: float) -> float:
    """Give log of the bound on A - 1 for sampling without replacement."""
    inside = 4.0 / noise_multiplier**2  # e(2)
    # The lesser of 4 (exp(e) - 1) and 2 exp(e), which meet at e = log 2.
    pair = math.log(2.0) + inside if inside > math.log(2.0) else math.log(4.0 * math.expm1(inside))
    j = np.arange(3, order + 1, dtype=np.float64)
    rest = math.log(2.0) + j * math.log(rate) + (j - 1.0) * j * (2.0 / noise_multiplier**2)
    binomials = _log_binomials(order)
    first = 2.0 * math.log(rate) + binomials[2] + pair
    return _log_sum(np.append(rest + binomials[3:], first))


def _integral_excess(orders: Array, rate: float, noise_multiplier: float) -> Array:
    """Give log(A - 1) of any orders: shape (orders,).

    The integrand is smooth in a strip of half-width pi z^2 around the real line, where 1 + rate u
    first vanishes; a step of a third of z^2 or a quarter of z leaves an error below 1e-30 of it.
    """
    step = min(noise_multiplier / 4.0, noise_multiplier**2 / 3.0)
    low, high = -_TAIL * noise_multiplier, float(orders[-1]) + _TAIL * noise_multiplier
    x = low + step * np.arange(math.ceil((high - low) / step) + 1)
    t = (2.0 * x - 1.0) / (2.0 * noise_multiplier**2)
    density = -0.5 * (x / noise_multiplier) ** 2 - math.log(
        noise_multiplier * math.sqrt(2 * math.pi)
    )
    growth = np.logaddexp(math.log1p(-rate), math.log(rate) + t)  # log(1 + rate u)
    is_small = np.abs(t) < 1.0  # there the difference from 1 is what counts
    growth[is_small] = np.log1p(rate * np.expm1(t[is_small]))
    values = [_log_sum(density + _log_convexity(order, growth)) for order in orders.tolist()]
    return np.array(values) + math.log(step)


def _log_convexity(order: float, growth: Array) -> Array:
    """Give log((1 + v)^order - 1 - order v) of v = exp(growth) - 1: how far a power is above its tangent."""
    out: Array = np.empty_like(growth)
    is_tiny, is_large = np.abs(growth) < 1e-4, order * growth > 1.0
    v = np.expm1(growth[is_tiny])
    series = 1.0 + (order - 2.0) / 3.0 * v * (1.0 + (order - 3.0) / 4.0 * v)
    with np.errstate(divide="ignore"):  # at v = 0 there is nothing: log(0)
        out[is_tiny] = np.log(0.5 * order * (order - 1.0) * v * v * series)
    g = growth[is_large]
    tangent = math.log(order) + g + np.log1p(-(order - 1.0) / order * np.exp(-g))
    out[is_large] = order * g + np.log(-np.expm1(tangent - order * g))
    rest = ~(is_tiny | is_large)
    out[rest] = np.log(np.expm1(order * growth[rest]) - order * np.expm1(growth[rest]))
    return out


@cache
def _log_binomials(order: int) -> Array:
    """Give log C(order, k) for k = 0..order."""
    logarithms = np.array([math.lgamma(number + 1.0) for number in range(order + 1)])
    binomials: Array = logarithms[-1] - logarithms - logarithms[::-1]
    return binomials


def _log_sum(terms: Array) -> float:
    """Give log(sum(exp(terms))) of at least one term."""
    largest = float(terms.max())
    if math.isinf(largest):
        return largest
    return largest + math.log(float(np.exp(terms - largest).sum()))
