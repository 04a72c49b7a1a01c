"""The parts of encoded tensors in one lean safetensors file: few entries, whatever the number of tensors.

    codes.i1    the parts `codes` of all units, one behind the other, in the order of the units' names
    scales.f4   likewise; a stream for every name and dtype of a part, perhaps compressed

A unit is a tensor, or what a codec took for one (`packing`).

The header's metadata has `of`: what the parts are of, one word, and then, for unit after unit and, in the
order of their names, stream after stream one more than the elements of the unit's part, or 0 for no such
part. The tensors' names are not in the file: whoever reads it knows the model that it belongs to, and that
word holds a fingerprint of it. A file of one part takes 150 bytes beside it, where an entry for every part
of every tensor takes 80 each, which for a small model is more than what is encoded.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, ClassVar

import numpy as np

from fedloom.algorithms.compression.protocol import Latest
from fedloom.algorithms.layout import Array, Layout, TensorSpec, accumulator_dtype
from fedloom.artifacts.arrays import ArrayFile, ArrayFileWriter, dump_arrays
from fedloom.artifacts.streams import Stream, StreamWriter, blocks_of
from fedloom.errors import ArtifactError, UpdateError

OF = "of"
_Stored = tuple[np.dtype[Any], int, IO[bytes]]
_NUMBERS = re.compile(r"(?:\d{1,19}(?: \d{1,19})*)?", re.ASCII)


def fingerprint(layout: Layout) -> str:
    """Give 8 hex digits that differ for models of other names or shapes, or other dtypes to sum in."""
    if _Known.layout is not layout:
        text = ";".join(
            f"{name} {spec.shape} {accumulator_dtype(spec.dtype).char}"
            for name, spec in sorted(layout.items())
        )
        _Known.digits = f"{zlib.crc32(text.encode('utf-8', 'surrogatepass')):08x}"
        _Known.layout = layout
    return _Known.digits


class _Known:
    """The last fingerprint: all updates of a round are looked at with one layout."""

    layout: ClassVar[Layout | None] = None
    digits: ClassVar[str] = ""


def of_what(metadata: Mapping[str, str]) -> str:
    """Give the word that says what a file's parts are of."""
    return metadata.get(OF, "").partition(" ")[0]


class PartWriter:
    """The parts of tensors that are added in the order of their names; a context.

    Args:
        lossless: `zstd` to compress what shrinks, `none`.
        folder: where parts wait that are too large for memory; None keeps them there.
    """

    def __init__(self, lossless: str = "none", folder: Path | None = None) -> None:
        self._is_compressed = lossless == "zstd"
        self._folder = folder
        self._streams: dict[str, StreamWriter] = {}
        self._rows: list[dict[str, int]] = []

    def add(self, parts: Mapping[str, Array]) -> None:
        """Add the parts of the next tensor: 1-D arrays; none at all where it has nothing to say."""
        row = {}
        for part in sorted(parts):
            values = parts[part]
            key = f"{part}.{values.dtype.str[1:]}"
            if key not in self._streams:
                settings = (values.dtype, self._is_compressed, self._folder)
                self._streams[key] = StreamWriter(key, *settings)
            self._streams[key].append(values)
            row[key] = values.size + 1
        self._rows.append(row)

    def dump(self, metadata: Mapping[str, str]) -> bytes:
        """Give the file's bytes; `metadata` says what the parts are of."""
        stored, described = self._stored(metadata)
        arrays = {
            name: np.frombuffer(content.read(), dtype)
            for name, (dtype, _, content) in stored.items()
        }
        return dump_arrays(arrays, described)

    def write(self, path: Path, metadata: Mapping[str, str]) -> int:
        """Write the file, the same bytes as `dump` gives; say how many."""
        stored, described = self._stored(metadata)
        layout = {name: (dtype, (size,)) for name, (dtype, size, _) in stored.items()}
        with ArrayFileWriter(path, layout, described) as writer:
            for name, (dtype, _, content) in stored.items():
                start = 0
                for block in blocks_of(content, dtype):
                    writer.write(name, start, block)
                    start += block.size
            return writer.close()[0]

    def __enter__(self) -> PartWriter:
        return self

    def __exit__(self, *_: object) -> None:
        for stream in self._streams.values():
            stream.close()

    def _stored(self, metadata: Mapping[str, str]) -> tuple[dict[str, _Stored], dict[str, str]]:
        keys = sorted(self._streams)
        sizes = " ".join(str(row.get(key, 0)) for row in self._rows for key in keys)
        stored = {
            name: (dtype, size, content)
            for key in keys
            for name, dtype, size, content in self._streams[key].finish()
        }
        return stored, {**metadata, OF: f"{metadata[OF]} {sizes}"}


