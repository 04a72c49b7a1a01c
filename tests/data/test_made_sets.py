"""Made sets: the same order gives the same files, boxes fit what is seen, and the command says it all."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
from click.testing import CliRunner

from cli.main import commands
from fedloom.data.folder import read_folder
from fedloom.data.generator import Order, make_sets
from fedloom.data.painting import paint
from fedloom.data.pictures import read_picture
from fedloom.data.shapes import PRIVATE, PUBLIC
from fedloom.errors import DataError

SMALL = Order(images=4, held_out=2, size=64)


def digests(folder):
    """Every file below a folder, by its path there."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_same_order_gives_the_same_bytes(tmp_path):
    make_sets(tmp_path / "a", SMALL)
    make_sets(tmp_path / "b", SMALL)
    made = digests(tmp_path / "a")
    assert made == digests(tmp_path / "b")
    assert len(made) == 4 + 2 + 4 + 2 + 2


def test_another_seed_gives_other_pictures(tmp_path):
    make_sets(tmp_path / "a", SMALL)
    make_sets(tmp_path / "b", Order(images=4, held_out=2, size=64, seed=2))
    pictures = [
        {digest for name, digest in digests(tmp_path / side).items() if name.endswith("jpg")}
        for side in "ab"
    ]
    assert len(pictures[0]) == len(pictures[1]) == 6
    assert pictures[0].isdisjoint(pictures[1])


def test_a_larger_set_begins_with_the_smaller_one(tmp_path):
    make_sets(tmp_path / "a", SMALL)
    make_sets(tmp_path / "b", Order(images=6, held_out=2, size=64))
    small, large = digests(tmp_path / "a"), digests(tmp_path / "b")
    record = "coco128/made.json"
    assert small.items() - {(record, small[record])} <= large.items()


def test_pixels_are_the_same_on_every_machine():
    rng = np.random.Generator(np.random.PCG64(5))
    pixels, boxes = paint(list(PRIVATE.values())[:3], 64, rng, bands=True)
    digest = hashlib.sha256(pixels.tobytes() + boxes.tobytes()).hexdigest()
    assert digest[:16] == "c6fbba0a5ceb23bb"


def test_edges_get_sets_of_their_own_and_one_is_held_out(tmp_path):
    homes = make_sets(tmp_path, Order(images=3, held_out=2, size=64, edges=2))
    assert [str(home.relative_to(tmp_path)) for home in homes] == ["1/COCO", "2/COCO", "val/COCO"]
    assert [len(read_folder(home).samples) for home in homes] == [3, 3, 2]
    pictures = [d for name, d in digests(tmp_path).items() if name.endswith("jpg")]
    assert len(set(pictures)) == 8
    assert len(read_folder(homes[2], "val").samples) == 2


def test_as_in_the_real_set_two_of_128_pictures_have_no_boxes(tmp_path):
    home = make_sets(tmp_path, Order(images=128, held_out=0, size=32))[0]
    found = read_folder(home, decode=True)
    assert (len(found.samples), found.label_files, found.findings) == (128, 126, ())
    assert found.classes == ("ring", "cross", "diamond")
    assert {int(kind) for sample in found.samples for kind in sample.boxes[:, 0]} == {0, 1, 2}


def test_public_and_private_classes_have_nothing_in_common():
    assert list(PUBLIC) == ["disc", "square", "triangle"]
    assert list(PRIVATE)[:3] == ["ring", "cross", "diamond"]
    assert PUBLIC.keys().isdisjoint(PRIVATE)


@pytest.mark.parametrize("name", [*PUBLIC, *PRIVATE])
def test_every_shape_fills_its_square_and_can_be_found_there(name):
    mask = (PUBLIC | PRIVATE)[name]
    axis = np.linspace(-1.5, 1.5, 121)
    covered = mask(axis[None, :], axis[:, None])
    y, x = np.nonzero(covered)
    assert covered.mean() > 0.05
    assert max(np.abs(axis[x]).max(), np.abs(axis[y]).max()) <= 1.25


