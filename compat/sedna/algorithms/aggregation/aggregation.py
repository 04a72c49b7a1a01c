"""Aggregations of a script: V1's compute, V2's only name an algorithm and its parameters."""

import abc
from typing import Any, List, Optional

import numpy as np

from ...common.class_factory import ClassFactory, ClassType

__all__ = ("AggClient", "BaseAggregation", "FedAvg", "FedAvgV2", "MistNet")


class AggClient:
    """One client's update: `num_samples`, and `weights`, its full new arrays in the model's order."""

    def __init__(self) -> None:
        self.num_samples = 0
        self.weights: List[Any] = []


class BaseAggregation(abc.ABC):
    """Base of a script's own aggregation, registered with ClassFactory under ClassType.FL_AGG.

    It is made anew in every round: `weights` is then the global model that the clients started from, a
    list of arrays, and `total_size` the number of samples of all clients. Nothing else lives on.
    """

    def __init__(self) -> None:
        self.total_size = 0
        self.weights: Optional[List[Any]] = None

    @abc.abstractmethod
    def aggregate(self, clients: List[AggClient]) -> Any:
        """Give the new global model: a list of arrays, or nested lists, of the shapes of `weights`."""


@ClassFactory.register(ClassType.FL_AGG)
class FedAvg(BaseAggregation):
    """The mean of the clients' weights, each weighted by its number of samples."""

    def aggregate(self, clients: List[AggClient]) -> Any:
        """Give the mean, computed in float64; the former weights where there is no client.

        Raises ValueError where the clients have no samples at all.
        """
        if not clients:
            return self.weights
        self.total_size = sum(client.num_samples for client in clients)
        if self.total_size <= 0:
            raise ValueError("FedAvg: got {} samples in all".format(self.total_size))
        means = [np.zeros(np.shape(array), np.float64) for array in clients[0].weights]
        for client in clients:
            share = client.num_samples / self.total_size
            for place in range(len(means)):
                means[place] += np.asarray(client.weights[place], np.float64) * share
        self.weights = list(means)
        return means


@ClassFactory.register(ClassType.FL_AGG)
class FedAvgV2(BaseAggregation):
    """FedAvg of the V2 interface: it names the algorithm and computes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.parameters = {"type": "fedavg"}

    def aggregate(self, clients: List[AggClient]) -> Any:
        """Give nothing, as in Sedna: the job's own aggregation computes."""


@ClassFactory.register(ClassType.FL_AGG)
class MistNet(BaseAggregation):
    """MistNet: the layer to cut at and the privacy budget, each from its own argument.

    Digits given as text, which is what the environment gives, become whole numbers and decimals become
    floats; other text stays, since a layer may have a name.
    """

    def __init__(self, cut_layer: Any, epsilon: Any = 100) -> None:
        super().__init__()
        self.parameters = {
            "type": "mistnet",
            "cut_layer": _number_if_any(cut_layer),
            "epsilon": _number_if_any(epsilon),
        }

    def aggregate(self, clients: List[AggClient]) -> Any:
        """Give nothing, as in Sedna."""


def _number_if_any(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value
