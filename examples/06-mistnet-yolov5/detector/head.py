"""The detection head: three anchors per cell of three maps, and how raw numbers become boxes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

STRIDES = (8, 16, 32)
# Width and height in pixels of the three anchors of every stride, chosen for pictures of 640 pixels.
ANCHORS = (
    ((10.0, 13.0), (16.0, 30.0), (33.0, 23.0)),
    ((30.0, 61.0), (62.0, 45.0), (59.0, 119.0)),
    ((116.0, 90.0), (156.0, 198.0), (373.0, 326.0)),
)
_OBJECTS_PER_PICTURE = 8  # what the first bias of the objectness stands for, at 640 pixels


class Head(nn.Module):
    """A 1x1 convolution per map to 3 x (4 box, 1 objectness, `classes`) channels.

    The anchors are no tensors of the state: nothing averages them or adds noise to them.
    """

    anchors: Tensor

    def __init__(self, channels: Sequence[int], classes: int, anchor_scale: float = 1.0) -> None:
        super().__init__()
        self.classes = classes
        values = 5 + classes
        self.convolutions = nn.ModuleList(
            nn.Conv2d(count, len(ANCHORS[0]) * values, 1) for count in channels
        )
        self.register_buffer("anchors", torch.tensor(ANCHORS) * anchor_scale, persistent=False)
        self._start_biases()

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps (B, C, H, W) to raw predictions (B, 3, H, W, 5 + classes), one per map."""
        raw = []
        for convolution, features in zip(self.convolutions, maps, strict=True):
            out = convolution(features)
            batch, _, height, width = out.shape
            view = out.view(batch, len(ANCHORS[0]), 5 + self.classes, height, width)
            raw.append(view.permute(0, 1, 3, 4, 2).contiguous())
        return raw

    def _start_biases(self) -> None:
        """Begin with few objects and all classes alike: no need to unlearn first."""
        with torch.no_grad():
            for convolution, stride in zip(self.convolutions, STRIDES, strict=True):
                assert isinstance(convolution, nn.Conv2d)
                assert convolution.bias is not None
                bias = convolution.bias.view(len(ANCHORS[0]), -1)
                bias[:, 4] += math.log(_OBJECTS_PER_PICTURE / (640 / stride) ** 2)
                bias[:, 5:] += math.log(0.6 / (self.classes - 0.99999))


def decode(raw: Sequence[Tensor], anchors: Tensor) -> Tensor:
    """Raw predictions as (B, N, 5 + classes): x, y (centre), width, height in pixels, then scores.

    The scores are the objectness and the classes' probabilities, each in [0, 1], not multiplied.
    N counts anchor by anchor, row by row, finest map first.
    """
    decoded = []
    for level, stride, sizes in zip(raw, STRIDES, anchors, strict=True):
        batch, count, height, width, values = level.shape
        s = level.sigmoid()
        rows = torch.arange(height, device=level.device, dtype=level.dtype)
        columns = torch.arange(width, device=level.device, dtype=level.dtype)
        grid = torch.stack(
            torch.meshgrid(rows, columns, indexing="ij")[::-1], -1
        )  # (H, W, 2): x, y
        centre = (2 * s[..., :2] - 0.5 + grid) * stride
        side = (2 * s[..., 2:4]).square() * sizes.view(1, count, 1, 1, 2)
        boxes = torch.cat([centre, side, s[..., 4:]], -1)
        decoded.append(boxes.view(batch, count * height * width, values))
    return torch.cat(decoded, 1)
