"""A made set in COCO128's format: the same order gives the same files.

Every picture is drawn from numbers of its own, which come from the seed, its edge, split and index:
the first pictures of a larger set are those of a smaller one. The pixels are the same on every
machine; their JPEGs are too where pillow is of the same version.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from fedloom.data.folder import CLASSES_FILE
from fedloom.data.labels import format_labels
from fedloom.data.painting import paint
from fedloom.data.pictures import LEAST_SIDE, write_jpeg
from fedloom.data.shapes import FAMILIES
from fedloom.errors import DataError

SET_NAME = "coco128"
_ORDER_FILE = "made.json"
_SPLITS = ("train2017", "val2017")
_MOST_EDGES, _MOST_IMAGES, _MOST_SIDE = 1000, 1_000_000, 4096
_BACKGROUND_EVERY = 64  # as in COCO128, where 2 of 128 pictures have no boxes
_HELD_OUT = 0  # stands for no edge in the numbers of pictures


@dataclass(frozen=True)
class Order:
    """What to make.

    Attributes:
        images: pictures to train on, per edge, >= 1.
        held_out: pictures to evaluate on, drawn apart from all others, >= 0.
        classes: how many of the family's classes, from its first.
        size: side of the pictures in pixels.
        seed: >= 0.
        edges: 0 makes one set with both splits; otherwise every edge gets a set of its own with the
            split train, and a further set has the split val.
        family: `private` for the clients' own data, `public` for pretraining: other shapes on other
            ground.
    """

    images: int = 128
    held_out: int = 128
    classes: int = 3
    size: int = 96
    seed: int = 1
    edges: int = 0
    family: str = "private"

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise DataError(
                "InvalidOrder", f"family: got {self.family!r}, expected public or private"
            )
        limits = {
            "images": (1, _MOST_IMAGES),
            "held_out": (0, _MOST_IMAGES),
            "classes": (1, len(FAMILIES[self.family])),
            "size": (4 * LEAST_SIDE, _MOST_SIDE),
            "seed": (0, 2**63 - 1),
            "edges": (0, _MOST_EDGES),
        }
        for name, (least, most) in limits.items():
            value = getattr(self, name)
            if not least <= value <= most:
                raise DataError(
                    "InvalidOrder",
                    f"{name}: got {value}, expected an integer from {least} to {most}",
                )

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(FAMILIES[self.family])[: self.classes]


def make_sets(folder: Path, order: Order) -> list[Path]:
    """Make what is ordered below `folder`; give the folders that a Dataset's url would name.

    Without edges that is `folder`, with the set in `folder/coco128`. With edges: `folder/1/COCO`,
    `folder/2/COCO` ... and `folder/val/COCO`. A set that is there from the same order stays as it is;
    each appears whole or not at all.

    Raises DataError("FolderInUse") where something else is in the way, before anything is made.
    """
    homes = dict(_homes(folder, order))
    wanted = {home: {**asdict(order), "edge": edge} for home, edge in homes.items()}
    missing = [home for home in homes if not _is_made(home / SET_NAME, wanted[home])]
    for home in missing:
        _make(home / SET_NAME, order, homes[home], json.dumps(wanted[home], indent=1) + "\n")
    return list(homes)


def _homes(folder: Path, order: Order) -> Iterator[tuple[Path, int | None]]:
    """Each set's folder and edge: 0 for what is held out, None for a set with both splits."""
    if not order.edges:
        yield folder, None
        return
    for edge in range(1, order.edges + 1):
        yield folder / str(edge) / "COCO", edge
    if order.held_out:
        yield folder / "val" / "COCO", _HELD_OUT


def _is_made(home: Path, wanted: dict[str, object]) -> bool:
    if not home.exists():
        return False
    try:
        found = json.loads((home / _ORDER_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if found != wanted:
        raise DataError(
            "FolderInUse",
            f"{home}: got a folder of something else, expected none, or this very set",
        )
    return True


def _make(home: Path, order: Order, edge: int | None, record: str) -> None:
    work = home.with_name(f".{home.name}-unfinished")
    shutil.rmtree(work, ignore_errors=True)
    counts = {"train2017": order.images, "val2017": order.held_out}
    chosen = {None: _SPLITS, _HELD_OUT: _SPLITS[1:]}.get(edge, _SPLITS[:1])
    for split in chosen:
        if counts[split]:
            _make_split(work, order, edge or 0, split, counts[split])
    (work / CLASSES_FILE).write_text("".join(f"{name}\n" for name in order.class_names))
    (work / _ORDER_FILE).write_text(record)
    work.rename(home)


def _make_split(home: Path, order: Order, edge: int, split: str, count: int) -> None:
    images, labels = home / "images" / split, home / "labels" / split
    images.mkdir(parents=True)
    labels.mkdir(parents=True)
    masks = list(FAMILIES[order.family].values())[: order.classes]
    family, part = list(FAMILIES).index(order.family), _SPLITS.index(split)
    for index in range(count):
        rng = np.random.Generator(
            np.random.PCG64(np.random.SeedSequence([order.seed, family, edge, part, index]))
        )
        is_empty = index % _BACKGROUND_EVERY == _BACKGROUND_EVERY - 1
        pixels, boxes = paint(masks, order.size, rng, order.family == "private", is_empty)
        name = f"{(2 * edge + part) * _MOST_IMAGES + index + 1:012d}"
        write_jpeg(images / f"{name}.jpg", pixels)
        if len(boxes):
            (labels / f"{name}.txt").write_text(format_labels(boxes))
