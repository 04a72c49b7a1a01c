"""What holds for every codec."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedloom.algorithms.compression.protocol import ArrayParts, Codec
from fedloom.algorithms.compression.registry import CODECS, codec
from fedloom.algorithms.layout import TensorSpec, layout_of
from fedloom.errors import JobError, UpdateError

FIXED = [  # the lengths of their parts follow from the number of elements alone
    codec("none", {}),
    codec("bf16", {}),
    codec("int8", {}),
    codec("int8", {"blockSize": 7}),
    codec("int4", {}),
    codec("int4", {"blockSize": 7}),
    codec("sign", {}),
    codec("sign", {"blockSize": 24}),
]
MADE = [
    *FIXED,
    codec("topk", {}),
    codec("topk", {"fraction": 1}),
    codec("stc", {}),
    codec("stc", {"fraction": 0.3}),
    codec("dgc", {}),
    codec("dgc", {"warmupRounds": 0}),
    codec("lowrank", {}),
    codec("lowrank", {"rank": 1}),
]
SHAPES = [(0,), (), (1,), (1, 1), (3, 0), (2000,), (7, 31), (2, 65536), (300, 257), (5, 4, 3, 10)]
FLOATS = [np.float16, np.float32, np.float64]
small = settings(derandomize=True, deadline=None, max_examples=60)
every_codec = pytest.mark.parametrize("made", MADE, ids=repr)
fixed_codec = pytest.mark.parametrize("made", FIXED, ids=repr)


def values_of(size: int, seed: int = 0, dtype: type = np.float32) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 3, size).astype(dtype)


def decoded(
    made: Codec,
    parts: dict[str, np.ndarray],
    shape: int | tuple[int, ...],
    dtype: type = np.float32,
) -> np.ndarray:
    shape = (shape,) if isinstance(shape, int) else shape
    out = np.full(math.prod(shape), 99, dtype)
    made.decode(ArrayParts(parts), shape, 0, out.size, out)
    return out


def encoded(made: Codec, values: np.ndarray, seed: int = 0) -> dict[str, np.ndarray]:
    return made.encode(values, np.random.default_rng(seed))


@small
@given(
    st.sampled_from(MADE),
    st.integers(0, 2000) | st.sampled_from([65535, 65536, 65537, 140000]),
    st.sampled_from(FLOATS),
    st.data(),
)
def test_any_stretch_decodes_to_the_same_bits_as_the_whole(made, size, dtype, data):
    values = values_of(size, size, dtype)
    parts = encoded(made, values)
    whole = decoded(made, parts, size, np.float64)
    start = data.draw(st.integers(0, size))
    stop = data.draw(st.integers(start, size))
    out = np.full(stop - start + 3, 99, np.float64)
    made.decode(ArrayParts(parts), (size,), start, stop, out)
    assert out[: stop - start].tobytes() == whole[start:stop].tobytes()
    assert out[stop - start :].tolist() == [99] * 3


@small
@given(st.sampled_from(MADE), st.sampled_from(SHAPES), st.sampled_from(FLOATS), st.data())
def test_a_tensor_of_any_shape_is_decoded_in_stretches_of_any_length(made, shape, dtype, data):
    size = math.prod(shape)
    values = values_of(size, size, dtype).reshape(shape)
    parts = encoded(made, values)
    made.check(layout_of(parts), shape)
    whole = decoded(made, parts, shape)
    cuts = data.draw(st.lists(st.integers(0, size), max_size=4).map(sorted))
    pieces = []
    for start, stop in itertools.pairwise([0, *cuts, size]):
        out = np.empty(stop - start, np.float32)
        made.decode(ArrayParts(parts), shape, start, stop, out)
        pieces.append(out)
    assert np.concatenate(pieces).tobytes() == whole.tobytes()
    wide = decoded(made, parts, shape, np.float64)
    assert wide.astype(np.float32).tobytes() == whole.tobytes()


@every_codec
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_norm_of_what_is_lost_is_at_most_that_of_what_there_was(made, shape):
    values = values_of(math.prod(shape), 3).reshape(shape)
    lost = decoded(made, encoded(made, values), shape) - values.reshape(-1)
    assert np.linalg.norm(lost) <= np.linalg.norm(values) * (1 + 1e-5)


@every_codec
@pytest.mark.parametrize("value", [0.0, 1.0, -3.5, 1e-41, -1e30])
@pytest.mark.parametrize("shape", [(), (1,), (60, 40)], ids=str)
def test_all_equal_values_are_encoded(made, value, shape):
    values = np.full(shape, value, np.float32)
    parts = encoded(made, values)
    made.check(layout_of(parts), shape)
    out = decoded(made, parts, shape)
    assert np.isfinite(out).all()
    assert np.abs(out).max(initial=0) <= abs(value) * (1 + 2.0**-5) + 2.0**-133


@every_codec
def test_the_order_in_memory_does_not_matter(made):
    values = values_of(60 * 40).reshape(60, 40)
    for other in (np.asfortranarray(values), np.repeat(values, 2, axis=1)[:, ::2]):
        one, two = encoded(made, values), encoded(made, other)
        assert {key: part.tobytes() for key, part in one.items()} == {
            key: part.tobytes() for key, part in two.items()
        }


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e39])
@pytest.mark.parametrize("position", [0, 1999])
@pytest.mark.parametrize(
    ("made", "shape"),
    [
        *((made, (50, 40)) for made in MADE if made.name != "none"),
        *((made, (70000,)) for made in MADE if made.name not in ("none", "lowrank")),
    ],
    ids=repr,
)
def test_what_float32_cannot_hold_is_refused_where_it_would_be_lost(made, shape, bad, position):
    values = np.ones(shape)
    values.reshape(-1)[position] = bad
    with pytest.raises(UpdateError, match=made.name) as caught:
        encoded(made, values)
    assert caught.value.reason == "NotFinite"


@every_codec
def test_decoding_again_gives_the_same_and_changes_no_part(made):
    parts = encoded(made, values_of(1000))
    for part in parts.values():
        part.flags.writeable = False
    first = decoded(made, parts, 1000)
    assert decoded(made, parts, 1000).tobytes() == first.tobytes()


@every_codec
def test_the_same_generator_gives_the_same_parts(made):
    values = values_of(70000)
    one, two = encoded(made, values, 5), encoded(made, values, 5)
    assert {name: part.tobytes() for name, part in one.items()} == {
        name: part.tobytes() for name, part in two.items()
    }


@every_codec
@pytest.mark.parametrize("size", [0, 1, 6, 7, 8, 255, 256, 257, 70000])
def test_what_is_encoded_passes_the_check(made, size):
    parts = encoded(made, values_of(size))
    made.check(layout_of(parts), (size,))
    assert all(part.ndim == 1 and part.flags.owndata for part in parts.values())


@every_codec
def test_inputs_are_not_written_to_and_not_kept(made):
    values = values_of(1000)
    parts_before = encoded(made, values)
    kept = values.copy()
    values.flags.writeable = False
    parts = encoded(made, values)
    assert values.tobytes() == kept.tobytes()
    assert not any(np.shares_memory(part, values) for part in parts.values())
    assert parts.keys() == parts_before.keys()


@every_codec
@pytest.mark.parametrize("dtype", FLOATS)
def test_strided_values_are_encoded_like_their_copy(made, dtype):
    values = values_of(3000, 4, dtype)[::-3]
    strided, copied = encoded(made, values), encoded(made, values.copy())
    assert all(strided[name].tobytes() == copied[name].tobytes() for name in copied)


@every_codec
def test_zeros_of_either_sign_stay_zero(made):
    values = np.zeros(600, np.float32)
    values[::2] = -0.0
    assert not decoded(made, encoded(made, values), 600).any()


@every_codec
@pytest.mark.parametrize(
    "values",
    [np.zeros(3, np.int64), np.zeros(3, bool), np.zeros(2, "g"), np.zeros((2, 2), complex)],
    ids=lambda a: f"{a.dtype}{a.shape}",
)
def test_only_floats_are_encoded(made, values):
    with pytest.raises(TypeError, match="expected an array of float16, float32 or float64"):
        encoded(made, values)


@fixed_codec
def test_malformed_parts_are_refused_by_their_layout_alone(made):
    good = dict(layout_of(encoded(made, values_of(1000))))
    name, spec = next(iter(good.items()))
    (length,) = spec.shape
    wrong = {
        "no parts": {},
        "one part missing": {key: value for key, value in good.items() if key != name},
        "one part more": {**good, "extra": spec},
        "another name": {"other" if key == name else key: good[key] for key in good},
        "another dtype": {**good, name: TensorSpec(spec.shape, np.dtype("int16"))},
        "too short": {**good, name: TensorSpec((length - 1,), spec.dtype)},
        "too long": {**good, name: TensorSpec((length + 1,), spec.dtype)},
        "astronomic": {**good, name: TensorSpec((2**60,), spec.dtype)},
        "two axes": {**good, name: TensorSpec((length, 1), spec.dtype)},
        "a scalar": {**good, name: TensorSpec((), spec.dtype)},
    }
    made.check(good, (1000,))
    for parts in wrong.values():
        with pytest.raises(UpdateError) as caught:
            made.check(parts, (1000,))
        assert caught.value.reason == "MalformedUpdate"
        assert made.name in caught.value.message
    for size in (0, 990, 1001, 2**62):
        with pytest.raises(UpdateError):
            made.check(good, (size,))


@every_codec
def test_a_codec_can_be_made_again_from_its_name_and_parameters(made):
    assert codec(made.name, made.parameters) == made


def test_none_keeps_every_bit_and_the_dtype():
    for dtype in FLOATS:
        values = values_of(1000, 1, dtype)
        parts = encoded(MADE[0], values)
        assert parts["values"].dtype == dtype
        assert decoded(MADE[0], parts, 1000, np.float64).tolist() == values.tolist()


def test_none_reads_a_value_too_large_for_its_place_as_infinite():
    parts = {"values": np.array([1e300, -1e300, 1.0])}
    assert decoded(MADE[0], parts, 3).tolist() == [np.inf, -np.inf, 1.0]


def test_an_unknown_codec_is_refused():
    with pytest.raises(JobError, match=r"'zip', expected one of \['bf16', 'dgc', 'int4', 'int8'"):
        codec("zip", {})


@pytest.mark.parametrize("name", sorted(CODECS))
@pytest.mark.parametrize(
    "parameters",
    [
        {"blockSize": 0},
        {"blockSize": 65537},
        {"blockSize": 2.5},
        {"blockSize": "8"},
        {"size": 8},
        {"fraction": 0},
        {"fraction": 1.01},
        {"fraction": float("nan")},
        {"rank": 0},
        {"rank": 257},
        {"rank": 1.5},
        {"momentum": 1},
        {"momentum": -0.1},
        {"warmupRounds": -1},
        {"warmupRounds": 10_001},
    ],
    ids=str,
)
def test_codec_parameters_out_of_range_or_unknown_are_refused(name, parameters):
    with pytest.raises(JobError) as caught:
        codec(name, parameters)
    assert caught.value.reason == "InvalidParameter"
    assert next(iter(parameters)) in caught.value.message
