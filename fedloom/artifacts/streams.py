"""Long runs of values inside a safetensors file, raw or compressed, readable anywhere in flat memory.

A stream `codes.i1` (any name, then its dtype) that is raw is one tensor of that name. Compressed, it is

    codes.i1.zst    uint8   chunks of 65,536 raw bytes each, the last one shorter, one behind the other
    codes.i1.ends   uint32  where each chunk but the last ends (uint64 beyond 4 GiB); not there for one

A chunk is one zstd frame over its bytes regrouped: the first byte of every value, then the second of
each, and so on, since the upper bytes of floats are much alike. A chunk that a frame would not make
smaller is stored as it is, which its length tells, and a stream without any other chunk is raw.
"""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, Any, NoReturn, cast

import numpy as np

from fedloom.artifacts.arrays import Array, ArrayFile
from fedloom.errors import CorruptArtifactError

CHUNK_BYTES = 1 << 16
_FRAMES, _ENDS = ".zst", ".ends"
_SPOOL_BYTES = 1 << 20
_BLOCK_BYTES = 1 << 20
_LEAST_SAVING = 64  # a frame has to save that part of a chunk to be worth its place in the table
_BYTE = np.dtype(np.uint8)


class StreamWriter:
    """One stream while it grows; above 1 MiB it waits in an unnamed file of `folder`, if there is one."""

    def __init__(self, key: str, dtype: np.dtype[Any], is_compressed: bool, folder: Path | None):
        self.size = 0
        self._key = key
        self._dtype = dtype
        self._is_compressed = is_compressed
        self._pending = bytearray()
        self._ends: list[int] = []
        self._stored_bytes = 0
        self._file = _scratch_file(folder)

    def append(self, values: Array) -> None:
        """Add the elements of an array of the stream's dtype, shape (elements,)."""
        self.size += values.size
        raw = np.ascontiguousarray(values).view(_BYTE).data if values.size else memoryview(b"")
        if not self._is_compressed:
            self._stored_bytes += self._file.write(raw)
            return
        rest = raw
        while len(self._pending) + len(rest) >= CHUNK_BYTES:
            missing = CHUNK_BYTES - len(self._pending)
            self._store(bytes(self._pending) + rest[:missing].tobytes())
            self._pending.clear()
            rest = rest[missing:]
        self._pending += rest

    def finish(self) -> Iterator[tuple[str, np.dtype[Any], int, IO[bytes]]]:
        """Give the tensors that the stream is stored as: name, dtype, elements, content."""
        if self._pending:
            self._store(bytes(self._pending))
            self._pending.clear()
        self._file.seek(0)
        if self._stored_bytes == self.size * self._dtype.itemsize:
            yield self._key, self._dtype, self.size, self._file
            return
        yield self._key + _FRAMES, _BYTE, self._stored_bytes, self._file
        inner = self._ends[:-1]
        if inner:
            ends = np.array(inner, np.uint32 if self._stored_bytes < 1 << 32 else np.uint64)
            yield self._key + _ENDS, ends.dtype, ends.size, BytesIO(ends.tobytes())

    def close(self) -> None:
        """Give the memory or the file back."""
        self._file.close()

    def _store(self, chunk: bytes) -> None:
        from fedloom.artifacts import zstd

        frame = zstd.compress(_regroup(chunk, self._dtype.itemsize))
        is_smaller = len(frame) <= len(chunk) - max(len(chunk) // _LEAST_SAVING, 1)
        self._stored_bytes += self._file.write(frame if is_smaller else chunk)
        self._ends.append(self._stored_bytes)


def _scratch_file(folder: Path | None) -> IO[bytes]:
    if folder is None:
        return BytesIO()
    return cast("IO[bytes]", SpooledTemporaryFile(_SPOOL_BYTES, dir=str(folder)))


def blocks_of(file: IO[bytes], dtype: np.dtype[Any]) -> Iterator[Array]:
    """Read the rest of a file as arrays of at most 1 MiB."""
    while block := file.read(_BLOCK_BYTES):
        yield np.frombuffer(block, dtype)


class Stream:
    """A stream of a file: `size` elements of `dtype`, which the file must hold.

    Raises CorruptArtifactError where the file has no such stream, or one of another length.
    """

    def __init__(self, file: ArrayFile, key: str, dtype: np.dtype[Any], size: int) -> None:
        self.size = size
        self.dtype = dtype
        self._file = file
        self._key = key
        self._chunks = None
        if key in file.tensors:
            found = file.tensors[key]
            if found.shape != (size,) or found.dtype != dtype:
                _refuse(key, f"got {found.dtype}{list(found.shape)}, expected {dtype}[{size}]")
        else:
            self._chunks = _Chunks(file, key, dtype.itemsize, size * dtype.itemsize)

    def read_into(self, start: int, out: Array) -> None:
        """Fill `out` with elements from `start` on; both within the stream."""
        if self._chunks is None:
            self._file.read_into(self._key, start, out)
        elif out.size:
            self._chunks.read_into(start * self.dtype.itemsize, out.view(_BYTE))

    def view(self) -> Array | None:
        """All elements without a copy, where the file is in memory and the stream raw."""
        return self._file.view(self._key) if self._chunks is None else None


class _Chunks:
    """The raw bytes of a compressed stream; the last chunk that was read stays at hand."""

    def __init__(self, file: ArrayFile, key: str, itemsize: int, raw_bytes: int) -> None:
        self._file = file
        self._key = key + _FRAMES
        self._itemsize = itemsize
        self._raw_bytes = raw_bytes
        self._number = -1
        self._chunk = np.empty(0, _BYTE)
        info = file.tensors.get(self._key)
        if info is None or len(info.shape) != 1 or info.dtype != _BYTE:
            _refuse(key, f"got neither {key!r} nor bytes {self._key!r}")
        self._bounds = self._read_bounds(key + _ENDS, info.size)

    def _read_bounds(self, key: str, stored_bytes: int) -> Array:
        """Give where chunks begin and end: shape (chunks + 1,), int64, each within what it may be."""
        chunks = -(-self._raw_bytes // CHUNK_BYTES)
        found = self._file.tensors.get(key)
        count = found.size if found is not None and found.format in ("U32", "U64") else 0
        if count != chunks - 1:
            _refuse(key, f"got {count} ends of chunks, expected {chunks - 1}")
        inner = self._file.read(key).reshape(-1) if count else np.empty(0, np.uint32)
        if count and inner.max() > stored_bytes:
            _refuse(key, f"got the end {inner.max()}, expected at most {stored_bytes}")
        bounds: Array = np.concatenate([[0], inner.astype(np.int64), [stored_bytes]])
        lengths = np.diff(bounds)
        last = self._raw_bytes - (chunks - 1) * CHUNK_BYTES
        if lengths.min() < 1 or lengths.max() > CHUNK_BYTES or lengths[-1] > last:
            _refuse(key, "got chunks of no length or of more than their raw bytes")
        return bounds

    def read_into(self, offset: int, out: Array) -> None:
        first, last = offset // CHUNK_BYTES, (offset + out.size - 1) // CHUNK_BYTES
        done = 0
        for number in range(first, last + 1):
            chunk = self._load(number)
            begin = offset + done - number * CHUNK_BYTES
            piece = chunk[begin : begin + out.size - done]
            out[done : done + piece.size] = piece
            done += piece.size

    def _load(self, number: int) -> Array:
        if number != self._number:
            begin, end = (int(bound) for bound in self._bounds[number : number + 2])
            stored = np.empty(end - begin, _BYTE)
            self._file.read_into(self._key, begin, stored)
            raw_bytes = min(CHUNK_BYTES, self._raw_bytes - number * CHUNK_BYTES)
            if stored.size < raw_bytes:
                from fedloom.artifacts import zstd

                place = f"chunk {number} of {self._key!r}"
                content = zstd.decompress(stored.tobytes(), raw_bytes, place)
                stored = _ungroup(content, self._itemsize)
            self._chunk, self._number = stored, number
        return self._chunk


def _regroup(chunk: bytes, itemsize: int) -> Any:
    if itemsize == 1:
        return chunk
    return np.ascontiguousarray(np.frombuffer(chunk, _BYTE).reshape(-1, itemsize).T)


def _ungroup(content: bytes, itemsize: int) -> Array:
    grouped = np.frombuffer(content, _BYTE).reshape(itemsize, -1)
    raw = np.empty(grouped.size, _BYTE)
    for place in range(itemsize):  # numpy's own transposition takes three times as long
        raw[place::itemsize] = grouped[place]
    return raw


def _refuse(key: str, problem: str) -> NoReturn:
    raise CorruptArtifactError(f"stream {key[:80]!r}: {problem}")
