"""What a run promised about privacy: from its record and its last result, in values and in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cli.report_page.values import count, mapping, number, words
from fedloom.api.job import Privacy


def privacy_of(last: Mapping[str, Any]) -> str:
    """Say what the last committed round promised; empty for a job without privacy."""
    found = mapping(last.get("privacy"))
    every = (
        _central(found),
        _local(mapping(found.get("local"))),
        _released(mapping(last.get("disclosure"))),
    )
    return "; ".join(filter(None, every))


def budget_of(spec: Mapping[str, Any], last: Mapping[str, Any]) -> Privacy | None:
    """Give what the budget is worked out from; None where there is none.

    Args:
        spec: the job's, of its record.
        last: the last result's `privacy`: its budget may be a later one than the record's.
    """
    privacy = mapping(spec.get("privacy"))
    noise, delta = number(privacy.get("noise_multiplier")), number(privacy.get("delta"))
    if noise is None or delta is None or noise < 0 or not 0 < delta < 1:
        return None
    budget = number((last or privacy).get("max_epsilon"))
    return Privacy(clip_norm=1.0, noise_multiplier=noise, delta=delta, max_epsilon=budget)


def _central(found: Mapping[str, Any]) -> str:
    noise, clip = number(found.get("noise_multiplier")), number(found.get("clip_norm"))
    if noise is None or clip is None:
        return ""
    epsilon, delta = number(found.get("epsilon")), number(found.get("delta"))
    how = f"noise multiplier {noise:g}, clip norm {clip:.4g}"
    if epsilon is None or delta is None:
        return f"no epsilon is accounted for ({how})"
    budget = number(found.get("max_epsilon"))
    of = f" of {budget:g}" if budget is not None else ""
    return f"epsilon {epsilon:.4g}{of} at delta {delta:g}, {words(found.get('adjacency'))} ({how})"


def _released(found: Mapping[str, Any]) -> str:
    """Of mistnet, whose privacy report is a page of its own."""
    page = words(mapping(found.get("page")).get("uri"))
    return f"{words(found.get('summary'))} (page: {page})" if found else ""


def _local(local: Mapping[str, Any]) -> str:
    epsilon, composed = number(local.get("epsilon")), number(local.get("composed_epsilon"))
    if epsilon is None or composed is None:
        return ""
    return (
        f"on the clients {words(local.get('mechanism'))}, epsilon {epsilon:g} per "
        f"{words(local.get('epsilon_of'))}, {composed:.4g} for all that a client sent in "
        f"{count(local.get('releases')) or 0} updates"
    )
