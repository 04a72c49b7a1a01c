"""Training: samples as batches, changes that keep boxes right, rates, and a loss that goes down."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import fedloom
from fedloom.data.folder import Sample
from fedloom.data.generator import Order, make_sets
from fedloom.data.pictures import GREY, write_jpeg
from fedloom.errors import DataError

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

from detector.augmentation import LIGHT, NONE, PUBLISHED, Augmentation, mirrored  # noqa: E402
from detector.evaluation import evaluate  # noqa: E402
from detector.letterbox import letterbox  # noqa: E402
from detector.network import Network, Shape, split  # noqa: E402
from detector.recipe import (  # noqa: E402
    PUBLISHED_RECIPE,
    SMALL_RECIPE,
    Recipe,
    Warmup,
    device_of,
)
from detector.samples import Batch, Samples, clipped, square_of  # noqa: E402
from detector.training import MovingAverage, Source, Trainer, pictures_of  # noqa: E402

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "06-mistnet-yolov5"
PICO = Shape("pico", 3, anchor_scale=0.6)
QUICK = replace(SMALL_RECIPE, epochs=2, batch_size=4, nominal_batch=4)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return make_sets(tmp_path_factory.mktemp("set"), Order(images=8, held_out=4, size=64))[0]


@pytest.fixture(scope="module")
def samples(home):
    return Samples(home, 64, 3, "train")


@pytest.fixture
def network():
    torch.manual_seed(0)
    return Network(PICO)


class OnePicture:
    """A dark picture with one bright box, whatever index is asked for."""

    size = 64

    def __init__(self, left, top, right, bottom):
        self.pixels = np.zeros((64, 64, 3), np.uint8)
        self.pixels[top:bottom, left:right] = 255
        middle = [(left + right) / 128, (top + bottom) / 128]
        self.boxes = np.array([[1, *middle, (right - left) / 64, (bottom - top) / 64]], np.float32)

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return self.pixels.copy(), self.boxes.copy()


def seen(pixels):
    """Left, top, right, bottom of what is bright."""
    rows, columns = np.nonzero((pixels.min(axis=2) > 180).any(1))[0], None
    columns = np.nonzero((pixels.min(axis=2) > 180).any(0))[0]
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])


@pytest.mark.parametrize("shape", [(30, 60), (60, 30), (200, 100), (64, 64), (9, 63)])
def test_a_letterboxed_box_stays_on_its_object(shape):
    height, width = shape
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 3, width // 2 :] = 255
    box = np.array([[0, 0.75, (height // 3) / height / 2, 0.5, (height // 3) / height]], np.float32)
    square, placement = letterbox(pixels, 64)
    (_, x, y, w, h) = placement.to_square(box, 64)[0] * 64
    corners = np.array([[x - w / 2, y - h / 2, x + w / 2, y + h / 2]], np.float32)
    assert square.shape == (64, 64, 3)
    assert np.abs(corners[0] - seen(square)).max() <= 1.5
    back = placement.to_picture(corners)[0]
    assert back == pytest.approx([width // 2, 0, width, height // 3], abs=width / 60)


def test_around_a_letterboxed_picture_it_is_grey():
    square, _ = letterbox(np.zeros((10, 40, 3), np.uint8), 64)
    assert (square[:24] == GREY).all()
    assert (square[24:40] == 0).all()
    assert (square[40:] == GREY).all()


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(
    "changes",
    [
        Augmentation(flip=1.0),
        Augmentation(shift=0.2, scale=0.3),
        replace(PUBLISHED, mosaic=0.0),
    ],
    ids=["flip", "shift and scale", "published"],
)
def test_boxes_move_with_what_they_are_around(changes, seed):
    changes = replace(changes, hue=0.0, saturation=0.0, value=0.0)
    pictures = OnePicture(20, 24, 44, 40)
    pixels, boxes = changes.apply(pictures, 0, np.random.default_rng(seed))
    _, x, y, w, h = boxes[0] * 64
    corners = np.array([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
    assert np.abs(corners - seen(pixels)).max() <= 1.5


def test_a_mosaic_has_boxes_of_four_pictures_inside_of_it():
    counts = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        pixels, boxes = PUBLISHED.apply(OnePicture(20, 24, 44, 40), 0, rng)
        assert pixels.shape == (64, 64, 3)
        assert (boxes[:, 1:3] - boxes[:, 3:] / 2 >= -1e-6).all()
        assert (boxes[:, 1:3] + boxes[:, 3:] / 2 <= 1 + 1e-6).all()
        counts.append(len(boxes))
    assert max(counts) >= 3


def test_no_changes_change_nothing():
    pictures = OnePicture(20, 24, 44, 40)
    pixels, boxes = NONE.apply(pictures, 0, np.random.default_rng(0))
    assert np.array_equal(pixels, pictures.pixels)
    assert np.array_equal(boxes, pictures.boxes)
    assert np.array_equal(mirrored(*mirrored(pixels, boxes))[0], pixels)


def test_colours_change_and_shapes_stay():
    changes = Augmentation(hue=0.4, saturation=0.5, value=0.4)
    pictures = OnePicture(20, 24, 44, 40)
    pictures.pixels[..., 1] //= 2
    pixels, boxes = changes.apply(pictures, 0, np.random.default_rng(1))
    assert not np.array_equal(pixels, pictures.pixels)
    assert np.array_equal(pixels[:24], pictures.pixels[:24])
    assert np.array_equal(boxes, pictures.boxes)


def test_boxes_that_reach_out_of_the_picture_are_cut_and_others_stay():
    boxes = np.array([[0, 0.1, 0.5, 0.4, 0.2], [1, 0.3, 0.3, 0.1, 0.1]], np.float32)
    cut = clipped(boxes)
    assert cut[0] == pytest.approx([0, 0.15, 0.5, 0.3, 0.2])
    assert np.array_equal(cut[1], boxes[1])


def test_an_epoch_depends_on_its_seed_alone(samples):
    def inputs(seed):
        return [batch.inputs for batch in samples.epoch(3, seed, LIGHT)]

    first, again, other = inputs(1), inputs(1), inputs(2)
    assert [len(batch) for batch in first] == [3, 3, 2]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])


def test_a_batch_has_pictures_in_zero_to_one_and_targets_by_index(samples):
    batch = next(iter(samples.in_order(4)))
    assert (batch.inputs.shape, batch.inputs.dtype) == ((4, 3, 64, 64), torch.float32)
    assert 0 <= batch.inputs.min() <= batch.inputs.max() <= 1
    assert batch.targets.shape[1] == 6
    assert set(batch.targets[:, 0].tolist()) <= {0, 1, 2, 3}


def test_pictures_that_cannot_be_used_are_left_out_by_name(tmp_path, caplog):
    home = make_sets(tmp_path, Order(images=3, held_out=0, size=64))[0]
    first, *others = sorted((home / "coco128/images/train2017").iterdir())
    first.write_bytes(b"broken")
    found = Samples(home, 64, 3)
    assert len(found) == 2
    assert [(f.path, f.reason) for f in found.findings] == [(first, "CorruptImage")]
    assert str(first) in caplog.text
    for path in others:
        write_jpeg(path, np.zeros((1, 1, 3), np.uint8))
    with pytest.raises(DataError, match="none of 3 pictures"):
        Samples(home, 64, 3)


def test_a_network_for_fewer_classes_is_not_trained_on_more(home):
    with pytest.raises(DataError, match="the network has 2 classes") as error:
        Samples(home, 64, 2)
    assert error.value.reason == "TooManyClasses"


@pytest.mark.parametrize("size", [0, 16, 100])
def test_a_size_that_the_strides_do_not_divide_is_refused(home, size):
    with pytest.raises(ValueError, match=f"size: got {size}, expected a multiple of 32"):
        Samples(home, size, 3)


def test_pictures_beyond_the_cache_are_read_again(home, monkeypatch):
    monkeypatch.setattr("detector.samples._CACHE_BYTES", 2 * 64 * 64 * 3)
    found = Samples(home, 64, 3, "train")
    whole = [square_of(Sample(path, found[i][1]), 64)[0] for i, path in enumerate(found.paths)]
    assert len(whole) == 8
    assert all(np.array_equal(found[i][0], pixels) for i, pixels in enumerate(whole))


def trained(samples, recipe=QUICK):
    torch.manual_seed(0)
    network = Network(PICO)
    done = Trainer(network, recipe).run(pictures_of(samples, recipe, seed=5))
    return network, done


def test_training_lowers_the_loss_and_repeats_itself(samples):
    recipe = replace(QUICK, epochs=6, augmentation=NONE)
    first, done = trained(samples, recipe)
    again, _ = trained(samples, recipe)
    assert [progress.steps for progress in done] == [2, 4, 6, 8, 10, 12]
    assert done[-1].loss < done[0].loss
    state, other = first.state_dict(), again.state_dict()
    assert all(torch.equal(state[name], other[name]) for name in state)


def test_a_tail_is_trained_on_what_an_extractor_gives_and_the_extractor_stays(network, samples):
    extractor, tail = split(network.eval(), 4)
    before = {name: value.clone() for name, value in extractor.state_dict().items()}
    with torch.no_grad():
        features = [Batch(extractor(b.inputs), b.targets) for b in samples.in_order(4)]
    done = Trainer(tail, QUICK).run(Source(lambda epoch: features, len(samples), samples.size))
    assert math.isfinite(done[-1].loss)
    assert all(torch.equal(before[n], v) for n, v in extractor.state_dict().items())
    weight = "layers.5.conv.weight"
    assert not torch.equal(tail.state_dict()[weight], network.state_dict()[weight])
    found = evaluate(lambda x: tail(extractor(x)), samples, tail.head.anchors)
    assert 0 <= found.map <= found.map50 <= 1


def test_a_loss_that_is_no_number_ends_the_training(network, samples):
    with torch.no_grad():
        network.layers["0"].conv.weight.fill_(math.nan)
    with pytest.raises(FloatingPointError, match="the loss of batch 1 is nan"):
        Trainer(network, QUICK).run(pictures_of(samples, QUICK, 0))


def test_weights_decay_in_convolutions_only():
    optimizer = PUBLISHED_RECIPE.make_optimizer(Network(PICO))
    decays = [group["weight_decay"] for group in optimizer.param_groups]
    assert decays == [pytest.approx(5e-4), 0, 0]
    dims = [{p.dim() for p in group["params"]} for group in optimizer.param_groups]
    assert dims == [{4}, {1}, {1}]
    count = sum(p.numel() for group in optimizer.param_groups for p in group["params"])
    assert count == sum(p.numel() for p in Network(PICO).parameters())
    assert isinstance(optimizer, torch.optim.SGD)
    assert optimizer.defaults["nesterov"]


def test_gradients_are_gathered_up_to_the_nominal_batch(network, samples):
    recipe = Recipe(
        epochs=4,
        batch_size=4,
        nominal_batch=8,
        learning_rate=1e-3,
        warmup=Warmup(0.0, 0),
        augmentation=NONE,
    )
    done = Trainer(network, recipe).run(pictures_of(samples, recipe, 0))
    assert [progress.steps for progress in done] == [1, 2, 3, 4]


def test_rates_warm_up_and_then_fall():
    recipe = Recipe(final_rate=0.2)
    assert [recipe.rate(at) for at in (0, 0.5, 1)] == pytest.approx([1, 0.6, 0.2])
    cosine = replace(recipe, schedule="cosine")
    assert [cosine.rate(at) for at in (0, 0.5, 1)] == pytest.approx([1, 0.6, 0.2])
    assert cosine.rate(0.25) > recipe.rate(0.25)
    assert Warmup().steps(steps_per_epoch=8, total=2400) == 100
    assert Warmup().steps(steps_per_epoch=100, total=30_000) == 300
    assert Warmup().steps(steps_per_epoch=8, total=24) == 8


def test_the_moving_average_is_short_at_first(network):
    average = MovingAverage(network)
    name = "layers.1.conv.weight"
    with torch.no_grad():
        network.state_dict()[name].fill_(1.0)
    average.update(network)
    assert torch.allclose(average.module.state_dict()[name], torch.ones(()), atol=1e-3)


@pytest.mark.parametrize(
    "wrong",
    [
        *({"epochs": 0}, {"batch_size": 0}, {"learning_rate": math.nan}, {"optimizer": "lion"}),
        *({"schedule": "steps"}, {"clip": 0.0}),
    ],
    ids=str,
)
def test_a_recipe_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}: got"):
        Recipe(**wrong)


def test_the_device_is_a_gpu_where_there_is_one():
    assert device_of("cpu").type == "cpu"
    assert device_of().type == ("cuda" if torch.cuda.is_available() else "cpu")


def run(*command, **variables):
    import os

    environment = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_pretraining_command_makes_its_data_and_both_files(tmp_path):
    output = run(
        *(EXAMPLE / "pretrain.py", "--images", 8, "--epochs", 1, "--size", 64, "--network", "pico"),
        *("--data", tmp_path / "data", "--output", tmp_path / "output"),
    )
    told = json.loads(output)
    assert told.keys() == {"seconds", "mAP50", "mAP50-95"}
    from detector.checkpoints import read_extractor, read_network

    network = read_network(tmp_path / "output/pretrained.safetensors")
    extractor = read_extractor(tmp_path / "output/extractor.safetensors", network.shape, 4)
    assert network.shape == PICO
    assert torch.equal(
        extractor(torch.ones(1, 3, 64, 64)), split(network, 4)[0](torch.ones(1, 3, 64, 64))
    )


@pytest.fixture
def trainer_class():
    """The class that the script hands to fedloom.main."""
    import runpy

    from fedloom.training.script import received_by

    received = []
    with received_by(received.append):
        runpy.run_path(str(EXAMPLE / "train_fedavg.py"))
    return received[0]


def test_the_fedavg_script_initializes_trains_and_evaluates(trainer_class, home, tmp_path):
    settings = {"imageSize": 64, "batchSize": 4, "learningRate": 1e-3, "epochs": 1}
    client = fedloom.Client("edge-1", str(home), settings, tmp_path, seed=3)
    first = trainer_class.initialize(1)
    assert all(np.array_equal(first[n], a) for n, a in trainer_class.initialize(1).items())
    given = {name: array.copy() for name, array in first.items()}
    detector, round_ = trainer_class(client), fedloom.Round(1, 2, seed=9)
    update = detector.train(given, round_)
    assert (update.num_examples, update.num_steps) == (8, 2)
    assert update.model.keys() == first.keys()
    assert all(np.array_equal(given[name], first[name]) for name in first)
    again = trainer_class(client).train(first, round_)
    assert all(np.array_equal(update.model[n], again.model[n]) for n in first)
    found = detector.evaluate(update.model, round_)
    assert found.num_examples == 4
    assert found.metrics.keys() == {"mAP50", "mAP50-95"}


@pytest.mark.parametrize("part", [0, 4], ids=["the whole network", "a tail"])
def test_what_is_forgotten_and_worked_out_again_gives_the_same_bits(samples, monkeypatch, part):
    """Large batches are trained on with less memory: nothing else may differ, statistics least of all."""
    states = []
    for most in (math.inf, 0):
        monkeypatch.setattr("detector.training._MOST_PIXELS", most)
        torch.manual_seed(0)
        network = Network(PICO)
        extractor, tail = split(network, 4)
        model = network if part == 0 else tail
        run_again = []
        model.layers["9"].register_forward_pre_hook(lambda *_, seen=run_again: seen.append(1))

        def epoch(number, extractor=extractor):
            for batch in samples.epoch(4, number):
                inputs = batch.inputs if part == 0 else extractor(batch.inputs).detach()
                yield Batch(inputs, batch.targets)

        Trainer(model, replace(QUICK, average=False)).run(Source(epoch, len(samples), 64))
        states.append((model.state_dict(), len(run_again)))
    (kept, once), (forgot, twice) = states
    assert twice == 2 * once, "else nothing was forgotten"
    assert all(torch.equal(kept[name], forgot[name]) for name in kept)
