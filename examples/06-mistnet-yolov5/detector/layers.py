"""The blocks of YOLOv5: convolution with normalisation, residual blocks, pooling pyramids, focus.

All take and give float tensors of shape (B, C, H, W). `Focus` and `SPP` belong to the layout of v5.0,
`SPPF` to that of v6.0 and later.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d

_BN_EPS, _BN_MOMENTUM = 1e-3, 0.03


class Conv(nn.Module):
    """Convolution without bias, batch normalisation, SiLU; `stride` divides height and width."""

    def __init__(
        self, inputs: int, outputs: int, size: int = 1, stride: int = 1, padding: int | None = None
    ) -> None:
        super().__init__()
        padding = size // 2 if padding is None else padding
        self.conv = nn.Conv2d(inputs, outputs, size, stride, padding, bias=False)
        self.norm = nn.BatchNorm2d(outputs, eps=_BN_EPS, momentum=_BN_MOMENTUM)
        self.activation = nn.SiLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.activation(self.norm(self.conv(x)))
        return out


class Bottleneck(nn.Module):
    """A 1x1 and a 3x3 convolution of the same width; `add` puts the input back on top."""

    def __init__(self, channels: int, add: bool) -> None:
        super().__init__()
        self.reduce = Conv(channels, channels, 1)
        self.widen = Conv(channels, channels, 3)
        self.add = add

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.widen(self.reduce(x))
        return x + out if self.add else out


class C3(nn.Module):
    """Two branches of half the width, one through `repeats` bottlenecks, joined by a third 1x1."""

    def __init__(self, inputs: int, outputs: int, repeats: int, add: bool) -> None:
        super().__init__()
        half = outputs // 2
        self.deep = Conv(inputs, half)
        self.blocks = nn.Sequential(*(Bottleneck(half, add) for _ in range(repeats)))
        self.shallow = Conv(inputs, half)
        self.join = Conv(2 * half, outputs)

    def forward(self, x: Tensor) -> Tensor:
        branches = (self.blocks(self.deep(x)), self.shallow(x))
        out: Tensor = self.join(torch.cat(branches, 1))
        return out


class SPPF(nn.Module):
    """Maxima over 5, 9 and 13 pixels, as three 5x5 maxima one after the other (v6.0 and later)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        half = inputs // 2
        self.reduce = Conv(inputs, half)
        self.join = Conv(4 * half, outputs)

    def forward(self, x: Tensor) -> Tensor:
        levels = [self.reduce(x)]
        for _ in range(3):
            levels.append(max_pool2d(levels[-1], 5, 1, 2))
        out: Tensor = self.join(torch.cat(levels, 1))
        return out


class SPP(nn.Module):
    """The same maxima, each taken from the input: the pyramid of v5.0."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        half = inputs // 2
        self.reduce = Conv(inputs, half)
        self.join = Conv(4 * half, outputs)

    def forward(self, x: Tensor) -> Tensor:
        first = self.reduce(x)
        pooled = [max_pool2d(first, size, 1, size // 2) for size in (5, 9, 13)]
        out: Tensor = self.join(torch.cat([first, *pooled], 1))
        return out


class Focus(nn.Module):
    """Every second pixel into channels of its own, then a 3x3 convolution: layer 0 of v5.0.

    The four pictures follow each other as (even row, even column), (odd, even), (even, odd), (odd, odd).
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = Conv(4 * inputs, outputs, 3)

    def forward(self, x: Tensor) -> Tensor:
        quarters = [x[..., row::2, column::2] for column in (0, 1) for row in (0, 1)]
        out: Tensor = self.conv(torch.cat(quarters, 1))
        return out


class Upsampled(nn.Module):
    """Twice the height and width, each pixel repeated."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.interpolate(x, scale_factor=2.0, mode="nearest")


class Concat(nn.Module):
    """Joins maps of the same size along the channels."""

    def forward(self, *maps: Tensor) -> Tensor:
        return torch.cat(maps, 1)
