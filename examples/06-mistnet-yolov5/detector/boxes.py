"""Boxes as tensors of shape (..., 4): `xywh` is centre and size, `xyxy` two corners."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_EPS = 1e-7


def corners(xywh: Tensor) -> Tensor:
    """Centre and size as left, top, right, bottom."""
    centre, half = xywh[..., :2], xywh[..., 2:4] / 2
    return torch.cat([centre - half, centre + half], -1)


def iou_of_corners(a: Tensor, b: Tensor) -> Tensor:
    """Area that two boxes share over the area that they cover; shapes are broadcast."""
    low, high = torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:4], b[..., 2:4])
    shared = (high - low).clamp_min(0).prod(-1)
    covered = _area(a) + _area(b) - shared
    return shared / (covered + _EPS)


def iou_of_all(a: Tensor, b: Tensor) -> Tensor:
    """`iou_of_corners` of each box of (N, 4) with each of (M, 4), the same bits: shape (N, M)."""
    left, top, right, bottom = (column[:, None] for column in a.unbind(-1))
    other_left, other_top, other_right, other_bottom = b.unbind(-1)
    width = torch.minimum(right, other_right).sub_(torch.maximum(left, other_left)).clamp_min_(0)
    height = torch.minimum(bottom, other_bottom).sub_(torch.maximum(top, other_top)).clamp_min_(0)
    shared = width.mul_(height)
    covered = (_area(a)[:, None] + _area(b)).sub_(shared)
    return shared.div_(covered.add_(_EPS))


def complete_iou(predicted: Tensor, target: Tensor) -> Tensor:
    """Complete IoU of boxes given as `xywh`: at most 1, and below 0 for boxes far apart.

    IoU - rho^2 / c^2 - alpha v (Zheng et al. 2020, "Enhancing Geometric Factors", arXiv:2005.03572):
    rho is the distance of the centres, c the diagonal of the smallest box around both, v compares
    the aspect ratios; alpha takes no gradient.
    """
    a, b = corners(predicted), corners(target)
    iou = iou_of_corners(a, b)
    around = torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])
    diagonal = around.square().sum(-1) + _EPS
    distance = (predicted[..., :2] - target[..., :2]).square().sum(-1)
    angles = [torch.atan(box[..., 2] / (box[..., 3] + _EPS)) for box in (target, predicted)]
    v = (4 / math.pi**2) * (angles[0] - angles[1]).square()
    with torch.no_grad():
        alpha = v / (v - iou + (1 + _EPS))
    return iou - distance / diagonal - alpha * v


def _area(box: Tensor) -> Tensor:
    return (box[..., 2] - box[..., 0]) * (box[..., 3] - box[..., 1])
