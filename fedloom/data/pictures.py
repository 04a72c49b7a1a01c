"""Pictures as arrays of red, green and blue: the one door to pillow."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from fedloom.errors import DataError

Pixels = np.ndarray[Any, np.dtype[np.uint8]]

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})
LEAST_SIDE = 8  # pixels; less is below one cell of the finest map of any detector here
MOST_PIXELS = 50_000_000  # a file of a few kilobytes can claim to be a picture of gigabytes
GREY = 114  # what lies behind transparent pixels, as around pictures that are made square
_MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"})
_QUALITY = 92
_ORIENTATION, _LYING = 0x0112, (5, 6, 7, 8)  # of EXIF: turned by a quarter


def read_picture(path: Path) -> Pixels:
    """A picture's pixels, uint8 (height, width, 3), upright; the whole file is decoded.

    Grey, palette and CMYK pictures become RGB; what is transparent shows grey (114) behind it.

    Raises DataError: `CorruptImage` (no picture, or cut short), `ImageTooSmall` (a side under 8
    pixels), `ImageTooLarge` (over 50 million pixels), `UnsupportedImage` (pixels of more than 8 bits
    a channel).
    """
    with _opened(path) as image:
        return np.asarray(_opaque(ImageOps.exif_transpose(image)), dtype=np.uint8)


def picture_size(path: Path) -> tuple[int, int]:
    """Width and height of the upright picture; only the file's head is read. Raises as `read_picture`."""
    with _opened(path) as image:
        width, height = image.size
        is_lying = image.getexif().get(_ORIENTATION, 1) in _LYING
        return (height, width) if is_lying else (width, height)


def write_jpeg(path: Path, pixels: Pixels) -> None:
    """Write uint8 (height, width, 3) as a JPEG: the same bytes for the same pixels and pillow."""
    Image.fromarray(pixels).save(path, "JPEG", quality=_QUALITY, subsampling=0)


def resize(pixels: Pixels, width: int, height: int) -> Pixels:
    """The picture in another size, by bilinear interpolation; in integers, so equal everywhere."""
    if pixels.shape[:2] == (height, width):
        return pixels
    resized = Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(resized, dtype=np.uint8)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The picture, its size and mode checked before anything is decoded; pillow's errors by our names."""
    try:
        with _quietly_opened(path) as image:
            _check(path, image)
            yield image
    except UnidentifiedImageError:
        raise DataError("CorruptImage", f"{path}: got no picture that pillow knows") from None
    # What decoders run into comes out as it is: many kinds of error for a broken file.
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error) as error:
        raise DataError("CorruptImage", f"{path}: {error}") from error
    except Image.DecompressionBombError as error:
        raise DataError("ImageTooLarge", f"{path}: {error}") from error


def _quietly_opened(path: Path) -> Image.Image:
    """pillow warns of large pictures; here they are refused anyway, with their size."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return Image.open(path)


def _check(path: Path, image: Image.Image) -> None:
    width, height = image.size
    if min(width, height) < LEAST_SIDE:
        raise DataError(
            "ImageTooSmall",
            f"{path}: got {width} x {height} pixels, expected at least {LEAST_SIDE} on each side",
        )
    if width * height > MOST_PIXELS:
        raise DataError(
            "ImageTooLarge",
            f"{path}: got {width} x {height} pixels, expected at most {MOST_PIXELS:,} in all",
        )
    if image.mode not in _MODES:
        raise DataError(
            "UnsupportedImage",
            f"{path}: got pixels of mode {image.mode}, expected 8 bits per channel",
        )


def _opaque(image: Image.Image) -> Image.Image:
    """As RGB; a picture with transparency is laid on grey, not stripped of it."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    ground = Image.new("RGBA", image.size, (GREY, GREY, GREY, 255))
    return Image.alpha_composite(ground, image.convert("RGBA")).convert("RGB")
