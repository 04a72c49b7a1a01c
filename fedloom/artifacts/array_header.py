"""The header of a safetensors file: what is written, and what is believed of one that is read.

    8 bytes: length of the header, little-endian | header: JSON, padded with spaces | data

The header maps each name to `{"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}`, offsets
counting from the start of the data, and `__metadata__` to a map of strings. Format:
https://github.com/huggingface/safetensors#format. Written here rather than by that library because
it writes metadata in an order that changes from call to call, and equal content must have equal
digests; without metadata the bytes are the library's own, which the tests check.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NoReturn

import numpy as np

from fedloom.errors import ArtifactError, CorruptArtifactError

HEADER_LIMIT_BYTES = 100_000_000
LENGTH_BYTES = 8
BFLOAT16 = "BF16"
_METADATA = "__metadata__"
_RANK_LIMIT = 32
_REMEMBERED_BYTES = 1 << 16
# In the order of the data in a file: wide elements first, so that each tensor starts aligned.
_DTYPES: dict[str, np.dtype[Any]] = {
    "U64": np.dtype("<u8"),
    "I64": np.dtype("<i8"),
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "U32": np.dtype("<u4"),
    "I32": np.dtype("<i4"),
    BFLOAT16: np.dtype("<u2"),
    "F16": np.dtype("<f2"),
    "U16": np.dtype("<u2"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
_ORDER = {format_: place for place, format_ in enumerate(_DTYPES)}
_FORMATS = {dtype: format_ for format_, dtype in _DTYPES.items() if format_ != BFLOAT16}


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor of a file.

    `dtype` is what its elements are read as, `offset` counts bytes from the start of the file,
    `format` is the file's own word (`F32`). A `BF16` tensor is read as uint16: its raw bits.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int
    size_bytes: int
    format: str

    @property
    def size(self) -> int:
        """Number of elements."""
        return self.size_bytes // self.dtype.itemsize


def encode_header(
    layout: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]],
    metadata: Mapping[str, str] | None,
) -> tuple[bytes, dict[str, TensorInfo]]:
    """The first bytes of a file for this layout, and its tensors in the order of the file.

    Names are sorted within each element type, metadata by key; so equal layouts give equal bytes.
    Raises ArtifactError for a dtype, name or metadata that the format cannot hold.
    """
    key = tuple((name, dtype.str, tuple(shape)) for name, (dtype, shape) in layout.items())
    header, tensors = _encoded(key, tuple((metadata or {}).items()))
    return header, dict(tensors)


@lru_cache(maxsize=8)
def _encoded(
    entries: tuple[tuple[str, str, tuple[int, ...]], ...], metadata: tuple[tuple[str, str], ...]
) -> tuple[bytes, Mapping[str, TensorInfo]]:
    """The updates of a job have one header: it is made once for all of them."""
    layout = {name: (np.dtype(dtype), shape) for name, dtype, shape in entries}
    formats = {name: _format_of(name, dtype) for name, (dtype, _) in layout.items()}
    fields: dict[str, Any] = {}
    if metadata:
        fields[_METADATA] = _checked_metadata(dict(metadata))
    sizes = {}
    end = 0
    for name in sorted(layout, key=lambda name: (_ORDER[formats[name]], name)):
        shape = _checked_shape(name, layout[name][1])
        begin, end = end, end + math.prod(shape) * layout[name][0].itemsize
        offsets = [begin, end]
        fields[name] = {"dtype": formats[name], "shape": shape, "data_offsets": offsets}
        sizes[name] = (shape, begin, end - begin)
    text = _to_json(fields)
    text += b" " * (-len(text) % 8)
    if len(text) > HEADER_LIMIT_BYTES:
        raise ArtifactError(
            "UnsupportedArray",
            f"header: got {len(text)} bytes, expected at most {HEADER_LIMIT_BYTES}",
        )
    start = LENGTH_BYTES + len(text)
    tensors = {
        name: TensorInfo(_DTYPES[formats[name]], shape, start + begin, size, formats[name])
        for name, (shape, begin, size) in sizes.items()
    }
    return len(text).to_bytes(LENGTH_BYTES, "little") + text, MappingProxyType(tensors)


def _format_of(name: str, dtype: np.dtype[Any]) -> str:
    if name == _METADATA:
        raise ArtifactError("UnsupportedArray", f"a tensor cannot be named {_METADATA!r}")
    format_ = _FORMATS.get(np.dtype(dtype).newbyteorder("<"))
    if format_ is None:
        known = ", ".join(sorted(known.name for known in _FORMATS))
        raise ArtifactError(
            "UnsupportedArray", f"tensor {name!r}: got dtype {dtype}, expected one of {known}"
        )
    return format_


def _checked_shape(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    if len(shape) > _RANK_LIMIT or any(length < 0 for length in shape):
        raise ArtifactError(
            "UnsupportedArray",
            f"tensor {name!r}: got shape {shape}, expected at most {_RANK_LIMIT} lengths from 0 up",
        )
    return tuple(int(length) for length in shape)


def _checked_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    for key, value in metadata.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise ArtifactError(
                "UnsupportedArray",
                f"metadata: got {key!r}: {value!r}, expected a string for a string",
            )
    return dict(sorted(metadata.items()))


def _to_json(fields: dict[str, Any]) -> bytes:
    try:
        return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError as error:
        raise ArtifactError(
            "UnsupportedArray", f"a name or metadata is not valid Unicode: {error.object[:80]!r}"
        ) from error


def header_length(first_bytes: bytes, file_bytes: int, place: str) -> int:
    """Length of the JSON header, believed only within the file and the format's 100 MB."""
    if len(first_bytes) < LENGTH_BYTES:
        refuse(place, f"got {len(first_bytes)} bytes, expected at least {LENGTH_BYTES}")
    length = int.from_bytes(first_bytes[:LENGTH_BYTES], "little")
    limit = min(HEADER_LIMIT_BYTES, file_bytes - LENGTH_BYTES)
    if not 2 <= length <= limit:
        refuse(place, f"got a header of {length} bytes, expected 2 to {limit}")
    return length


