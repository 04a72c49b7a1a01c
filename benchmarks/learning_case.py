"""One federated training in one process: Fedloom's own mathematics, without its engine.

What a round does between training and evaluation is the product's code: `weighted_mean` over the
clients' deltas, then the `server_optimizer`, block by block. There are no files, no processes and
no compression.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from peers import digits

from fedloom.algorithms.aggregation.mean import weighted_mean
from fedloom.algorithms.aggregation.source import ArraySource
from fedloom.algorithms.aggregation.weights import example_weights
from fedloom.algorithms.layout import layout_of
from fedloom.algorithms.optimizers.protocol import ServerOptimizer
from fedloom.algorithms.optimizers.registry import server_optimizer

Slots = dict[tuple[str, str, int], np.ndarray[Any, Any]]
draw = cache(digits.draw)


def learn(
    algorithm: str,
    parameters: Mapping[str, object],
    *,
    concentration: float,
    seed: int,
    rounds: int,
) -> list[float]:
    """Train the digits' perceptron; give the accuracy on the held-out images after each round.

    Args:
        algorithm, parameters: as in `spec.algorithm`.
        concentration: Dirichlet alpha of the split over the clients.
        seed: of the split and of the initial model.
        rounds: every client takes part in each.
    """
    clients, test = draw(seed, concentration)
    optimizer = server_optimizer(algorithm, parameters)
    model, slots = digits.initial_model(seed), Slots()
    accuracies = []
    for number in range(1, rounds + 1):
        trained = [digits.train(model, images, number, k) for k, images in enumerate(clients)]
        deltas = [{name: new[name] - model[name] for name in model} for new in trained]
        sizes = [len(images.y) for images in clients]
        model = _step(optimizer, model, slots, (deltas, sizes), number)
        accuracies.append(digits.evaluate(model, test)["accuracy"])
    return accuracies


def _step(
    optimizer: ServerOptimizer,
    model: digits.Model,
    slots: Slots,
    updates: tuple[Sequence[digits.Model], Sequence[int]],
    number: int,
) -> digits.Model:
    """Give the next model; `slots` are brought up to date, by slot, tensor and block."""
    deltas, sizes = updates
    after = {name: array.copy() for name, array in model.items()}
    sources = [ArraySource(delta) for delta in deltas]
    for block in weighted_mean(sources, example_weights(sizes), layout_of(model)):
        values = after[block.name].reshape(-1)[block.start : block.start + block.values.size]
        before = {
            slot: slots.get((slot, block.name, block.start), np.full_like(values, initial))
            for slot, initial in optimizer.slots.items()
        }
        values[:], kept = optimizer.apply(values, block.values, before, number)
        slots.update({(slot, block.name, block.start): array for slot, array in kept.items()})
    return after
