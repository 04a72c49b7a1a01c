"""Pictures changed at random, so that a network does not learn them by heart; boxes change with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from PIL import Image

from fedloom.data.labels import Boxes
from fedloom.data.pictures import GREY, Pixels

Floats = np.ndarray[Any, np.dtype[np.floating[Any]]]

_LEAST_SIDE = 2.0  # pixels; a box cut smaller than this is dropped
_LEAST_PART = 0.1  # of a box's area that has to stay in the picture


class Pictures(Protocol):
    """Square pictures with boxes by index."""

    size: int

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Pixels, Boxes]: ...


@dataclass(frozen=True)
class Augmentation:
    """How strongly pictures are changed; the defaults change nothing.

    Attributes:
        hue: most change, in parts of the colour circle; of saturation and value: in parts of them.
        shift: most translation, in parts of the side.
        scale: most change of size, in parts of it: 0.5 gives 0.5 to 1.5.
        flip: probability of being mirrored, left and right.
        mosaic: probability of being made of four pictures.
    """

    hue: float = 0.0
    saturation: float = 0.0
    value: float = 0.0
    shift: float = 0.0
    scale: float = 0.0
    flip: float = 0.0
    mosaic: float = 0.0

    def apply(
        self, pictures: Pictures, index: int, rng: np.random.Generator
    ) -> tuple[Pixels, Boxes]:
        """The picture `index` and its boxes, changed by numbers drawn from `rng`."""
        size = pictures.size
        if self.mosaic and rng.random() < self.mosaic:
            pixels, boxes = _mosaic(pictures, index, rng)
        else:
            pixels, boxes = pictures[index]
        if self.shift or self.scale or len(pixels) != size:
            pixels, boxes = self._moved(pixels, boxes, size, rng)
        if self.hue or self.saturation or self.value:
            pixels = self._tinted(pixels, rng)
        if self.flip and rng.random() < self.flip:
            pixels, boxes = mirrored(pixels, boxes)
        return pixels, boxes

    def _moved(
        self, pixels: Pixels, boxes: Boxes, size: int, rng: np.random.Generator
    ) -> tuple[Pixels, Boxes]:
        """Scaled about the middle and shifted; what a larger canvas has around it is cut off."""
        scale = 1 + rng.uniform(-self.scale, self.scale)
        middle = size * (0.5 + rng.uniform(-self.shift, self.shift, 2))
        old = len(pixels)
        origin = middle - scale * old / 2  # where the canvas' corner comes to lie
        inverse = (1 / scale, 0, -origin[0] / scale, 0, 1 / scale, -origin[1] / scale)
        moved = Image.fromarray(pixels).transform(
            (size, size),
            Image.Transform.AFFINE,
            inverse,
            Image.Resampling.BILINEAR,
            fillcolor=(GREY, GREY, GREY),
        )
        centre = (boxes[:, 1:3] * old * scale + origin) / size
        side = boxes[:, 3:5] * old * scale / size
        return np.asarray(moved, np.uint8), _cut(boxes[:, :1], centre, side, size)

    def _tinted(self, pixels: Pixels, rng: np.random.Generator) -> Pixels:
        hue, saturation, value = rng.uniform(-1, 1, 3) * (self.hue, self.saturation, self.value)
        levels = np.arange(256)
        tables = np.stack(
            [
                (levels + round(256 * hue)) % 256,
                np.clip(levels * (1 + saturation), 0, 255),
                np.clip(levels * (1 + value), 0, 255),
            ]
        ).astype(np.uint8)
        image = Image.fromarray(pixels).convert("HSV").point(tables.reshape(-1).tolist())
        return np.asarray(image.convert("RGB"), np.uint8)


NONE = Augmentation()
# The published strengths, for long runs on large pictures.
PUBLISHED = Augmentation(0.015, 0.7, 0.4, shift=0.1, scale=0.5, flip=0.5, mosaic=1.0)
# For short runs on pictures of about 100 pixels, whose objects are not to get smaller still.
LIGHT = Augmentation(0.015, 0.3, 0.2, shift=0.1, scale=0.2, flip=0.5)


def mirrored(pixels: Pixels, boxes: Boxes) -> tuple[Pixels, Boxes]:
    """Left and right exchanged."""
    boxes = boxes.copy()
    boxes[:, 1] = 1 - boxes[:, 1]
    return np.ascontiguousarray(pixels[:, ::-1]), boxes


def _mosaic(pictures: Pictures, index: int, rng: np.random.Generator) -> tuple[Pixels, Boxes]:
    """This picture and three others around a random point of a canvas twice as large."""
    size = pictures.size
    canvas = np.full((2 * size, 2 * size, 3), GREY, np.uint8)
    x, y = (int(value) for value in rng.integers(size // 2, size + size // 2 + 1, 2))
    others = [int(other) for other in rng.integers(len(pictures), size=3)]
    found = []
    corners = ((x - size, y - size), (x, y - size), (x - size, y), (x, y))
    for (left, top), number in zip(corners, [index, *others], strict=True):
        pixels, boxes = pictures[number]
        x0, y0 = max(left, 0), max(top, 0)
        x1, y1 = min(left + size, 2 * size), min(top + size, 2 * size)
        canvas[y0:y1, x0:x1] = pixels[y0 - top : y1 - top, x0 - left : x1 - left]
        centre = (boxes[:, 1:3] * size + np.array([left, top])) / (2 * size)
        found.append(_cut(boxes[:, :1], centre, boxes[:, 3:5] / 2, 2 * size))
    return canvas, np.concatenate(found)


def _cut(kinds: Boxes, centre: Floats, side: Floats, size: int) -> Boxes:
    """Boxes clipped to the picture; those of which too little is left are dropped."""
    low, high = (centre - side / 2).clip(0, 1), (centre + side / 2).clip(0, 1)
    left = high - low
    enough = (left * size > _LEAST_SIDE).all(1) & (left.prod(1) > _LEAST_PART * side.prod(1))
    rows: Boxes = np.concatenate([kinds, (low + high) / 2, left], axis=1).astype(np.float32)
    kept: Boxes = rows[enough]
    return kept
