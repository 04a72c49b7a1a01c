"""How good detections are: mean average precision as COCO defines it, by pycocotools.

These are COCO's own numbers: means over 101 points of recall, at most 100 detections a picture. YOLOv5's
own tables integrate between the points and take 300, so that they differ in the third digit.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedloom.errors import DataError

from .nms import Detections, detect
from .samples import Batch, Samples

Model = Callable[[Tensor], Sequence[Tensor]]


@dataclass(frozen=True)
class Truth:
    """What is in one picture: float (n, 4) corners in pixels, int (n,) classes."""

    boxes: Tensor
    classes: Tensor


@dataclass(frozen=True)
class Precision:
    """Average precision over classes, in [0, 1].

    Attributes:
        map: mean over the overlaps .50, .55 ... .95 (mAP50-95).
        map50: at an overlap of .50.
        map75: at an overlap of .75.
        recall: mean recall with 100 detections a picture.
    """

    map: float
    map50: float
    map75: float
    recall: float

    def metrics(self) -> dict[str, float]:
        """The two that detectors are compared by, under their usual names."""
        return {"mAP50": self.map50, "mAP50-95": self.map}


def evaluate(model: Model, samples: Samples, anchors: Tensor, batch_size: int = 16) -> Precision:
    """The precision of a model on all samples; see `evaluate_batches`."""
    batches = samples.in_order(batch_size)
    return evaluate_batches(model, batches, anchors, samples.size, samples.classes)


@torch.no_grad()
def evaluate_batches(
    model: Model, batches: Iterable[Batch], anchors: Tensor, size: int, classes: int
) -> Precision:
    """The precision of a model on batches of pictures, or of what an extractor made of them.

    Args:
        model: takes inputs on the anchors' device and gives raw predictions; a module is expected to
            be in eval mode.
        size: side in pixels of the pictures.

    Raises DataError as `precision_of`.
    """
    truths: list[Truth] = []
    detections: list[Detections] = []
    for batch in batches:
        truths += truths_of(batch.targets, len(batch.inputs), size)
        detections += detect(model(batch.inputs.to(anchors.device)), anchors)
    return precision_of(truths, detections, classes)


def truths_of(targets: Tensor, pictures: int, size: int) -> list[Truth]:
    """What is in each picture of a batch, from its targets (T, 6) in parts of the square."""
    half = targets[:, 4:6] / 2
    boxes = torch.cat([targets[:, 2:4] - half, targets[:, 2:4] + half], 1) * size
    which, classes = targets[:, 0].long(), targets[:, 1].long()
    return [Truth(boxes[which == i], classes[which == i]) for i in range(pictures)]


def precision_of(
    truths: Sequence[Truth], detections: Sequence[Detections], classes: int
) -> Precision:
    """The precision of detections, picture by picture; 0 where nothing at all was detected.

    Raises DataError("NoBoxes") where there is no box to be found: then precision means nothing.
    """
    from pycocotools.coco import COCO  # type: ignore[import-untyped]
    from pycocotools.cocoeval import COCOeval  # type: ignore[import-untyped]

    boxes = list(_annotations(truths))
    results = list(_results(detections))
    if not boxes:
        raise DataError("NoBoxes", f"{len(truths)} pictures have no box among them to be found")
    if not results:
        return Precision(0.0, 0.0, 0.0, 0.0)
    with redirect_stdout(io.StringIO()):  # pycocotools tells its progress
        coco = COCO()
        coco.dataset = {
            "images": [{"id": number} for number in range(1, len(truths) + 1)],
            "categories": [{"id": number} for number in range(classes)],
            "annotations": [box | {"id": number} for number, box in enumerate(boxes, start=1)],
        }
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(np.array(results)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    stats = [float(value) for value in evaluation.stats]
    return Precision(stats[0], stats[1], stats[2], stats[8])


def _annotations(truths: Sequence[Truth]) -> Iterable[dict[str, Any]]:
    """The true boxes as COCO has them; pictures count from 1."""
    for image, truth in enumerate(truths, start=1):
        for box, kind in zip(_with_size(truth.boxes), truth.classes.tolist(), strict=True):
            area = box[2] * box[3]
            yield {
                "image_id": image,
                "category_id": kind,
                "bbox": box,
                "area": area,
                "iscrowd": 0,
            }


def _results(detections: Sequence[Detections]) -> Iterable[list[float]]:
    """Rows of image, left, top, width, height, score, class."""
    for image, found in enumerate(detections, start=1):
        rows = zip(
            _with_size(found.boxes), found.scores.tolist(), found.classes.tolist(), strict=True
        )
        for box, score, kind in rows:
            yield [image, *box, score, kind]


def _with_size(boxes: Tensor) -> list[list[float]]:
    """Corners as left, top, width, height."""
    sized: list[list[float]] = torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1).tolist()
    return sized
