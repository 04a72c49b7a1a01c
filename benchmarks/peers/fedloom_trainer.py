"""The training script of the Fedloom run: the same calls as in every other system."""

from __future__ import annotations

from pathlib import Path

import fedloom
from peers import digits


class Trainer:
    """One client, or the evaluation."""

    def __init__(self, client: fedloom.Client) -> None:
        self._name = client.name
        self._images = digits.load(Path(client.dataset))

    @staticmethod
    def initialize(seed: int) -> digits.Model:
        """Give the model that every system starts from; the job's own seed would give another."""
        del seed
        return digits.initial_model()

    def train(self, model: digits.Model, context: fedloom.Round) -> fedloom.Update:
        client = int(self._name.removeprefix("client-"))
        trained = digits.train(model, self._images, context.number, client)
        return fedloom.Update(trained, num_examples=len(self._images.y))

    def evaluate(self, model: digits.Model, context: fedloom.Round) -> fedloom.Evaluation:
        del context
        return fedloom.Evaluation(len(self._images.y), digits.evaluate(model, self._images))


fedloom.main(Trainer)
