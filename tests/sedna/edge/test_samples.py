"""How many samples a dataset has: agreement with counting by hand, and what is not looked at."""

from __future__ import annotations

import json
import os
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.edge.counting import Counting
from controller.edge.samples import Samples
from controller.edge.storage import Storage
from fedloom.errors import JobError


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


@pytest.fixture
def samples(data):
    return Samples((str(data),))


def count(samples: Samples, path, kind: str) -> int:
    return samples.count(samples.locate(str(path)), kind)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", 0),
        ("\n\n", 0),
        ("a", 1),
        ("a\n", 1),
        ("a\r\nb\r\n", 2),
        ("a\n \nb", 2),
        (" a\n\n\n", 1),
    ],
)
def test_lines_of_a_txt_and_of_a_csv_without_its_header(samples, data, text, lines):
    for kind in ("txt", "csv"):
        (data / f"f.{kind}").write_bytes(text.encode())
    assert count(samples, data / "f.txt", "txt") == lines
    assert count(samples, data / "f.csv", "csv") == max(0, lines - 1)


@given(
    st.lists(st.sampled_from([b"\n", b"ab", b" ", b"\r\n", b"x y"]), max_size=30), st.integers(1, 5)
)
def test_lines_are_the_same_whatever_the_size_of_the_pieces(tmp_path_factory, parts, size):
    import controller.edge.samples as module

    folder = tmp_path_factory.mktemp("lines")
    (folder / "f.txt").write_bytes(b"".join(parts))
    reference = sum(bool(line.strip()) for line in b"".join(parts).split(b"\n"))
    before, module._PIECE = module._PIECE, size
    try:
        assert count(Samples((str(folder),)), folder / "f.txt", "txt") == reference
    finally:
        module._PIECE = before


def test_the_first_dimension_of_arrays(samples, data):
    np.savez(data / "same.npz", x=np.zeros((7, 2)), y=np.zeros(7), scale=np.float32(2))
    np.savez_compressed(data / "named.npz", x=np.zeros((5, 2)), mean=np.zeros(2))
    np.savez(data / "odd.npz", p=np.zeros(3), q=np.zeros(4))
    np.save(data / "one.npy", np.zeros((11, 3)))
    assert count(samples, data / "same.npz", "npz") == 7
    assert count(samples, data / "named.npz", "npz") == 5
    assert count(samples, data / "one.npy", "npy") == 11
    with pytest.raises(JobError, match="different lengths"):
        count(samples, data / "odd.npz", "npz")


def test_objects_in_arrays_are_counted_without_being_unpickled(samples, data):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(data / "exploded"),)

    np.save(data / "objects.npy", np.array([Bomb(), Bomb()], dtype=object), allow_pickle=True)
    assert count(samples, data / "objects.npy", "npy") == 2
    assert not (data / "exploded").exists()


def test_images_with_labels_in_the_layout_of_yolo(samples, data):
    for name in ("1.jpg", "2.JPG", "3.png"):
        path = data / "coco128/images/train2017" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    labels = data / "coco128/labels/train2017"
    labels.mkdir(parents=True)
    for name in ("1.txt", "2.txt", "9.txt"):
        (labels / name).touch()
    (data / "coco128/README.txt").touch()
    assert count(samples, data, "dir") == 2


def test_images_with_annotations_of_a_coco_index(samples, data):
    (data / "annotations").mkdir()
    (data / "val").mkdir()
    index = {
        "images": [{"id": n} for n in range(4)],
        "annotations": [{"image_id": 0}, {"image_id": 0}, {"image_id": 2}, {"image_id": 77}],
    }
    (data / "annotations/instances_val.json").write_text(json.dumps(index))
    (data / "val/0.jpg").touch()
    assert count(samples, data, "dir") == 2


