"""The update's file: lean, readable anywhere, the same whatever its stage, and refused when it is not one."""

from __future__ import annotations

import json
import tracemalloc
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.part_file import PartFile, PartWriter
from components.update_file import Encoding, UpdateFile, write_update
from fedloom.algorithms.layout import BLOCK_ELEMENTS, layout_of
from fedloom.artifacts.arrays import ArrayFile, dump_arrays, load_arrays
from fedloom.errors import ArtifactError, UpdateError

CODECS = ("none", "bf16", "int8", "int4", "topk", "stc", "dgc")
SHAPES = {"a": (300, 70), "b": (), "c": (0, 4), "d.weight": (513,)}


def some_deltas(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    deltas = {name: rng.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}
    return {**deltas, "count": np.array([3.0, 4.0]), "none": np.empty(0)}


def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def opened(data: bytes, encoding: Encoding, deltas: dict[str, np.ndarray]) -> UpdateFile:
    file = ArrayFile.from_bytes(data, "update")
    return UpdateFile(file, layout_of(deltas), encoding.codec, encoding.parameters, encoding.round)


def read_all(update: UpdateFile, deltas: dict[str, np.ndarray], step: int) -> dict[str, np.ndarray]:
    read = {}
    for name, delta in deltas.items():
        out = np.empty(delta.size, delta.dtype)
        for start in range(0, delta.size, step):
            stop = min(start + step, delta.size)
            out[start:stop] = update.read(name, start, stop, np.empty(stop - start, delta.dtype))
        read[name] = out.reshape(delta.shape)
    return read


@pytest.mark.parametrize("codec", CODECS)
def test_zstd_changes_the_bytes_and_nothing_else(codec):
    deltas = some_deltas()
    plain, packed = Encoding(codec, {}), Encoding(codec, {}, "zstd")
    for step in (100, BLOCK_ELEMENTS):
        before = read_all(opened(write_update(deltas, plain, rng()), plain, deltas), deltas, step)
        after = read_all(opened(write_update(deltas, packed, rng()), packed, deltas), deltas, step)
        for name in deltas:
            np.testing.assert_array_equal(before[name], after[name])
    np.testing.assert_array_equal(before["count"], deltas["count"])


def test_what_is_largest_in_the_whole_update_is_sent_and_nothing_else():
    deltas = some_deltas() | {"d.weight": np.linspace(-9, 9, 513, dtype=np.float32)}
    flat = np.concatenate([deltas[name].reshape(-1) for name in ("a", "b", "c", "d.weight")])
    least = np.sort(np.abs(flat))[-round(0.02 * flat.size)]
    mean = np.abs(flat[np.abs(flat) >= least]).mean()
    for codec in ("topk", "stc"):
        encoding = Encoding(codec, {"fraction": 0.02})
        update = opened(write_update(deltas, encoding, rng()), encoding, deltas)
        read = read_all(update, deltas, 100)
        for name in ("a", "b", "c", "d.weight"):
            sent = deltas[name] if codec == "topk" else np.sign(deltas[name]) * mean
            expected = np.where(np.abs(deltas[name]) >= least, sent, 0)
            np.testing.assert_allclose(read[name], expected, rtol=1e-6)
        np.testing.assert_array_equal(read["count"], deltas["count"])
    shares = {name: np.count_nonzero(read[name]) / read[name].size for name in ("a", "d.weight")}
    assert shares["d.weight"] > 0.5
    assert 0 < shares["a"] < 0.01


class HalfRemembered:
    """Remembers by unit, and adds nothing."""

    def __init__(self):
        self.kept = {}

    def outgoing(self, name, delta):
        return delta

    def keep(self, name, outgoing, decoded):
        self.kept[name] = outgoing, decoded


def test_a_memory_sees_what_the_server_will_read():
    deltas, memory = some_deltas(), HalfRemembered()
    encoding = Encoding("stc", {"fraction": 0.1})
    update = opened(write_update(deltas, encoding, rng(), memory), encoding, deltas)
    ((name, (outgoing, decoded)),) = memory.kept.items()
    assert name == "a"
    read = read_all(update, deltas, 1000)
    names = ("a", "b", "c", "d.weight")
    for arrays, flat in ((deltas, outgoing), (read, decoded)):
        np.testing.assert_array_equal(np.concatenate([arrays[n].reshape(-1) for n in names]), flat)


def test_what_shrinks_is_compressed_and_the_rest_is_left():
    zeros, noise = np.zeros(200_000, np.int8), np.random.default_rng(0).bytes(200_000)
    for values, is_smaller in ((zeros, True), (np.frombuffer(noise, np.int8), False)):
        with PartWriter("zstd") as writer:
            writer.add({"codes": values})
            arrays, _ = load_arrays(writer.dump({"of": "x"}))
        assert ("codes.i1" in arrays) is not is_smaller
        assert ("codes.i1.zst" in arrays) is is_smaller


def test_the_header_does_not_grow_with_the_number_of_tensors():
    few = {f"layer.{number:03d}.weight": np.ones(8, np.float32) for number in range(4)}
    many = {f"layer.{number:03d}.weight": np.ones(8, np.float32) for number in range(400)}
    sizes = [len(write_update(each, Encoding("int8", {}), rng())) for each in (few, many)]
    per_tensor = 8 + 4 + 2 * 2  # codes, a scale, two numbers among the sizes
    assert sizes[1] - sizes[0] <= 396 * per_tensor + 24
    assert sizes[0] < 4 * per_tensor + 300


def test_a_codec_that_is_whole_says_nothing_of_tensors_at_all():
    sizes = []
    for count in (1, 400):
        deltas = {f"layer.{n:03d}": np.ones(80_000 // count, np.float32) for n in range(count)}
        sizes.append(len(write_update(deltas, Encoding("stc", {}), rng())))
    assert sizes[0] == sizes[1]


def test_two_rounds_never_give_the_same_bytes():
    deltas = some_deltas()
    first, second = (
        write_update(deltas, Encoding("none", {}, round=number), rng()) for number in (1, 2)
    )
    assert first != second
    with pytest.raises(UpdateError, match=r"got '\w+\.2', expected '\w+\.1'"):
        opened(second, Encoding("none", {}, round=1), deltas)


@pytest.mark.parametrize(
    ("codec", "parameters", "problem"),
    [("int4", {}, "codec: got 'int8', expected"), ("int8", {"blockSize": 16}, "codec: got 'int8'")],
)
def test_another_codec_than_the_job_s_is_refused(codec, parameters, problem):
    deltas = some_deltas()
    data = write_update(deltas, Encoding("int8", {}), rng())
    with pytest.raises(UpdateError, match=problem):
        opened(data, Encoding(codec, parameters), deltas)


def test_an_update_of_another_model_is_refused():
    deltas = some_deltas()
    data = write_update(deltas, Encoding("none", {}), rng())
    renamed = {("e" if name == "b" else name): delta for name, delta in deltas.items()}
    with pytest.raises(UpdateError, match="model and round: got"):
        opened(data, Encoding("none", {}), renamed)


@given(st.lists(st.lists(st.integers(0, 90), max_size=3), min_size=1, max_size=6), st.booleans())
def test_parts_come_back_as_they_were_written(sizes, is_packed):
    names = [f"t{number}" for number in range(len(sizes))]
    kinds = (np.int8, np.float32, np.uint16)
    written = [
        {f"p{kind}": np.full(size, kind + 1, kinds[kind]) for kind, size in enumerate(row)}
        for row in sizes
    ]
    with PartWriter("zstd" if is_packed else "none") as writer:
        for parts in written:
            writer.add(parts)
        data = writer.dump({"of": "x", "y": "z"})
    file = PartFile(ArrayFile.from_bytes(data, "x"), names)
    for name, parts in zip(names, written, strict=True):
        layout = file.layout_of(name)
        assert layout == layout_of(parts)
        for part, values in parts.items():
            np.testing.assert_array_equal(
                file.parts_of(name).read(part, 0, values.size), values, strict=True
            )


def test_a_large_file_is_written_through_the_disk_to_the_same_bytes(tmp_path):
    rng = np.random.default_rng(0)
    parts = [{"codes": rng.integers(0, 4, 3_000_000).astype(np.int8)} for _ in range(3)]
    for lossless in ("none", "zstd"):
        with PartWriter(lossless) as inside, PartWriter(lossless, tmp_path) as outside:
            for each in parts:
                inside.add(each)
                outside.add(each)
            size = outside.write(tmp_path / "file", {"of": "x"})
            data = (tmp_path / "file").read_bytes()
            assert inside.dump({"of": "x"}) == data
            assert size == len(data)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def packed_file(sizes: str | None = "200001", **changes: np.ndarray | None) -> bytes:
    """A compressed part of 200,000 zeros, with some of its tensors changed or left out."""
    with PartWriter("zstd") as writer:
        writer.add({"codes": np.zeros(200_000, np.int8)})
        arrays, metadata = load_arrays(writer.dump({"of": "x"}))
    assert metadata == {"of": "x 200001"}
    arrays |= {name.replace("_", "."): array for name, array in changes.items()}
    arrays = {name: array for name, array in arrays.items() if array is not None}
    return dump_arrays(arrays, {} if sizes is None else {"of": f"x {sizes}"})


WRONG = {
    "no sizes": {"sizes": None},
    "a size too many": {"sizes": "200001 200001"},
    "no number": {"sizes": "many"},
    "a negative size": {"sizes": "-1"},
    "a number of another script": {"sizes": "\u0663"},
    "a length beyond any memory": {"sizes": str(1 << 40)},
    "a number of many digits": {"sizes": "9" * 10_000},
    "one element more": {"sizes": "200002"},
    "one element less": {"sizes": "196609"},
    "no ends": {"codes_i1_ends": None},
    "ends beyond the file": {"codes_i1_ends": np.array([9, 99, 2**31], np.uint32)},
    "ends that go back": {"codes_i1_ends": np.array([15, 9, 20], np.uint32)},
    "frames of nothing": {"codes_i1_zst": np.zeros(45, np.uint8)},
    "no frames": {"codes_i1_zst": None},
    "a raw stream beside it": {"codes_i1": np.zeros(4, np.int8)},
    "a stray stream": {"more": np.zeros(4, np.int8)},
    "a dtype that is none": {"codes_x9": np.zeros(4, np.int8)},
}


def read_codes(data: bytes) -> None:
    parts = PartFile(ArrayFile.from_bytes(data, "x"), ["t"]).parts_of("t")
    parts.read("codes", 0, parts.length("codes"))


@pytest.mark.parametrize("changes", WRONG.values(), ids=WRONG.keys())
def test_a_file_that_contradicts_itself_is_refused_before_memory_is_taken(changes):
    data = packed_file(**changes)
    tracemalloc.start()
    try:
        with pytest.raises((UpdateError, ArtifactError)):
            read_codes(data)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_what_lies_outside_a_part_is_not_read_from_its_neighbour():
    with PartWriter() as writer:
        writer.add({"codes": np.ones(5, np.int8)})
        writer.add({"codes": np.zeros(5, np.int8)})
        file = PartFile(ArrayFile.from_bytes(writer.dump({"of": "x"}), "x"), ["a", "b"])
    for start, stop in ((0, 6), (-1, 2), (3, 2)):
        with pytest.raises(UpdateError, match="part 'codes' of 'a'"):
            file.parts_of("a").read("codes", start, stop)


@given(st.data(), st.sampled_from(["int8", "topk", "stc"]))
def test_a_damaged_file_is_refused_or_read_but_never_crashes(data, codec):
    deltas = {name: np.linspace(-1, 1, 200, dtype=np.float32) for name in "ab"}
    encoding = Encoding(codec, {}, "zstd")
    content = bytearray(write_update(deltas, encoding, rng()))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with suppress(UpdateError, ArtifactError):
        read_all(opened(bytes(content), encoding, deltas), deltas, 100)


def test_the_metadata_is_a_few_words():
    data = write_update(some_deltas(), Encoding("int8", {"blockSize": 64}, round=12), rng())
    length = int.from_bytes(data[:8], "little")
    metadata = json.loads(data[8 : 8 + length])["__metadata__"]
    assert metadata.keys() == {"codec", "of"}
    assert metadata["codec"] == "int8 blockSize=64"
    assert metadata["of"].split()[0].endswith(".12")
