"""One federated training in one process: Fedloom's own mathematics, without its engine.

What a round does between training and evaluation is the product's code: drift correction, error
feedback and codec on the way up, the aggregation rule, the server optimizer, the codec on the way
down. There are no files and no processes, so bytes are those of the encoded parts, without headers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from peers import digits

from fedloom.algorithms.aggregation.clipping import ClipToQuantile
from fedloom.algorithms.aggregation.mean import Mean
from fedloom.algorithms.aggregation.protocol import Aggregator
from fedloom.algorithms.aggregation.registry import aggregator
from fedloom.algorithms.aggregation.source import ArraySource
from fedloom.algorithms.aggregation.weights import Weights, weigh, weigh_normalized
from fedloom.algorithms.compression.feedback import feedback_of
from fedloom.algorithms.compression.packing import Packing
from fedloom.algorithms.compression.protocol import ArrayParts
from fedloom.algorithms.compression.registry import codec
from fedloom.algorithms.drift.control_variates import (
    advanced_variate,
    drift_offset,
    first_variates,
    refreshed_variates,
)
from fedloom.algorithms.drift.correction import DriftCorrection
from fedloom.algorithms.layout import Layout, layout_of
from fedloom.algorithms.optimizers.registry import server_optimizer

Arrays = dict[str, np.ndarray[Any, Any]]
draw = cache(digits.draw)
_ATTACK = -5.0


class Encoding(NamedTuple):
    """A codec as in `spec.compression.uplink`."""

    codec: str = "none"
    parameters: Mapping[str, float] = {}
    has_feedback: bool = False


@dataclass(frozen=True)
class Case:
    """One way to learn; `attackers` of the clients send -5 times their update."""

    algorithm: str = "fedavg"
    parameters: Mapping[str, float] = field(default_factory=dict)
    rule: str = "mean"
    rule_parameters: Mapping[str, float] = field(default_factory=dict)
    clip_quantile: float | None = None
    uplink: Encoding = field(default_factory=Encoding)
    downlink: Encoding = field(default_factory=Encoding)
    attackers: int = 0


@dataclass
class Learned:
    """What came of it: accuracy on the held-out images after each round, bytes over all rounds."""

    accuracies: list[float] = field(default_factory=list)
    uplink_bytes: int = 0
    downlink_bytes: int = 0


def learn(case: Case, *, concentration: float, seed: int, rounds: int) -> Learned:
    """Train the digits' perceptron; every client takes part in each round.

    Args:
        case: how.
        concentration: Dirichlet alpha of the split over the clients.
        seed: of the split and of the initial model.
        rounds: how many.
    """
    images, test = draw(seed, concentration)
    model = digits.initial_model(seed)
    server = _Server(case, model)
    clients = [_Client(case, number, held) for number, held in enumerate(images)]
    received, learned = model, Learned()
    for number in range(1, rounds + 1):
        updates = [client.update(received, server.common, number) for client in clients]
        examples = [len(client.images.y) for client in clients]
        model = server.step(updates, examples, _steps(clients), number)
        server.take_variates([client.variate_change for client in clients], examples)
        received, size_bytes = server.broadcast(model, received, number)
        learned.downlink_bytes += size_bytes * len(clients)
        learned.accuracies.append(digits.evaluate(model, test)["accuracy"])
    learned.uplink_bytes = sum(client.sent_bytes for client in clients)
    return learned


def _steps(clients: Sequence[_Client]) -> list[int]:
    return [digits.steps_of(client.images) for client in clients]


class _Client:
    """A client, with what it keeps from round to round."""

    def __init__(self, case: Case, number: int, images: digits.Images) -> None:
        self.images = images
        self.sent_bytes = 0
        self.variate_change: Arrays = {}
        self._case = case
        self._number = number
        self._feedback = feedback_of(*case.uplink)
        self._state: dict[str, Arrays] = {}
        self._variates: Arrays = {}

    def update(self, model: Arrays, common: Arrays, number: int) -> Arrays:
        """Train from the model that was received; give the update as the server decodes it."""
        trained = digits.train(
            model, self.images, number, self._number, self._correction(model, common)
        )
        if self._case.algorithm == "scaffold":
            path_length = digits.steps_of(self.images) * digits.LEARNING_RATE
            after = refreshed_variates(self._variates, common, model, trained, path_length)
            self.variate_change = {name: after[name] - self._variates[name] for name in after}
            self._variates = after
        factor = _ATTACK if self._number < self._case.attackers else 1.0
        deltas = {n: (array - model[n]) * np.float32(factor) for n, array in trained.items()}
        return self._sent(deltas, number)

    def _correction(self, model: Arrays, common: Arrays) -> DriftCorrection | None:
        if self._case.algorithm == "fedprox":
            return DriftCorrection(mu=self._case.parameters.get("proximalMu", 0.1), anchor=model)
        if self._case.algorithm == "scaffold":
            self._variates = self._variates or first_variates(layout_of(model))
            return DriftCorrection(offset=drift_offset(common, self._variates))
        return None

    def _sent(self, deltas: Arrays, number: int) -> Arrays:
        result: Arrays = {}
        encoding, key = self._case.uplink, (number, self._number + 1)
        layout = layout_of(deltas)
        packing = Packing(codec(encoding.codec, encoding.parameters), layout)
        for unit in packing.units:
            delta = packing.pack(unit, deltas)
            state, outgoing = self._state.get(unit.name, {}), delta
            if self._feedback is not None:
                state = state or {slot: np.zeros_like(delta) for slot in self._feedback.slots}
                outgoing = self._feedback.outgoing(delta, state)
            decoded, size_bytes = _through(encoding, outgoing, (*key, *unit.name.encode()))
            if self._feedback is not None:
                self._state[unit.name] = self._feedback.kept(outgoing, decoded, state)
            self.sent_bytes += size_bytes
            result |= packing.unpack(unit, decoded, layout)
        return {name: result[name] for name in deltas}


class _Server:
    """The server, with what it keeps from round to round."""

    def __init__(self, case: Case, model: Arrays) -> None:
        parameters = {k: v for k, v in case.parameters.items() if k != "learningRate"}
        self.common = first_variates(layout_of(model)) if case.algorithm == "scaffold" else {}
        self._case = case
        self._model = model
        self._layout: Layout = layout_of(model)
        self._optimizer = server_optimizer(case.algorithm, parameters)
        self._slots: dict[tuple[str, str, int], np.ndarray[Any, Any]] = {}
        self._clients: list[_Client] = []

    def step(
        self, updates: Sequence[Arrays], examples: list[int], steps: list[int], number: int
    ) -> Arrays:
        """Combine the updates into the next model and give it."""
        after = {name: array.copy() for name, array in self._model.items()}
        weights = _weights(self._case, examples, steps)
        sources = [ArraySource(update) for update in updates]
        rule = _rule(self._case, weights)
        for block in rule.aggregate(sources, weights.values, self._layout):
            values = after[block.name].reshape(-1)[block.start : block.start + block.values.size]
            before = {
                slot: self._slots.get((slot, block.name, block.start), np.full_like(values, start))
                for slot, start in self._optimizer.slots.items()
            }
            values[:], kept = self._optimizer.apply(values, block.values, before, number)
            self._slots |= {(s, block.name, block.start): array for s, array in kept.items()}
        self._model = after
        return after

    def take_variates(self, changes: Sequence[Arrays], examples: Sequence[int]) -> None:
        """Advance the common control variate by the mean of the clients' changes."""
        total = sum(examples)
        for name, variate in self.common.items():
            mean = sum(
                c[name] * np.float32(n / total) for c, n in zip(changes, examples, strict=True)
            )
            self.common[name] = advanced_variate(variate, np.asarray(mean), 1.0, 1.0)

    def broadcast(self, model: Arrays, received: Arrays, number: int) -> tuple[Arrays, int]:
        """Give the model as clients have it after the change came down, and its bytes per client."""
        if self._case.downlink.codec == "none":
            return model, sum(array.nbytes for array in model.values())
        encoding, total, result = self._case.downlink, 0, dict(model)
        packing = Packing(codec(encoding.codec, encoding.parameters), self._layout)
        changes = {name: array - received[name] for name, array in model.items()}
        for unit in packing.units:
            change = packing.pack(unit, changes)
            decoded, size_bytes = _through(encoding, change, (number, 0, *unit.name.encode()))
            for name, values in packing.unpack(unit, decoded, self._layout).items():
                result[name] = received[name] + values
            total += size_bytes
        return result, total


def _weights(case: Case, examples: list[int], steps: list[int]) -> Weights:
    give = weigh_normalized if case.algorithm == "fednova" else weigh
    return give("examples", examples, steps)


def _rule(case: Case, weights: Weights) -> Aggregator:
    rule = Mean(divisor=weights.divisor) if case.rule == "mean" else None
    rule = rule or aggregator(case.rule, case.rule_parameters)
    return rule if case.clip_quantile is None else ClipToQuantile(rule, case.clip_quantile)


def _through(
    encoding: Encoding, values: np.ndarray[Any, Any], key: tuple[int, ...]
) -> tuple[np.ndarray[Any, Any], int]:
    """Give what arrives of a unit on the other side of a codec, and how many bytes it took.

    `key`: the round, then what the noise is drawn for.
    """
    if encoding.codec == "none":
        return values, values.nbytes
    made = codec(encoding.codec, encoding.parameters, key[0])
    parts = made.encode(values, np.random.default_rng(key))
    out = np.empty(values.size, np.float32)
    made.decode(ArrayParts(parts), values.shape, 0, values.size, out)
    return out.reshape(values.shape), sum(part.nbytes for part in parts.values())
