"""Named arrays and safetensors bytes: the same content is the same bytes, and only whole files load."""

from __future__ import annotations

import json

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedloom.artifacts.arrays import dump_arrays, load_arrays
from fedloom.errors import ArtifactError, CorruptArtifactError

DTYPES = [
    *("float16", "float32", "float64", "bool"),
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
]
NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=8).filter(
    lambda name: name != "__metadata__"
)
ARRAYS = st.dictionaries(
    NAMES,
    hnp.arrays(
        dtype=st.sampled_from(DTYPES),
        shape=hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
    ),
    max_size=5,
)
METADATA = st.dictionaries(NAMES, st.text(st.characters(exclude_categories=["Cs"])), max_size=4)


def _file(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def _tensor(dtype: object = "F32", shape: object = (2,), offsets: object = (0, 8)) -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


CORRUPT_FILES = {
    "nothing": b"",
    "no whole length": b"\x00" * 7,
    "no header": b"\x00" * 8,
    "a header of 2**60 bytes": (1 << 60).to_bytes(8, "little") + b"{}",
    "a header of 2**64-1 bytes": b"\xff" * 8 + b"{}",
    "a header longer than the file": (64).to_bytes(8, "little") + b"{}",
    "no JSON": _file(b"{]"),
    "no UTF-8": _file(b'{"\xff":1}'),
    "white space first": _file(b" {}"),
    "a list": _file([]),
    "bytes after the JSON": _file(b"{}\0"),
    "nested too deeply": _file(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "not a number": _file(b'{"a":NaN}'),
    "an endless number": _file(b'{"a":' + b"9" * 10_000 + b"}"),
    "a name twice": _file(
        b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},'
        b'"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}',
        b"x",
    ),
    "a field twice": _file(
        b'{"a":{"dtype":"U8","dtype":"U8","shape":[],"data_offsets":[0,1]}}', b"x"
    ),
    "a lone surrogate": _file(b'{"\\ud800":{"dtype":"U8","shape":[],"data_offsets":[0,1]}}', b"x"),
    "metadata that is a list": _file({"__metadata__": []}),
    "metadata with a number": _file({"__metadata__": {"a": 1}}),
    "a tensor that is a number": _file({"a": 1}),
    "a missing field": _file({"a": {"dtype": "F32", "shape": [2]}}, b"x" * 8),
    "an unknown field": _file({"a": {**_tensor(), "more": 1}}, b"x" * 8),
    "an unknown dtype": _file({"a": _tensor("F31")}, b"x" * 8),
    "a dtype that is a list": _file({"a": _tensor(["F32"])}, b"x" * 8),
    "a shape that is a number": _file({"a": _tensor(shape=2)}, b"x" * 8),
    "a negative length": _file({"a": _tensor(shape=[-2])}, b"x" * 8),
    "two negative lengths": _file({"a": _tensor(shape=[-2, -1])}, b"x" * 8),
    "half a length": _file({"a": _tensor(shape=[2.0])}, b"x" * 8),
    "a length that is true": _file({"a": _tensor(shape=[True, 2])}, b"x" * 8),
    "too many axes": _file({"a": _tensor(shape=[1] * 33 + [2])}, b"x" * 8),
    "a shape of 2**120": _file({"a": _tensor(shape=[1 << 60, 1 << 60])}, b"x" * 8),
    "an empty shape of 2**120": _file({"a": _tensor(shape=[0, 1 << 60, 1 << 60], offsets=[0, 0])}),
    "another size than the shape's": _file({"a": _tensor(shape=[3])}, b"x" * 8),
    "three offsets": _file({"a": _tensor(offsets=[0, 8, 8])}, b"x" * 8),
    "offsets backwards": _file({"a": _tensor(offsets=[8, 0])}, b"x" * 8),
    "offsets beyond the end": _file({"a": _tensor(offsets=[8, 16])}, b"x" * 8),
    "a gap": _file({"a": _tensor(), "b": _tensor(offsets=[12, 20])}, b"x" * 20),
    "an overlap": _file({"a": _tensor(), "b": _tensor(offsets=[4, 12])}, b"x" * 12),
    "the same bytes twice": _file({"a": _tensor(), "b": _tensor()}, b"x" * 8),
    "too few bytes": _file({"a": _tensor()}, b"x" * 7),
    "too many bytes": _file({"a": _tensor()}, b"x" * 9),
    "a truth of 2": _file({"a": _tensor("BOOL", [2], [0, 2])}, b"\x01\x02"),
}


@given(ARRAYS, METADATA)
def test_what_is_dumped_is_what_is_loaded(arrays, metadata):
    loaded, strings = load_arrays(dump_arrays(arrays, metadata))

    assert list(loaded) == sorted(arrays)
    assert strings == metadata
    for name, array in arrays.items():
        assert loaded[name].dtype == array.dtype
        assert loaded[name].shape == array.shape
        assert loaded[name].tobytes() == array.tobytes()
        assert loaded[name].flags.writeable
        assert loaded[name].flags.c_contiguous
        assert loaded[name].flags.aligned


@given(ARRAYS)
def test_the_bytes_are_those_of_the_safetensors_library(arrays):
    data = dump_arrays(arrays)
    contiguous = {name: np.array(array, order="C") for name, array in sorted(arrays.items())}
    assert data == safetensors.numpy.save(contiguous)


@given(ARRAYS, METADATA)
def test_the_safetensors_library_reads_them_with_metadata_too(arrays, metadata):
    loaded = safetensors.numpy.load(dump_arrays(arrays, metadata))
    assert {name: array.tobytes() for name, array in loaded.items()} == {
        name: array.tobytes() for name, array in arrays.items()
    }


@given(ARRAYS, METADATA, st.randoms())
def test_the_order_of_names_does_not_change_the_bytes(arrays, metadata, random):
    names, keys = list(arrays), list(metadata)
    random.shuffle(names)
    random.shuffle(keys)
    shuffled = {name: arrays[name] for name in names}
    assert dump_arrays(shuffled, {key: metadata[key] for key in keys}) == dump_arrays(
        arrays, metadata
    )


def test_the_layout_in_memory_does_not_change_the_bytes():
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    data = dump_arrays({"a": array})
    assert dump_arrays({"a": np.asfortranarray(array)}) == data
    assert dump_arrays({"a": array.astype(">f4")}) == data
    assert dump_arrays({"a": np.repeat(array, 2, axis=2)[:, :, ::2]}) == data


def test_a_scalar_of_numpy_is_an_array_without_axes():
    loaded, _ = load_arrays(dump_arrays({"a": np.float32(1.5)}))
    assert loaded["a"] == np.array(1.5, np.float32)
    assert loaded["a"].shape == ()


def test_a_file_loads_as_its_bytes_do(tmp_path):
    arrays = {"a": np.arange(6, dtype=np.int16).reshape(2, 3), "b": np.array([True, False])}
    path = tmp_path / "arrays.safetensors"
    path.write_bytes(dump_arrays(arrays, {"round": "7"}))
    for source in (path, str(path)):
        loaded, metadata = load_arrays(source)
        assert metadata == {"round": "7"}
        np.testing.assert_equal(loaded, arrays)
    loaded["a"][0] = 9


@pytest.mark.parametrize(
    "value",
    [np.array(["a"]), np.array([None]), np.zeros(2, "c8"), np.zeros(2, "M8[s]"), [1.0], 1.0, None],
    ids=["strings", "objects", "complex", "dates", "list", "float", "None"],
)
def test_what_is_no_supported_array_is_refused_by_name(value):
    with pytest.raises(ArtifactError, match=r"tensor 'bad': got .* expected") as caught:
        dump_arrays({"good": np.zeros(2), "bad": value})
    assert caught.value.reason == "UnsupportedArray"


def test_a_name_or_metadata_that_the_format_cannot_hold_is_refused():
    for arrays, metadata in (
        ({"\ud800": np.zeros(1)}, None),
        ({"__metadata__": np.zeros(1)}, None),
        ({"a": np.zeros([1] * 33)}, None),
        ({}, {"a": 1}),
        ({}, {1: "a"}),
        ({}, {"a": "\ud800"}),
    ):
        with pytest.raises(ArtifactError) as caught:
            dump_arrays(arrays, metadata)
        assert caught.value.reason == "UnsupportedArray"


@pytest.mark.parametrize("data", CORRUPT_FILES.values(), ids=CORRUPT_FILES.keys())
def test_a_corrupt_file_is_refused(data, tmp_path):
    path = tmp_path / "corrupt.safetensors"
    path.write_bytes(data)
    with pytest.raises(CorruptArtifactError):
        load_arrays(data)
    with pytest.raises(CorruptArtifactError, match=r"corrupt\.safetensors"):
        load_arrays(path)


def test_bfloat16_is_refused_with_what_to_do():
    data = _file({"w": _tensor("BF16", [2], [0, 4])}, b"\x80\x3f\x00\x40")
    with pytest.raises(
        ArtifactError, match=r"'w': got bfloat16.*save the model as float32"
    ) as caught:
        load_arrays(data)
    assert caught.value.reason == "UnsupportedArray"


def test_a_file_whose_tensors_start_unaligned_loads_aligned():
    header = {"a": _tensor("U8", [1], [0, 1]), "b": _tensor("F64", [1], [1, 9])}
    loaded, _ = load_arrays(_file(header, b"x" + np.array([2.5]).tobytes()))
    assert loaded["b"] == 2.5
    assert loaded["b"].flags.aligned


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_any_bytes_load_or_are_corrupt(data):
    reason = ""
    try:
        load_arrays(data)
    except ArtifactError as error:
        reason = error.reason
    assert reason in ("", "CorruptArtifact", "UnsupportedArray")
