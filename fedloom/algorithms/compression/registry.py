"""Which codecs there are: one explicit table."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fedloom.algorithms import parameters as params
from fedloom.algorithms.compression.identity import Identity
from fedloom.algorithms.compression.int8 import Int8
from fedloom.algorithms.compression.protocol import Codec
from fedloom.errors import JobError

Parameters = Mapping[str, object]


def _none(parameters: Parameters) -> Codec:
    params.check_names("codec 'none'", parameters, [])
    return Identity()


def _int8(parameters: Parameters) -> Codec:
    params.check_names("codec 'int8'", parameters, ["blockSize"])
    block_size = params.integer(parameters, "blockSize", 256)
    params.require(1 <= block_size <= 65536, "blockSize", block_size, "1 to 65536")
    return Int8(block_size=block_size)


CODECS: Mapping[str, Callable[[Parameters], Codec]] = {"none": _none, "int8": _int8}


def codec(name: str, parameters: Parameters) -> Codec:
    """Make a codec.

    Args:
        name: as in `spec.compression.uplink.codec`.
        parameters: the other fields beside it that belong to the codec (`blockSize` of int8).

    Raises:
        JobError: `UnknownCodec`, or `InvalidParameter` for one that the codec does not have or
            that is out of range.
    """
    if name not in CODECS:
        raise JobError("UnknownCodec", f"got codec {name!r}, expected one of {sorted(CODECS)}")
    return CODECS[name](parameters)
