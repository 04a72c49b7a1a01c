"""The detector in two halves: what edges extract, what the cloud trains on, and bad pictures by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import fedloom
from fedloom.data.generator import Order, make_sets
from fedloom.data.pictures import write_jpeg
from fedloom.errors import UpdateError
from fedloom.training.split import TRAINING, TRIAL

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

from detector.checkpoints import write_network  # noqa: E402  after the question whether torch is here
from detector.network import Network, Shape  # noqa: E402
from detector.recipe import SMALL_RECIPE  # noqa: E402
from detector.split_detector import Setting, SplitDetector  # noqa: E402

PICO = Shape("pico", 3, anchor_scale=0.6)
QUICK = replace(SMALL_RECIPE, epochs=2, batch_size=4, nominal_batch=4)
SETTING = Setting(PICO, cut_layer=4, size=64, recipe=QUICK, device="cpu")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return make_sets(tmp_path_factory.mktemp("set"), Order(images=6, held_out=0, size=64))[0]


class Clean:
    """Features as they are extracted, as floats."""

    def __init__(self, model, extractor, home):
        examples = model.examples(str(home), TRAINING)
        self.pairs = [(model.extract(extractor, model.load(e)), model.labels(e)) for e in examples]

    def __len__(self):
        return len(self.pairs)

    def read(self, index):
        return self.pairs[index]


def test_both_parts_together_are_the_pretrained_network(tmp_path):
    network = Network(PICO)
    write_network(tmp_path / "network.safetensors", network)
    model = SplitDetector(replace(SETTING, pretrained=tmp_path / "network.safetensors"))
    parts = model.initialize(seed=1)
    assert parts.extractor.keys().isdisjoint(parts.tail)
    together = {**parts.extractor, **parts.tail}
    state = network.state_dict()
    assert together.keys() == state.keys()
    assert all(np.array_equal(together[name], state[name].numpy()) for name in state)


def test_a_pretrained_file_of_another_network_is_refused(tmp_path):
    write_network(tmp_path / "network.safetensors", Network(Shape("pico", 2, anchor_scale=0.6)))
    model = SplitDetector(replace(SETTING, pretrained=tmp_path / "network.safetensors"))
    with pytest.raises(ValueError, match=r"classes=2.*expected.*classes=3"):
        model.initialize(seed=1)


@pytest.mark.parametrize("cut_layer", [1, 3, 5])
def test_features_have_the_shape_that_is_announced(home, cut_layer):
    model = SplitDetector(replace(SETTING, cut_layer=cut_layer))
    image = model.load(model.examples(str(home), TRAINING)[0])
    assert (image.shape, image.dtype) == ((64, 64, 3), np.float32)
    assert 0 <= image.min() <= image.max() <= 1
    features = model.extract(model.initialize(1).extractor, image)
    assert (features.shape, features.dtype) == (model.shape, np.float32)


def test_the_same_picture_gives_the_same_bits(home):
    model = SplitDetector(SETTING)
    extractor, example = model.initialize(1).extractor, model.examples(str(home), TRAINING)[0]
    first = model.extract(extractor, model.load(example))
    other = SplitDetector(SETTING).extract(extractor, model.load(example))
    assert first.tobytes() == other.tobytes()


def test_what_decides_about_features_is_in_the_description():
    described = [
        SplitDetector(setting).description
        for setting in (SETTING, replace(SETTING, size=96), replace(SETTING, cut_layer=3))
    ]
    assert described[0] == SplitDetector(replace(SETTING, recipe=SMALL_RECIPE)).description
    assert described[0] != described[1]
    assert described[0] != described[2]


def test_a_tail_is_trained_and_tried_on_features(home):
    model = SplitDetector(SETTING)
    parts = model.initialize(1)
    features = Clean(model, parts.extractor, home)
    before = {name: array.copy() for name, array in parts.tail.items()}
    update = model.train(parts.tail, features, fedloom.Round(1, 1, seed=3))
    again = SplitDetector(SETTING).train(parts.tail, features, fedloom.Round(1, 1, seed=3))
    assert (update.num_examples, update.num_steps) == (6, 4)
    assert all(np.array_equal(before[name], parts.tail[name]) for name in before)
    assert all(np.array_equal(update.model[name], again.model[name]) for name in before)
    assert any(not np.array_equal(update.model[name], before[name]) for name in before)
    found = model.evaluate(update.model, features)
    assert found.num_examples == 6
    assert found.metrics.keys() == {"mAP50", "mAP50-95"}


def test_features_that_were_read_stay_as_they_are(home):
    model = SplitDetector(replace(SETTING, recipe=replace(QUICK, epochs=1)))
    parts = model.initialize(1)
    features = Clean(model, parts.extractor, home)
    before = [(values.copy(), labels.copy()) for values, labels in features.pairs]
    model.train(parts.tail, features, fedloom.Round(1, 1, seed=3))
    for (values, labels), pair in zip(before, features.pairs, strict=True):
        assert np.array_equal(values, pair[0])
        assert np.array_equal(labels, pair[1])


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        pytest.param(lambda p: p.write_bytes(b"broken"), "no picture", id="corrupt"),
        pytest.param(lambda p: write_jpeg(p, np.zeros((1, 1, 3), np.uint8)), "1 x 1", id="1x1"),
    ],
)
def test_a_picture_that_cannot_be_used_is_refused_by_name(tmp_path, spoil, words):
    home = make_sets(tmp_path, Order(images=1, held_out=0, size=64))[0]
    model = SplitDetector(SETTING)
    spoil(next((home / "coco128/images/train2017").iterdir()))
    example = model.examples(str(home), TRAINING)[0]
    for read in (model.load, model.labels):
        with pytest.raises(UpdateError, match=words) as error:
            read(example)
        assert error.value.reason == "BadExample"
        assert example.source in error.value.message


@pytest.mark.parametrize("line", ["2 0.5 0.5 0.2 0.2", "7 0.5 0.5 0.2 0.2", "0 nan 0.5 0.2 0.2"])
def test_labels_that_are_none_are_refused_by_name(tmp_path, line):
    home = make_sets(tmp_path, Order(images=1, held_out=0, size=64))[0]
    model = SplitDetector(replace(SETTING, network=Shape("pico", 2)))
    label = next((home / "coco128/labels/train2017").iterdir())
    label.write_text(line)
    with pytest.raises(UpdateError) as error:
        model.labels(model.examples(str(home), TRAINING)[0])
    assert error.value.reason == "BadExample"


@pytest.mark.parametrize(
    ("wrong", "words"), [({"cut_layer": 6}, "more than one tensor"), ({"size": 100}, "of 32")]
)
def test_a_setting_that_cannot_be_is_refused(wrong, words):
    with pytest.raises(ValueError, match=words):
        replace(SETTING, **wrong)


def test_only_pictures_to_train_on_are_released_and_only_others_tried(tmp_path):
    home = make_sets(tmp_path, Order(images=3, held_out=2, size=64))[0]
    model = SplitDetector(SETTING)
    folders = {
        purpose: {(Path(e.source).parent.name, e.split) for e in model.examples(str(home), purpose)}
        for purpose in (TRAINING, TRIAL)
    }
    assert folders == {TRAINING: {("train2017", "train")}, TRIAL: {("val2017", "val")}}


def test_of_a_folder_without_splits_all_is_released(tmp_path):
    home = make_sets(tmp_path, Order(images=3, held_out=0, size=64))[0] / "coco128"
    for kind in ("images", "labels"):
        (home / kind / "train2017").rename(tmp_path / kind)
    found = SplitDetector(SETTING).examples(str(tmp_path), TRAINING)
    assert [each.split for each in found] == ["", "", ""]
