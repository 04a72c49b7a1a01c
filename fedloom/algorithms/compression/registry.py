"""Which codecs there are: one explicit table."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fedloom.algorithms import parameters as params
from fedloom.algorithms.compression.bf16 import BFloat16
from fedloom.algorithms.compression.identity import Identity
from fedloom.algorithms.compression.int4 import Int4
from fedloom.algorithms.compression.int8 import Int8
from fedloom.algorithms.compression.protocol import Codec
from fedloom.errors import JobError

Parameters = Mapping[str, object]


def _none(parameters: Parameters) -> Codec:
    params.check_names("codec 'none'", parameters, [])
    return Identity()


def _bf16(parameters: Parameters) -> Codec:
    params.check_names("codec 'bf16'", parameters, [])
    return BFloat16()


def _int8(parameters: Parameters) -> Codec:
    return Int8(block_size=_block_size("int8", parameters, Int8.block_size))


def _int4(parameters: Parameters) -> Codec:
    return Int4(block_size=_block_size("int4", parameters, Int4.block_size))


def _block_size(name: str, parameters: Parameters, default: int) -> int:
    params.check_names(f"codec {name!r}", parameters, ["blockSize"])
    block_size = params.integer(parameters, "blockSize", default)
    params.require(1 <= block_size <= 65536, "blockSize", block_size, "1 to 65536")
    return block_size


CODECS: Mapping[str, Callable[[Parameters], Codec]] = {
    "none": _none,
    "bf16": _bf16,
    "int8": _int8,
    "int4": _int4,
}


def codec(name: str, parameters: Parameters) -> Codec:
    """Make a codec.

    Args:
        name: as in `spec.compression.uplink.codec`.
        parameters: the other fields beside it that belong to the codec (`blockSize` of int8 and int4).

    Raises:
        JobError: `UnknownCodec`, or `InvalidParameter` for one that the codec does not have or
            that is out of range.
    """
    if name not in CODECS:
        raise JobError("UnknownCodec", f"got codec {name!r}, expected one of {sorted(CODECS)}")
    return CODECS[name](parameters)
