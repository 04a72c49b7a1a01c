"""What a job with `compat: websocket` cannot have: its images speak a protocol of their own."""

from __future__ import annotations

from collections.abc import Iterator

from fedloom.api import capabilities, defaults
from fedloom.api.compatibility import WEBSOCKET
from fedloom.api.job import JobSpec
from fedloom.errors import Problem

_WHY = "under compat: websocket clients send and take whole weights, in their own protocol"


def websocket_fields(spec: JobSpec) -> Iterator[Problem]:
    """Find the fields that old images know nothing of; nothing for other jobs."""
    if spec.compat != WEBSOCKET:
        return
    path, algorithm = defaults.algorithm_of(spec)
    known = (capabilities.DEFAULT_ALGORITHM, *sorted(capabilities.ROBUST_RULES))
    if algorithm.name not in known:
        yield Problem(path, f"got {algorithm.name!r}, expected one of {', '.join(known)}: {_WHY}")
    for field in _unknown(spec):
        yield Problem(f"spec.{field}", f"got it, expected none: {_WHY}")


def _unknown(spec: JobSpec) -> Iterator[str]:
    aggregation, participation = spec.aggregation, spec.participation
    fields = {
        "aggregation.rule": aggregation.rule == capabilities.SCRIPT_RULE,
        "aggregation.weights": aggregation.weights == "steps",
        "aggregation.clipNorm": aggregation.clip_norm is not None,
        "aggregation.clipQuantile": aggregation.clip_quantile is not None,
        "aggregation.exclude": bool(aggregation.exclude),
        "aggregation.fanIn": aggregation.fan_in is not None,
        "aggregation.shards": (aggregation.shards or 1) > 1,
        "compression.uplink.codec": spec.compression.uplink.codec != "none",
        "compression.uplink.lossless": spec.compression.uplink.lossless != "none",
        "compression.downlink.codec": spec.compression.downlink.codec != "none",
        "participation.overSelection": participation.over_selection > 1,
        "participation.sampling": participation.sampling == "poisson",
        "privacy": spec.privacy is not None,
        "transfer": spec.transfer is not None,
        "stopCondition": spec.stop_condition is not None,
    }
    yield from (field for field, is_set in fields.items() if is_set)
