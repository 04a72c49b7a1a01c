"""Student's t distribution, as far as a comparison of means needs it."""

from __future__ import annotations

import math

_STEPS = 10_000
_EPSILON = 1e-15
_TINY = 1e-300


def upper_tail(value: float, degrees: float) -> float:
    """Give the probability that Student's t with `degrees` > 0 of freedom exceeds `value`.

    Degrees need not be whole, the value may be infinite. By the regularized incomplete beta
    function: half of I_x(degrees / 2, 1 / 2) at x = degrees / (degrees + value^2), for a value above
    0 (Abramowitz and Stegun, "Handbook of Mathematical Functions", 1964, 26.7.1 and 26.5.8).
    """
    if math.isinf(value):
        return 0.0 if value > 0 else 1.0
    square = value * value
    if math.isinf(square):
        return 0.0 if value > 0 else 1.0
    outside = _beta_ratio(degrees / 2, 0.5, degrees / (degrees + square)) / 2
    return outside if value >= 0 else 1 - outside


def _beta_ratio(a: float, b: float, x: float) -> float:
    """Give I_x(a, b), from the side on which the fraction converges fast."""
    if x <= 0 or x >= 1:
        return max(0.0, min(x, 1.0))
    scale = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    front = math.exp(scale + a * math.log(x) + b * math.log1p(-x))
    if x < (a + 1) / (a + b + 2):
        return min(front * _fraction(a, b, x) / a, 1.0)
    return max(1 - front * _fraction(b, a, 1 - x) / b, 0.0)


def _fraction(a: float, b: float, x: float) -> float:
    """Evaluate the continued fraction of I_x(a, b) from the front (Lentz 1976)."""
    lower = 1 - (a + b) * x / (a + 1)
    lower = 1 / (lower if abs(lower) > _TINY else _TINY)
    value, upper = lower, 1.0
    for m in range(1, _STEPS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        change = 1.0
        for term in (even, odd):
            lower = 1 + term * lower
            lower = 1 / (lower if abs(lower) > _TINY else _TINY)
            upper = 1 + term / upper
            upper = upper if abs(upper) > _TINY else _TINY
            change = upper * lower
            value *= change
        if abs(change - 1) < _EPSILON:
            break
    return value
