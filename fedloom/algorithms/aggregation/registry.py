"""From the name of an aggregation rule in the job to the rule: one explicit table."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fedloom.algorithms import parameters as params
from fedloom.algorithms.aggregation.geometric_median import GeometricMedian
from fedloom.algorithms.aggregation.krum import Krum
from fedloom.algorithms.aggregation.mean import Mean
from fedloom.algorithms.aggregation.median import Median
from fedloom.algorithms.aggregation.protocol import Aggregator
from fedloom.algorithms.aggregation.trimmed_mean import TrimmedMean
from fedloom.errors import JobError

Parameters = Mapping[str, object]

RULE_PARAMETERS: Mapping[str, tuple[str, ...]] = {
    "geometric-median": ("iterations", "smoothing"),
    "krum": ("byzantine",),
    "mean": (),
    "median": (),
    "multi-krum": ("byzantine", "keep"),
    "trimmed-mean": ("trim",),
}
"""Rule -> the names of its parameters."""


def _mean(parameters: Parameters) -> Aggregator:
    del parameters
    return Mean()


def _median(parameters: Parameters) -> Aggregator:
    del parameters
    return Median()


def _trimmed_mean(parameters: Parameters) -> Aggregator:
    return TrimmedMean(trim=_count(parameters, "trim", 1))


def _krum(parameters: Parameters) -> Aggregator:
    return Krum(byzantine=_count(parameters, "byzantine", 1), keep=1)


def _multi_krum(parameters: Parameters) -> Aggregator:
    return Krum(_count(parameters, "byzantine", 1), keep=_count(parameters, "keep", 0))


def _geometric_median(parameters: Parameters) -> Aggregator:
    iterations = params.integer(parameters, "iterations", 100)
    params.require(1 <= iterations <= 10_000, "iterations", iterations, "1 to 10000")
    smoothing = params.number(parameters, "smoothing", 1e-6)
    params.require(smoothing > 0, "smoothing", smoothing, "a number above 0")
    return GeometricMedian(iterations=iterations, smoothing=smoothing)


def _count(parameters: Parameters, name: str, default: int) -> int:
    count = params.integer(parameters, name, default)
    params.require(count >= 0, name, count, "an integer of at least 0")
    return count


AGGREGATORS: Mapping[str, Callable[[Parameters], Aggregator]] = {
    "geometric-median": _geometric_median,
    "krum": _krum,
    "mean": _mean,
    "median": _median,
    "multi-krum": _multi_krum,
    "trimmed-mean": _trimmed_mean,
}


def aggregator(rule: str, parameters: Parameters) -> Aggregator:
    """Make an aggregation rule.

    Args:
        rule: as in `spec.aggregation.rule`.
        parameters: its own; what is absent takes its default (trim 1, byzantine 1, keep 0: all but
            the byzantine ones, iterations 100, smoothing 1e-6).

    Raises:
        JobError: `UnknownRule`, or `InvalidParameter` for one that the rule does not have or that
            is out of range.
    """
    if rule not in AGGREGATORS:
        raise JobError("UnknownRule", f"got rule {rule!r}, expected one of {sorted(AGGREGATORS)}")
    params.check_names(f"rule {rule!r}", parameters, RULE_PARAMETERS[rule])
    return AGGREGATORS[rule](parameters)
