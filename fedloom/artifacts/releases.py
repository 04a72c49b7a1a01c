"""An edge's release as a file: randomised bits of its images, and their labels, image after image.

A safetensors file with a manifest (`fedloom.algorithms.mistnet.manifest`) in its metadata and

    bits        uint8    (images, bytes)    of each image, packed
    ids         uint8    (images, 16)       names that only the edge can tell images by; ascending
    labels      float32  (labels, columns)  of all images, in plaintext
    label_ends  int64    (images,)          where in `labels` those of an image end

Written and read image by image; neither holds more than one of them. The order is that of the ids,
which is as good as random, so it does not tell the order on the edge.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from types import TracebackType
from typing import IO

import numpy as np

from fedloom.algorithms.mistnet.bits import check_packed, count_ones, packed_size
from fedloom.algorithms.mistnet.manifest import ReleaseManifest
from fedloom.algorithms.mistnet.randomized_response import debias
from fedloom.artifacts.array_files import Array, ArrayFile, ArrayFileWriter
from fedloom.artifacts.files import disk_error
from fedloom.errors import CorruptArtifactError, UpdateError

IDENTIFIER_BYTES = 16
_METADATA = "fedloom.release"
_DTYPES = {"bits": np.uint8, "ids": np.uint8, "labels": np.float32, "label_ends": np.int64}
_BLOCK_BYTES = 1 << 18


class ReleaseWriter:
    """A release being written. Used in a `with` block; nothing is there before `finish`.

    The manifest comes first in the file and is known last, so what is added waits in unnamed files
    beside it: randomised bits and labels, nothing that is not about to leave the edge.

    Args:
        path: where the file is to be.
        shape: of an image's features.
        label_columns: numbers in a label.
    """

    def __init__(
        self, path: str | os.PathLike[str], shape: tuple[int, ...], label_columns: int
    ) -> None:
        self._path = os.path.abspath(path)
        self._count = int(np.prod(shape))
        self._columns = label_columns
        self._last = b""
        self.images = self.ones = self.labels = 0
        folder = os.path.dirname(self._path)
        try:
            os.makedirs(folder, exist_ok=True)
            self._parts: dict[str, IO[bytes]] = {
                name: tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (closed at the exit)
                for name in _DTYPES
            }
        except OSError as error:
            raise disk_error(error, self._path) from error

    def __enter__(self) -> ReleaseWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for part in self._parts.values():
            part.close()

    def add(self, identifier: bytes, packed: Array, labels: Array) -> None:
        """Add an image.

        Args:
            identifier: 16 bytes, above those of the image before.
            packed: its randomised bits.
            labels: float32, finite, shape (labels, columns); (0, columns) where it has none.

        Raises:
            UpdateError: `WrongBits`, `WrongLabels`. ValueError: an identifier out of order.
        """
        if len(identifier) != IDENTIFIER_BYTES or identifier <= self._last:
            raise ValueError(f"identifier: got {identifier!r}, expected one above {self._last!r}")
        check_packed(packed, self._count)
        _check_labels(labels, self._columns, self._path)
        self._last = identifier
        self.images += 1
        self.ones += count_ones(packed)
        self.labels += len(labels)
        ends = np.array([self.labels], np.int64)
        try:
            for name, data in self._named(identifier, packed, labels, ends):
                self._parts[name].write(data)
        except OSError as error:
            raise disk_error(error, self._path) from error

    @staticmethod
    def _named(
        identifier: bytes, packed: Array, labels: Array, ends: Array
    ) -> Iterator[tuple[str, bytes]]:
        yield "bits", packed.tobytes()
        yield "ids", identifier
        yield "labels", labels.astype("<f4").tobytes()
        yield "label_ends", ends.astype("<i8").tobytes()

    def finish(self, manifest: ReleaseManifest) -> tuple[int, str]:
        """Write the file under its name; give its size in bytes and its digest.

        The same images and manifest give the same bytes. Raises ValueError where the manifest's
        counts are not those of what was added.
        """
        counts = (manifest.images, manifest.ones, manifest.labels, manifest.bits)
        if counts != (self.images, self.ones, self.labels, self._count):
            raise ValueError(f"manifest: got counts {counts}, expected those of what was added")
        layout = {name: (_DTYPES[name], shape) for name, shape in _shapes(manifest).items()}
        metadata = {_METADATA: json.dumps(manifest.document(), sort_keys=True)}
        with ArrayFileWriter(self._path, layout, metadata) as writer:
            for name, part in self._parts.items():
                part.seek(0)
                start = 0
                while data := part.read(_BLOCK_BYTES):
                    values = np.frombuffer(data, np.dtype(_DTYPES[name]).newbyteorder("<"))
                    writer.write(name, start, values.astype(_DTYPES[name], copy=False))
                    start += values.size
            return writer.close()


class Release:
    """A release open for reading, image by image; its manifest and its layout are checked first.

    Use in a `with` block, or `close` it. Raises CorruptArtifactError for what is no such file,
    UpdateError (`WrongManifest`, `WrongShape`, ...) for one that says what is not so.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._place = os.fspath(path)
        self._file = ArrayFile(path)
        try:
            self.manifest = self._read_manifest()
            self._bytes = packed_size(self.manifest.bits)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Release:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __len__(self) -> int:
        return self.manifest.images

    def close(self) -> None:
        """Close the file; closing twice is fine."""
        self._file.close()

    def packed(self, index: int) -> Array:
        """Give the randomised bits of an image as they are in the file: shape (bytes,), uint8."""
        return self._row("bits", index, self._bytes)

    def identifier(self, index: int) -> bytes:
        """Give the name of an image."""
        return self._row("ids", index, IDENTIFIER_BYTES).tobytes()

    def labels(self, index: int) -> Array:
        """Give the labels of an image: shape (labels, columns), float32, finite."""
        first = self._end(index - 1) if index else 0
        last = self._end(index)
        if not 0 <= first <= last <= self.manifest.labels:
            raise UpdateError(
                "WrongLabels",
                f"{self._place}: image {index}: got labels {first} to {last} of "
                f"{self.manifest.labels}, expected them in order",
            )
        columns = self.manifest.label_columns
        labels = np.empty(((last - first), columns), np.float32)
        self._file.read_into("labels", first * columns, labels.reshape(-1))
        _check_labels(labels, columns, self._place)
        return labels

    def read(self, index: int) -> tuple[Array, Array]:
        """Give the debiased features of an image, float32 of the manifest's shape, and its labels."""
        manifest = self.manifest
        return debias(self.packed(index), manifest.shape, manifest.mechanism), self.labels(index)

    def check(self) -> None:
        """Read all of it once, an image at a time, and refuse what is not as the manifest says.

        Raises:
            UpdateError: `WrongFraction`, `WrongBits`, `WrongLabels`, `DuplicateImage`.
        """
        ones, before = 0, b""
        for index in range(len(self)):
            packed = self.packed(index)
            check_packed(packed, self.manifest.bits)
            ones += count_ones(packed)
            self.labels(index)
            identifier = self.identifier(index)
            if identifier <= before:
                raise UpdateError(
                    "DuplicateImage",
                    f"{self._place}: image {index}: its name is not above the one before it: the "
                    "same image twice, or out of order",
                )
            before = identifier
        if ones != self.manifest.ones or self._end(len(self) - 1) != self.manifest.labels:
            raise UpdateError(
                "WrongFraction",
                f"{self._place}: got {ones} ones and {self._end(len(self) - 1)} labels, expected "
                f"{self.manifest.ones} and {self.manifest.labels} as its manifest says",
            )
        self.manifest.check()

    def copy_packed(self, out: Array) -> None:
        """Fill `out`, shape (images, bytes), uint8, with the bits of all images."""
        self._file.read_into("bits", 0, out.reshape(-1))

    def _read_manifest(self) -> ReleaseManifest:
        text = self._file.metadata.get(_METADATA)
        if text is None:
            raise CorruptArtifactError(f"{self._place}: got no manifest of a release in it")
        try:
            document = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise CorruptArtifactError(f"{self._place}: its manifest is no JSON") from error
        manifest = ReleaseManifest.from_document(document, self._place)
        got = {name: (info.dtype, info.shape) for name, info in self._file.tensors.items()}
        shapes = _shapes(manifest)
        expected = {name: (np.dtype(_DTYPES[name]), shape) for name, shape in shapes.items()}
        if got != expected:
            raise UpdateError(
                "WrongShape", f"{self._place}: got tensors {_told(got)}, expected {_told(expected)}"
            )
        return manifest

    def _row(self, name: str, index: int, width: int) -> Array:
        row = np.empty(width, np.uint8)
        self._file.read_into(name, index * width, row)
        return row

    def _end(self, index: int) -> int:
        end = np.empty(1, np.int64)
        self._file.read_into("label_ends", index, end)
        return int(end[0])


def _shapes(manifest: ReleaseManifest) -> dict[str, tuple[int, ...]]:
    return {
        "bits": (manifest.images, packed_size(manifest.bits)),
        "ids": (manifest.images, IDENTIFIER_BYTES),
        "labels": (manifest.labels, manifest.label_columns),
        "label_ends": (manifest.images,),
    }


def _check_labels(labels: Array, columns: int, place: str) -> None:
    is_fitting = labels.dtype == np.float32 and labels.shape == (len(labels), columns)
    if not is_fitting or not np.isfinite(labels).all():
        raise UpdateError(
            "WrongLabels",
            f"{place}: got labels of {labels.dtype}, shape {labels.shape}, expected finite float32 "
            f"of shape (labels, {columns})",
        )


def _told(layout: dict[str, tuple[np.dtype[np.generic], tuple[int, ...]]]) -> str:
    return ", ".join(f"{name} {dtype}{list(shape)}" for name, (dtype, shape) in layout.items())
