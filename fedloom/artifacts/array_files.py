"""Safetensors files read and written piece by piece: no mmap, no more memory than the caller's."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from io import FileIO
from threading import Lock
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from fedloom.artifacts.array_header import (
    LENGTH_BYTES,
    TensorInfo,
    decode_header,
    encode_header,
    header_length,
    refuse,
)
from fedloom.artifacts.artifact import digest_of_descriptor
from fedloom.artifacts.files import NewFile, disk_error, read_at
from fedloom.errors import ArtifactError, ArtifactNotFoundError

Array = np.ndarray[Any, np.dtype[Any]]


class ArrayFile:
    """A safetensors file open for reading, its whole header checked first.

    `tensors` maps names to `TensorInfo` in the order of the header, `metadata` is a map of strings.
    Reads go straight into arrays and may come from several threads at once. Raises
    CorruptArtifactError for anything that is not a safetensors file, ArtifactNotFoundError.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        place = str(path)
        try:
            file = open(path, "rb", buffering=0)  # noqa: SIM115 (closed by close)
        except FileNotFoundError as error:
            raise ArtifactNotFoundError(place) from error
        except OSError as error:
            raise disk_error(error, path) from error
        self._begin(file, place)

    @classmethod
    def from_bytes(cls, data: bytes, place: str) -> ArrayFile:
        """The same over a whole small file that is in memory already; `place` is for messages."""
        array_file = cls.__new__(cls)
        array_file._begin(_Memory(data), place)
        return array_file

    @classmethod
    def from_ranges(
        cls, read: Callable[[int, int], bytes], size_bytes: int, place: str
    ) -> ArrayFile:
        """The same over a file that is somewhere else, of which only what is asked for is fetched.

        `read` gives a number of bytes from an offset, exactly, as `Store.read` does.
        """
        array_file = cls.__new__(cls)
        array_file._begin(_Ranges(read, size_bytes), place)
        return array_file

    def _begin(self, file: FileIO | _Memory | _Ranges, place: str) -> None:
        self._file = file
        self._place = place
        self._read = partial(read_at, file.fileno()) if isinstance(file, FileIO) else file.read_at
        try:
            self.tensors, self.metadata = self._read_header()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> ArrayFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; closing twice is fine."""
        self._file.close()

    def read(self, name: str) -> Array:
        """A whole tensor as a new array of its shape and dtype."""
        info = self._info(name)
        out = np.empty(info.shape, info.dtype)
        self.read_into(name, 0, out.reshape(-1))
        return out

    def read_into(self, name: str, start_element: int, out: Array) -> None:
        """Fill `out` with `out.size` elements of a tensor from `start_element` on, in C order.

        `out`: shape (elements,), contiguous, writable, of the tensor's dtype. ValueError if it is
        not, or if the range is not inside the tensor.
        """
        info = self._info(name)
        _check_piece(f"{self._place}: tensor {name!r}", info, start_element, out)
        if not out.flags.writeable:
            raise ValueError("out: got a read-only array, expected a writable one")
        if out.size == 0:
            return
        offset = info.offset + start_element * info.dtype.itemsize
        raw = out.view(np.uint8)
        self._read(offset, raw.data, self._place)
        if info.format == "BOOL" and raw.max() > 1:
            refuse(self._place, f"tensor {name!r}: got the byte {raw.max()}, expected 0 or 1")

    def view(self, name: str) -> Array | None:
        """All elements of a tensor, shape (elements,), read-only and without a copy.

        None where the file is not in memory or the tensor is not aligned in it.
        """
        info = self._info(name)
        if not isinstance(self._file, _Memory) or info.offset % info.dtype.itemsize:
            return None
        if info.format == "BOOL":
            return None  # its bytes are checked as they are read
        return np.frombuffer(self._file.data, info.dtype, info.size, info.offset)

    def _info(self, name: str) -> TensorInfo:
        info = self.tensors.get(name)
        if info is None:
            refuse(self._place, f"got no tensor {name!r}, there are {_some(self.tensors)}")
        return info

    def _read_header(self) -> tuple[Mapping[str, TensorInfo], Mapping[str, str]]:
        try:
            file = self._file
            file_bytes = os.fstat(file.fileno()).st_size if isinstance(file, FileIO) else file.size
            first = bytearray(min(LENGTH_BYTES, file_bytes))
            self._read(0, memoryview(first), self._place)
            text = bytearray(header_length(bytes(first), file_bytes, self._place))
            self._read(LENGTH_BYTES, memoryview(text), self._place)
        except OSError as error:
            raise disk_error(error, self._place) from error
        return decode_header(bytes(text), file_bytes, self._place)


class _Memory:
    """Bytes that read like a file."""

    def __init__(self, data: bytes) -> None:
        self.data = memoryview(data)
        self.size = len(data)

    def read_at(self, offset: int, out: memoryview, place: str) -> None:
        if offset + len(out) > self.size:
            refuse(place, f"got {self.size} bytes, expected {offset + len(out)} or more")
        out[:] = self.data[offset : offset + len(out)]

    def close(self) -> None:
        return


class _Ranges:
    """A file that is read over and over in pieces, wherever it is."""

    def __init__(self, read: Callable[[int, int], bytes], size: int) -> None:
        self._read = read
        self.size = size

    def read_at(self, offset: int, out: memoryview, place: str) -> None:
        del place  # the reader's errors say where
        out[:] = self._read(offset, len(out))

    def close(self) -> None:
        return


class ArrayFileWriter:
    """A safetensors file written block by block; the same bytes as `dump_arrays` would make.

    `layout` maps names to (dtype, shape). The file appears at `path`, replacing one that is there,
    when `close` finds every element written; leaving its `with` block by an exception leaves
    nothing. Writes may come in any order and from several threads, each element once.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        layout: Mapping[str, tuple[DTypeLike, tuple[int, ...]]],
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        checked = {name: (np.dtype(dtype), shape) for name, (dtype, shape) in layout.items()}
        header, self.tensors = encode_header(checked, metadata)
        self._missing = {name: info.size for name, info in self.tensors.items()}
        self._lock = Lock()
        self._size_bytes = len(header) + sum(info.size_bytes for info in self.tensors.values())
        self._result: tuple[int, str] | None = None
        self._place = os.path.abspath(path)
        self._file = NewFile(self._place, self._size_bytes)
        try:
            self._file.write(header)
        except OSError as error:
            self._file.discard()
            raise disk_error(error, self._place, self._size_bytes) from error

    def __enter__(self) -> ArrayFileWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
        else:
            self._file.discard()

    def write(self, name: str, start_element: int, values: Array) -> None:
        """Write the elements of a tensor from `start_element` on, in C order.

        `values`: shape (elements,), of the layout's dtype; copied only if not contiguous.
        ValueError if it is not, or if the range is not inside the tensor.
        """
        info = self.tensors.get(name)
        if info is None:
            raise ValueError(f"got no tensor {name!r} in the layout: {_some(self.tensors)}")
        values = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
        _check_piece(f"{self._place}: tensor {name!r}", info, start_element, values)
        rest = values.view(np.uint8).data if values.size else memoryview(b"")
        offset = info.offset + start_element * info.dtype.itemsize
        try:
            while rest:
                count = os.pwrite(self._file.descriptor, rest, offset)
                rest, offset = rest[count:], offset + count
        except OSError as error:
            raise disk_error(error, self._place, self._size_bytes) from error
        with self._lock:
            self._missing[name] -= values.size

    def close(self) -> tuple[int, str]:
        """Finish the file: its size in bytes and its digest; a second call says the same.

        Raises ArtifactError (reason `IncompleteArtifact`) unless each element was written once.
        """
        if self._result is None:
            with self._file as file:
                wrong = {name: count for name, count in self._missing.items() if count}
                if wrong:
                    raise ArtifactError(
                        "IncompleteArtifact",
                        f"{self._place}: elements missing (or, below 0, written twice): {wrong}",
                    )
                digest = digest_of_descriptor(file.descriptor)
                file.publish(replace=True)
            self._result = (self._size_bytes, digest)
        return self._result


def _check_piece(place: str, info: TensorInfo, start: int, values: Array) -> None:
    if values.dtype != info.dtype or values.ndim != 1 or not values.flags.c_contiguous:
        raise ValueError(
            f"{place}: got an array of {values.dtype}, shape {values.shape}, expected a "
            f"contiguous one of {info.dtype} with one axis"
        )
    if start < 0 or start + values.size > info.size:
        raise ValueError(
            f"{place}: got elements {start} to {start + values.size}, expected 0 to {info.size}"
        )


def _some(names: Mapping[str, object]) -> str:
    shown = ", ".join(repr(name) for name in list(names)[:8])
    return f"{shown}, ... ({len(names)} in all)" if len(names) > 8 else shown or "none"
