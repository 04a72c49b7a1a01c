"""What does not go with the rule `script`, by which the aggregation worker's own program combines updates."""

from __future__ import annotations

from collections.abc import Iterator

from fedloom.api import capabilities
from fedloom.api.job import JobSpec
from fedloom.api.learning import Algorithm
from fedloom.errors import Problem

_PLAIN = ("fedavg", "fedprox")
_RATE = "serverLearningRate"


def script_problems(spec: JobSpec, algorithm: Algorithm, rule: str) -> Iterator[Problem]:
    """Find what a program that gets whole models and gives a whole model would make void without a word."""
    if rule != capabilities.SCRIPT_RULE:
        return
    where, aggregation = "spec.aggregation", spec.aggregation
    path = f"{where}.rule"
    if spec.privacy is not None:
        message = (
            "got script with spec.privacy: nothing is known of what a program makes of an update"
        )
        yield Problem(path, f"{message}, expected the mean")
    if algorithm.name not in (*_PLAIN, "fednova", "scaffold"):  # which need the mean anyway
        message = (
            f"got script with {algorithm.name}, expected {' or '.join(_PLAIN)}: the program makes the next "
            "model itself, no server optimizer comes behind it"
        )
        yield Problem(path, message)
    elif algorithm.parameters.get(_RATE, 1) != 1:
        message = (
            f"got {algorithm.parameters[_RATE]} with the rule script, expected 1: the program makes "
            "the next model itself"
        )
        yield Problem(f"spec.algorithm.parameters.{_RATE}", message)
    given = {
        "clipNorm": aggregation.clip_norm is not None,
        "clipQuantile": aggregation.clip_quantile is not None,
        "exclude": bool(aggregation.exclude),
        "fanIn": aggregation.fan_in is not None,
        "shards": (aggregation.shards or 1) > 1,
    }
    for field in (name for name, is_given in given.items() if is_given):
        message = "got it with the rule script, expected none: the program gets whole models"
        yield Problem(f"{where}.{field}", message)
