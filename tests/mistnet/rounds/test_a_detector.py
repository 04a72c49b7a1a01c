"""A YOLOv5 in torch goes through the same round as a classifier in numpy."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from fedloom.artifacts.arrays import load_arrays
from fedloom.artifacts.layout import model_key
from fedloom.data.generator import Order, make_sets

torch = pytest.importorskip("torch")
pytestmark = [pytest.mark.torch, pytest.mark.slow]

EXAMPLE = Path(__file__).resolve().parents[3] / "examples/06-mistnet-yolov5"


@pytest.fixture
def detection(job):
    """The job with the detector of example 06, half as wide, on pictures of 64 pixels."""
    shutil.copytree(EXAMPLE / "detector", job.folder / "detector")
    shutil.copy(EXAMPLE / "train_mistnet.py", job.folder)
    for number, name in enumerate(("a", "b", "c", "held-out")):
        shutil.rmtree(job.folder / name)
        order = Order(images=8, held_out=0, size=64, seed=number)
        (home,) = make_sets(job.folder / "made" / name, order)
        home.rename(job.folder / name)
    network = {"network": "pico", "classes": 3, "imageSize": 64, "device": "cpu"}
    job.spec["hyperparameters"] = {"epochs": 1, "batchSize": 8, "learningRate": 0.001, **network}
    job.parameters["cutLayer"] = 4
    for worker in job.spec["trainingWorkers"]:
        worker["template"]["spec"]["containers"][0]["command"][1] = "train_mistnet.py"
    return job


def test_a_detector_is_trained_in_one_round_with_its_map_and_its_report(detection):
    result = detection.run_well()
    assert result["metrics"].keys() >= {"mAP50", "clean/mAP50", "train/loss"}, result["metrics"]
    report = detection.report()
    assert report["r"] == 32 * 8 * 8, "half of yolov5n's 64 channels, an eighth of the side"
    assert report["images"] == 24
    assert report["labels"]["count"] > 24 // 2
    before, after = (load_arrays(detection.store() / model_key(number))[0] for number in (0, 1))
    assert before.keys() == after.keys()
    same = [name for name in before if np.array_equal(before[name], after[name])]
    first = detection.result(number=0)["state"]["extractor"]
    extractor = load_arrays(detection.store() / first["key"])[0]
    assert extractor.keys() <= set(same)
    assert len(same) < len(before) / 2 + len(extractor)


def test_a_cut_behind_which_one_tensor_is_not_enough_is_refused_with_the_reason(detection):
    detection.parameters["cutLayer"] = 6
    decision = detection.run()
    assert decision.reason == "NoInitialModel"
    assert "expected an integer from 1 to 5: after layer 5 the rest also reads" in decision.message


def test_a_state_dict_of_torch_is_begun_with(detection):
    detection.run_well()
    arrays = load_arrays(detection.folder / "out/model.safetensors")[0]
    state = {name: torch.from_numpy(array) for name, array in arrays.items()}
    torch.save(state, detection.folder / "yolov5.pth")
    detection.spec["pretrainedModel"] = {"name": "first"}
    metadata = {"name": "first", "namespace": "default"}
    spec = {"url": "yolov5.pth", "format": "pth"}
    detection.extra = [
        {"apiVersion": "sedna.io/v1alpha1", "kind": "Model", "metadata": metadata, "spec": spec}
    ]
    detection.forget()
    detection.run_well()
    begun = load_arrays(detection.store() / model_key(0))[0]
    assert begun.keys() == arrays.keys()
    assert all(np.array_equal(begun[name], arrays[name]) for name in arrays)
