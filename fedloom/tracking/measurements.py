"""From a committed round to numbers by key: pure, the same result gives the same numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fedloom.tracking.tracker import Result
from fedloom.tracking.vocabulary import free_key

CLIENT_LIMIT = 100  # a curve per client up to here; beyond it the distribution over clients
_ROUND_KEYS = ("round_seconds", "uplink_bytes", "downlink_bytes", "clients", "non_finite_values")
_CLIENT_FIELDS = ("num_examples", "seconds", "uplink_bytes")


@dataclass
class _Numbers:
    """Numbers by legal key. What is not a finite number is left out and counted."""

    by_key: dict[str, float] = field(default_factory=dict)
    non_finite: int = 0

    def add(self, name: str, value: Any, *, is_ours: bool = False) -> None:
        if value is None:
            return
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not math.isfinite(number):
            self.non_finite += 1
            return
        taken = self.by_key if is_ours else {**dict.fromkeys(_ROUND_KEYS), **self.by_key}
        self.by_key[free_key(name, taken)] = number


def measure(result: Result) -> dict[str, float]:
    """What is measured of a round as a whole, by metric key.

    The result's metrics under their own names; of a round with clients also `round_seconds`,
    `uplink_bytes`, `downlink_bytes` and `clients`, how many succeeded. `non_finite_values` counts
    the values that were left out because they are NaN or infinite, and is there only if some were.
    """
    return _with_count(_whole(result))


def measure_all(result: Result, clients: int) -> dict[str, float]:
    """`measure`, and what is measured of the clients, for a job of `clients` clients.

    Up to 100: `client/<name>/<metric>` and `num_examples`, `seconds`, `uplink_bytes` beside it.
    Beyond: `client_<metric>/min`, `median`, `p90`, `max` over the round's clients.
    """
    numbers = _whole(result)
    found: Mapping[str, Mapping[str, Any]] = result["clients"]
    if max(clients, len(found)) <= CLIENT_LIMIT:
        for name, client in sorted(found.items()):
            for metric, value in _fields(client):
                numbers.add(f"client/{name}/{metric}", value)
    else:
        _add_distributions(numbers, found.values())
    return _with_count(numbers)


def _whole(result: Result) -> _Numbers:
    numbers = _Numbers()
    if result["clients"]:
        good = sum(client["state"] == "Succeeded" for client in result["clients"].values())
        ours = (
            result["seconds"],
            result["traffic"]["uplink_bytes"],
            result["traffic"]["downlink_bytes"],
            good,
        )
        for key, value in zip(_ROUND_KEYS, ours, strict=False):
            numbers.add(key, value, is_ours=True)
    for name, value in sorted(result["metrics"].items()):
        numbers.add(name, value)
    return numbers


def _with_count(numbers: _Numbers) -> dict[str, float]:
    if not numbers.non_finite:
        return numbers.by_key
    return {**numbers.by_key, "non_finite_values": float(numbers.non_finite)}


def _fields(client: Mapping[str, Any]) -> list[tuple[str, Any]]:
    ours = [(name, client.get(name)) for name in _CLIENT_FIELDS]
    return ours + sorted(client["metrics"].items())


def _add_distributions(numbers: _Numbers, clients: Any) -> None:
    collected: dict[str, list[float]] = {}
    for client in clients:
        one = _Numbers()
        for name, value in _fields(client):
            one.add(name, value, is_ours=True)
        numbers.non_finite += one.non_finite
        for key, number in one.by_key.items():
            collected.setdefault(key, []).append(number)
    for key, values in sorted(collected.items()):
        values.sort()
        for word, share in (("min", 0.0), ("median", 0.5), ("p90", 0.9), ("max", 1.0)):
            numbers.add(f"client_{key}/{word}", _quantile(values, share))


def _quantile(ascending: Sequence[float], share: float) -> float:
    """The value below which `share` of the values lie, interpolated between neighbours."""
    place = share * (len(ascending) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ascending) - 1)
    return ascending[low] + (ascending[high] - ascending[low]) * (place - low)
