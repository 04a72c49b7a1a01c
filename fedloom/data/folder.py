"""A folder in COCO128's format: `images/<split>/<name>.jpg` beside `labels/<split>/<name>.txt`.

Which pictures are for training, its folders say (`images/train2017`), or lists of pictures beside `images`
(`train.txt`, `val2017.txt`), one path a line.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np

from fedloom.data.labels import Boxes, read_labels
from fedloom.data.pictures import SUFFIXES, read_picture
from fedloom.errors import DataError

COCO_CLASSES = 80
CLASSES_FILE = "classes.txt"
TRAINING, TRIAL = "train", "val"
_NAMES = {
    **dict.fromkeys(("train", "training"), TRAINING),
    **dict.fromkeys(("val", "valid", "validation"), TRIAL),
    **dict.fromkeys(("test", "test-dev"), "test"),
}
_KNOWN = frozenset(_NAMES.values())
_DIGITS = "0123456789"


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
        split: only pictures of this split: those that its list names (`train.txt`), else those in the
            folder with its name, or with a year after it (`train2017`). Where nothing is called `train`,
            that is all that is in no other split.
        decode: also decode every picture, so that corrupt ones are found now.

    Raises DataError: `NoImages` (no folder `images`, or no picture in it), `NoSuchSplit`,
    `AmbiguousFolder` (several sets side by side), `ListedPicture` (a list names what is not there).
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


def split_for(root: Path, purpose: str) -> str | None:
    """The split of a folder that is for training (`train`) or to be tried on (`val`).

    None where the folder has no such split and all of it is meant: one to train on without any split at
    all, one to try on without `val` and `test` (COCO128 itself, which is tried on what it trains on).
    """
    home = _home(root)
    known = {*_folders(home), *_lists(home)} & _KNOWN
    if purpose == TRAINING:
        return TRAINING if known else None
    return next((split for split in (purpose, "test") if split in known), None)


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
    """The pictures of a split, sorted."""
    lists, folders = _lists(home), _folders(home)
    if split in lists:
        return sorted({path for file in lists[split] for path in _listed(file, home)})
    if split in folders or split is None:
        chosen = folders[split] if split else [each for some in folders.values() for each in some]
    elif split == TRAINING:
        chosen = [each for name, some in folders.items() if name not in _KNOWN for each in some]
    else:
        raise _no_split(home, split)
    found = {path for folder in chosen for path in folder.iterdir() if _is_picture(path)}
    if split == TRAINING:
        others = (file for name, files in lists.items() if name in _KNOWN for file in files)
        found = found.difference(*(_listed(file, home) for file in others))
        if not found:
            raise _no_split(home, split)
    return sorted(found)


def _folders(home: Path) -> dict[str, list[Path]]:
    """The folders with pictures by their splits: `images` itself, of a nameless one, and those in it."""
    images = home / "images"
    found = {"": [images]}
    for path in sorted(path for path in images.iterdir() if path.is_dir()):
        found.setdefault(_split_of(path.name), []).append(path)
    return found


def _lists(home: Path) -> dict[str, list[Path]]:
    """The lists of pictures beside `images` by their splits."""
    found: dict[str, list[Path]] = {}
    for path in sorted(home.glob("*.txt")):
        if _split_of(path.stem) in _KNOWN:
            found.setdefault(_split_of(path.stem), []).append(path)
    return found


def _listed(file: Path, home: Path) -> list[Path]:
    """The pictures that a list names; of each path counts what stands behind its last `images`."""
    found = []
    for number, line in enumerate(file.read_text(encoding="utf-8-sig").splitlines(), start=1):
        parts = PurePosixPath(line.strip()).parts
        if not parts:
            continue
        within = parts[len(parts) - parts[::-1].index("images") :] if "images" in parts else ()
        path = home.joinpath("images", *within)
        if ".." in within or not _is_picture(path):
            raise DataError(
                "ListedPicture",
                f"{file}, line {number}: got {line.strip()[:200]!r}, expected a picture below "
                f"{home / 'images'}",
            )
        found.append(path)
    return found


def _split_of(name: str) -> str:
    """The split that a folder or a list is of; of one that is none's, its own name without a year."""
    plain = name.rstrip(_DIGITS)
    return _NAMES.get(plain, plain or name)


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.is_file()


def _no_split(home: Path, split: str) -> DataError:
    names = sorted(path.name for path in (home / "images").iterdir() if path.is_dir())
    return DataError(
        "NoSuchSplit",
        f"{home / 'images'}: got {', '.join(names) or 'no folder'}, expected one called {split} or a "
        f"list {split}.txt beside `images`",
    )


def _expected() -> str:
    return "images/<split>/<name>.jpg beside labels/<split>/<name>.txt"
