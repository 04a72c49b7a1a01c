"""Lenient views of JSON that may be damaged: a value of the wrong type reads as none."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any


def mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def words(value: Any) -> str:
    return value if isinstance(value, str) else ""


def number(value: Any) -> float | None:
    """A finite number as float."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        value = float(value)
    except OverflowError:
        return None
    return value if math.isfinite(value) else None


def count(value: Any) -> int | None:
    """A whole number from 0 up, within 64 bits."""
    return value if type(value) is int and 0 <= value < 1 << 63 else None


def parse(data: bytes) -> Mapping[str, Any]:
    """The JSON object in these bytes; ValueError for anything else."""
    try:
        value = json.loads(data)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError(f"got {type(value).__name__}, expected a JSON object")
    return value
