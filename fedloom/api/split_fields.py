"""What a mistnet job has to say, and what it cannot have: its edges release features, no updates."""

from __future__ import annotations

from collections.abc import Iterator

from fedloom.api import capabilities, defaults
from fedloom.api.job import JobSpec
from fedloom.api.learning import Algorithm
from fedloom.api.split_parameters import disagreements
from fedloom.errors import Problem

_WHY = "mistnet has one round, in which edges send features and no updates"


def is_split(spec: JobSpec) -> bool:
    """Say whether this is a mistnet job; its defaults may be filled in or not."""
    return defaults.algorithm_of(spec)[1].name == capabilities.MISTNET


def split_fields(spec: JobSpec, algorithm: Algorithm) -> Iterator[Problem]:
    """Find what is wrong with a mistnet job; nothing for other jobs."""
    if algorithm.name != capabilities.MISTNET:
        return
    yield from _epsilon(algorithm)
    yield from disagreements(defaults.templates_of(spec), algorithm.parameters)
    if spec.rounds is not None and spec.rounds != 1:
        message = f"got {spec.rounds}, expected 1 (or nothing): an edge releases its images once"
        yield Problem("spec.rounds", message)
    for field, why in _unknown(spec):
        yield Problem(f"spec.{field}", f"got it with mistnet, expected none: {why}")


def _epsilon(algorithm: Algorithm) -> Iterator[Problem]:
    path = "spec.algorithm.parameters"
    epsilon, privacy = (algorithm.parameters.get(name) for name in ("epsilon", "privacy"))
    if privacy == "none" and epsilon is not None:
        message = f"got {epsilon!r} together with privacy: none, expected one of the two"
        yield Problem(f"{path}.epsilon", message)
    elif privacy != "none" and epsilon is None:
        message = (
            "got none, expected a number above 0 (of one bit), or privacy: none for bits that are "
            "released as they are"
        )
        yield Problem(f"{path}.epsilon", message)
    if privacy == "none" and algorithm.parameters.get("maxEpsilon") is not None:
        message = "got it together with privacy: none, whose epsilon is infinite"
        yield Problem(f"{path}.maxEpsilon", message)


def _unknown(spec: JobSpec) -> Iterator[tuple[str, str]]:
    aggregation, participation = spec.aggregation, spec.participation
    compression = spec.compression
    fields = {
        "aggregation.rule": aggregation.rule not in (None, "mean") or bool(aggregation.parameters),
        "aggregation.weights": aggregation.weights not in (None, "examples"),
        "aggregation.clipNorm": aggregation.clip_norm is not None,
        "aggregation.clipQuantile": aggregation.clip_quantile is not None,
        "aggregation.exclude": bool(aggregation.exclude),
        "aggregation.fanIn": aggregation.fan_in is not None,
        "aggregation.shards": (aggregation.shards or 1) > 1,
        "participation.overSelection": participation.over_selection > 1,
        "participation.sampling": participation.sampling == "poisson",
        "transfer": spec.transfer is not None,
        "stopCondition": spec.stop_condition is not None,
    }
    yield from ((field, _WHY) for field, is_set in fields.items() if is_set)
    packed = "what goes up is bits already, packed, and what goes down is the extractor as it is"
    codecs = {
        "compression.uplink.codec": compression.uplink.codec != "none",
        "compression.uplink.lossless": compression.uplink.lossless != "none",
        "compression.downlink.codec": compression.downlink.codec != "none",
        "compression.downlink.lossless": compression.downlink.lossless != "none",
    }
    yield from ((field, packed) for field, is_set in codecs.items() if is_set)
    if spec.privacy is not None:
        yield "privacy", "its noise is algorithm.parameters.epsilon, its budget maxEpsilon there"
