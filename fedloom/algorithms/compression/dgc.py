"""Deep gradient compression: `topk` after momentum correction, with a warm-up.

Lin et al., "Deep gradient compression: reducing the communication bandwidth for distributed
training", ICLR 2018, arXiv 1712.01887. What is sent is laid out as by `topk`; what makes it work at
a fraction of 0.1 % is on the client, `feedback.MomentumCorrection`.

The paper's momentum of 0.9 takes the place of the optimizer's. Here every delta comes from an optimizer
of its own, and 0.9 overshoots: of a value sent after many rounds it makes up to ten times what was
learned. 0.5 is the default (digits, 50 rounds, 0.1 %: accuracy .92; with 0.9 .74, without momentum .90).

**Warm-up** (section 3.3): in the first rounds, when the model changes fast, more is sent. In round
r of W the fraction is 1/4 (fraction / (1/4))^((r - 1) / W), afterwards it is `fraction`; with the
defaults 25 %, 6.3 %, 1.6 %, 0.4 % and then 0.1 %, as in the paper.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fedloom.algorithms.compression.protocol import PartReader, Shape
from fedloom.algorithms.compression.topk import code_of, decode_largest, encode_largest
from fedloom.algorithms.layout import Array, TensorSpec

_FIRST_FRACTION = 0.25


@dataclass(frozen=True)
class DeepGradientCompression:
    """The largest values, more of them in the first rounds. Parts: `code`, as of `topk`.

    Args:
        fraction: which part of an update's values is sent after the warm-up, 0 < fraction <= 1.
        momentum: of the client's correction; the codec itself does not use it.
        warmup_rounds: W, >= 0.
        round_number: of the round that the update belongs to, >= 1.
    """

    name: ClassVar[str] = "dgc"
    is_whole: ClassVar[bool] = True
    fraction: float = 0.001
    momentum: float = 0.5
    warmup_rounds: int = 4
    round_number: int = 1

    @property
    def parameters(self) -> Mapping[str, object]:
        """`fraction`, `momentum` and `warmupRounds`; the round is no parameter."""
        return {
            "fraction": self.fraction,
            "momentum": self.momentum,
            "warmupRounds": self.warmup_rounds,
        }

    @property
    def sent_fraction(self) -> float:
        """Which part of the values is sent in this round."""
        if self.round_number > self.warmup_rounds or self.fraction >= _FIRST_FRACTION:
            return self.fraction
        progress = (self.round_number - 1) / self.warmup_rounds
        return float(_FIRST_FRACTION * (self.fraction / _FIRST_FRACTION) ** progress)

    def encode(self, values: Array, rng: np.random.Generator) -> dict[str, Array]:
        """Keep the largest; draws nothing from `rng`."""
        del rng
        return encode_largest(self.name, self.sent_fraction, values)

    def decode(self, parts: PartReader, shape: Shape, start: int, stop: int, out: Array) -> None:
        """Put the values where they were, zero elsewhere; exact."""
        decode_largest(code_of(self.name, self.sent_fraction, shape), parts, (start, stop), out)

    def check(self, parts_layout: Mapping[str, TensorSpec], shape: Shape) -> None:
        """Accept no more bytes than this round's fraction of the values takes."""
        code_of(self.name, self.sent_fraction, shape).check(parts_layout)
