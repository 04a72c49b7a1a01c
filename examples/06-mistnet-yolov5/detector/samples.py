"""A folder of pictures with boxes as batches for the network."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fedloom.data.folder import Finding, Sample, read_folder
from fedloom.data.labels import Boxes
from fedloom.data.pictures import Pixels, read_picture
from fedloom.errors import DataError
from fedloom.training.numpy import batches

from .augmentation import NONE, Augmentation
from .head import STRIDES
from .letterbox import letterbox

_CACHE_BYTES = 512 * 2**20
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Batch:
    """Inputs of the network and what is in them.

    Attributes:
        inputs: float32 (B, 3, S, S) in [0, 1].
        targets: float32 (T, 6): index in the batch, class, x, y, width, height in [0, 1].
    """

    inputs: Tensor
    targets: Tensor


class Samples:
    """Square pictures, uint8 (size, size, 3), with boxes (n, 5): class and parts of the square.

    Every file is decoded once at the start; the squares stay in memory up to 512 MiB, the rest are
    read again each time. What cannot be used is left out, named in `findings` and in the log.
    """

    def __init__(self, root: Path, size: int, classes: int, split: str | None = None) -> None:
        """Raises ValueError for a size that is no multiple of 32; DataError as `read_folder`,
        `TooManyClasses` where the folder has more than the network, and `NoImages` where no picture
        is left."""
        check_size(size)
        folder = read_folder(root, split)
        used = max(
            (int(s.boxes[:, 0].max()) + 1 for s in folder.samples if len(s.boxes)), default=0
        )
        if used > classes:
            raise DataError(
                "TooManyClasses",
                f"{folder.root}: got class {used - 1} in the labels, but the network has {classes} classes",
            )
        self.size, self.classes = size, classes
        self._cache: dict[int, tuple[Pixels, Boxes]] = {}
        self._samples: list[Sample] = []
        findings = list(folder.findings)
        for sample in folder.samples:
            try:
                self._keep(len(self._samples), square_of(sample, size))
            except DataError as error:
                findings.append(Finding(sample.path, error.reason, error.message))
                continue
            self._samples.append(sample)
        self.findings = tuple(findings)
        for finding in findings:
            _log.warning("left out: %s", finding)
        if not self._samples:
            raise DataError(
                "NoImages", f"{folder.root}: none of {len(findings)} pictures can be used"
            )

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> tuple[Pixels, Boxes]:
        """A new copy of the picture with this index, and its boxes."""
        pixels, boxes = self._cache.get(index) or square_of(self._samples[index], self.size)
        return pixels.copy(), boxes.copy()

    @property
    def paths(self) -> list[Path]:
        """The files of the pictures, in the order of their indices."""
        return [sample.path for sample in self._samples]

    def epoch(
        self, batch_size: int, seed: int, augmentation: Augmentation = NONE
    ) -> Iterator[Batch]:
        """All pictures once, in an order and with changes that depend on `seed` alone."""
        rng = np.random.Generator(np.random.PCG64([seed, 1]))
        for indices in batches(len(self), batch_size, seed):
            yield collate([augmentation.apply(self, int(index), rng) for index in indices])

    def in_order(self, batch_size: int) -> Iterator[Batch]:
        """All pictures once, unchanged, by the names of their files."""
        for start in range(0, len(self), batch_size):
            indices = range(start, min(start + batch_size, len(self)))
            yield collate([self[index] for index in indices])

    def _keep(self, index: int, square: tuple[Pixels, Boxes]) -> None:
        if (index + 1) * square[0].nbytes <= _CACHE_BYTES:
            self._cache[index] = square


def square_of(sample: Sample, size: int) -> tuple[Pixels, Boxes]:
    """A picture read and made square, with its boxes; raises DataError as `read_picture`."""
    pixels, placement = letterbox(read_picture(sample.path), size)
    return pixels, placement.to_square(clipped(sample.boxes), size)


def clipped(boxes: Boxes) -> Boxes:
    """Boxes (n, 5) without what of them lies outside of the picture; those inside stay as they are."""
    low = boxes[:, 1:3] - boxes[:, 3:5] / 2
    high = boxes[:, 1:3] + boxes[:, 3:5] / 2
    outside = ((low < 0) | (high > 1)).any(axis=1)
    out = boxes.copy()
    low, high = low.clip(0, 1)[outside], high.clip(0, 1)[outside]
    out[outside, 1:3], out[outside, 3:5] = (low + high) / 2, high - low
    return out


def collate(samples: Sequence[tuple[Pixels, Boxes]]) -> Batch:
    """Pictures and boxes of one size as a batch."""
    pixels = np.stack([picture for picture, _ in samples])
    inputs = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    return Batch(inputs.contiguous(), targets_of([boxes for _, boxes in samples]))


def targets_of(boxes: Sequence[Boxes]) -> Tensor:
    """The boxes (n, 5) of every input of a batch as its targets (T, 6)."""
    indices = np.repeat(np.arange(len(boxes)), [len(rows) for rows in boxes])
    rows = np.concatenate([indices[:, None], np.concatenate(boxes)], axis=1)
    return torch.from_numpy(rows.astype(np.float32))


def check_size(size: int) -> int:
    """Give the side of the network's input back; raises ValueError if the strides do not divide it."""
    if size < STRIDES[-1] or size % STRIDES[-1]:
        raise ValueError(f"size: got {size}, expected a multiple of {STRIDES[-1]}")
    return size
