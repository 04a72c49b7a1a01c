"""The network of YOLOv5: 25 numbered layers, and how they are cut in two.

A model's tensors are named after their layer (`layers.3.conv.weight`), in the whole network as in both
halves of a cut one: the state of an extractor and of a tail together are the state of the network.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from .head import Head
from .layers import C3, SPP, SPPF, Concat, Conv, Focus, Upsampled
from .recomputation import forgetful

CUTS = range(1, 6)
HEAD_INPUTS = (17, 20, 23)
LAYOUTS = ("v6", "v5")
WIDTHS = {"pico": 0.125, "n": 0.25, "s": 0.5}
_DEPTH = 0.33
_PICTURE = -1  # among a row's inputs


@dataclass(frozen=True)
class Shape:
    """Which network: what its tensors' names and shapes and its anchors depend on.

    Attributes:
        size: `n`, `s` (the published ones) or `pico` (half as wide as n).
        classes: number of classes, >= 1.
        layout: `v6` for v6.0 and later, `v5` for v5.0 (focus, other pyramid, deeper layer 4).
        anchor_scale: the anchors in parts of the published ones, which are for pictures of 640 pixels.
    """

    size: str = "n"
    classes: int = 80
    layout: str = "v6"
    anchor_scale: float = 1.0

    def __post_init__(self) -> None:
        for name, value, known in (
            ("size", self.size, WIDTHS),
            ("layout", self.layout, LAYOUTS),
        ):
            if value not in known:
                raise ValueError(f"{name}: got {value!r}, expected one of {', '.join(known)}")
        if self.classes < 1:
            raise ValueError(f"classes: got {self.classes}, expected >= 1")
        if not 0 < self.anchor_scale < math.inf:
            raise ValueError(f"anchor_scale: got {self.anchor_scale}, expected a number > 0")


@dataclass(frozen=True)
class Row:
    """One layer: the numbers of those it reads, its kind, base width and base number of blocks."""

    inputs: tuple[int, ...]
    kind: str
    width: int = 0
    repeats: int = 1


def rows(layout: str) -> tuple[Row, ...]:
    """The 24 layers before the head, in the order in which they run."""
    old = layout == "v5"
    return (
        Row((_PICTURE,), "focus" if old else "stem", 64),
        Row((0,), "down", 128),
        Row((1,), "c3", 128, 3),
        Row((2,), "down", 256),
        Row((3,), "c3", 256, 9 if old else 6),
        Row((4,), "down", 512),
        Row((5,), "c3", 512, 9),
        Row((6,), "down", 1024),
        Row((7,), "spp", 1024) if old else Row((7,), "c3", 1024, 3),
        Row((8,), "plain", 1024, 3) if old else Row((8,), "sppf", 1024),
        Row((9,), "conv", 512),
        Row((10,), "up"),
        Row((11, 6), "concat"),
        Row((12,), "plain", 512, 3),
        Row((13,), "conv", 256),
        Row((14,), "up"),
        Row((15, 4), "concat"),
        Row((16,), "plain", 256, 3),
        Row((17,), "down", 256),
        Row((18, 14), "concat"),
        Row((19,), "plain", 512, 3),
        Row((20,), "down", 512),
        Row((21, 10), "concat"),
        Row((22,), "plain", 1024, 3),
    )


HEAD_INPUTS = (17, 20, 23)


class Layers(nn.Module):
    """The layers from `first` up to, not including, `end`, under their numbers in the network.

    Attributes:
        is_forgetful: whether training keeps less in memory and takes longer; the same bits either way.
    """

    def __init__(self, shape: Shape, first: int, end: int) -> None:
        super().__init__()
        self.shape, self.first, self.end = shape, first, end
        self.is_forgetful = False
        self._rows = rows(shape.layout)
        self._last_reader = _last_readers(self._rows)
        channels = channels_of(shape)
        made: dict[str, nn.Module] = {}
        for number in range(first, end):
            row = self._rows[number]
            inputs = sum(channels[source] for source in row.inputs)
            made[str(number)] = _layer(row, inputs, channels[number])
        self.layers = nn.ModuleDict(made)

    def run(self, x: Tensor) -> dict[int, Tensor]:
        """Give by number the last layer's output and those that later layers read.

        A map is dropped as soon as the last layer that reads it has run.
        """
        held = {self.first - 1: x}
        for number in range(self.first, self.end):
            out = self._out_of(number, [held[n] for n in self._rows[number].inputs])
            held = {n: kept for n, kept in held.items() if self._last_reader[n] > number}
            held[number] = out
        return held

    def _out_of(self, number: int, inputs: list[Tensor]) -> Tensor:
        layer = self.layers[str(number)]
        if self.is_forgetful and self.training:
            return forgetful(layer, inputs)
        out: Tensor = layer(*inputs)
        return out


class Extractor(Layers):
    """The first `cut_layer` layers: pictures (B, 3, S, S) to one tensor (B, C, H, W)."""

    def __init__(self, shape: Shape, cut_layer: int) -> None:
        super().__init__(shape, 0, check_cut(cut_layer))

    def forward(self, x: Tensor) -> Tensor:
        return self.run(x)[self.end - 1]


class Tail(Layers):
    """All layers after the first `cut_layer`: an extractor's output to raw predictions.

    These are three tensors (B, 3, H, W, 5 + classes) for strides 8, 16 and 32; `head.decode` makes
    boxes of them. With `cut_layer` 0 it is the whole network.
    """

    def __init__(self, shape: Shape, cut_layer: int) -> None:
        end = len(rows(shape.layout))
        super().__init__(shape, cut_layer and check_cut(cut_layer), end)
        channels = channels_of(shape)
        self.layers[str(end)] = Head([channels[n] for n in HEAD_INPUTS], shape.classes)

    @property
    def head(self) -> Head:
        head = self.layers[str(self.end)]
        assert isinstance(head, Head)
        return head

    def forward(self, x: Tensor) -> list[Tensor]:
        held = self.run(x)
        raw: list[Tensor] = self.head([held[n] for n in HEAD_INPUTS])
        return raw


class Network(Tail):
    """A whole YOLOv5: pictures (B, 3, S, S) in [0, 1], S a multiple of 32, to raw predictions."""

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape, 0)


def split(network: Network, cut_layer: int) -> tuple[Extractor, Tail]:
    """Cut a network in two; the halves have copies of its weights and of its train or eval mode.

    Raises ValueError for a cut outside 1..5, with the reason.
    """
    halves = Extractor(network.shape, cut_layer), Tail(network.shape, cut_layer)
    state = network.state_dict()
    for half in halves:
        half.load_state_dict({name: state[name] for name in half.state_dict()})
        half.to(next(network.parameters()).device).train(network.training)
    return halves


def join(extractor: Extractor, tail: Tail) -> Network:
    """The network that an extractor and a tail make together; weights are copied.

    Raises ValueError where the two are not the halves of one network.
    """
    if (extractor.shape, extractor.end) != (tail.shape, tail.first):
        raise ValueError(
            f"tail: got {tail.shape} from layer {tail.first}, "
            f"expected {extractor.shape} from layer {extractor.end}"
        )
    network = Network(extractor.shape)
    network.load_state_dict({**extractor.state_dict(), **tail.state_dict()})
    return network.to(next(tail.parameters()).device).train(tail.training)


def check_cut(cut_layer: int) -> int:
    """Give the cut back if one released tensor is all that the layers after it need.

    Raises ValueError otherwise, with the reason.
    """
    if isinstance(cut_layer, int) and not isinstance(cut_layer, bool) and cut_layer in CUTS:
        return cut_layer
    reason = "the cut is the number of layers that run on the edge, and one at least has to"
    if isinstance(cut_layer, int) and cut_layer > max(CUTS):
        reason = (
            "after layer 5 the rest also reads layer 4 (and later layer 6) itself, so that more than "
            "one tensor would have to be released and counted"
        )
    raise ValueError(f"cut_layer: got {cut_layer!r}, expected an integer from 1 to 5: {reason}")


def released_shape(shape: Shape, cut_layer: int, size: int) -> tuple[int, int, int]:
    """Channels, height and width of an extractor's output for a picture of `size` pixels."""
    side = size // (2, 4, 4, 8, 8)[check_cut(cut_layer) - 1]
    return channels_of(shape)[cut_layer - 1], side, side


