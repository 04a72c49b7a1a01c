"""Federated averaging of the whole detector: the example's training class, the product's own mean."""

from __future__ import annotations

import runpy
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from mistnet_place import EXAMPLE

from fedloom.algorithms.aggregation.mean import Mean
from fedloom.algorithms.aggregation.source import ArraySource
from fedloom.algorithms.aggregation.weights import weigh
from fedloom.algorithms.layout import layout_of
from fedloom.algorithms.optimizers.registry import server_optimizer
from fedloom.artifacts.arrays import dump_arrays
from fedloom.training.context import Client, Round
from fedloom.training.script import received_by
from fedloom.training.split import Parts

Arrays = dict[str, np.ndarray[Any, Any]]
SETTINGS = {"epochs": 1, "batchSize": 16, "learningRate": 1e-3, "device": "cpu"}


class Averaged(Protocol):
    """What is said of a training."""

    @property
    def seed(self) -> int: ...

    @property
    def epochs(self) -> int: ...


def average(
    parts: Parts, homes: Sequence[Path], case: Averaged
) -> Iterator[tuple[int, Parts, Mapping[str, int]]]:
    """Train in rounds, every client in each of them.

    Yields after each round its number, the network, and the bytes so far: what files of the weights would
    take, which is what clients are sent and send back where nothing is compressed.
    """
    made = _training_class()
    clients = [
        made(Client(f"edge-{number}", str(home), SETTINGS, home, case.seed))
        for number, home in enumerate(homes)
    ]
    model: Arrays = {**parts.extractor, **parts.tail}
    size_bytes = len(dump_arrays(model))
    for number in range(1, case.epochs + 1):
        updates = []
        for place, client in enumerate(clients):
            seed = (case.seed * 1000 + number) * 10 + place
            updates.append(client.train(model, Round(number, case.epochs, seed)))
        changes = [
            {name: array - model[name] for name, array in update.model.items()}
            for update in updates
        ]
        model = _stepped(model, changes, [update.num_examples for update in updates], number)
        sent = number * len(homes) * size_bytes
        halves = [
            {name: array for name, array in model.items() if name in part}
            for part in (parts.extractor, parts.tail)
        ]
        yield number, Parts(*halves), {"uplink_bytes": sent, "downlink_bytes": sent}


def _stepped(model: Arrays, changes: Sequence[Arrays], examples: list[int], number: int) -> Arrays:
    after = {name: array.copy() for name, array in model.items()}
    weights = weigh("examples", examples, [1] * len(examples))
    optimizer = server_optimizer("fedavg", {})
    rule = Mean(divisor=weights.divisor)
    sources = [ArraySource(change) for change in changes]
    for block in rule.aggregate(sources, weights.values, layout_of(model)):
        values = after[block.name].reshape(-1)[block.start : block.start + block.values.size]
        values[:], _ = optimizer.apply(values, block.values, {}, number)
    return after


def _training_class() -> Any:
    """Give the class that the example's script hands to `fedloom.main`."""
    received: list[type[Any]] = []
    with received_by(received.append):
        runpy.run_path(str(EXAMPLE / "train_fedavg.py"), run_name="__main__")
    return received[0]
