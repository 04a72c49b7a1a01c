"""The library's own safetensors: the product's very bytes, and no broken file is believed."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from compat.sedna.round.safetensors import FormatError, load, save
from fedloom.artifacts.arrays import dump_arrays, load_arrays

DTYPES = ["bool", *(f"{s}int{b}" for s in ("", "u") for b in (8, 16, 32, 64))]
DTYPES += ["float16", "float32", "float64"]
ARRAYS = st.sampled_from(DTYPES).flatmap(
    lambda dtype: hnp.arrays(
        dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
    )
)


@given(st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=6), ARRAYS, max_size=6))
def test_the_bytes_are_the_products_own_and_come_back(tmp_path_factory, arrays):
    path = tmp_path_factory.getbasetemp() / "some.safetensors"
    arrays.pop("__metadata__", None)
    save(str(path), arrays)
    assert path.read_bytes() == dump_arrays(arrays)
    back = load(str(path))
    assert list(back) == sorted(arrays)
    for name, array in arrays.items():
        assert (back[name].dtype, back[name].shape) == (array.dtype, array.shape)
        assert back[name].tobytes() == array.tobytes()
        assert back[name].flags.writeable


def test_memory_order_and_byte_order_do_not_show(tmp_path):
    plain = np.arange(6, dtype="<f4").reshape(2, 3)
    for array in (np.asfortranarray(plain), plain.astype(">f4")):
        save(str(tmp_path / "a"), {"x": array})
        assert (tmp_path / "a").read_bytes() == dump_arrays({"x": plain})


def test_metadata_of_a_file_is_passed_over(tmp_path):
    (tmp_path / "a").write_bytes(dump_arrays({"x": np.ones(2)}, {"key": "value"}))
    assert load(str(tmp_path / "a"))["x"].tolist() == [1, 1]


def _file(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def _tensor(dtype: str, shape: list, offsets: list) -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "header"),
        (b"\x00" * 7, "header"),
        (_file({}, length=10**9), "got a header of 1000000000 bytes"),
        (_file(b"[]"), "no JSON object"),
        (_file(b"{nonsense"), "not valid JSON"),
        (_file(b'{"a": 1, "a": 2}'), "a name occurs twice"),
        (_file({"a": _tensor("BF16", [2], [0, 4])}, b"1234"), "got dtype 'BF16'"),
        (_file({"a": _tensor("F8_E4M3", [2], [0, 2])}, b"12"), "got dtype 'F8_E4M3'"),
        (_file({"a": _tensor("F32", [2], [0, 4])}, b"1234"), "got 4 bytes, expected 8"),
        (_file({"a": _tensor("F32", [2**40, 2**40], [0, 4])}, b"1234"), "expected"),
        (_file({"a": _tensor("F32", [-1], [0, 4])}, b"1234"), "got shape"),
        (_file({"a": _tensor("F32", [True], [0, 4])}, b"1234"), "got shape"),
        (_file({"a": _tensor("F32", [1], [4, 8])}, b"12345678"), "starts at byte 4"),
        (_file({"a": _tensor("F32", [1], [0, 4])}, b"123"), "expected"),
        (_file({"a": _tensor("F32", [1], [0, 4])}, b"12345"), "expected"),
        (_file({"a": _tensor("BOOL", [1], [0, 1])}, b"\x02"), "got the byte 2"),
        (_file({"a": [1]}), "expected exactly dtype"),
        (
            _file({"a": {**_tensor("F32", [1], [0, 4]), "more": 1}}, b"1234"),
            "expected exactly dtype",
        ),
        (_file({"a": _tensor("F32", [1] * 33, [0, 4])}, b"1234"), "got shape"),
    ],
)
def test_a_broken_file_is_refused(tmp_path, data, message):
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(FormatError) as caught:
        load(str(tmp_path / "a"))
    assert message in str(caught.value)


@pytest.mark.parametrize("dtype", ["complex64", "U3", "datetime64[s]", "longdouble"])
def test_what_the_format_does_not_hold_is_refused_by_name(tmp_path, dtype):
    with pytest.raises(FormatError, match="'x': got dtype"):
        save(str(tmp_path / "a"), {"x": np.zeros(1, dtype)})
    assert list(tmp_path.iterdir()) == []


def test_the_product_reads_what_it_writes(tmp_path):
    save(str(tmp_path / "a"), {"x": np.float32(3) * np.ones((), np.float32)})
    assert load_arrays(tmp_path / "a")[0]["x"].shape == ()
