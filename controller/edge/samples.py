"""How many samples a dataset has, by looking at its files; and whether it changed, by looking less.

txt        lines that are not blank
csv        the same, without the header
npz, npy   the first dimension that its arrays have in common (headers only; nothing is unpickled)
dir        of COCO or YOLO shape: images that have labels; otherwise its files

Read are plain files under the folders that were given, and nothing that a link leads to outside of them.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from fedloom.errors import JobError

_PIECE = 1024 * 1024
_MOST_INDEX_BYTES = 512 * 1024 * 1024
_IMAGES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif"))
_DATA_NAMES = ("x", "data", "features", "images", "inputs")
# Whatever a library finds wrong with a file; RuntimeError is also what is nested too deeply.
_UNREADABLE = (
    OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
FORMATS = ("txt", "csv", "npz", "npy", "dir")


class Samples:
    """Counts under the folders `roots` of the node, which are seen under `prefix` here."""

    def __init__(self, roots: tuple[str, ...], prefix: Path = Path("/")) -> None:
        self._prefix = prefix
        self._roots = tuple(Path(os.path.realpath(prefix / root.lstrip("/"))) for root in roots)

    def locate(self, url: str) -> Path:
        """Find what a Dataset's url means. Raises JobError `DatasetOutside` or `DatasetMissing`."""
        if not url.startswith("/") or ".." in Path(url).parts or "\0" in url:
            raise JobError("DatasetOutside", f"got {url!r}, expected an absolute path on the node")
        path = Path(os.path.realpath(self._prefix / url.lstrip("/")))
        if not self._is_inside(path):
            message = f"{url!r} is not in a folder that is counted: see FEDLOOM_LC_DATA"
            raise JobError("DatasetOutside", message)
        if not path.exists():
            raise JobError("DatasetMissing", f"there is no {url!r} on this node")
        return path

    def fingerprint(self, path: Path, kind: str) -> str:
        """Give a text that changes when the files do; reads none of them."""
        digest = hashlib.sha256(f"{kind} {path}".encode())
        entries = self._files(path) if path.is_dir() else iter((path,))
        for each in entries:
            about = each.stat()
            line = f"{each}\0{about.st_size}\0{about.st_mtime_ns}\0{about.st_ino}\n"
            digest.update(line.encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    def count(self, path: Path, kind: str) -> int:
        """Count. Raises JobError `DatasetUncountable` where the format says nothing or is another's."""
        try:
            return self._count(path, kind)
        except _UNREADABLE as error:
            message = f"{path} is no readable {kind}: {type(error).__name__}: {str(error)[:200]}"
            raise JobError("DatasetUncountable", message) from error

    def _count(self, path: Path, kind: str) -> int:
        if path.is_dir():
            return self._count_folder(path)
        if kind == "txt":
            return self._lines(path)
        if kind == "csv":
            return max(0, self._lines(path) - 1)
        if kind in ("npz", "npy"):
            return _arrays(path, self._open(path))
        known = ", ".join(FORMATS)
        message = f"got a file of format {kind!r}, expected one of {known}"
        raise JobError("DatasetUncountable", message)

    def _lines(self, path: Path) -> int:
        """Lines with something in them; never more than a piece of the file in memory."""
        count, has_content = 0, False
        with self._open(path) as file:
            while piece := file.read(_PIECE):
                first, *rest = piece.split(b"\n")
                has_content = has_content or bool(first.strip())
                for line in rest:
                    count += has_content
                    has_content = bool(line.strip())
        return count + has_content

    def _count_folder(self, folder: Path) -> int:
        files = list(self._files(folder))
        labels = frozenset(each.with_suffix("") for each in files if each.suffix == ".txt")
        labelled = sum(_label_of(each, folder) in labels for each in files if _is_image(each))
        if labelled:
            return labelled
        indexes = [each for each in files if each.suffix == ".json" and "annotation" in str(each)]
        found = [_images_of(self._index(each)) for each in indexes]
        images = [each for each in found if each is not None]
        return sum(images) if images else len(files)

    def _index(self, path: Path) -> Any:
        if path.stat().st_size > _MOST_INDEX_BYTES:
            message = f"{path} is larger than {_MOST_INDEX_BYTES} bytes"
            raise JobError("DatasetUncountable", message)
        with self._open(path) as file:
            return json.load(file)

    def _files(self, folder: Path) -> Iterator[Path]:
        """All files, sorted, hidden ones left out; a link counts where it leads to one inside."""
        for where, folders, names in os.walk(folder):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(names):
                path = Path(where, name)
                if name.startswith(".") or (path.is_symlink() and not self._leads_inside(path)):
                    continue
                if path.is_file():
                    yield path

    def _leads_inside(self, path: Path) -> bool:
        return self._is_inside(Path(os.path.realpath(path)))

    def _is_inside(self, path: Path) -> bool:
        return any(path.is_relative_to(root) for root in self._roots)

    def _open(self, path: Path) -> IO[bytes]:
        """Open a plain file: no device, no pipe, nothing that was put in its place outside."""
        real = Path(os.path.realpath(path))
        if not self._is_inside(real):
            raise OSError(f"{path} leads outside")
        number = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(number).st_mode):
                raise OSError(f"{path} is no plain file")
            return os.fdopen(number, "rb")
        except BaseException:
            os.close(number)
            raise


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in _IMAGES


def _label_of(image: Path, folder: Path) -> Path | None:
    """Where YOLO's layout has an image's labels: `labels` in the place of `images`."""
    parts = list(image.relative_to(folder).parts)
    if "images" not in parts[:-1]:
        return None
    at = len(parts) - 2 - parts[:-1][::-1].index("images")
    parts[at] = "labels"
    return folder.joinpath(*parts).with_suffix("")


def _images_of(index: Any) -> int | None:
    """Images with at least one annotation in a COCO index; None where it is none."""
    if not isinstance(index, dict) or not isinstance(index.get("images"), list):
        return None
    annotations = index.get("annotations")
    if not isinstance(annotations, list):
        return None
    known = {str(each["id"]) for each in index["images"]}
    return len(known & {str(each["image_id"]) for each in annotations})


def _arrays(path: Path, file: IO[bytes]) -> int:
    from numpy.lib import format as npy

    def first(member: IO[bytes]) -> int | None:
        version = npy.read_magic(member)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape = read(member)[0]
        return int(shape[0]) if shape else None

    with file:
        if path.suffix == ".npy":
            return first(file) or 0
        with zipfile.ZipFile(file) as archive:
            sizes = {}
            for name in archive.namelist():
                with archive.open(name) as member:
                    sizes[name.removesuffix(".npy").lower()] = first(member)
    found = {size for size in sizes.values() if size is not None}
    if len(found) == 1:
        return found.pop()
    for name in _DATA_NAMES:
        if sizes.get(name) is not None:
            return int(sizes[name] or 0)
    raise ValueError(f"its arrays have different lengths: {sorted(found)}")
