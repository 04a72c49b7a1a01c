"""The shapes that stand for classes of objects: where each covers the square from -1 to 1.

A mask takes two arrays, u to the right and v downwards, and says which points belong to the shape. Only
additions, products and square roots: the same bits on every machine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Floats = np.ndarray[Any, np.dtype[np.float64]]
Mask = Callable[[Floats, Floats], np.ndarray[Any, np.dtype[np.bool_]]]


def _ring(u: Floats, v: Floats) -> Any:
    radius = u * u + v * v
    return (radius <= 1) & (radius >= 0.3)


def _cross(u: Floats, v: Floats) -> Any:
    thin, long = np.minimum(np.abs(u), np.abs(v)), np.maximum(np.abs(u), np.abs(v))
    return (thin <= 0.3) & (long <= 1)


def _frame(u: Floats, v: Floats) -> Any:
    far = np.maximum(np.abs(u), np.abs(v))
    return (far <= 1) & (far >= 0.6)


def _crescent(u: Floats, v: Floats) -> Any:
    return (u * u + v * v <= 1) & ((u - 0.5) * (u - 0.5) + v * v >= 0.64)


def _chevron(u: Floats, v: Floats) -> Any:
    return (np.abs(v + 0.5 - np.abs(u)) <= 0.4) & (np.abs(u) <= 1)


# Classes for pretraining, which everybody may see, and others for the clients' own data.
PUBLIC: dict[str, Mask] = {
    "disc": lambda u, v: u * u + v * v <= 1,
    "square": lambda u, v: np.maximum(np.abs(u), np.abs(v)) <= 0.9,
    "triangle": lambda u, v: (np.abs(u) <= (v + 1) / 2) & (v <= 1),
}
PRIVATE: dict[str, Mask] = {
    "ring": _ring,
    "cross": _cross,
    "diamond": lambda u, v: np.abs(u) * 1.5 + np.abs(v) <= 1,
    "bar": lambda u, v: (np.abs(v) <= 0.3) & (np.abs(u) <= 1),
    "star": lambda u, v: np.sqrt(np.abs(u)) + np.sqrt(np.abs(v)) <= 1.1,
    "frame": _frame,
    "crescent": _crescent,
    "chevron": _chevron,
}
FAMILIES = {"public": PUBLIC, "private": PRIVATE}
