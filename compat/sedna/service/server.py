"""AggregationServer (V1) and AggregationServerV2: what an aggregating script wants, or one aggregation.

`start()` ends the process. In the task `describe` it writes what the script asked for; in the task
`aggregate` it combines one round's updates by the script's own class. Nothing is served, and no port opened.
"""

import contextlib
import json
import os
from typing import Any, Dict, List, Mapping, Optional, Tuple

import numpy as np

from ..algorithms.aggregation import AggClient, FedAvg, FedAvgV2, MistNet
from ..common.class_factory import ClassFactory, ClassType
from ..common.log import LOGGER
from ..round import safetensors
from ..round.task import Task, current, fail, finish, write_json
from ..round.values import number_of

__all__ = ("AggregationServer", "AggregationServerV2")

_TASKS = ("describe", "aggregate")
_BUILT_IN = {FedAvg: "fedavg", FedAvgV2: "fedavg", MistNet: "mistnet"}


class AggregationServer:
    """V1: `aggregation` is the name of a registered class, a class or an object.

    `exit_round` and `participants_count` become the job's rounds and its least number of clients, where the
    job says neither. Host, port and `ws_size` are accepted and mean nothing: arrays have no size limit.
    """

    def __init__(
        self,
        aggregation: Any = "FedAvg",
        host: Any = None,
        http_port: Any = None,
        exit_round: Any = None,
        participants_count: Any = None,
        **kwargs: Any,
    ) -> None:
        self.aggregation = aggregation
        self.exit_round = exit_round
        self.participants_count = participants_count

    def start(self) -> None:
        """Do the task and end the process."""
        task = current(_TASKS, "AggregationServer")
        chosen, algorithm = _chosen(self.aggregation)
        wanted = {"rounds": self.exit_round, "participants": self.participants_count}
        _do(task, chosen, algorithm, wanted)


class AggregationServerV2:
    """V2: `aggregation` says the algorithm, `estimator.hyperparameters` the rounds, `chooser` the clients."""

    def __init__(
        self,
        data: Any = None,
        estimator: Any = None,
        aggregation: Any = None,
        transmitter: Any = None,
        chooser: Any = None,
    ) -> None:
        self.data = data
        self.estimator = estimator
        self.aggregation = FedAvgV2() if aggregation is None else aggregation
        self.transmitter = transmitter
        self.chooser = chooser

    def start(self) -> None:
        """Do the task and end the process."""
        task = current(_TASKS, "AggregationServerV2")
        chosen, algorithm = _chosen(self.aggregation)
        settings = getattr(self.estimator, "hyperparameters", None) or {}
        choice = getattr(self.chooser, "parameters", None) or {}
        wanted = {"rounds": settings.get("rounds"), "participants": choice.get("per_round")}
        _do(task, chosen, algorithm, wanted)


def _chosen(aggregation: Any) -> Tuple[Any, str]:
    """Give the script's own aggregation (a class or an object; None for a built-in), and its name."""
    chosen = aggregation
    if isinstance(aggregation, str):
        if not ClassFactory.is_exists(ClassType.FL_AGG, aggregation):
            return (
                None,
                aggregation.lower(),
            )  # an algorithm of the job, or the job is refused for it
        chosen = ClassFactory.get_cls(ClassType.FL_AGG, aggregation)
    kind: Any = chosen if isinstance(chosen, type) else type(chosen)
    if kind in _BUILT_IN:
        return None, _BUILT_IN[kind]
    if not callable(getattr(kind, "aggregate", None)):
        fail(
            "AggregationServer: aggregation got {!r}, expected a name, or a class or object with "
            "aggregate(clients)".format(aggregation)
        )
    if kind.aggregate in (FedAvgV2.aggregate, MistNet.aggregate):
        parameters = getattr(chosen, "parameters", None) or {}
        return None, str(parameters.get("type", "fedavg"))
    return chosen, aggregation if isinstance(aggregation, str) else kind.__name__


def _do(task: Task, chosen: Any, name: str, wanted: Mapping[str, Any]) -> None:
    if task.name == "describe":
        _describe(task, chosen, name, wanted)
    else:
        _aggregate(task, FedAvg if chosen is None and name == "fedavg" else chosen, name)
    finish()


def _describe(task: Task, chosen: Any, name: str, wanted: Mapping[str, Any]) -> None:
    document: Dict[str, Any] = {"aggregation": None if chosen is None else name}
    if chosen is None:
        document["algorithm"] = name
    for key, value in wanted.items():
        if value is None or value == "":
            continue
        try:
            number = number_of(key, value, int)
        except ValueError as error:
            fail("AggregationServer: {}".format(error))
        if number < 1:
            fail("AggregationServer: {}: got {}, expected 1 or more".format(key, number))
        document[key] = number
    write_json(task.result, document)


def _aggregate(task: Task, chosen: Any, name: str) -> None:
    if chosen is None:
        fail(
            "AggregationServer: {!r} is no class of this script; only aggregations registered with "
            "ClassFactory.register(ClassType.FL_AGG) are run here".format(name)
        )
    try:
        model = safetensors.load(task.model)
        names = sorted(model)
        clients = _clients(task, names)
    except (safetensors.FormatError, OSError, ValueError, KeyError) as error:
        fail("aggregate: the updates of round {} cannot be read: {}".format(task.round, error))
    aggregation = chosen() if isinstance(chosen, type) else chosen
    aggregation.total_size = sum(client.num_samples for client in clients)
    aggregation.weights = [model[key] for key in names]
    LOGGER.info("round %d: %s combines %d updates", task.round, name, len(clients))
    combined = _combined(aggregation.aggregate(clients), model, names, name)
    safetensors.save(task.update, combined)
    write_json(task.result, {"metrics": {}})


def _clients(task: Task, names: List[str]) -> List[AggClient]:
    with open(os.path.join(task.updates, "clients.json"), encoding="utf-8") as file:
        entries = json.load(file)
    clients = []
    for entry in entries:
        arrays = safetensors.load(os.path.join(task.updates, entry["path"]))
        client = AggClient()
        client.num_samples = int(entry["num_examples"])
        client.weights = [arrays[name] for name in names]
        clients.append(client)
    return clients


def _combined(
    result: Any, model: Mapping[str, safetensors.Array], names: List[str], who: str
) -> Dict[str, safetensors.Array]:
    """Check what the script's aggregation gave against the model, and give it the model's dtypes."""
    if result is None or not hasattr(result, "__len__"):
        fail(
            "{}.aggregate(clients) gave {}, expected a list of {} arrays".format(
                who, type(result).__name__, len(names)
            )
        )
    if len(result) != len(names):
        fail(
            "{}.aggregate(clients) gave {} arrays, expected {}".format(who, len(result), len(names))
        )
    return {key: _fitted(result[place], model[key], who, place) for place, key in enumerate(names)}


def _fitted(value: Any, wanted: safetensors.Array, who: str, place: int) -> safetensors.Array:
    array: Optional[safetensors.Array] = None
    with contextlib.suppress(ValueError):  # rows of different lengths; said below
        array = np.asarray(value)
    if array is None or array.shape != wanted.shape or array.dtype.kind not in "biuf":
        shape = (
            "rows of different lengths"
            if array is None
            else "{} of {}".format(array.shape, array.dtype)
        )
        fail(
            "{}.aggregate(clients): array {} got {}, expected {} of {}".format(
                who, place, shape, wanted.shape, wanted.dtype
            )
        )
    if wanted.dtype.kind in "iu" and array.dtype.kind == "f":
        array = np.rint(array)  # a mean of counters
    return array.astype(wanted.dtype)