@pytest.mark.parametrize(
    "index",
    ['{"images": ["a"], "annotations": []}', '{"images": [{}], "annotations": [3]}', "[" * 100_000],
    ids=["no images", "no annotations", "deep"],
)
def test_an_index_that_is_none_keeps_no_other_dataset_from_being_counted(
    samples, data, tmp_path, index
):
    (data / "set").mkdir()
    (data / "set/annotations.json").write_text(index)
    (data / "z.txt").write_text("a\nb\n")
    storage = Storage(tmp_path / "state", 100)
    for name, url, kind in (("a", "set", "dir"), ("z", "z.txt", "txt")):
        spec = {"url": str(data / url), "format": kind, "nodeName": "e"}
        storage.put("datasets", {"metadata": {"namespace": "ns", "name": name}, "spec": spec}, "v")
    Counting(storage, samples, "e").look()
    assert (storage.count("ns", "a"), storage.count("ns", "z")[1]) == (None, 2)
    storage.close()


def test_files_of_any_other_folder(samples, data):
    (data / "sub").mkdir()
    for name in ("a", "b.txt", "sub/c", ".hidden"):
        (data / name).touch()
    assert count(samples, data, "dir") == 3


@pytest.mark.parametrize("url", ["data/x", "", "/etc/passwd", "/data/../etc/passwd", "/x\0y"])
def test_urls_outside_are_not_followed(samples, data, url):
    with pytest.raises(JobError) as error:
        samples.locate(url)
    assert error.value.reason == "DatasetOutside"


def test_links_that_lead_outside_are_not_followed(samples, data, tmp_path):
    (tmp_path / "secret.txt").write_text("1\n2\n")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/x").touch()
    (data / "link.txt").symlink_to(tmp_path / "secret.txt")
    (data / "folder").symlink_to(tmp_path / "secrets")
    (data / "inside.txt").write_text("1\n")
    (data / "again.txt").symlink_to(data / "inside.txt")
    with pytest.raises(JobError):
        samples.locate(str(data / "link.txt"))
    assert count(samples, data, "dir") == 2
    assert count(samples, data / "again.txt", "txt") == 1


def test_pipes_and_damage_are_refused_and_block_nothing(samples, data):
    os.mkfifo(data / "pipe.txt")
    (data / "bad.npz").write_bytes(b"PK\x03\x04 no archive")
    (data / "empty.npy").touch()
    (data / "x.tfrecord").touch()
    cases = [("pipe.txt", "txt"), ("bad.npz", "npz"), ("empty.npy", "npy"), ("x.tfrecord", "tfr")]
    for name, kind in cases:
        with pytest.raises(JobError) as error:
            count(samples, data / name, kind)
        assert error.value.reason == "DatasetUncountable"


def test_a_prefix_stands_before_the_nodes_paths(tmp_path):
    (tmp_path / "host/data").mkdir(parents=True)
    (tmp_path / "host/data/x.txt").write_text("1\n2\n")
    samples = Samples(("/data",), tmp_path / "host")
    assert samples.count(samples.locate("/data/x.txt"), "txt") == 2
    with pytest.raises(JobError):
        samples.locate("/host/data/x.txt")


def test_what_did_not_change_is_not_read_again(data, tmp_path):
    class Watched(Samples):
        reads = 0

        def count(self, path, kind):
            Watched.reads += 1
            return super().count(path, kind)

    storage = Storage(tmp_path / "state", 100)
    spec = {"url": str(data / "x.txt"), "format": "TXT", "nodeName": "edge-1"}
    meta = {"namespace": "ns", "name": "d", "uid": "u1"}
    storage.put("datasets", {"metadata": meta, "spec": spec}, "v")
    far = {"metadata": {**meta, "name": "far"}, "spec": {**spec, "url": "s3://bucket/x.txt"}}
    storage.put("datasets", far, "v")
    counting = Counting(storage, Watched((str(data),)), "edge-1")
    counting.look()
    assert (Watched.reads, storage.waiting()) == (0, 0), "a missing file is looked for again later"
    (data / "x.txt").write_text("1\n2\n")
    for _ in range(3):
        counting.look()
    assert (Watched.reads, storage.waiting()) == (1, 1)
    (data / "x.txt").write_text("3\n4\n")
    os.utime(data / "x.txt", ns=(time.time_ns(), time.time_ns() + 10**9))
    counting.look()
    assert (Watched.reads, storage.waiting()) == (2, 1), "other lines, as many as before"
    (data / "x.txt").write_text("5\n")
    counting.look()
    message = storage.next_message()
    storage.delivered(message.sequence)
    assert message.path == "/ns/datasets/d/status"
    assert storage.next_message().body["numberOfSamples"] == 1
    storage.close()
