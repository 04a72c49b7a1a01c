"""From decoded predictions to detections: thresholds and greedy suppression of near-duplicates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .boxes import corners, iou_of_corners
from .head import decode

_MOST_CANDIDATES = 30_000


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
    kept: list[int] = []
    rest = torch.arange(len(order))
    while len(rest) and len(kept) < thresholds.most:
        kept.append(int(rest[0]))
        overlap = iou_of_corners(moved[rest[0]], moved[rest[1:]])
        rest = rest[1:][overlap <= thresholds.overlap]
    return order[kept]
