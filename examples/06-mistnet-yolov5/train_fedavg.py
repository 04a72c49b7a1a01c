"""YOLOv5 by ordinary federated averaging: every client trains the whole network on its own pictures.

Settings of the job: `epochs`, `batchSize`, `learningRate`, `imageSize` (side in pixels, 96) and
`anchorScale` (0.6). Which network it is and how many classes it has, the model's arrays say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from detector.augmentation import LIGHT
from detector.checkpoints import shape_of
from detector.evaluation import evaluate
from detector.network import Network, Shape
from detector.recipe import SMALL_ANCHOR_SCALE, SMALL_RECIPE, Recipe, Warmup, device_of
from detector.samples import Samples
from detector.training import Trainer, pictures_of

import fedloom
from fedloom.data.folder import split_for
from fedloom.training.torch import (
    bound_threads,
    corrected,
    load_weights,
    seed_everything,
    weights_of,
)

Arrays = Mapping[str, np.ndarray[Any, Any]]

# Of a job that names no pretrained model.
FIRST = Shape("n", classes=3)
SIZE = 96


class Detector:
    """A YOLOv5 detector as a client's training class."""

    def __init__(self, client: fedloom.Client) -> None:
        bound_threads(1)  # one thread adds in one order: the same bits with any --parallel
        self.settings = client.hyperparameters
        self.folder = Path(client.dataset)
        self.size = int(self.settings.get("imageSize", SIZE))
        self.loaded: dict[str, Samples] = {}

    @staticmethod
    def initialize(seed: int) -> dict[str, np.ndarray[Any, Any]]:
        """Make the first network, untrained."""
        seed_everything(seed)
        return weights_of(Network(FIRST))

    def train(self, model: Arrays, context: fedloom.Round) -> fedloom.Update:
        """Train for the round's epochs; the loss is the last epoch's, per picture."""
        seed_everything(context.seed)
        network = self.network_of(model)
        samples, recipe = self.samples("train", network.shape.classes), self.recipe()
        trainer = Trainer(network, recipe, lambda o: corrected(o, network, context))
        done = trainer.run(pictures_of(samples, recipe, context.seed))
        return fedloom.Update(
            weights_of(network),
            num_examples=len(samples),
            num_steps=done[-1].steps,
            metrics={"loss": done[-1].loss},
        )

    def evaluate(self, model: Arrays, context: fedloom.Round) -> fedloom.Evaluation:
        """Mean average precision on the pictures that are held out, or on all where none are."""
        network = self.network_of(model)
        samples = self.samples("val", network.shape.classes)
        precision = evaluate(network, samples, network.head.anchors)
        return fedloom.Evaluation(num_examples=len(samples), metrics=precision.metrics())

    def network_of(self, model: Arrays) -> Network:
        """A network with the model's weights, in eval mode, on the device to compute on."""
        scale = float(self.settings.get("anchorScale", SMALL_ANCHOR_SCALE))
        network = Network(shape_of(model, scale))
        load_weights(network, model)
        return network.to(device_of(str(self.settings.get("device", "auto")))).eval()

    def samples(self, split: str, classes: int) -> Samples:
        """The client's pictures to train on (`train`) or to try on (`val`), as `split_for` finds them."""
        if split not in self.loaded:
            chosen = split_for(self.folder, split)
            self.loaded[split] = Samples(self.folder, self.size, classes, chosen)
        return self.loaded[split]

    def recipe(self) -> Recipe:
        """The rate is the same in all of a round's steps: the rounds together are the run."""
        batch_size = int(self.settings.get("batchSize", 16))
        return replace(
            SMALL_RECIPE,
            epochs=int(self.settings.get("epochs", 1)),
            batch_size=batch_size,
            nominal_batch=batch_size,
            learning_rate=float(self.settings.get("learningRate", 1e-3)),
            final_rate=1.0,
            warmup=Warmup(epochs=0.0, least_steps=0, bias_rate=0.0, momentum=0.9),
            average=False,
            augmentation=LIGHT,
        )


fedloom.main(Detector)