class PartFile:
    """The parts of the tensors `names` in a file, each an array readable in stretches.

    Raises UpdateError("MalformedUpdate") where the file's tables contradict each other or the file.
    """

    def __init__(self, file: ArrayFile, names: Iterator[str] | list[str]) -> None:
        self._file = file
        self._names = sorted(names)
        self._places: dict[str, dict[str, _Place]] = {name: {} for name in self._names}
        self._parts = {name: Parts(name, places) for name, places in self._places.items()}
        try:
            self._read_tables()
        except ArtifactError as error:
            raise UpdateError("MalformedUpdate", error.message) from error

    def layout_of(self, name: str) -> dict[str, TensorSpec]:
        """Give the layout of a tensor's parts."""
        return {
            part: TensorSpec((place.size,), place.stream.dtype)
            for part, place in self._places[name].items()
        }

    def parts_of(self, name: str) -> Parts:
        """Give the parts of a tensor, always the same reader."""
        return self._parts[name]

    def _read_tables(self) -> None:
        keys = _stream_keys(self._file)
        rows = _rows_of(self._file.metadata.get(OF, ""), len(self._names), len(keys))
        for column, key in enumerate(keys):
            sizes = [max(row[column] - 1, 0) for row in rows]
            stream = _Buffered(Stream(self._file, key, _dtype_of(key), sum(sizes)))
            part = key.rpartition(".")[0]
            start = 0
            for name, row, size in zip(self._names, rows, sizes, strict=True):
                if row[column] and part in self._places[name]:
                    raise UpdateError("MalformedUpdate", f"tensor {name!r} has two parts {part!r}")
                if row[column]:
                    self._places[name][part] = _Place(stream, start, size)
                start += size


class Parts(Latest):
    """The parts of one tensor, as a `PartReader`."""

    __slots__ = ("_name", "_places")

    def __init__(self, name: str, places: Mapping[str, _Place]) -> None:
        super().__init__()
        self._name = name
        self._places = places

    def read(self, part: str, start: int, stop: int) -> Array:
        """Give elements [start, stop) of a part, in memory that the next read of the part reuses."""
        place = self._places[part]
        if not 0 <= start <= stop <= place.size:
            message = f"part {part!r} of {self._name!r}: got {start} to {stop} of {place.size}"
            raise UpdateError("MalformedUpdate", message)
        return place.stream.read(place.start + start, place.start + stop)

    def length(self, part: str) -> int:
        """Give the number of elements of a part."""
        return self._places[part].size

    def read_into(self, part: str, start: int, out: Array) -> Array:
        """Fill `out` from `start` on; or, where the file is in memory, give a view of it instead."""
        place = self._places[part]
        begin = place.start + start
        whole = place.stream.stream.view()
        if whole is not None:
            return whole[begin : begin + out.size]
        place.stream.stream.read_into(begin, out)
        return out


class _Buffered:
    """A stream that is read into the same memory again and again."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.dtype = stream.dtype
        self._buffer = np.empty(0, stream.dtype)

    def read(self, start: int, stop: int) -> Array:
        if self._buffer.size < stop - start:
            self._buffer = np.empty(stop - start, self.dtype)
        out = self._buffer[: stop - start]
        self.stream.read_into(start, out)
        return out


class _Place:
    """Where in a stream a part lies."""

    __slots__ = ("size", "start", "stream")

    def __init__(self, stream: _Buffered, start: int, size: int) -> None:
        self.stream = stream
        self.start = start
        self.size = size


def _rows_of(text: str, tensors: int, streams: int) -> list[list[int]]:
    """Read the sizes: a row for each tensor."""
    _, _, text = text.partition(" ")
    if not _NUMBERS.fullmatch(text) or len(text.split()) != tensors * streams:
        expected = f"{tensors * streams} numbers for {tensors} tensors and {streams} streams"
        raise UpdateError("MalformedUpdate", f"sizes: got {text[:80]!r}, expected {expected}")
    numbers = [int(number) for number in text.split()]
    return [numbers[tensor * streams : (tensor + 1) * streams] for tensor in range(tensors)]


def _stream_keys(file: ArrayFile) -> list[str]:
    """Give the streams of a file, sorted: each once, whatever it is stored as."""
    ends = [key for key in file.tensors if key.endswith(".ends")]
    frames = {key.removesuffix(".zst") for key in file.tensors if key.endswith(".zst")}
    raw = {key for key in file.tensors if not key.endswith((".zst", ".ends"))}
    stray = [key for key in ends if key.removesuffix(".ends") not in frames]
    if stray or frames & raw:
        message = f"got {sorted([*stray, *(frames & raw)])[0]!r} beside no or another stream"
        raise UpdateError("MalformedUpdate", message)
    return sorted(frames | raw)


def _dtype_of(key: str) -> np.dtype[Any]:
    """Give the dtype that a stream's name ends with."""
    kind = key.rpartition(".")[2]
    known = {"b1", "f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"}
    if kind not in known:
        raise UpdateError("MalformedUpdate", f"got a stream {key[:80]!r} of no dtype")
    return np.dtype(f"<{kind}")
