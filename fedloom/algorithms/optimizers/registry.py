"""Which server optimizer an algorithm of the job uses: one explicit table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fedloom.algorithms import parameters as params
from fedloom.algorithms.optimizers.averaging import Averaging
from fedloom.algorithms.optimizers.momentum import Momentum
from fedloom.algorithms.optimizers.protocol import ServerOptimizer
from fedloom.errors import JobError

Parameters = Mapping[str, object]


def _fedavg(parameters: Parameters) -> ServerOptimizer:
    params.check_names("algorithm 'fedavg'", parameters, ["serverLearningRate"])
    return Averaging(learning_rate=_learning_rate(parameters))


def _fedavgm(parameters: Parameters) -> ServerOptimizer:
    params.check_names("algorithm 'fedavgm'", parameters, ["serverLearningRate", "momentum"])
    momentum = params.number(parameters, "momentum", 0.9)
    params.require(0 <= momentum < 1, "momentum", momentum, "at least 0 and below 1")
    return Momentum(learning_rate=_learning_rate(parameters), momentum=momentum)


def _learning_rate(parameters: Parameters) -> float:
    rate = params.number(parameters, "serverLearningRate", 1.0)
    params.require(rate > 0, "serverLearningRate", rate, "a number above 0")
    return rate


SERVER_OPTIMIZERS: Mapping[str, Callable[[Parameters], ServerOptimizer]] = {
    "fedavg": _fedavg,
    "fedavgm": _fedavgm,
}


def server_optimizer(algorithm_name: str, parameters: Parameters) -> ServerOptimizer:
    """Make the server optimizer of an algorithm.

    Args:
        algorithm_name: as in `spec.algorithm.name`.
        parameters: as in `spec.algorithm.parameters`; what is absent takes its default
            (serverLearningRate 1, momentum 0.9).

    Raises:
        JobError: `UnknownAlgorithm`, or `InvalidParameter` for one that the algorithm does not
            have or that is out of range.
    """
    if algorithm_name not in SERVER_OPTIMIZERS:
        raise JobError(
            "UnknownAlgorithm",
            f"got algorithm {algorithm_name!r}, expected one of {sorted(SERVER_OPTIMIZERS)}",
        )
    return SERVER_OPTIMIZERS[algorithm_name](parameters)


def tensor_optimizer(optimizer: ServerOptimizer, dtype: np.dtype[Any]) -> ServerOptimizer:
    """Give the optimizer for tensors of `dtype`: integers and bool are averaged, nothing more.

    A counter in a model is no direction of descent: momentum would make it overshoot for ever.
    """
    return optimizer if dtype.kind == "f" else Averaging()
