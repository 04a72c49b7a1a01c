"""Which cells and anchors have to predict which boxes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .head import STRIDES

_NEIGHBOUR = 0.5  # a cell's side away at most, a neighbour predicts the box too


@dataclass(frozen=True)
class Matches:
    """The matches of one map, M of them: one cell and anchor that has to predict one box.

    Attributes:
        cells: (image, anchor, row, column), each int64 (M,).
        boxes: float (M, 4): x, y from the cell's corner, width, height, in cells.
        anchors: float (M, 2): width and height of the anchor, in cells.
        classes: int64 (M,).
    """

    cells: tuple[Tensor, Tensor, Tensor, Tensor]
    boxes: Tensor
    anchors: Tensor
    classes: Tensor

    def __len__(self) -> int:
        return len(self.classes)


def assign(
    targets: Tensor, maps: list[tuple[int, int]], anchors: Tensor, most_ratio: float = 4.0
) -> list[Matches]:
    """Match boxes with anchors, one `Matches` per map.

    An anchor takes a box if neither side is more than `most_ratio` times the other's; then the box's
    cell predicts it, and of the cells left or right and above or below the one that is nearer.

    Args:
        targets: (T, 6): image, class, x, y, width, height, the last four in [0, 1] of the picture.
        maps: height and width in cells, per stride.
        anchors: (3, 3, 2) in pixels, per stride.
    """
    return [
        _assign(targets, size, sizes / stride, most_ratio)
        for size, sizes, stride in zip(maps, anchors, STRIDES, strict=True)
    ]


def _assign(targets: Tensor, size: tuple[int, int], anchors: Tensor, most_ratio: float) -> Matches:
    height, width = size
    cells = targets.new_tensor([width, height])
    centre, side = targets[:, 2:4] * cells, targets[:, 4:6] * cells
    ratio = side[None] / anchors[:, None]  # (anchors, T, 2)
    fits = torch.maximum(ratio, 1 / ratio).amax(2) < most_ratio
    anchor, target = fits.nonzero(as_tuple=True)
    offset, which = _shifts(centre[target], cells)
    anchor, target = anchor[which], target[which]
    corner = (centre[target] - offset).floor()
    column = corner[:, 0].long().clamp(0, width - 1)
    row = corner[:, 1].long().clamp(0, height - 1)
    return Matches(
        cells=(targets[target, 0].long(), anchor, row, column),
        boxes=torch.cat([centre[target] - corner, side[target]], 1),
        anchors=anchors[anchor],
        classes=targets[target, 1].long(),
    )


def _shifts(centre: Tensor, cells: Tensor) -> tuple[Tensor, Tensor]:
    """Per further cell that predicts a box: the shift towards it, and the box's index.

    The boxes' own cells come first, then all left neighbours, upper, right and lower ones.
    """
    near = (centre % 1 < _NEIGHBOUR) & (centre > 1)
    opposite = cells - centre
    far = (opposite % 1 < _NEIGHBOUR) & (opposite > 1)
    own = torch.ones_like(near[:, 0])
    chosen = torch.stack([own, near[:, 0], near[:, 1], far[:, 0], far[:, 1]])
    shifts = centre.new_tensor([[0, 0], [1, 0], [0, 1], [-1, 0], [0, -1]]) * _NEIGHBOUR
    kind, which = chosen.nonzero(as_tuple=True)
    return shifts[kind], which
