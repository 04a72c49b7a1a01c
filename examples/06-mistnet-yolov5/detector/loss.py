"""The loss of YOLOv5: where boxes are, whether there is one, and of which class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, one_hot

from .boxes import complete_iou
from .targets import Matches, assign

_BALANCE = (4.0, 1.0, 0.4)  # of the objectness of strides 8, 16 and 32: fine maps are mostly empty
_FULL_SIZE, _FULL_CLASSES = 640, 80


@dataclass(frozen=True)
class Gains:
    """What each part of the loss counts."""

    box: float = 0.05
    classes: float = 0.5
    objectness: float = 1.0

    @classmethod
    def published(cls, size: int, classes: int) -> Gains:
        """The published gains, for pictures of `size` pixels and so many classes."""
        return cls(0.05, 0.5 * classes / _FULL_CLASSES, 1.0 * (size / _FULL_SIZE) ** 2)


# For pictures of about 100 pixels and short runs: with the published gains, which shrink with the
# picture's area, the objectness would hardly be trained.
SMALL_GAINS = Gains(box=0.05, classes=0.3, objectness=0.7)


@dataclass(frozen=True)
class Loss:
    """The parts, each with its gain, as scalars; `total` is their sum times the batch size."""

    box: Tensor
    objectness: Tensor
    classes: Tensor
    total: Tensor


def loss_of(raw: Sequence[Tensor], targets: Tensor, anchors: Tensor, gains: Gains) -> Loss:
    """The loss of raw predictions (B, 3, H, W, 5 + classes) against boxes.

    Args:
        targets: (T, 6): image, class, x, y, width, height, the last four in [0, 1]; T may be 0.
        anchors: (3, 3, 2) in pixels, on the predictions' device.
    """
    maps = [(level.shape[2], level.shape[3]) for level in raw]
    zero = raw[0].new_zeros(())
    box, objectness, classes = zero, zero, zero
    for level, matches, weight in zip(raw, assign(targets, maps, anchors), _BALANCE, strict=True):
        wanted = torch.zeros_like(level[..., 4])
        if len(matches):
            predicted = level[matches.cells]
            overlap = _overlap(predicted, matches)
            box = box + (1 - overlap).mean()
            classes = classes + _classes(predicted[:, 5:], matches.classes)
            wanted = _wanted(wanted, matches, overlap.detach())
        objectness = objectness + weight * binary_cross_entropy_with_logits(level[..., 4], wanted)
    parts = (box * gains.box, objectness * gains.objectness, classes * gains.classes)
    return Loss(*parts, total=sum(parts, zero) * len(raw[0]))


def _overlap(predicted: Tensor, matches: Matches) -> Tensor:
    s = predicted[:, :4].sigmoid()
    boxes = torch.cat([2 * s[:, :2] - 0.5, (2 * s[:, 2:]).square() * matches.anchors], 1)
    return complete_iou(boxes, matches.boxes)


def _classes(predicted: Tensor, classes: Tensor) -> Tensor:
    count = predicted.shape[1]
    if count == 1:
        return predicted.new_zeros(())
    return binary_cross_entropy_with_logits(predicted, one_hot(classes, count).to(predicted.dtype))


def _wanted(wanted: Tensor, matches: Matches, overlap: Tensor) -> Tensor:
    """The objectness that each cell and anchor should have: how well it predicts its box.

    Where two boxes share one, the later match counts. That one is looked for: writing all of them is
    in order on no GPU.
    """
    image, anchor, row, column = matches.cells
    _, anchors, height, width = wanted.shape
    place = ((image * anchors + anchor) * height + row) * width + column
    order = torch.arange(len(place), device=place.device)
    last = torch.full((wanted.numel(),), -1, device=place.device).scatter_reduce(
        0, place, order, "amax"
    )
    is_last = last[place] == order
    values = overlap[is_last].clamp_min(0).to(wanted.dtype)
    return wanted.view(-1).scatter(0, place[is_last], values).view_as(wanted)
