"""Folders in COCO128's format: what is read, what is left out by name, and pictures of every kind."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fedloom.data.folder import pictures_in, read_folder, split_for, splits_of
from fedloom.data.labels import format_labels, parse_labels
from fedloom.data.pictures import GREY, picture_size, read_picture, resize, write_jpeg
from fedloom.errors import DataError

GOOD = "0 0.5 0.5 0.2 0.4\n"


def make_folder(root, labels, split="train2017"):
    """Pictures of 32 x 16 pixels by name, with the text of their labels (None: no file)."""
    for kind in ("images", "labels"):
        (root / kind / split).mkdir(parents=True, exist_ok=True)
    for name, text in labels.items():
        write_jpeg(root / "images" / split / f"{name}.jpg", np.full((16, 32, 3), 90, np.uint8))
        if text is not None:
            (root / "labels" / split / f"{name}.txt").write_text(text)
    return root


def bomb(side):
    """A PNG of a few bytes that says it has so many pixels on each side, and holds none of them."""
    chunks = (
        b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0),
        b"IDAT" + zlib.compress(b"nothing"),
        b"IEND",
    )
    framed = [
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        for chunk in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


def reason_of(call, *arguments):
    with pytest.raises(DataError) as error:
        call(*arguments)
    return error.value.reason, error.value.message


@pytest.mark.parametrize(
    ("line", "reason", "words"),
    [
        ("0 0.5 0.5 0.2", "LabelColumns", "got 4 columns"),
        ("0 0.5 0.5 0.2 0.2 0.9", "LabelColumns", "got 6 columns"),
        ("0 0.1 0.1 0.2 0.2 0.3 0.3 0.4", "LabelColumns", "got 8 columns"),
        ("0 nan 0.5 0.2 0.2", "LabelNumber", "'nan'"),
        ("0 0.5 inf 0.2 0.2", "LabelNumber", "'inf'"),
        ("cat 0.5 0.5 0.2 0.2", "LabelNumber", "'cat'"),
        ("80 0.5 0.5 0.2 0.2", "LabelClass", "got class 80, expected a whole number below 80"),
        ("-1 0.5 0.5 0.2 0.2", "LabelClass", "class -1"),
        ("1.5 0.5 0.5 0.2 0.2", "LabelClass", "class 1.5"),
        ("0 -0.1 0.5 0.2 0.2", "LabelOutside", "got -0.1"),
        ("0 0.5 0.5 1.2 0.2", "LabelOutside", "got 1.2"),
        ("0 0.1 0.1 0.5 1.1 0.3 0.3", "LabelOutside", "got 1.1"),
    ],
)
def test_a_wrong_label_is_refused_with_its_line(line, reason, words):
    found, message = reason_of(parse_labels, GOOD + line, 80, "a.txt")
    assert found == reason
    assert message.startswith("a.txt, line 2: ")
    assert words in message


def test_boxes_are_read_and_lines_that_are_there_twice_count_once():
    boxes = parse_labels(GOOD + "\n" + GOOD + "79 0 1 1 0.25", 80)
    assert boxes.dtype == np.float32
    assert boxes == pytest.approx(np.array([[0, 0.5, 0.5, 0.2, 0.4], [79, 0, 1, 1, 0.25]]))
    assert parse_labels("", 80).shape == (0, 5)


def test_a_polygon_stands_for_the_box_around_it():
    boxes = parse_labels("2 0.1 0.2 0.5 0.4 0.3 0.8", 3)
    assert boxes == pytest.approx(np.array([[2, 0.3, 0.5, 0.4, 0.6]]))


@given(
    st.lists(
        st.tuples(st.integers(0, 79), *[st.integers(0, 10**6).map(lambda n: n / 10**6)] * 4),
        unique=True,
        max_size=20,
    )
)
def test_what_is_written_is_read_back(rows):
    boxes = np.array(rows, np.float32).reshape(-1, 5)
    assert parse_labels(format_labels(boxes), 80) == pytest.approx(boxes, abs=1e-6)


def test_a_picture_with_a_bad_label_file_is_left_out_by_name(tmp_path):
    labels = {"a": GOOD, "b": "0 2 2 2 2", "c": None, "d": ""}
    found = read_folder(make_folder(tmp_path, labels))
    assert [sample.path.stem for sample in found.samples] == ["a", "c", "d"]
    assert str(found) == "3 images, 2 label files, 1 boxes"
    assert [(f.path.stem, f.reason) for f in found.findings] == [("b", "LabelOutside")]
    assert "b.txt, line 1" in str(found.findings[0])


def test_labels_that_are_no_text_are_named(tmp_path):
    root = make_folder(tmp_path, {"a": GOOD, "b": GOOD})
    (root / "labels/train2017/b.txt").write_bytes(b"\xff\xfe\x00")
    assert read_folder(root).findings[0].reason == "LabelText"


def test_corrupt_pictures_are_found_when_asked_for(tmp_path):
    root = make_folder(tmp_path, {"a": GOOD, "b": GOOD})
    picture = root / "images/train2017/b.jpg"
    picture.write_bytes(picture.read_bytes()[:300])
    assert not read_folder(root).findings
    found = read_folder(root, decode=True)
    assert [(f.path.stem, f.reason) for f in found.findings] == [("b", "CorruptImage")]
    assert str(found) == "1 images, 1 label files, 1 boxes"


def test_the_set_is_found_inside_of_the_folder_that_a_dataset_names(tmp_path):
    make_folder(tmp_path / "coco128", {"a": GOOD})
    assert str(read_folder(tmp_path)) == "1 images, 1 label files, 1 boxes"
    make_folder(tmp_path / "other", {"a": GOOD})
    assert reason_of(read_folder, tmp_path)[0] == "AmbiguousFolder"


def test_splits_are_chosen_by_name_with_or_without_a_year(tmp_path):
    make_folder(tmp_path, {"a": GOOD}, "train2017")
    make_folder(tmp_path, {"b": GOOD, "c": GOOD}, "val")
    assert splits_of(tmp_path) == ("train2017", "val")
    assert [len(read_folder(tmp_path, s).samples) for s in ("train", "val", None)] == [1, 2, 3]
    reason, message = reason_of(read_folder, tmp_path, "test")
    assert reason == "NoSuchSplit"
    assert "train2017, val" in message


def test_the_folder_may_name_its_classes(tmp_path):
    root = make_folder(tmp_path, {"a": GOOD, "b": "2 0.5 0.5 0.1 0.1"})
    (root / "classes.txt").write_text("ring\ncross\n")
    found = read_folder(root)
    assert found.classes == ("ring", "cross")
    assert found.findings[0].reason == "LabelClass"


@pytest.mark.parametrize("content", [(), ("images",), ("images/train2017",)])
def test_a_folder_without_pictures_is_refused(tmp_path, content):
    for name in content:
        (tmp_path / name).mkdir(parents=True)
    assert reason_of(read_folder, tmp_path)[0] == "NoImages"


@pytest.mark.parametrize(
    ("mode", "colour", "suffix", "expected"),
    [
        pytest.param("L", 80, "png", (80, 80, 80), id="grey"),
        pytest.param("CMYK", (0, 255, 255, 0), "jpg", (255, 0, 0), id="CMYK"),
        pytest.param("RGBA", (200, 0, 0, 255), "png", (200, 0, 0), id="opaque"),
        pytest.param("RGBA", (200, 0, 0, 0), "png", (GREY,) * 3, id="transparent"),
        pytest.param("LA", (10, 0), "png", (GREY,) * 3, id="transparent grey"),
        pytest.param("1", 1, "png", (255, 255, 255), id="black and white"),
        pytest.param("RGB", (1, 2, 3), "bmp", (1, 2, 3), id="bitmap"),
    ],
)
def test_every_usual_kind_of_picture_is_read_as_rgb(tmp_path, mode, colour, suffix, expected):
    path = tmp_path / f"picture.{suffix}"
    Image.new(mode, (20, 10), colour).save(path)
    pixels = read_picture(path)
    assert (pixels.shape, pixels.dtype) == ((10, 20, 3), np.uint8)
    assert np.abs(pixels.astype(int) - expected).max() <= 3


def test_a_picture_is_turned_as_its_camera_says(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (20, 10)).save(tmp_path / "a.jpg", exif=exif)
    assert read_picture(tmp_path / "a.jpg").shape == (20, 10, 3)
    assert picture_size(tmp_path / "a.jpg") == (10, 20)
    Image.new("RGB", (20, 10)).save(tmp_path / "b.jpg")
    assert picture_size(tmp_path / "b.jpg") == (20, 10)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        pytest.param(lambda p: p.write_bytes(b"not a picture"), "CorruptImage", id="text"),
        pytest.param(lambda p: p.write_bytes(b""), "CorruptImage", id="empty"),
        pytest.param(lambda p: Image.new("RGB", (1, 1)).save(p), "ImageTooSmall", id="1x1"),
        pytest.param(lambda p: Image.new("RGB", (500, 7)).save(p), "ImageTooSmall", id="low"),
        pytest.param(
            lambda p: Image.new("I;16", (20, 20)).save(p), "UnsupportedImage", id="16 bit"
        ),
        pytest.param(
            lambda p: Image.new("1", (8000, 7000)).save(p), "ImageTooLarge", id="56 million pixels"
        ),
        pytest.param(
            lambda p: p.write_bytes(bomb(20_000)), "ImageTooLarge", id="400 million pixels"
        ),
    ],
)
def test_what_is_no_usable_picture_is_refused_by_name(tmp_path, make, reason):
    path = tmp_path / "a.png"
    make(path)
    found, message = reason_of(read_picture, path)
    assert found == reason
    assert str(path) in message


@pytest.mark.parametrize("cut", range(40, 1200, 130))
def test_a_file_cut_short_anywhere_is_refused(tmp_path, cut):
    path = tmp_path / "a.png"
    noise = np.random.default_rng(0).integers(0, 256, (20, 20, 3)).astype(np.uint8)
    Image.fromarray(noise).save(path)
    whole = path.read_bytes()
    assert cut < len(whole) - 12
    path.write_bytes(whole[:cut])
    assert reason_of(read_picture, path)[0] == "CorruptImage"


def test_a_picture_in_its_own_size_stays_as_it_is():
    pixels = np.arange(300, dtype=np.uint8).reshape(10, 10, 3)
    assert resize(pixels, 10, 10) is pixels
    assert resize(pixels, 5, 20).shape == (20, 5, 3)


def names_for(root, purpose):
    return [path.stem for path in pictures_in(root, split_for(root, purpose))]


@pytest.mark.parametrize(
    ("splits", "trained", "tried"),
    [
        pytest.param({"train2017": "ab"}, "ab", "ab", id="COCO128, tried on what it is trained on"),
        pytest.param({"train2017": "ab", "val2017": "c"}, "ab", "c", id="train and val"),
        pytest.param({"train": "a", "validation": "c", "test": "d"}, "a", "c", id="all three"),
        pytest.param({"train": "a", "test2017": "d"}, "a", "d", id="no val: test"),
        pytest.param({"": "ab"}, "ab", "ab", id="no folders"),
        pytest.param({"": "ab", "val": "c"}, "ab", "c", id="val beside what is in no folder"),
        pytest.param(
            {"hall": "a", "yard": "b", "val": "c"}, "ab", "c", id="folders of other names"
        ),
        pytest.param({"hall": "a", "yard": "b"}, "ab", "ab", id="no splits among the folders"),
        pytest.param({"train": "a", "hall": "b", "val": "c"}, "a", "c", id="train says what it is"),
    ],
)
def test_what_is_held_back_is_not_trained_on(tmp_path, splits, trained, tried):
    for split, names in splits.items():
        make_folder(tmp_path, dict.fromkeys(names, GOOD), split)
    assert "".join(sorted(names_for(tmp_path, "train"))) == trained
    assert "".join(sorted(names_for(tmp_path, "val"))) == tried


def test_a_folder_with_nothing_but_pictures_to_try_on_has_none_to_train_on(tmp_path):
    make_folder(tmp_path, {"a": GOOD}, "val2017")
    reason, message = reason_of(pictures_in, tmp_path, split_for(tmp_path, "train"))
    assert reason == "NoSuchSplit"
    assert "got val2017, expected one called train or a list train.txt" in message


@pytest.mark.parametrize(
    "line",
    [
        "images/all/a.jpg",
        "./images/all/a.jpg",
        "/elsewhere/coco/images/all/a.jpg",
        " images/all/a.jpg ",
    ],
)
def test_a_list_names_the_pictures_of_a_split(tmp_path, line):
    make_folder(tmp_path, {"a": GOOD, "b": GOOD, "c": GOOD}, "all")
    (tmp_path / "train.txt").write_text(f"{line}\n\nimages/all/c.jpg\n")
    (tmp_path / "val2017.txt").write_text("images/all/b.jpg\n")
    (tmp_path / "classes.txt").write_text("thing\n")
    assert names_for(tmp_path, "train") == ["a", "c"]
    assert names_for(tmp_path, "val") == ["b"]
    assert str(read_folder(tmp_path, "train")).startswith("2 images, 2 label files")


@pytest.mark.parametrize("folder", ["all", "train2017"])
def test_what_a_list_holds_back_is_not_trained_on(tmp_path, folder):
    make_folder(tmp_path, {"a": GOOD, "b": GOOD}, folder)
    (tmp_path / "val.txt").write_text(f"images/{folder}/b.jpg\n")
    assert (names_for(tmp_path, "train"), names_for(tmp_path, "val")) == (["a"], ["b"])


@pytest.mark.parametrize(
    "line", ["images/all/none.jpg", "a.jpg", "images/../secret.jpg", "images/all", "images"]
)
def test_a_list_that_names_no_picture_of_the_folder_is_refused_by_line(tmp_path, line):
    make_folder(tmp_path, {"a": GOOD}, "all")
    write_jpeg(tmp_path / "secret.jpg", np.full((16, 32, 3), 90, np.uint8))
    (tmp_path / "train.txt").write_text(f"images/all/a.jpg\n{line}\n")
    reason, message = reason_of(pictures_in, tmp_path, "train")
    assert reason == "ListedPicture"
    assert f"train.txt, line 2: got '{line}'" in message
