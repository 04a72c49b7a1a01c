"""From decoded predictions to detections: thresholds and greedy suppression of near-duplicates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .boxes import corners, iou_of_all
from .head import decode

_MOST_CANDIDATES = 30_000
_BLOCK = 128  # boxes of which each is compared with each


@dataclass(frozen=True)
class Detections:
    """What was found in one picture, best first, D of them.

    Attributes:
        boxes: float (D, 4), left, top, right, bottom in pixels of the network's input.
        scores: float (D,), objectness times the class' probability.
        classes: int64 (D,).
    """

    boxes: Tensor
    scores: Tensor
    classes: Tensor

    def __len__(self) -> int:
        return len(self.scores)


@dataclass(frozen=True)
class Thresholds:
    """What counts as a detection. The defaults are those of evaluation; to show, take a score of 0.25.

    Attributes:
        score: least score.
        overlap: of two boxes of a class with a larger IoU the worse one is dropped.
        most: detections per picture.
    """

    score: float = 0.001
    overlap: float = 0.6
    most: int = 300


EVALUATION = Thresholds()


@torch.no_grad()
def detect(
    raw: Sequence[Tensor], anchors: Tensor, thresholds: Thresholds = EVALUATION
) -> list[Detections]:
    """The detections of every picture of a batch, in main memory; a box may have several classes."""
    decoded = decode([level.float() for level in raw], anchors).cpu()
    return [_detect(picture, thresholds) for picture in decoded]


def _detect(picture: Tensor, thresholds: Thresholds) -> Detections:
    likely = picture[picture[:, 4] > thresholds.score]
    scores = likely[:, 4:5] * likely[:, 5:]
    row, kind = (scores > thresholds.score).nonzero(as_tuple=True)
    score = scores[row, kind]
    best = score.argsort(descending=True, stable=True)[:_MOST_CANDIDATES]
    boxes, score, kind = corners(likely[row[best], :4]), score[best], kind[best]
    kept = suppress(boxes, score, kind, thresholds)
    return Detections(boxes[kept], score[kept], kind[kept])


def suppress(boxes: Tensor, scores: Tensor, classes: Tensor, thresholds: Thresholds) -> Tensor:
    """Indices of the boxes to keep, best first: greedily, and class by class.

    The best box is kept, all that overlap it too much are dropped, and so on. Classes are kept apart
    by moving each to a place of its own, further than any box reaches.

    Args:
        boxes: (N, 4) corners; scores: (N,); classes: (N,) int64.
    """
    order = scores.argsort(descending=True, stable=True)
    if not len(order):
        return order
    reach = boxes.max() - boxes.min() + 1
    moved = (boxes + classes[:, None] * reach)[order]
    kept = torch.empty(0, dtype=torch.long)
    for block in torch.arange(len(order)).split(_BLOCK):
        overlaps = iou_of_all(moved[kept], moved[block])
        free = block[~(overlaps > thresholds.overlap).any(0)]
        kept = torch.cat([kept, free[_best_of(moved[free], thresholds)]])
        if len(kept) >= thresholds.most:
            break
    return order[kept[: thresholds.most]]


def _best_of(boxes: Tensor, thresholds: Thresholds) -> list[int]:
    """The places of those boxes that no kept one before them overlaps too much."""
    overlaps = (iou_of_all(boxes, boxes) > thresholds.overlap).numpy()
    is_dropped = np.zeros(len(boxes), np.bool_)
    kept = []
    for place, row in enumerate(overlaps):
        if not is_dropped[place]:
            kept.append(place)
            is_dropped |= row
    return kept
