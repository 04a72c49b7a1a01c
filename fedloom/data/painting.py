"""Pictures of shapes on textured ground, drawn from a generator's numbers: equal numbers, equal pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fedloom.data.labels import Boxes
from fedloom.data.pictures import Pixels
from fedloom.data.shapes import Floats, Mask

_MOST_SHAPES = 4
_SIDES = (0.14, 0.42)  # of a shape, in parts of the picture's side
_MOST_TURN = 0.18  # of tan(angle / 2): about 20 degrees either way
_LEAST_CONTRAST = 45.0  # between a shape and the ground behind it, of 255, in some channel
_TRIES = 30
_FINENESS = 3  # points per pixel and axis that decide how much of a pixel a shape covers
_MOST_OVERLAP = 0.1
_GRAIN = 8  # steps of brightness of the noise over everything


def paint(
    masks: Sequence[Mask], size: int, rng: np.random.Generator, bands: bool, empty: bool = False
) -> tuple[Pixels, Boxes]:
    """A picture of `size` x `size` pixels, uint8, and its boxes, float32 (n, 5) in [0, 1].

    Between one and four shapes lie on the ground, drawn among `masks`; a box is tight around what is
    seen of its shape. `bands` gives the ground stripes and patches instead of clouds.
    """
    canvas = _bands(size, rng) if bands else _clouds(size, rng)
    boxes: list[tuple[float, ...]] = []
    wanted = 0 if empty else int(rng.integers(1, _MOST_SHAPES + 1))
    for _ in range(wanted):
        for _ in range(_TRIES):
            kind = int(rng.integers(len(masks)))
            cover = _cover(masks[kind], size, rng)
            box = _box(cover)
            if box is not None and all(_overlap(box, other[1:]) < _MOST_OVERLAP for other in boxes):
                _fill(canvas, cover, rng)
                boxes.append((kind, *box))
                break
    canvas += rng.integers(-_GRAIN, _GRAIN, canvas.shape)
    pixels = np.clip(np.rint(canvas), 0, 255).astype(np.uint8)
    return pixels, np.array(boxes, np.float32).reshape(-1, 5)


def _clouds(size: int, rng: np.random.Generator) -> Floats:
    """Soft patches of colour in three sizes, one over the other."""
    ground = np.full((size, size, 3), 128.0)
    for cells, strength in ((2, 0.9), (5, 0.6), (12, 0.3)):
        ground += strength * (_smooth(rng.integers(0, 256, (cells, cells, 3)), size) - 128.0)
    clipped: Floats = np.clip(ground, 0.0, 255.0)
    return clipped


def _bands(size: int, rng: np.random.Generator) -> Floats:
    """Stripes in some direction over patches with sharp borders."""
    cells = int(rng.integers(2, 5))
    patches = _smooth(rng.integers(20, 236, (cells, cells, 3)), size)
    places = np.arange(size) * int(rng.integers(2, 5)) // size
    blocks = rng.integers(-45, 46, (5, 5, 3)).astype(np.float64)
    y, x = np.mgrid[0:size, 0:size] / size
    along = x * rng.uniform(-8, 8) + y * rng.uniform(-8, 8) + rng.random()
    wave = np.abs(
        2 * (along - np.floor(along)) - 1
    )  # a triangle wave: no sine, the same everywhere
    ground = patches + blocks[places[:, None], places[None, :]]
    ground += (wave[..., None] - 0.5) * rng.integers(-60, 61, 3)
    clipped: Floats = np.clip(ground, 0.0, 255.0)
    return clipped


def _smooth(grid: np.ndarray[Any, Any], size: int) -> Floats:
    """Values at the corners of a grid, between them by bilinear interpolation: (size, size, 3)."""
    at = np.linspace(0, len(grid) - 1, size)
    low = np.minimum(at.astype(int), len(grid) - 2)
    part = at - low
    rows = grid[low] * (1 - part)[:, None, None] + grid[low + 1] * part[:, None, None]
    smooth: Floats = rows[:, low] * (1 - part)[None, :, None]
    smooth += rows[:, low + 1] * part[None, :, None]
    return smooth


def _cover(mask: Mask, size: int, rng: np.random.Generator) -> Floats:
    """How much of every pixel a shape of random place, size and turn covers: (size, size), 0 to 1."""
    side = rng.uniform(*_SIDES)
    half_width, half_height = side * rng.uniform(0.42, 0.58), side * rng.uniform(0.42, 0.58)
    middle_x, middle_y = rng.uniform(side / 2, 1 - side / 2, 2)
    # Cosine and sine from the tangent of half the angle: libraries differ in the last bit of theirs.
    t = rng.uniform(-_MOST_TURN, _MOST_TURN)
    cosine, sine = (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)
    points = (np.arange(size * _FINENESS) + 0.5) / (size * _FINENESS)
    x, y = points[None, :] - middle_x, points[:, None] - middle_y
    inside = mask((cosine * x + sine * y) / half_width, (cosine * y - sine * x) / half_height)
    blocks = inside.reshape(size, _FINENESS, size, _FINENESS)
    covered: Floats = blocks.sum(axis=(1, 3)) / _FINENESS**2
    return covered


def _box(cover: Floats) -> tuple[float, float, float, float] | None:
    """Centre and size of the box around what is covered at least by half, in parts of the side."""
    rows, columns = np.nonzero((cover >= 0.5).any(1))[0], np.nonzero((cover >= 0.5).any(0))[0]
    if not len(rows):
        return None
    size = len(cover)
    left, right = columns[0] / size, (columns[-1] + 1) / size
    top, bottom = rows[0] / size, (rows[-1] + 1) / size
    return (left + right) / 2, (top + bottom) / 2, right - left, bottom - top


def _fill(canvas: Floats, cover: Floats, rng: np.random.Generator) -> None:
    """Paint the shape in a colour that stands out from the mean of the ground behind it."""
    behind = canvas[cover >= 0.5].mean(axis=0)
    colour = rng.integers(0, 256, 3).astype(np.float64)
    while np.abs(colour - behind).max() < _LEAST_CONTRAST:
        colour = rng.integers(0, 256, 3).astype(np.float64)
    canvas += cover[..., None] * (colour - canvas)


def _overlap(a: Sequence[float], b: Sequence[float]) -> float:
    """The area that two boxes share, in parts of the smaller one's."""
    shared = 1.0
    for axis in (0, 1):
        low = max(box[axis] - box[axis + 2] / 2 for box in (a, b))
        high = min(box[axis] + box[axis + 2] / 2 for box in (a, b))
        shared *= max(0.0, high - low)
    return shared / min(a[2] * a[3], b[2] * b[3])
