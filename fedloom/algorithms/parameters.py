"""Parameters of an algorithm or codec as they stand in a job: read by name, checked once."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from fedloom.errors import JobError


def check_names(owner: str, parameters: Mapping[str, object], known: Iterable[str]) -> None:
    """Refuse parameters that `owner` (say, "algorithm 'fedavg'") does not have."""
    expected = sorted(known)
    unknown = sorted(parameters.keys() - set(expected))
    if unknown:
        raise JobError(
            "InvalidParameter",
            f"{owner}: got parameter {unknown[0]!r}, expected {expected or 'no parameters'}",
        )


def number(parameters: Mapping[str, object], name: str, default: float) -> float:
    """Give a finite number; an integer is one, a bool or a string is not."""
    value = parameters.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise JobError("InvalidParameter", f"{name}: got {value!r}, expected a finite number")
    return float(value)


def integer(parameters: Mapping[str, object], name: str, default: int) -> int:
    """Give an integer; 256.0 is one, as JSON and YAML writers produce it."""
    value = number(parameters, name, default)
    if not value.is_integer():
        raise JobError("InvalidParameter", f"{name}: got {value!r}, expected an integer")
    return int(value)


def require(is_valid: bool, name: str, value: object, expected: str) -> None:
    """Raise JobError `InvalidParameter` with got and expected unless `is_valid`."""
    if not is_valid:
        raise JobError("InvalidParameter", f"{name}: got {value!r}, expected {expected}")