def decode_header(
    text: bytes, file_bytes: int, place: str
) -> tuple[Mapping[str, TensorInfo], Mapping[str, str]]:
    """The tensors, in the order of the header, and the metadata, every claim checked.

    The tensors must cover the data exactly, without a gap or an overlap; names are unique. Raises
    CorruptArtifactError with what was got and expected.
    """
    if len(text) > _REMEMBERED_BYTES:
        return _decoded(text, file_bytes, place)
    try:
        return _remembered(text, file_bytes)
    except CorruptArtifactError:
        return _decoded(text, file_bytes, place)  # once more, to say where


def _decoded(
    text: bytes, file_bytes: int, place: str
) -> tuple[Mapping[str, TensorInfo], Mapping[str, str]]:
    if not text.startswith(b"{"):
        refuse(place, f"got a header that starts with {text[:8]!r}, expected '{{'")
    try:
        fields = _DECODER.decode(text.decode())
    except (ValueError, RecursionError) as error:
        raise CorruptArtifactError(f"{place}: the header is not valid JSON: {error}") from error
    metadata = fields.pop(_METADATA, {})
    if not isinstance(metadata, dict) or not all(
        isinstance(value, str) for value in metadata.values()
    ):
        refuse(place, "got metadata that is not a map of strings")
    start = LENGTH_BYTES + len(text)
    tensors = {
        _checked_name(name, place): _checked_tensor(field, start, f"{place}: tensor {name[:80]!r}")
        for name, field in fields.items()
    }
    _check_cover(tensors, start, file_bytes, place)
    return MappingProxyType(tensors), MappingProxyType(metadata)


@lru_cache(maxsize=8)
def _remembered(text: bytes, file_bytes: int) -> tuple[Mapping[str, TensorInfo], Mapping[str, str]]:
    """The updates of a round have one header: it is decoded and checked once for all of them."""
    return _decoded(text, file_bytes, "header")


def _unique(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    pairs = list(pairs)
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a name occurs twice")
    return fields


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"got {word}, expected a whole number")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_float=_refuse_constant
)


def _checked_name(name: str, place: str) -> str:
    try:
        name.encode()
    except UnicodeEncodeError:
        refuse(place, f"got the tensor name {name[:80]!r}, expected valid Unicode")
    return name


def _checked_tensor(field: Any, start: int, place: str) -> TensorInfo:
    if not isinstance(field, dict) or field.keys() != {"dtype", "shape", "data_offsets"}:
        refuse(place, "expected exactly dtype, shape and data_offsets")
    format_, shape, offsets = field["dtype"], field["shape"], field["data_offsets"]
    dtype = _DTYPES.get(format_) if isinstance(format_, str) else None
    if dtype is None:
        refuse(place, f"got dtype {str(format_)[:20]!r}, expected one of {', '.join(_DTYPES)}")
    if not _are_counts(shape) or len(shape) > _RANK_LIMIT:
        refuse(place, f"got shape {str(shape)[:80]}, expected at most {_RANK_LIMIT} whole numbers")
    if not _are_counts(offsets) or len(offsets) != 2:
        refuse(place, f"got offsets {str(offsets)[:80]}, expected two whole numbers")
    if math.prod(max(length, 1) for length in shape) * dtype.itemsize >= 1 << 63:
        refuse(place, f"got shape {str(shape)[:80]}, expected fewer than 2**63 bytes")
    begin, end = offsets
    size_bytes = math.prod(shape) * dtype.itemsize
    if end - begin != size_bytes:
        refuse(
            place,
            f"got {end - begin} bytes, expected {size_bytes} for shape {shape} of {format_}",
        )
    return TensorInfo(dtype, tuple(shape), start + begin, size_bytes, format_)


def _are_counts(numbers: Any) -> bool:
    return isinstance(numbers, list) and all(
        type(number) is int and 0 <= number < 1 << 63 for number in numbers
    )


def _check_cover(tensors: dict[str, TensorInfo], start: int, file_bytes: int, place: str) -> None:
    end = start
    places = sorted((info.offset, info.size_bytes, name) for name, info in tensors.items())
    for offset, size_bytes, name in places:
        if offset != end:
            refuse(place, f"tensor {name[:80]!r} starts at byte {offset}, expected {end}")
        end += size_bytes
    if end != file_bytes:
        refuse(place, f"got {file_bytes} bytes, expected {end}: the tensors must cover the file")


def refuse(place: str, problem: str) -> NoReturn:
    """Raise CorruptArtifactError for what is at `place`."""
    raise CorruptArtifactError(f"{place}: {problem}")
