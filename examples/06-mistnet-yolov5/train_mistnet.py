"""YOLOv5 by MistNet: edges run the first layers and release bits, the cloud trains the rest on them.

Settings of the job, in its hyperparameters or in the containers' environment: `cutLayer` (1 to 5, 4 if left
out), `network` (`n`), `classes` (3), `imageSize` (side in pixels, 96), `anchorScale` (0.6), and of the
cloud's training `epochs`, `batchSize`, `learningRate`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from detector.network import Shape
from detector.recipe import SMALL_ANCHOR_SCALE, SMALL_RECIPE
from detector.split_detector import Setting, SplitDetector

import fedloom
from fedloom.training.split import Parts
from fedloom.training.torch import bound_threads

SIZE, CLASSES, CUT = 96, 3, 4


class Detector(SplitDetector):
    """A `SplitDetector` as a job's settings have it."""

    def __init__(self, client: fedloom.Client) -> None:
        bound_threads(1)  # one thread adds in one order: the same bits with any --parallel
        told = client.hyperparameters
        batch_size = int(told.get("batchSize", SMALL_RECIPE.batch_size))
        recipe = replace(
            SMALL_RECIPE,
            epochs=int(told.get("epochs", SMALL_RECIPE.epochs)),
            batch_size=batch_size,
            nominal_batch=batch_size,
            learning_rate=float(told.get("learningRate", SMALL_RECIPE.learning_rate)),
        )
        shape = Shape(
            str(told.get("network", "n")),
            int(told.get("classes", CLASSES)),
            anchor_scale=float(told.get("anchorScale", SMALL_ANCHOR_SCALE)),
        )
        setting = Setting(
            shape,
            cut_layer=int(told.get("cutLayer", CUT)),
            size=int(told.get("imageSize", SIZE)),
            recipe=recipe,
            device=str(told.get("device", "auto")),
        )
        super().__init__(setting)

    def from_pretrained(self, path: Path) -> Parts:
        """Begin with a file of the whole network, a state dict or safetensors."""
        return SplitDetector(replace(self.setting, pretrained=path)).initialize(0)


fedloom.main(Detector)
