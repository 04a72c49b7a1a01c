"""YOLOv5 in two halves, as MistNet wants a model: edges extract, the cloud trains the rest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fedloom.data.folder import labels_of, pictures_in, split_for
from fedloom.data.pictures import GREY, picture_size, read_picture
from fedloom.errors import DataError, UpdateError
from fedloom.training.context import Evaluation, Round, Update
from fedloom.training.numpy import batches
from fedloom.training.split import BAD_EXAMPLE, Example, FeatureSource, Parts
from fedloom.training.torch import load_weights, weights_of

from .checkpoints import read_network
from .evaluation import evaluate_batches
from .letterbox import letterbox, placement_of
from .network import Extractor, Network, Shape, Tail, check_cut, released_shape, split
from .recipe import SMALL_RECIPE, Recipe, device_of
from .samples import Batch, check_size, clipped, targets_of
from .training import Source, Trainer

Array = np.ndarray[Any, np.dtype[Any]]
Arrays = Mapping[str, Array]


@dataclass(frozen=True)
class Setting:
    """What a split detector is made of.

    Attributes:
        network: which YOLOv5.
        cut_layer: layers that run on the edge, 1 to 5.
        size: side in pixels of the square pictures, a multiple of 32.
        pretrained: a file with the whole network that both halves begin with; None for random weights.
        recipe: of the tail's training.
        device: `auto`, `cpu`, `cuda` ...
    """

    network: Shape
    cut_layer: int = 4
    size: int = 96
    pretrained: Path | None = None
    recipe: Recipe = SMALL_RECIPE
    device: str = "auto"

    def __post_init__(self) -> None:
        check_cut(self.cut_layer)
        check_size(self.size)


class SplitDetector:
    """A detector that MistNet can train; see `fedloom.training.split.SplitModel` for what is what.

    Features are (channels, rows, columns) at the cut, labels (boxes, 5): class, and centre and size in
    parts of the square picture.
    """

    label_columns = 5

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self._device = device_of(setting.device)
        self._extractor = Extractor(setting.network, setting.cut_layer).to(self._device).eval()
        self._loaded: Arrays | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return released_shape(self.setting.network, self.setting.cut_layer, self.setting.size)

    @property
    def description(self) -> Mapping[str, Any]:
        """What decides about a feature besides the extractor's weights."""
        return {
            "network": "yolov5",
            "layout": self.setting.network.layout,
            "cut_layer": self.setting.cut_layer,
            "size": self.setting.size,
            "resize": f"letterbox, bilinear, {GREY} around",
        }

    def initialize(self, seed: int) -> Parts:
        """The pretrained network in two parts; without one a random network.

        Raises as `read_network`, and ValueError where the file is of another network.
        """
        torch.manual_seed(seed)
        network = Network(self.setting.network)
        if self.setting.pretrained is not None:
            network = read_network(self.setting.pretrained, self.setting.network.anchor_scale)
            if network.shape != self.setting.network:
                raise ValueError(
                    f"{self.setting.pretrained}: got {network.shape}, expected {self.setting.network}"
                )
        extractor, tail = split(network, self.setting.cut_layer)
        return Parts(weights_of(extractor), weights_of(tail))

    def examples(self, dataset: str, purpose: str) -> Sequence[Example]:
        """The pictures of a folder in COCO128's format, by their names; none is decoded.

        To train on: those of the split train, where the folder has splits. To try on: those of val, else
        those of test, else all.
        """
        split = split_for(Path(dataset), purpose)
        return [_example(path, split or "") for path in pictures_in(Path(dataset), split)]

    def load(self, example: Example) -> Array:
        """The square picture, float32 (size, size, 3) in [0, 1]."""
        try:
            pixels = read_picture(Path(example.source))
        except DataError as error:
            raise UpdateError(BAD_EXAMPLE, error.message) from error
        square, _ = letterbox(pixels, self.setting.size)
        return square.astype(np.float32) / np.float32(255)

    def labels(self, example: Example) -> Array:
        """The boxes of a picture in its square, float32 (n, 5)."""
        path = Path(example.source)
        try:
            boxes = labels_of(path)
            unknown = boxes[boxes[:, 0] >= self.setting.network.classes, 0]
            if len(unknown):
                raise DataError(
                    "LabelClass",
                    f"{path}: got class {int(unknown[0])}, "
                    f"but the network has {self.setting.network.classes} classes",
                )
            placement = placement_of(*picture_size(path), self.setting.size)
        except DataError as error:
            raise UpdateError(BAD_EXAMPLE, error.message) from error
        return placement.to_square(clipped(boxes), self.setting.size)

    @torch.no_grad()
    def extract(self, extractor: Arrays, image: Array) -> Array:
        """What the first layers give for a square picture, float32 of `shape`."""
        if extractor is not self._loaded:
            load_weights(self._extractor, extractor)
            self._loaded = extractor
        inputs = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None]
        features: Array = self._extractor(inputs.to(self._device))[0].cpu().numpy()
        return features

    def train(self, tail: Arrays, features: FeatureSource, context: Round) -> Update:
        """Train the tail by the setting's recipe; features are read a batch at a time."""
        torch.manual_seed(context.seed)
        module = self._tail(tail)
        trainer = Trainer(module, self.setting.recipe)

        def epoch(number: int) -> Iterator[Batch]:
            return self._shuffled(features, (context.seed + 7919 * number) % 2**63)

        done = trainer.run(Source(epoch, len(features), self.setting.size))
        return Update(
            weights_of(module),
            num_examples=len(features),
            num_steps=done[-1].steps,
            metrics={"loss": done[-1].loss},
        )

    def evaluate(self, tail: Arrays, features: FeatureSource) -> Evaluation:
        """Mean average precision on features that were never trained on."""
        module = self._tail(tail)
        size, classes = self.setting.size, self.setting.network.classes
        order = np.arange(len(features))
        steps = range(0, len(order), self.setting.recipe.batch_size)
        found = (
            _batch(features, order[start : start + self.setting.recipe.batch_size], None)
            for start in steps
        )
        precision = evaluate_batches(module, found, module.head.anchors, size, classes)
        return Evaluation(len(features), precision.metrics())

    def _tail(self, arrays: Arrays) -> Tail:
        tail = Tail(self.setting.network, self.setting.cut_layer)
        load_weights(tail, arrays)
        return tail.to(self._device).eval()

    def _shuffled(self, features: FeatureSource, seed: int) -> Iterator[Batch]:
        """One epoch's batches; each map is mirrored as often as the recipe mirrors pictures."""
        rng = np.random.Generator(np.random.PCG64([seed, 1]))
        recipe = self.setting.recipe
        for indices in batches(len(features), recipe.batch_size, seed):
            yield _batch(features, indices, rng.random(len(indices)) < recipe.augmentation.flip)


def _example(path: Path, split: str) -> Example:
    content = path.read_bytes()
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    return Example(str(path), digest, len(content), split)


def _batch(features: FeatureSource, indices: Array, mirrored: Array | None) -> Batch:
    """Features and labels as a batch; where `mirrored` says so, left and right are exchanged.

    Maps of convolutions are only about what a mirrored picture would have given: good enough to learn
    from, and the picture itself is not there.
    """
    inputs, boxes = [], []
    for place, index in enumerate(indices):
        values, labels = features.read(int(index))
        labels = labels.copy()
        if mirrored is not None and mirrored[place]:
            values = values[..., ::-1]
            labels[:, 1] = 1 - labels[:, 1]
        inputs.append(values)
        boxes.append(labels)
    stacked = np.ascontiguousarray(np.stack(inputs), dtype=np.float32)
    return Batch(torch.from_numpy(stacked), targets_of(boxes))
