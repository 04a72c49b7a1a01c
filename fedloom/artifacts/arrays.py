"""Named arrays as safetensors bytes: equal content, equal bytes, equal digest.

The one door to the format: `dump_arrays` and `load_arrays` for what fits into memory, `ArrayFile`
and `ArrayFileWriter` for what is streamed. Supported are bool, 8 to 64 bit integers of both signs
and float16, float32, float64, of any shape up to 32 axes, scalars and size 0 included.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fedloom.artifacts.array_files import Array, ArrayFile, ArrayFileWriter
from fedloom.artifacts.array_header import (
    BFLOAT16,
    LENGTH_BYTES,
    TensorInfo,
    decode_header,
    encode_header,
    header_length,
    refuse,
)
from fedloom.errors import ArtifactError

__all__ = [
    "Array",
    "ArrayFile",
    "ArrayFileWriter",
    "TensorInfo",
    "dump_arrays",
    "load_arrays",
]


def dump_arrays(
    arrays: Mapping[str, np.ndarray[Any, Any]], metadata: Mapping[str, str] | None = None
) -> bytes:
    """These arrays and strings as the bytes of a safetensors file.

    The order of the mappings and the memory layout of the arrays do not matter: the same content
    gives the same bytes. Raises ArtifactError (reason `UnsupportedArray`) for what is no array, a
    dtype outside the module's list, or a name that is not valid Unicode.
    """
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray | np.generic):
            raise ArtifactError(
                "UnsupportedArray",
                f"tensor {name!r}: got {type(array).__name__}, expected a numpy array",
            )
    layout = {name: (array.dtype, array.shape) for name, array in arrays.items()}
    header, tensors = encode_header(layout, metadata)
    pieces: list[Any] = [header]
    pieces += [
        np.ascontiguousarray(arrays[name], dtype=info.dtype) for name, info in tensors.items()
    ]
    return b"".join(pieces)


def load_arrays(
    data: bytes | bytearray | memoryview | str | os.PathLike[str],
) -> tuple[dict[str, Array], dict[str, str]]:
    """The arrays, sorted by name, and the metadata of safetensors bytes or of a file.

    The arrays are new, writable and C-contiguous. Raises CorruptArtifactError for anything but a
    whole and consistent file, ArtifactError (reason `UnsupportedArray`) for bfloat16, which numpy
    does not have: read its bits with `ArrayFile`.
    """
    if isinstance(data, str | os.PathLike):
        return _load_file(Path(data))
    view = memoryview(data).cast("B")
    place = "safetensors bytes"
    start = LENGTH_BYTES + header_length(bytes(view[:LENGTH_BYTES]), len(view), place)
    tensors, metadata = decode_header(bytes(view[LENGTH_BYTES:start]), len(view), place)
    _refuse_bfloat16(tensors, place)
    arrays = {}
    for name in sorted(tensors):
        info = tensors[name]
        raw = np.frombuffer(view, np.uint8, info.size_bytes, info.offset) if info.size else None
        out = np.empty(info.shape, info.dtype)
        if raw is not None:
            if info.format == "BOOL" and raw.max() > 1:
                refuse(place, f"tensor {name!r}: got the byte {raw.max()}, expected 0 or 1")
            out.reshape(-1).view(np.uint8)[:] = raw
        arrays[name] = out
    return arrays, dict(metadata)


def _load_file(path: Path) -> tuple[dict[str, Array], dict[str, str]]:
    with ArrayFile(path) as file:
        _refuse_bfloat16(file.tensors, str(path))
        return {name: file.read(name) for name in sorted(file.tensors)}, dict(file.metadata)


def _refuse_bfloat16(tensors: Mapping[str, TensorInfo], place: str) -> None:
    for name, info in tensors.items():
        if info.format == BFLOAT16:
            raise ArtifactError(
                "UnsupportedArray",
                f"{place}: tensor {name!r}: got bfloat16, expected a dtype that numpy has; "
                "save the model as float32 or float16",
            )
