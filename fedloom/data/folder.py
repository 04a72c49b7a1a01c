"""A folder in COCO128's format: `images/<split>/<name>.jpg` beside `labels/<split>/<name>.txt`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from fedloom.data.labels import Boxes, read_labels
from fedloom.data.pictures import SUFFIXES, read_picture
from fedloom.errors import DataError

COCO_CLASSES = 80
CLASSES_FILE = "classes.txt"


@dataclass(frozen=True)
class Sample:
    """One picture: its file, and its boxes as `parse_labels` gives them (none for a background)."""

    path: Path
    boxes: Boxes


@dataclass(frozen=True)
class Finding:
    """A picture that is left out, and why: the reason of its DataError and its message."""

    path: Path
    reason: str
    message: str

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}"


@dataclass(frozen=True)
class CocoFolder:
    """What was found in a folder, in the order of the files' names.

    Attributes:
        root: the folder that holds `images`.
        classes: the names of the classes; numbers as names where the folder does not say.
        samples: the pictures that can be used.
        findings: those that cannot.
        label_files: how many label files belong to the samples.
    """

    root: Path
    classes: tuple[str, ...]
    samples: tuple[Sample, ...]
    findings: tuple[Finding, ...]
    label_files: int

    @cached_property
    def boxes(self) -> int:
        """How many boxes the samples have together."""
        return sum(len(sample.boxes) for sample in self.samples)

    def __str__(self) -> str:
        return f"{len(self.samples)} images, {self.label_files} label files, {self.boxes} boxes"


def read_folder(root: Path, split: str | None = None, decode: bool = False) -> CocoFolder:
    """Look through a folder in COCO128's format, or one that holds such a folder.

    A picture with a bad label file is left out and named in `findings`. A picture without label file
    has no boxes.

    Args:
        split: only pictures of the split with this name, or with a year after it (`train2017`).
        decode: also decode every picture, so that corrupt ones are found now.

    Raises DataError: `NoImages` (no folder `images`, or no picture in it), `NoSuchSplit`,
    `AmbiguousFolder` (several sets side by side).
    """
    paths = pictures_in(root, split)
    samples, findings, label_files = [], [], 0
    for path in paths:
        try:
            boxes = labels_of(path)
            if decode:
                read_picture(path)
        except DataError as error:
            findings.append(Finding(path, error.reason, error.message))
            continue
        label_files += labels_path(path).exists()
        samples.append(Sample(path, boxes))
    home = _home(root)
    return CocoFolder(home, class_names(home), tuple(samples), tuple(findings), label_files)


def pictures_in(root: Path, split: str | None = None) -> list[Path]:
    """The files of the pictures, by their names; none is opened. Raises as `read_folder`."""
    home = _home(root)
    paths = list(_pictures(home, split))
    if not paths:
        raise DataError("NoImages", f"{home / 'images'}: got no picture, expected {_expected()}")
    return paths


def labels_of(picture: Path) -> Boxes:
    """The boxes of a picture, as `read_labels`; none where it has no label file."""
    labels = labels_path(picture)
    if not labels.exists():
        return np.zeros((0, 5), np.float32)
    return read_labels(labels, len(class_names(labels.parents[_depth(picture)])))


def splits_of(root: Path) -> tuple[str, ...]:
    """The names of the folders below `images`, sorted; none where the pictures lie in it directly."""
    return tuple(sorted(path.name for path in (_home(root) / "images").iterdir() if path.is_dir()))


def labels_path(picture: Path) -> Path:
    """Where the labels of a picture are: `labels` for the last `images` in its path, and `.txt`."""
    home = picture.parents[_depth(picture)]
    return home / "labels" / picture.relative_to(home / "images").with_suffix(".txt")


def class_names(home: Path) -> tuple[str, ...]:
    """The names of the classes, from `classes.txt`; without it COCO's 80, by number."""
    file = home / CLASSES_FILE
    if not file.exists():
        return tuple(str(number) for number in range(COCO_CLASSES))
    names = tuple(line.strip() for line in file.read_text(encoding="utf-8").splitlines())
    if not names or not all(names):
        raise DataError("ClassNames", f"{file}: expected one name per line and no empty line")
    return names


def _depth(picture: Path) -> int:
    """Which of a picture's parents holds the folder `images` that the picture is in."""
    names = [parent.name for parent in picture.parents]
    if "images" not in names:
        raise DataError("NoImages", f"{picture}: is in no folder `images`, expected {_expected()}")
    return names.index("images") + 1


def _home(root: Path) -> Path:
    """The folder that holds `images`: this one, or the only one in it that does."""
    if (root / "images").is_dir():
        return root
    found = sorted(path.parent for path in root.glob("*/images") if path.is_dir())
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise DataError("AmbiguousFolder", f"{root}: got several sets ({names}), expected one")
    if not found:
        raise DataError("NoImages", f"{root}: got no folder `images`, expected {_expected()}")
    return found[0]


def _pictures(home: Path, split: str | None) -> Iterable[Path]:
    images = home / "images"
    folders = sorted(path for path in images.iterdir() if path.is_dir())
    if split is not None:
        chosen = [path for path in folders if path.name.rstrip("0123456789") == split]
        if not chosen:
            names = ", ".join(path.name for path in folders) or "no folder"
            raise DataError("NoSuchSplit", f"{images}: got {names}, expected one called {split}")
        folders = chosen
    else:
        folders = [images, *folders]
    return sorted(
        path
        for folder in folders
        for path in folder.iterdir()
        if path.suffix.lower() in SUFFIXES and path.is_file()
    )


def _expected() -> str:
    return "images/<split>/<name>.jpg beside labels/<split>/<name>.txt"