@pytest.mark.parametrize("bands", [False, True])
def test_boxes_are_tight_around_what_is_seen(bands):
    for seed in range(6):
        drawn, boxes = paint(
            [PRIVATE["frame"]], 96, np.random.Generator(np.random.PCG64(seed)), bands
        )
        assert drawn.shape == (96, 96, 3)
        assert 1 <= len(boxes) <= 4
        assert (boxes[:, 1:3] - boxes[:, 3:] / 2 >= 0).all()
        assert (boxes[:, 1:3] + boxes[:, 3:] / 2 <= 1).all()
        assert (boxes[:, 3:] * 96 >= 8).all()


def test_a_set_that_is_there_is_not_made_again(tmp_path):
    home = make_sets(tmp_path, SMALL)[0]
    picture = next((home / "coco128/images").rglob("*.jpg"))
    picture.write_bytes(b"mine")
    make_sets(tmp_path, SMALL)
    assert picture.read_bytes() == b"mine"


@pytest.mark.parametrize("order", [Order(images=5, held_out=2, size=64), SMALL])
def test_a_folder_of_something_else_is_left_alone(tmp_path, order):
    (tmp_path / "coco128/images").mkdir(parents=True)
    (tmp_path / "coco128/images/mine.jpg").write_bytes(b"mine")
    with pytest.raises(DataError, match="something else") as error:
        make_sets(tmp_path, order)
    assert error.value.reason == "FolderInUse"
    assert (tmp_path / "coco128/images/mine.jpg").read_bytes() == b"mine"


def test_nothing_is_made_where_one_of_several_sets_is_in_the_way(tmp_path):
    (tmp_path / "2/COCO/coco128").mkdir(parents=True)
    with pytest.raises(DataError, match="something else"):
        make_sets(tmp_path, Order(images=3, held_out=2, size=64, edges=2))
    assert not (tmp_path / "1").exists()


def test_a_set_that_was_interrupted_is_made_anew(tmp_path):
    unfinished = tmp_path / ".coco128-unfinished/images/train2017"
    unfinished.mkdir(parents=True)
    (unfinished / "old.jpg").write_bytes(b"old")
    make_sets(tmp_path, SMALL)
    assert len(read_folder(tmp_path).samples) == 6
    assert not (tmp_path / ".coco128-unfinished").exists()


@pytest.mark.parametrize(
    "wrong",
    [
        *({"images": 0}, {"classes": 9}, {"classes": 0}, {"size": 8}, {"seed": -1}),
        *(
            {"edges": -1},
            {"held_out": -1},
            {"family": "secret"},
            {"family": "public", "classes": 4},
        ),
    ],
    ids=str,
)
def test_an_order_that_cannot_be_is_refused(wrong):
    with pytest.raises(DataError, match=f"{list(wrong)[-1]}: got"):
        Order(**wrong)


def run(*arguments):
    return CliRunner().invoke(commands, ["data", "coco128", *map(str, arguments)])


def test_the_command_makes_and_checks_sets(tmp_path):
    made = run("--make", tmp_path, "--images", 3, "--held-out", 2, "--size", 64, "--edges", 2)
    assert made.exit_code == 0, made.output
    assert made.output.count("3 images, 3 label files") == 2
    checked = run("--check", tmp_path / "1" / "COCO")
    assert checked.exit_code == 0
    assert (
        checked.output.splitlines()
        == made.output.replace("COCO:", "COCO/coco128:").splitlines()[:1]
    )
    record = json.loads((tmp_path / "1/COCO/coco128/made.json").read_text())
    assert (record["seed"], record["edge"]) == (1, 1)


def test_the_command_names_what_it_cannot_use_and_fails(tmp_path):
    run("--make", tmp_path, "--images", 3, "--held-out", 0, "--size", 64)
    first, second, _ = sorted((tmp_path / "coco128/images/train2017").iterdir())
    first.write_bytes(read_picture(first).tobytes())
    labels = tmp_path / "coco128/labels/train2017" / second.with_suffix(".txt").name
    labels.write_text("3 0.5 0.5 0.1 0.1\n")
    found = run("--check", tmp_path)
    assert found.exit_code == 1
    assert "1 images, 1 label files" in found.output
    assert f"left out: CorruptImage: {first}" in found.output
    assert f"left out: LabelClass: {labels}, line 1: got class 3" in found.output


def test_the_command_wants_to_know_what_to_do(tmp_path):
    assert run().exit_code == 2
    assert run("--make", tmp_path, "--check", tmp_path).exit_code == 2
