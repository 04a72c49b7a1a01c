"""Named arrays in safetensors files: numpy only, every claim of a file checked, nothing unpickled.

    8 bytes: length of the header, little-endian | header: JSON, padded with spaces | data

Equal arrays give equal bytes: names are sorted within each element type, wide types first, so that every
tensor starts aligned. Format: https://github.com/huggingface/safetensors#format.
"""

import json
import os
from typing import TYPE_CHECKING, Any, BinaryIO, Dict, List, Mapping, NoReturn, Tuple

import numpy as np

if TYPE_CHECKING:
    Array = np.ndarray[Any, Any]
else:
    Array = np.ndarray

__all__ = ("Array", "FormatError", "load", "save")

_HEADER_LIMIT_BYTES = 100000000
_RANK_LIMIT = 32
_METADATA = "__metadata__"
_FORMATS = {
    "U64": "<u8",
    "I64": "<i8",
    "F64": "<f8",
    "F32": "<f4",
    "U32": "<u4",
    "I32": "<i4",
    "F16": "<f2",
    "U16": "<u2",
    "I16": "<i2",
    "I8": "|i1",
    "U8": "|u1",
    "BOOL": "|b1",
}
_NAMES = {dtype: name for name, dtype in _FORMATS.items()}
_ORDER = {name: place for place, name in enumerate(_FORMATS)}


class FormatError(ValueError):
    """What cannot be read or written as safetensors; the message says what was got and expected."""


def save(path: str, arrays: Mapping[str, Array]) -> None:
    """Write arrays to a file, which is there as a whole or not at all.

    Raises FormatError for a name or dtype that the format does not hold here, OSError.
    """
    little = {}
    for name, array in arrays.items():
        dtype = array.dtype.newbyteorder("<")
        if dtype.str not in _NAMES:
            raise FormatError(
                "{!r}: got dtype {}, expected one of {}".format(
                    name, array.dtype, ", ".join(sorted(np.dtype(d).name for d in _NAMES))
                )
            )
        little[name] = np.asarray(array, dtype=dtype, order="C")
    order = sorted(little, key=lambda name: (_ORDER[_NAMES[little[name].dtype.str]], name))
    header = _header(little, order)
    temporary = "{}.{}.part".format(path, os.getpid())
    try:
        with open(temporary, "wb") as file:
            file.write(len(header).to_bytes(8, "little"))
            file.write(header)
            for name in order:
                if little[name].size:
                    file.write(little[name].reshape(-1).view(np.uint8).data)
        os.replace(temporary, path)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise


def _header(arrays: Mapping[str, Array], order: List[str]) -> bytes:
    fields: Dict[str, Any] = {}
    end = 0
    for name in order:
        array = arrays[name]
        if name == _METADATA or array.ndim > _RANK_LIMIT:
            raise FormatError("{!r}: got such a name, or more than 32 axes".format(name))
        begin, end = end, end + array.nbytes
        fields[name] = {
            "dtype": _NAMES[array.dtype.str],
            "shape": list(array.shape),
            "data_offsets": [begin, end],
        }
    try:
        text = json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        raise FormatError("a name of a tensor is not valid Unicode") from None
    return text + b" " * (-len(text) % 8)


def load(path: str) -> Dict[str, Array]:
    """Read all arrays of a file, new and writable, sorted by name.

    Raises FormatError for anything but a whole and consistent file, OSError.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        start, fields = _read_header(file, size, path)
        tensors = sorted(_checked(fields, start, size, path), key=lambda tensor: tensor[0])
        return {
            name: _read(file, offset, dtype, shape, "{}: {!r}".format(path, name))
            for name, offset, dtype, shape in tensors
        }


def _read_header(file: BinaryIO, size: int, place: str) -> Tuple[int, Dict[str, Any]]:
    length = int.from_bytes(file.read(8), "little")
    limit = min(_HEADER_LIMIT_BYTES, size - 8)
    if not 2 <= length <= limit:
        _refuse(place, "got a header of {} bytes in a file of {}".format(length, size))
    text = file.read(length)
    try:
        fields = json.loads(text.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        _refuse(place, "the header is not valid JSON: {}".format(error))
    if not text.startswith(b"{") or not isinstance(fields, dict):
        _refuse(place, "got a header that is no JSON object")
    fields.pop(_METADATA, None)
    return 8 + length, fields


def _checked(
    fields: Mapping[str, Any], start: int, size: int, place: str
) -> List[Tuple[str, int, str, Tuple[int, ...]]]:
    """Give (name, offset in the file, dtype, shape) of each tensor; they must cover the data exactly."""
    found = []
    spans = []
    for name, field in fields.items():
        where = "{}: {!r}".format(place, name[:80])
        if not isinstance(field, dict) or set(field) != {"dtype", "shape", "data_offsets"}:
            _refuse(where, "expected exactly dtype, shape and data_offsets")
        dtype = _FORMATS.get(str(field["dtype"]))
        if dtype is None:
            known = ", ".join(_FORMATS)
            _refuse(where, "got dtype {!r:.40}, expected one of {}".format(field["dtype"], known))
        shape, offsets = field["shape"], field["data_offsets"]
        if not _are_counts(shape) or len(shape) > _RANK_LIMIT:
            _refuse(where, "got shape {!r:.80}".format(shape))
        if not _are_counts(offsets) or len(offsets) != 2:
            _refuse(where, "got offsets {!r:.80}".format(offsets))
        expected = np.dtype(dtype).itemsize
        for axis in shape:
            expected *= axis
        begin, end = offsets
        if end - begin != expected:
            _refuse(where, "got {} bytes, expected {}".format(end - begin, expected))
        spans.append((begin, end))
        found.append((name, start + begin, dtype, tuple(shape)))
    covered = 0
    for begin, end in sorted(spans):
        if begin != covered:
            _refuse(place, "a tensor starts at byte {}, expected {}".format(begin, covered))
        covered = end
    if start + covered != size:
        _refuse(place, "got {} bytes, expected {}".format(size, start + covered))
    return found


def _read(file: BinaryIO, offset: int, dtype: str, shape: Tuple[int, ...], place: str) -> Array:
    out = np.empty(shape, np.dtype(dtype))
    if out.size:
        file.seek(offset)
        raw = out.reshape(-1).view(np.uint8)
        if file.readinto(raw.data) != raw.size:  # type: ignore[attr-defined]  # typeshed's BinaryIO
            _refuse(place, "the file ended early")
        if dtype == "|b1" and raw.max() > 1:
            _refuse(place, "got the byte {}, expected 0 or 1".format(raw.max()))
    return out


def _are_counts(numbers: Any) -> bool:
    return isinstance(numbers, list) and all(
        type(number) is int and 0 <= number < 1 << 63 for number in numbers
    )


def _unique(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a name occurs twice")
    return fields


def _refuse(place: str, problem: str) -> NoReturn:
    raise FormatError("{}: {}".format(place, problem))
