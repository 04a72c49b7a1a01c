"""Weights as Sedna's first protocol has them, lists of numbers in JSON, to arrays and back.

JSON knows no dtypes. A model whose every fraction is exactly a float32 was float32 before it became text,
and is kept so: half the bytes in the store, and on the way down nine digits a number instead of seventeen,
which give the same float32 back. Tensors have no names either: they are `0000`, `0001`, ... in their order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from fedloom.algorithms.layout import BLOCK_ELEMENTS, Array, check_finite, flat_blocks
from fedloom.errors import UpdateError

_FORMS = {"f4": "%#.9g", "f8": "%r", "i8": "%d"}
"""Of a number in text: fractions keep their point, or a reader would make integers of whole ones."""


def arrays_of(weights: list[Any]) -> dict[str, Array]:
    """Make arrays of the lists of an update, by name, and empty `weights` on the way.

    Fractions become float32 where all fractions of the update are, else float64; whole numbers int64.
    Raises UpdateError: `NoUpdate`, `MalformedUpdate`, `NotFinite`.
    """
    if not weights:
        raise UpdateError(
            "NoUpdate", "data.weights: got an empty list, expected the model's tensors"
        )
    arrays: dict[str, Array] = {}
    weights.reverse()
    while weights:  # a list of numbers takes several times its array: never both of all tensors
        name = tensor_name(len(arrays))
        arrays[name] = _array_of(name, weights.pop())
    return _narrowed(arrays)


def tensor_name(index: int) -> str:
    """`0003`: the fourth tensor."""
    return f"{index:04d}"


def weights_text(tensors: Iterable[Array]) -> bytes:
    """Write tensors, in their order, as the JSON list of lists that a client reads."""
    pieces = [b"["]
    for index, tensor in enumerate(tensors):
        pieces.append(b"," if index else b"")
        pieces += _text_of(tensor)
    return b"".join((*pieces, b"]"))


def _array_of(name: str, values: Any) -> Array:
    try:
        array = np.array(values)
    except (ValueError, OverflowError, TypeError) as error:
        got = "lists of unequal lengths" if "inhomogeneous" in str(error) else str(error)[:80]
        raise _malformed(name, got) from None
    if array.dtype.kind not in "fiu":
        raise _malformed(name, f"values of kind {array.dtype.kind!r}")
    array = array.astype(np.float64 if array.dtype.kind == "f" else np.int64, copy=False)
    check_finite(name, flat_blocks(array))
    return array


def _narrowed(arrays: Mapping[str, Array]) -> dict[str, Array]:
    fractions = [array for array in arrays.values() if array.dtype.kind == "f"]
    if not all(_is_float32(block) for array in fractions for block in flat_blocks(array)):
        return dict(arrays)
    return {
        name: array.astype(np.float32) if array.dtype.kind == "f" else array
        for name, array in arrays.items()
    }


def _is_float32(block: Array) -> bool:
    with np.errstate(over="ignore"):
        return bool((block.astype(np.float32) == block).all())


def _text_of(tensor: Array) -> Iterator[bytes]:
    """Write one tensor, at most a block of it at a time."""
    if tensor.ndim == 0 or tensor.size <= BLOCK_ELEMENTS:
        form = _form(tensor.shape, _FORMS[tensor.dtype.str[1:]])
        yield (form % tuple(tensor.reshape(-1).tolist())).encode()
        return
    if tensor.ndim == 1:
        parts: Iterable[Array] = flat_blocks(tensor)
        texts = (b"".join(_text_of(part))[1:-1] for part in parts)
        yield from _listed((text,) for text in texts)
        return
    inside = max(1, tensor[0].size)
    step = max(1, BLOCK_ELEMENTS // inside)
    if step == 1:
        yield from _listed(_text_of(part) for part in tensor)
        return
    parts = (tensor[start : start + step] for start in range(0, len(tensor), step))
    yield from _listed((b"".join(_text_of(part))[1:-1],) for part in parts)


def _listed(parts: Iterable[Iterable[bytes]]) -> Iterator[bytes]:
    yield b"["
    for index, part in enumerate(parts):
        if index:
            yield b","
        yield from part
    yield b"]"


def _form(shape: tuple[int, ...], number: str) -> str:
    """Write the pattern of an array of this shape: `[[%r,%r],[%r,%r]]`."""
    if not shape:
        return number
    return f"[{','.join([_form(shape[1:], number)] * shape[0])}]"


def _malformed(name: str, got: str) -> UpdateError:
    return UpdateError("MalformedUpdate", f"tensor {name!r}: got {got}, expected lists of numbers")
