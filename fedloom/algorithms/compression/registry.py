"""Which codecs there are: one explicit table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from fedloom.algorithms import parameters as params
from fedloom.algorithms.compression.bf16 import BFloat16
from fedloom.algorithms.compression.dgc import DeepGradientCompression
from fedloom.algorithms.compression.identity import Identity
from fedloom.algorithms.compression.int4 import Int4
from fedloom.algorithms.compression.int8 import Int8
from fedloom.algorithms.compression.lowrank import LowRank
from fedloom.algorithms.compression.protocol import Codec
from fedloom.algorithms.compression.sign import Sign
from fedloom.algorithms.compression.stc import SparseTernary
from fedloom.algorithms.compression.topk import TopK
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


def _sign(parameters: Parameters) -> Codec:
    block_size = _block_size("sign", parameters, Sign.block_size)
    params.require(block_size % 8 == 0, "blockSize", block_size, "a multiple of 8")
    return Sign(block_size)


def _topk(parameters: Parameters) -> Codec:
    params.check_names("codec 'topk'", parameters, ["fraction"])
    return TopK(_fraction(parameters, TopK.fraction))


def _stc(parameters: Parameters) -> Codec:
    params.check_names("codec 'stc'", parameters, ["fraction"])
    return SparseTernary(_fraction(parameters, SparseTernary.fraction))


def _lowrank(parameters: Parameters) -> Codec:
    params.check_names("codec 'lowrank'", parameters, ["rank"])
    rank = params.integer(parameters, "rank", LowRank.rank)
    params.require(1 <= rank <= 256, "rank", rank, "1 to 256")
    return LowRank(rank)


def _dgc(parameters: Parameters) -> DeepGradientCompression:
    default = DeepGradientCompression
    params.check_names("codec 'dgc'", parameters, ["fraction", "momentum", "warmupRounds"])
    momentum = params.number(parameters, "momentum", default.momentum)
    params.require(0 <= momentum < 1, "momentum", momentum, "0 or more, below 1")
    rounds = params.integer(parameters, "warmupRounds", default.warmup_rounds)
    params.require(0 <= rounds <= 10_000, "warmupRounds", rounds, "0 to 10000")
    return default(_fraction(parameters, default.fraction), momentum, rounds)


def _fraction(parameters: Parameters, default: float) -> float:
    fraction = params.number(parameters, "fraction", default)
    params.require(0 < fraction <= 1, "fraction", fraction, "above 0, at most 1")
    return fraction


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
    "topk": _topk,
    "stc": _stc,
    "sign": _sign,
    "lowrank": _lowrank,
    "dgc": _dgc,
}


def codec(name: str, parameters: Parameters, round_number: int = 1) -> Codec:
    """Make a codec.

    Args:
        name: as in `spec.compression.uplink.codec`.
        parameters: the other fields beside it that belong to the codec (`blockSize` of int8, say).
        round_number: of the round that the update belongs to, from 1: what `dgc` sends in its first
            rounds depends on it; the other codecs do not.

    Raises:
        JobError: `UnknownCodec`, or `InvalidParameter` for one that the codec does not have or
            that is out of range.
    """
    if name not in CODECS:
        raise JobError("UnknownCodec", f"got codec {name!r}, expected one of {sorted(CODECS)}")
    made = CODECS[name](parameters)
    if isinstance(made, DeepGradientCompression):
        return replace(made, round_number=round_number)
    return made