def parameters_of(module: nn.Module) -> int:
    """How many numbers training changes; running statistics are not among them."""
    return sum(parameter.numel() for parameter in module.parameters())


def channels_of(shape: Shape) -> dict[int, int]:
    """How many channels every layer's output has; the picture is layer -1."""
    factor = WIDTHS[shape.size]
    channels = {_PICTURE: 3}
    for number, row in enumerate(rows(shape.layout)):
        came_in = sum(channels[source] for source in row.inputs)
        channels[number] = math.ceil(row.width * factor / 8) * 8 if row.width else came_in
    return channels


def _layer(row: Row, inputs: int, outputs: int) -> nn.Module:
    repeats = max(round(row.repeats * _DEPTH), 1)
    makers: dict[str, Callable[[], nn.Module]] = {
        "stem": lambda: Conv(inputs, outputs, 6, 2, 2),
        "focus": lambda: Focus(inputs, outputs),
        "down": lambda: Conv(inputs, outputs, 3, 2),
        "conv": lambda: Conv(inputs, outputs),
        "c3": lambda: C3(inputs, outputs, repeats, add=True),
        "plain": lambda: C3(inputs, outputs, repeats, add=False),
        "sppf": lambda: SPPF(inputs, outputs),
        "spp": lambda: SPP(inputs, outputs),
        "up": Upsampled,
        "concat": Concat,
    }
    return makers[row.kind]()


def _last_readers(table: tuple[Row, ...]) -> dict[int, int]:
    """By layer, the number of the last one that reads its output; the head is the last of all."""
    last = {source: number for number, row in enumerate(table) for source in row.inputs}
    return last | dict.fromkeys(HEAD_INPUTS, len(table))
