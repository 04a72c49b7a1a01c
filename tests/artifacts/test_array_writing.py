"""Array files written in blocks: the bytes of `dump_arrays`, whole or not at all."""

from __future__ import annotations

import os
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedloom.artifacts.arrays import ArrayFile, ArrayFileWriter, dump_arrays
from fedloom.artifacts.artifact import digest_of
from fedloom.errors import ArtifactError

SCRATCH = Path(tempfile.gettempdir()) / f"fedloom-test-writer-{os.getpid()}"
MIB = 1 << 20


@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=4).filter(
            lambda name: name != "__metadata__"
        ),
        hnp.arrays(
            dtype=st.sampled_from(["float16", "float32", "float64", "int8", "uint64", "bool"]),
            shape=hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5),
        ),
        max_size=4,
    ),
    st.dictionaries(st.sampled_from("xyz"), st.text("ab", max_size=3)),
    st.integers(1, 7),
    st.randoms(),
)
def test_a_file_written_in_blocks_is_the_dumped_one(arrays, metadata, step, random):
    pieces = [
        (name, start, array.reshape(-1)[start : start + step])
        for name, array in arrays.items()
        for start in range(0, array.size, step)
    ]
    random.shuffle(pieces)
    layout = {name: (array.dtype, array.shape) for name, array in arrays.items()}
    try:
        with ArrayFileWriter(SCRATCH, layout, metadata) as writer:
            for name, start, values in pieces:
                writer.write(name, start, values)
            size_bytes, digest = writer.close()
        written = SCRATCH.read_bytes()
    finally:
        SCRATCH.unlink(missing_ok=True)

    expected = dump_arrays(arrays, metadata)
    assert written == expected
    assert (size_bytes, digest) == (len(expected), digest_of(expected))


def test_closing_twice_says_the_same(tmp_path):
    writer = ArrayFileWriter(tmp_path / "a", {"w": ("float32", (2,))})
    with writer:
        writer.write("w", 0, np.zeros(2, np.float32))
    assert writer.close() == writer.close()
    assert writer.close()[0] == (tmp_path / "a").stat().st_size


@pytest.mark.parametrize(
    ("pieces", "words"),
    [
        ([("w", 0, 1), ("v", 0, 1)], r"'w': 3"),
        ([("w", 0, 4), ("v", 0, 1), ("v", 0, 1)], r"'v': -1"),
        ([], r"'w': 4.*'v': 1|'v': 1.*'w': 4"),
    ],
    ids=["missing", "twice", "nothing"],
)
def test_an_unfinished_file_never_appears(tmp_path, pieces, words):
    def write() -> None:
        layout = {"w": (np.float32, (4,)), "v": (np.float32, (1,))}
        with ArrayFileWriter(tmp_path / "a", layout) as writer:
            for name, start, count in pieces:
                writer.write(name, start, np.ones(count, np.float32))

    with pytest.raises(ArtifactError, match=words) as caught:
        write()
    assert caught.value.reason == "IncompleteArtifact"
    assert list(tmp_path.iterdir()) == []


def test_a_file_whose_writer_raises_never_appears(tmp_path):
    def write() -> None:
        with ArrayFileWriter(tmp_path / "a", {"w": (np.float32, (1,))}) as writer:
            writer.write("w", 0, np.ones(1, np.float32))
            raise RuntimeError("the caller's own")

    with pytest.raises(RuntimeError, match="the caller's own"):
        write()
    assert list(tmp_path.iterdir()) == []


def test_a_block_that_does_not_fit_the_layout_is_the_callers_mistake(tmp_path):
    with ArrayFileWriter(tmp_path / "a", {"w": (np.float32, (4,))}) as writer:
        for name, start, values in (
            ("v", 0, np.zeros(4, np.float32)),
            ("w", 0, np.zeros(4, np.float64)),
            ("w", 0, np.zeros((2, 2), np.float32)),
            ("w", 1, np.zeros(4, np.float32)),
            ("w", -1, np.zeros(1, np.float32)),
        ):
            with pytest.raises(ValueError, match="got"):
                writer.write(name, start, values)
        writer.write("w", 0, np.zeros(8, np.float32)[::2])


def test_a_layout_that_the_format_cannot_hold_makes_no_file(tmp_path):
    for layout in ({"w": ("O", (1,))}, {"w": ("f4", (-1,))}, {"__metadata__": ("f4", (1,))}):
        with pytest.raises(ArtifactError):
            ArrayFileWriter(tmp_path / "a", layout)
    assert list(tmp_path.iterdir()) == []


def test_memory_stays_flat_whatever_the_size_of_the_file(tmp_path):
    path = tmp_path / "big.safetensors"
    count, step = 16 * MIB, MIB // 4
    block = np.ones(step, np.float32)
    tracemalloc.start()
    with ArrayFileWriter(path, {"w": (np.float32, (count,))}) as writer:
        for start in range(0, count, step):
            writer.write("w", start, block)
    with ArrayFile(path) as file:
        for start in range(0, count, step):
            file.read_into("w", start, block)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert path.stat().st_size > 64 * MIB
    assert peak_bytes < 2 * MIB
