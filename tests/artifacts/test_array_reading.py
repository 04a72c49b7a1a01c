"""Array files read piece by piece: nothing is believed unchecked, nothing held in memory."""

from __future__ import annotations

import json
import os
import tempfile
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedloom.artifacts.arrays import ArrayFile, dump_arrays
from fedloom.errors import ArtifactNotFoundError, CorruptArtifactError, JobError

ARRAYS = {
    "w": np.arange(6, dtype=np.float32).reshape(2, 3),
    "b": np.array([True, False, True]),
    "none": np.zeros((0, 4), np.int64),
    "one": np.array(2.5, np.float16),
}
SMALL = dump_arrays(ARRAYS, {"round": "7"})
SCRATCH = Path(tempfile.gettempdir()) / f"fedloom-test-arrays-{os.getpid()}"
MIB = 1 << 20


def _read_all(data: bytes) -> dict[str, np.ndarray]:
    SCRATCH.write_bytes(data)
    try:
        with ArrayFile(SCRATCH) as file:
            return {name: file.read(name) for name in file.tensors}
    finally:
        SCRATCH.unlink()


def _is_refused(data: bytes) -> bool:
    try:
        _read_all(data)
    except CorruptArtifactError:
        return True
    return False


@pytest.fixture
def path(tmp_path) -> Path:
    path = tmp_path / "arrays.safetensors"
    path.write_bytes(SMALL)
    return path


def test_the_header_says_where_everything_is(path):
    with ArrayFile(path) as file:
        assert set(file.tensors) == set(ARRAYS)
        assert file.metadata == {"round": "7"}
        for name, array in ARRAYS.items():
            info = file.tensors[name]
            assert (info.dtype, info.shape) == (array.dtype, array.shape)
            assert (info.size, info.size_bytes) == (array.size, array.nbytes)
            assert SMALL[info.offset : info.offset + info.size_bytes] == array.tobytes()
        assert file.tensors["w"].format == "F32"


def test_tensors_and_pieces_are_read_into_arrays(path):
    with ArrayFile(path) as file:
        for name, array in ARRAYS.items():
            np.testing.assert_array_equal(file.read(name), array, strict=True)
        out = np.full(3, -1, np.float32)
        file.read_into("w", 2, out)
        np.testing.assert_array_equal(out, [2, 3, 4])
        file.read_into("w", 6, np.empty(0, np.float32))
        file.read_into("none", 0, np.empty(0, np.int64))


@pytest.mark.parametrize(
    ("start", "out"),
    [
        (0, np.empty(3, np.float64)),
        (0, np.empty((1, 3), np.float32)),
        (0, np.empty(6, np.float32)[::2]),
        (4, np.empty(3, np.float32)),
        (-1, np.empty(3, np.float32)),
        (7, np.empty(0, np.float32)),
        (0, np.frombuffer(bytes(12), np.float32)),
    ],
    ids=["dtype", "axes", "gaps", "too far", "negative", "beyond", "read-only"],
)
def test_a_piece_that_does_not_fit_is_the_callers_mistake(path, start, out):
    with ArrayFile(path) as file, pytest.raises(ValueError, match="expected"):
        file.read_into("w", start, out)


def test_an_unknown_name_is_refused_with_those_there_are(path):
    with ArrayFile(path) as file:
        for read in (
            lambda: file.read("v"),
            lambda: file.read_into("v", 0, np.empty(1)),
        ):
            with pytest.raises(CorruptArtifactError, match=r"no tensor 'v', there are .*'w'"):
                read()


def test_a_missing_file_is_not_found(tmp_path):
    with pytest.raises(ArtifactNotFoundError):
        ArrayFile(tmp_path / "missing")
    with pytest.raises(JobError):
        ArrayFile(tmp_path)


def test_bfloat16_is_read_as_its_bits(tmp_path):
    path = tmp_path / "bfloat16.safetensors"
    header = b'{"w":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}'
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\x80\x3f\x00\x40")
    with ArrayFile(path) as file:
        assert file.tensors["w"].format == "BF16"
        bits = file.read("w")
    assert bits.dtype == np.uint16
    widened = (bits.astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_array_equal(widened, [1.0, 2.0])


def test_threads_share_a_file(tmp_path):
    values = np.arange(1 << 18, dtype=np.float32)
    path = tmp_path / "big.safetensors"
    path.write_bytes(dump_arrays({"w": values}))
    with ArrayFile(path) as file, ThreadPoolExecutor(8) as pool:

        def read(start: int) -> bool:
            out = np.empty(1000, np.float32)
            file.read_into("w", start, out)
            return bool((out == values[start : start + 1000]).all())

        assert all(pool.map(read, range(0, len(values) - 1000, 501)))


def test_every_truncation_is_refused():
    assert not _is_refused(SMALL)
    assert all(_is_refused(SMALL[:length]) for length in range(len(SMALL)))


def test_a_file_that_shrinks_while_open_is_corrupt(path):
    with ArrayFile(path) as file:
        os.truncate(path, len(SMALL) - 25)
        with pytest.raises(CorruptArtifactError, match="ended early"):
            file.read("w")


def test_a_claimed_header_is_not_allocated(tmp_path):
    path = tmp_path / "liar.safetensors"
    for length in (1 << 60, 99_999_999, 64 * MIB):
        path.write_bytes(length.to_bytes(8, "little") + b"{}" + b" " * 100)
        tracemalloc.start()
        with pytest.raises(CorruptArtifactError, match=str(length)):
            ArrayFile(path)
        peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak_bytes < MIB


@settings(max_examples=300)
@given(st.data())
def test_a_flipped_bit_never_fails_in_another_way(data):
    place = data.draw(st.integers(0, 8 * len(SMALL) - 1))
    flipped = bytearray(SMALL)
    flipped[place // 8] ^= 1 << place % 8
    _is_refused(bytes(flipped))


@settings(max_examples=300)
@given(st.binary(max_size=300), st.booleans())
def test_arbitrary_bytes_never_fail_in_another_way(data, has_length):
    _is_refused(len(data).to_bytes(8, "little") + data if has_length else data)


@settings(max_examples=200)
@given(
    st.dictionaries(
        st.sampled_from(["a", "__metadata__", "b"]),
        st.fixed_dictionaries(
            {
                "dtype": st.sampled_from(["F32", "U8", "BOOL", "BF16", "F8_E4M3", 3, None]),
                "shape": st.lists(st.integers(-1, 1 << 64) | st.integers(0, 3), max_size=3),
                "data_offsets": st.lists(st.integers(0, 8) | st.integers(), max_size=3),
            }
        ),
    ),
    st.binary(max_size=16),
)
def test_any_claim_of_a_header_is_checked(header, data):
    text = json.dumps(header).encode()
    _is_refused(len(text).to_bytes(8, "little") + text + data)
