"""Which aggregation rule an algorithm of the job uses: one explicit table."""

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

ROBUST_RULES: Mapping[str, tuple[str, ...]] = {
    "geometric-median": ("iterations", "smoothing"),
    "krum": ("byzantine",),
    "median": (),
    "multi-krum": ("byzantine", "keep"),
    "trimmed-mean": ("trim",),
}
"""Algorithms that are a rule and nothing else -> the parameters of the rule."""


def _mean(parameters: Parameters) -> Aggregator:
    del parameters  # they are the server optimizer's
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
    "fedadagrad": _mean,
    "fedadam": _mean,
    "fedavg": _mean,
    "fedavgm": _mean,
    "fedyogi": _mean,
    "geometric-median": _geometric_median,
    "krum": _krum,
    "median": _median,
    "multi-krum": _multi_krum,
    "trimmed-mean": _trimmed_mean,
}


def aggregator(algorithm_name: str, parameters: Parameters) -> Aggregator:
    """Make the aggregation rule of an algorithm.

    Args:
        algorithm_name: as in `spec.algorithm.name`.
        parameters: as in `spec.algorithm.parameters`; what is absent takes its default (trim 1,
            byzantine 1, keep 0: all but the byzantine ones, iterations 100, smoothing 1e-6). Those
            of the server optimizer may stand among them, `optimizers.registry` reads them.

    Raises:
        JobError: `UnknownAlgorithm`, or `InvalidParameter` for one that is out of range or that a
            robust rule does not have.
    """
    if algorithm_name not in AGGREGATORS:
        raise JobError(
            "UnknownAlgorithm",
            f"got algorithm {algorithm_name!r}, expected one of {sorted(AGGREGATORS)}",
        )
    if algorithm_name in ROBUST_RULES:
        known = ["serverLearningRate", *ROBUST_RULES[algorithm_name]]
        params.check_names(f"algorithm {algorithm_name!r}", parameters, known)
    return AGGREGATORS[algorithm_name](parameters)
