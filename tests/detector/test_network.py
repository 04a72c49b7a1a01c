"""The network is YOLOv5: parameter counts, known outputs, and what a cut leaves on either side."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

from detector.head import decode  # noqa: E402  after the question whether torch is here
from detector.network import (  # noqa: E402
    Network,
    Shape,
    check_cut,
    join,
    parameters_of,
    released_shape,
    split,
)

LAYERS_WITH_PARAMETERS = (*range(11), 13, 14, 17, 18, 20, 21, 23, 24)
PER_LAYER = {
    "n": "1760 4672 4800 18560 29184 73984 156928 295424 296448 164608 33024 90880 8320 22912 36992 "
    "74496 147712 296448 115005",
    "s": "3520 18560 18816 73984 115712 295424 625152 1180672 1182720 656896 131584 361984 33024 90880 "
    "147712 296448 590336 1182720 229245",
}
COUNTS = [
    pytest.param(Shape("n", 80), 1_872_157, 29_792, id="n"),
    pytest.param(Shape("s", 80), 7_235_389, 114_880, id="s"),
    pytest.param(Shape("n", 3), 1_767_976, 29_792, id="n, 3 classes"),
    pytest.param(Shape("n", 1), 1_765_270, 29_792, id="n, 1 class"),
    pytest.param(Shape("pico", 80), 499_981, 7_984, id="pico"),
    pytest.param(Shape("s", 80, "v5"), 7_276_605, 114_880, id="s of v5.0"),
]


def set_known(network, known):
    """The weights of the known answers: evenly spread by fan-in, normalisation as it starts."""
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.Conv2d):
                count = module.weight.numel()
                bound = (6 / (count // module.weight.shape[0])) ** 0.5
                values = torch.from_numpy((2 * known(count) - 1) * bound).float()
                module.weight.copy_(values.view_as(module.weight))
                if module.bias is not None:
                    module.bias.zero_()
    return network.eval()


@pytest.fixture
def picture(known):
    return torch.from_numpy(known(3 * 64 * 64)).float().view(1, 3, 64, 64)


def summary(tensor):
    return [tensor.mean().item(), tensor.std(correction=0).item()]


@pytest.mark.parametrize(("shape", "total", "edge"), COUNTS)
def test_the_parameters_are_as_many_as_published(shape, total, edge):
    network = Network(shape)
    extractor, tail = split(network, 4)
    assert parameters_of(network) == total
    assert (parameters_of(extractor), parameters_of(tail)) == (edge, total - edge)


@pytest.mark.parametrize("size", ["n", "s"])
def test_every_layer_has_the_parameters_of_its_published_one(size):
    network = Network(Shape(size, 80))
    counts = {int(name): parameters_of(layer) for name, layer in network.layers.items()}
    expected = dict(zip(LAYERS_WITH_PARAMETERS, map(int, PER_LAYER[size].split()), strict=True))
    assert {name: count for name, count in counts.items() if count} == expected


@dataclass(frozen=True)
class Known:
    """What a network of this size gives: mean and deviation of layer 3 and of the finest map, ..."""

    size: str
    third: tuple[float, float]
    positive: int
    finest: tuple[float, float]
    decoded: float
    row: tuple[float, ...]


@pytest.mark.parametrize(
    "answer",
    [
        Known(
            *("n", (0.08834, 0.307363), 2116, (0.000854, 0.077363), 2.12055),
            (4.10495, 3.91386, 9.88706, 13.23663, 0.51169, 0.49646),
        ),
        Known(
            *("s", (0.0067, 0.173193), 3751, (-0.00087, 0.037945), 2.122066),
            (4.06418, 4.00853, 9.96023, 12.66471, 0.50055, 0.49484),
        ),
    ],
    ids=lambda answer: answer.size,
)
def test_known_weights_give_the_known_outputs(known, picture, answer):
    network = set_known(Network(Shape(answer.size, 80)), known)
    with torch.no_grad():
        edge = split(network, 4)[0](picture)
        raw = network(picture)
        boxes = decode(raw, network.head.anchors)
    assert summary(edge) == pytest.approx(answer.third, abs=2e-6)
    assert int((edge > 0).sum()) == answer.positive
    assert summary(raw[0]) == pytest.approx(answer.finest, abs=2e-6)
    assert boxes.shape == (1, 252, 85)
    assert boxes.mean().item() == pytest.approx(answer.decoded, abs=1e-5)
    assert boxes[0, 0, :6].tolist() == pytest.approx(answer.row, abs=2e-5)


def test_the_deeper_maps_of_n_are_the_known_ones_too(known, picture):
    network = set_known(Network(Shape("n", 80)), known)
    with torch.no_grad():
        held = split(network, 5)[0](picture)
        _, middle, coarse = network(picture)
        finest = network.run(picture)[17]
    assert summary(held) == pytest.approx((0.056197, 0.19224), abs=2e-6)
    assert summary(finest) == pytest.approx((0.009891, 0.054209), abs=2e-6)
    assert summary(middle) == pytest.approx((-0.000244, 0.012568), abs=2e-6)
    assert summary(coarse) == pytest.approx((0.000284, 0.004332), abs=2e-6)


def test_the_narrowest_network_gives_its_known_outputs(known, picture):
    network = set_known(Network(Shape("pico", 80)), known)
    with torch.no_grad():
        edge = split(network, 4)[0](picture)
        finest = network(picture)[0]
    assert edge.mean().item() == pytest.approx(0.060889, abs=2e-6)
    assert int((edge > 0).sum()) == 1123
    assert summary(finest) == pytest.approx((0.003979, 0.040758), abs=2e-6)


@pytest.mark.parametrize("layout", ["v6", "v5"])
@pytest.mark.parametrize("cut_layer", [1, 2, 3, 4, 5])
def test_both_halves_of_a_cut_network_do_what_the_whole_does(picture, layout, cut_layer):
    torch.manual_seed(1)
    whole = Network(Shape("pico", 3, layout)).eval()
    extractor, tail = split(whole, cut_layer)
    with torch.no_grad():
        released = extractor(picture)
        apart, together = tail(released), whole(picture)
        rejoined = join(extractor, tail)(picture)
    assert released.shape[1:] == released_shape(whole.shape, cut_layer, 64)
    assert all(torch.equal(a, b) for a, b in zip(apart, together, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(rejoined, together, strict=True))
    assert extractor.state_dict().keys().isdisjoint(tail.state_dict())
    assert extractor.state_dict().keys() | tail.state_dict().keys() == whole.state_dict().keys()


@pytest.mark.parametrize(
    ("cut_layer", "reason"),
    [(6, "more than one tensor"), (24, "more than one"), (0, "one at least"), (-1, "one at least")],
)
def test_a_cut_elsewhere_is_refused_with_its_reason(cut_layer, reason):
    with pytest.raises(ValueError, match=reason):
        check_cut(cut_layer)
    with pytest.raises(ValueError, match=f"got {cut_layer}, expected an integer from 1 to 5"):
        check_cut(cut_layer)


@pytest.mark.parametrize("value", ["4", 4.0, True, None])
def test_a_cut_that_is_no_integer_is_refused(value):
    with pytest.raises(ValueError, match="cut_layer: got"):
        check_cut(value)


def test_halves_of_different_networks_are_not_joined():
    extractor, _ = split(Network(Shape("pico", 3)), 4)
    for other in (split(Network(Shape("pico", 3)), 5)[1], split(Network(Shape("pico", 2)), 4)[1]):
        with pytest.raises(ValueError, match="tail: got"):
            join(extractor, other)


@pytest.mark.parametrize(
    "wrong", [{"size": "x"}, {"classes": 0}, {"layout": "v7"}], ids=lambda wrong: next(iter(wrong))
)
def test_a_network_that_there_is_not_is_refused(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}: got"):
        Shape(**wrong)


def test_the_head_begins_with_few_objects():
    head = Network(Shape("pico", 80)).head
    scores = [
        convolution.bias.view(3, -1)[:, 4].sigmoid().mean() for convolution in head.convolutions
    ]
    assert all(score < 0.06 for score in scores)
    assert scores[0] < scores[1] < scores[2]
