"""A picture made square: as large as it fits, in the middle, grey around it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedloom.data.labels import Boxes
from fedloom.data.pictures import GREY, Pixels, resize


@dataclass(frozen=True)
class Placement:
    """Where a picture lies in its square: pixels of the square are `scale` times the picture's.

    Attributes:
        width: of the picture in the square, in pixels of the square; so are height, left and top.
    """

    scale: float
    width: int
    height: int
    left: int
    top: int

    def to_square(self, boxes: Boxes, size: int) -> Boxes:
        """Boxes (n, 5), class and parts of the picture, as class and parts of the square."""
        factors = np.array([self.width, self.height, self.width, self.height], np.float32)
        shifts = np.array([self.left, self.top, 0, 0], np.float32)
        placed = (boxes[:, 1:] * factors + shifts) / np.float32(size)
        return np.concatenate([boxes[:, :1], placed], axis=1).astype(np.float32)

    def to_picture(self, corners: Boxes) -> Boxes:
        """Corners (n, 4) in pixels of the square as corners in pixels of the picture."""
        shifts = np.array([self.left, self.top] * 2, np.float32)
        return ((corners - shifts) / np.float32(self.scale)).astype(np.float32)


def placement_of(width: int, height: int, size: int) -> Placement:
    """Where a picture of this width and height comes to lie in a square of `size` pixels."""
    scale = size / max(height, width)
    new_width, new_height = (max(1, round(side * scale)) for side in (width, height))
    left, top = (size - new_width) // 2, (size - new_height) // 2
    return Placement(scale, new_width, new_height, left, top)


def letterbox(pixels: Pixels, size: int) -> tuple[Pixels, Placement]:
    """The picture in a square of `size` pixels, uint8 (size, size, 3), and where it lies there.

    Smaller pictures are made larger too. The longer side fills the square.
    """
    place = placement_of(pixels.shape[1], pixels.shape[0], size)
    square = np.full((size, size, 3), GREY, np.uint8)
    inside = square[place.top : place.top + place.height, place.left : place.left + place.width]
    inside[:] = resize(pixels, place.width, place.height)
    return square, place
