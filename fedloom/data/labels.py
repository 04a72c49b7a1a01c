"""Label files: one line per box, `class cx cy w h`, in parts of the picture's width and height.

A line with more numbers is a polygon, `class x1 y1 x2 y2 x3 y3 ...`, and stands for the box around it.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from fedloom.errors import DataError

Boxes = np.ndarray[Any, np.dtype[np.float32]]
_BOX, _LEAST_POLYGON = 5, 7


def parse_labels(text: str, classes: int, place: str = "labels") -> Boxes:
    """The boxes of a label file, float32 (n, 5): class, then centre and size in [0, 1].

    A line that is there twice counts once; empty text means a picture without boxes.

    Raises DataError that names place and line: `LabelColumns` (neither 5 numbers nor a polygon of at
    least 3 points), `LabelNumber` (no number, NaN or infinite), `LabelClass` (not a whole number
    below `classes`), `LabelOutside` (a coordinate below 0 or above 1).
    """
    rows: dict[tuple[float, ...], None] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            rows[_row(line.split(), classes, f"{place}, line {number}")] = None
    return np.array(list(rows), np.float32).reshape(-1, _BOX)


def read_labels(path: Path, classes: int) -> Boxes:
    """The boxes of a label file; raises as `parse_labels`, and `LabelText` for what is no text."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (UnicodeDecodeError, OSError) as error:
        raise DataError("LabelText", f"{path}: cannot be read as text: {error}") from error
    return parse_labels(text, classes, str(path))


def format_labels(boxes: Boxes) -> str:
    """The text of boxes, float (n, 5), six decimals a number: what `parse_labels` reads."""
    return "".join(
        f"{int(kind)} {x:.6f} {y:.6f} {width:.6f} {height:.6f}\n"
        for kind, x, y, width, height in boxes
    )


def _row(columns: list[str], classes: int, place: str) -> tuple[float, ...]:
    if len(columns) != _BOX and (len(columns) < _LEAST_POLYGON or len(columns) % 2 == 0):
        raise DataError(
            "LabelColumns",
            f"{place}: got {len(columns)} columns, expected 5 (class cx cy w h), "
            "or a class and the x and y of at least 3 points",
        )
    kind, *numbers = (_number(column, place) for column in columns)
    if kind != int(kind) or not 0 <= kind < classes:
        raise DataError(
            "LabelClass",
            f"{place}: got class {columns[0]}, expected a whole number below {classes}",
        )
    outside = [number for number in numbers if not 0 <= number <= 1]
    if outside:
        raise DataError(
            "LabelOutside",
            f"{place}: got {outside[0]:g}, expected parts of the picture's size, from 0 to 1",
        )
    if len(columns) == _BOX:
        return kind, *numbers
    return kind, *_around(numbers[::2], numbers[1::2])


def _number(column: str, place: str) -> float:
    try:
        number = float(column)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise DataError("LabelNumber", f"{place}: got {column[:40]!r}, expected a finite number")
    return number


def _around(x: list[float], y: list[float]) -> tuple[float, float, float, float]:
    """Centre and size of the box around points."""
    left, right, top, bottom = min(x), max(x), min(y), max(y)
    return (left + right) / 2, (top + bottom) / 2, right - left, bottom - top
