"""Which server optimizer an algorithm of the job uses: one explicit table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from fedloom.algorithms import parameters as params
from fedloom.algorithms.aggregation.registry import RULE_PARAMETERS
from fedloom.algorithms.optimizers.adagrad import Adagrad
from fedloom.algorithms.optimizers.adam import Adam
from fedloom.algorithms.optimizers.averaging import Averaging
from fedloom.algorithms.optimizers.momentum import Momentum
from fedloom.algorithms.optimizers.protocol import ServerOptimizer
from fedloom.algorithms.optimizers.yogi import Yogi
from fedloom.errors import JobError

Parameters = Mapping[str, object]


def _fedavgm(parameters: Parameters) -> ServerOptimizer:
    params.check_names("algorithm 'fedavgm'", parameters, ["serverLearningRate", "momentum"])
    momentum = _decay(parameters, "momentum", Momentum.momentum)
    return Momentum(learning_rate=_learning_rate(parameters), momentum=momentum)


def _fedadagrad(parameters: Parameters) -> ServerOptimizer:
    names = ["serverLearningRate", "beta1", "tau"]
    params.check_names("algorithm 'fedadagrad'", parameters, names)
    return Adagrad(
        learning_rate=_learning_rate(parameters, Adagrad.learning_rate),
        beta1=_decay(parameters, "beta1", Adagrad.beta1),
        tau=_tau(parameters, Adagrad.tau),
    )


def _fedadam(parameters: Parameters) -> ServerOptimizer:
    return _moving_average("fedadam", Adam, parameters)


def _fedyogi(parameters: Parameters) -> ServerOptimizer:
    return _moving_average("fedyogi", Yogi, parameters)


def _moving_average(
    name: str, make: type[Adam] | type[Yogi], parameters: Parameters
) -> ServerOptimizer:
    names = ["serverLearningRate", "beta1", "beta2", "tau"]
    params.check_names(f"algorithm {name!r}", parameters, names)
    return make(
        learning_rate=_learning_rate(parameters, make.learning_rate),
        beta1=_decay(parameters, "beta1", make.beta1),
        tau=_tau(parameters, make.tau),
        beta2=_decay(parameters, "beta2", make.beta2),
    )


def _averaging(name: str, parameters: Parameters) -> ServerOptimizer:
    """What these algorithms change is elsewhere: on the client, in the weights, in the rule."""
    known = ["serverLearningRate", *_ELSEWHERE[name]]
    params.check_names(f"algorithm {name!r}", parameters, known)
    return Averaging(learning_rate=_learning_rate(parameters))


_ELSEWHERE: Mapping[str, tuple[str, ...]] = {
    "fedavg": (),
    "fednova": (),
    "fedprox": ("proximalMu",),
    "scaffold": (),
    **{rule: names for rule, names in RULE_PARAMETERS.items() if rule != "mean"},
}
"""Algorithms whose server half is fedavg's -> their parameters that the server does not look at."""


def _learning_rate(parameters: Parameters, default: float = 1.0) -> float:
    rate = params.number(parameters, "serverLearningRate", default)
    params.require(rate > 0, "serverLearningRate", rate, "a number above 0")
    return rate


def _decay(parameters: Parameters, name: str, default: float) -> float:
    decay = params.number(parameters, name, default)
    params.require(0 <= decay < 1, name, decay, "at least 0 and below 1")
    return decay


def _tau(parameters: Parameters, default: float) -> float:
    tau = params.number(parameters, "tau", default)
    params.require(1e-12 <= tau <= 1e6, "tau", tau, "a number from 1e-12 to 1e6")
    return tau


SERVER_OPTIMIZERS: Mapping[str, Callable[[Parameters], ServerOptimizer]] = {
    "fedavgm": _fedavgm,
    "fedadam": _fedadam,
    "fedyogi": _fedyogi,
    "fedadagrad": _fedadagrad,
    **{name: partial(_averaging, name) for name in _ELSEWHERE},
}


def server_optimizer(algorithm_name: str, parameters: Parameters) -> ServerOptimizer:
    """Make the server optimizer of an algorithm.

    Args:
        algorithm_name: as in `spec.algorithm.name`.
        parameters: as in `spec.algorithm.parameters`; what is absent takes the default that the
            optimizer's class states.

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
