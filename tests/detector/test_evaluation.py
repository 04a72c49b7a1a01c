"""Detections: suppression as its definition says, precision as pycocotools' known answer."""

from __future__ import annotations

import numpy as np
import pytest

from fedloom.errors import DataError

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

from detector.boxes import iou_of_corners  # noqa: E402  after the question whether torch is here
from detector.evaluation import Truth, precision_of, truths_of  # noqa: E402
from detector.head import ANCHORS, STRIDES  # noqa: E402
from detector.nms import Detections, Thresholds, detect, suppress  # noqa: E402


def boxes_of(*sized):
    """Corners from left, top, width, height."""
    rows = torch.tensor(sized, dtype=torch.float32).view(-1, 4)
    return torch.cat([rows[:, :2], rows[:, :2] + rows[:, 2:]], 1)


NOTHING = Detections(boxes_of(), torch.zeros(0), torch.zeros(0, dtype=torch.long))
TRUTHS = [
    Truth(boxes_of((10, 10, 20, 20), (40, 40, 10, 10), (5, 40, 12, 8)), torch.tensor([0, 0, 1])),
    Truth(boxes_of((20, 20, 30, 30)), torch.tensor([0])),
]
FOUND = [
    Detections(
        boxes_of((11, 11, 20, 20), (0, 0, 8, 8), (41, 41, 10, 10), (5, 40, 12, 8)),
        torch.tensor([0.9, 0.8, 0.7, 0.6]),
        torch.tensor([0, 0, 0, 1]),
    ),
    Detections(
        boxes_of((22, 22, 30, 30), (1, 1, 5, 5)), torch.tensor([0.5, 0.4]), torch.tensor([0, 1])
    ),
]


def test_the_known_detections_have_the_known_precision():
    found = precision_of(TRUTHS, FOUND, classes=2)
    assert found.map == pytest.approx(0.7336634, abs=1e-6)
    assert found.map50 == pytest.approx(0.9170792, abs=1e-6)
    assert found.map75 == pytest.approx(0.75, abs=1e-6)
    assert found.recall == pytest.approx(0.7833333, abs=1e-6)
    assert found.metrics() == {"mAP50": found.map50, "mAP50-95": found.map}


def test_pictures_without_detections_count_as_missed(capsys):
    assert precision_of(TRUTHS, [NOTHING, NOTHING], classes=2).map50 == 0
    assert 0 < precision_of(TRUTHS, [FOUND[0], NOTHING], classes=2).map50 < 0.9
    assert capsys.readouterr().out == ""


def test_precision_without_any_box_is_refused():
    nothing = Truth(boxes_of(), torch.zeros(0, dtype=torch.long))
    with pytest.raises(DataError, match="no box") as error:
        precision_of([nothing], [FOUND[0]], classes=2)
    assert error.value.reason == "NoBoxes"


def test_a_perfect_detector_has_precision_one():
    found = [Detections(t.boxes, torch.ones(len(t.boxes)), t.classes) for t in TRUTHS]
    assert precision_of(TRUTHS, found, classes=2).map == pytest.approx(1)


def test_targets_become_boxes_in_pixels_of_their_picture():
    targets = torch.tensor([[1, 2, 0.5, 0.5, 0.25, 0.5]])
    first, second = truths_of(targets, pictures=2, size=64)
    assert len(first.boxes) == 0
    assert second.boxes.tolist() == [[24, 16, 40, 48]]
    assert second.classes.tolist() == [2]


def greedy(boxes, scores, classes, overlap):
    """The definition, word by word."""
    kept = []
    for i in sorted(range(len(scores)), key=lambda i: -scores[i]):
        rivals = [j for j in kept if classes[j] == classes[i]]
        if all(iou_of_corners(boxes[i], boxes[j]) <= overlap for j in rivals):
            kept.append(i)
    return kept


@pytest.mark.parametrize("seed", range(5))
def test_suppression_keeps_what_its_definition_says(seed):
    rng = np.random.default_rng(seed)
    sized = np.concatenate([rng.uniform(0, 40, (60, 2)), rng.uniform(10, 25, (60, 2))], axis=1)
    boxes, scores = boxes_of(*sized.tolist()), torch.from_numpy(rng.random(60))
    classes = torch.from_numpy(rng.integers(0, 3, 60))
    kept = suppress(boxes, scores, classes, Thresholds(overlap=0.3))
    assert kept.tolist() == greedy(boxes, scores, classes, 0.3)
    assert len(kept) < 60


def test_no_more_detections_than_allowed_are_kept():
    boxes = boxes_of(*[(20 * i, 0, 10, 10) for i in range(10)])
    kept = suppress(boxes, torch.arange(10.0), torch.zeros(10).long(), Thresholds(most=4))
    assert kept.tolist() == [9, 8, 7, 6]


def test_a_box_may_be_found_as_two_classes_and_unlikely_ones_are_not_found():
    raw = [torch.full((2, 3, 64 // s, 64 // s, 7), -12.0) for s in STRIDES]
    raw[0][0, 1, 3, 4] = torch.tensor([0.0, 0, 0, 0, 9, 9, 1])
    found, nothing = detect(raw, torch.tensor(ANCHORS))
    assert len(nothing) == 0
    assert found.classes.tolist() == [0, 1]
    assert found.scores.tolist() == pytest.approx([0.9998, 0.7310], abs=1e-3)
    width, height = ANCHORS[0][1]
    middle = torch.tensor([4.5 * 8, 3.5 * 8])
    half = torch.tensor([width / 2, height / 2])
    assert torch.allclose(found.boxes[0], torch.cat([middle - half, middle + half]))
