"""The loss: known answers, which cells answer for a box, and that it can be trained with."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

from detector.boxes import complete_iou, corners, iou_of_corners  # noqa: E402  after torch's question
from detector.head import ANCHORS, STRIDES  # noqa: E402
from detector.loss import Gains, loss_of  # noqa: E402
from detector.targets import assign  # noqa: E402

BOXES = torch.tensor(
    [
        (0, 0, 0.53, 0.53, 0.20, 0.30),
        (0, 2, 0.27, 0.74, 0.10, 0.08),
        (1, 1, 0.90, 0.10, 0.18, 0.18),
        (1, 0, 0.41, 0.45, 0.75, 0.60),
    ]
)
NO_BOXES = torch.zeros(0, 6)
GAINS = Gains(box=0.05, classes=0.5 * 3 / 80, objectness=1.0)
SIZE = 64


@pytest.fixture
def raw(known):
    made = []
    for stride in STRIDES:
        shape = (2, 3, SIZE // stride, SIZE // stride, 8)
        count = torch.Size(shape).numel()
        level = torch.from_numpy((known(count) - 0.5) * 2).float().view(shape)
        made.append(level.requires_grad_())
    return made


@pytest.fixture
def anchors():
    return torch.tensor(ANCHORS)


def test_the_known_boxes_match_the_known_number_of_cells(anchors):
    matches = assign(BOXES, [(SIZE // stride, SIZE // stride) for stride in STRIDES], anchors)
    assert [len(level) for level in matches] == [27, 12, 3]


def test_the_known_predictions_have_the_known_loss_and_gradients(raw, anchors):
    loss = loss_of(raw, BOXES, anchors, GAINS)
    loss.total.backward()
    assert loss.box.item() == pytest.approx(0.1199406, abs=2e-6)
    assert loss.objectness.item() == pytest.approx(4.0741367, abs=2e-6)
    assert loss.classes.item() == pytest.approx(0.0376758, abs=2e-6)
    assert loss.total.item() == pytest.approx(8.4635067, abs=5e-6)
    gradients = [level.grad.abs().sum().item() for level in raw]
    assert gradients == pytest.approx([4.005737, 1.077894, 0.43797], rel=1e-5)


def test_pictures_without_any_box_only_train_the_objectness(raw, anchors):
    loss = loss_of(raw, NO_BOXES, anchors, GAINS)
    loss.total.backward()
    assert loss.objectness.item() == pytest.approx(4.0755153, abs=2e-6)
    assert loss.total.item() == pytest.approx(8.1510305, abs=5e-6)
    assert (loss.box.item(), loss.classes.item()) == (0, 0)
    assert not raw[0].grad[..., :4].any()
    assert not raw[0].grad[..., 5:].any()


def test_complete_iou_has_its_known_value():
    a, b = torch.tensor([10.0, 10, 4, 6]), torch.tensor([11.0, 9, 6, 4])
    assert iou_of_corners(corners(a), corners(b)).item() == pytest.approx(0.5, abs=1e-6)
    assert complete_iou(a, b).item() == pytest.approx(0.4651370, abs=1e-6)
    assert complete_iou(a, a).item() == pytest.approx(1, abs=1e-6)


def test_complete_iou_falls_with_distance_where_iou_is_zero():
    box = torch.tensor([10.0, 10, 4, 4])
    near, far = torch.tensor([20.0, 10, 4, 4]), torch.tensor([40.0, 10, 4, 4])
    assert 0 > complete_iou(box, near) > complete_iou(box, far)


@pytest.mark.parametrize(
    ("place", "cells"),
    [
        pytest.param((4.2, 4.3), {(4, 4), (3, 4), (4, 3)}, id="left and above"),
        pytest.param((4.7, 4.8), {(4, 4), (5, 4), (4, 5)}, id="right and below"),
        pytest.param((4.2, 4.8), {(4, 4), (3, 4), (4, 5)}, id="left and below"),
        pytest.param((0.2, 0.3), {(0, 0)}, id="no cell beyond the upper left corner"),
        pytest.param((7.7, 7.8), {(7, 7)}, id="no cell beyond the lower right corner"),
        pytest.param((4.5, 4.5), {(4, 4)}, id="in the middle of its cell"),
        pytest.param((8.0, 8.0), {(7, 7)}, id="on the edge of the picture"),
    ],
)
def test_a_box_is_predicted_by_its_cell_and_the_nearer_neighbours(anchors, place, cells):
    box = torch.tensor([[0, 0, place[0] / 8, place[1] / 8, 0.2, 0.2]])
    found = assign(box, [(8, 8), (4, 4), (2, 2)], anchors)[0]
    _, _, row, column = found.cells
    assert set(zip(column.tolist(), row.tolist(), strict=True)) == cells


def test_what_a_match_asks_for_can_be_predicted(anchors):
    torch.manual_seed(3)
    boxes = torch.cat([torch.zeros(50, 2), torch.rand(50, 2), 0.02 + 0.9 * torch.rand(50, 2)], 1)
    for matches in assign(boxes, [(8, 8), (4, 4), (2, 2)], anchors):
        assert (matches.boxes[:, :2] >= -0.5).all()
        assert (matches.boxes[:, :2] <= 1.5).all()
        assert (matches.boxes[:, 2:] / matches.anchors < 4).all()


def test_of_two_boxes_that_share_a_cell_the_later_counts(anchors):
    raw = [torch.ones(1, 3, 64 // s, 64 // s, 8) for s in STRIDES]
    boxes = torch.tensor([[0, 0, 0.5625, 0.5625, 0.15, 0.2], [0, 1, 0.57, 0.57, 0.3, 0.3]])
    first = loss_of(raw, boxes, anchors, GAINS).objectness
    swapped = loss_of(raw, boxes.flip(0), anchors, GAINS).objectness
    assert first.item() != pytest.approx(swapped.item(), abs=1e-6)


def test_one_class_needs_no_class_loss(anchors):
    raw = [torch.rand(2, 3, 64 // s, 64 // s, 6) for s in STRIDES]
    boxes = BOXES.clone()
    boxes[:, 1] = 0
    assert loss_of(raw, boxes, anchors, GAINS).classes == 0


def test_the_published_gains_follow_the_size_and_the_classes():
    assert Gains.published(640, 80) == Gains(0.05, 0.5, 1.0)
    assert Gains.published(64, 3).objectness == pytest.approx(0.01)
    assert Gains.published(64, 3).classes == pytest.approx(0.01875)
