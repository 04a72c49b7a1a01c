"""dgc: the parts of topk, and a warm-up."""

from __future__ import annotations

import numpy as np
import pytest

from fedloom.algorithms.compression.dgc import DeepGradientCompression
from fedloom.algorithms.compression.protocol import ArrayParts
from fedloom.algorithms.compression.registry import codec
from fedloom.algorithms.compression.topk import TopK
from fedloom.algorithms.layout import layout_of
from fedloom.errors import UpdateError

RNG = np.random.default_rng(0)


def test_dgc_sends_what_topk_sends_and_more_in_its_first_rounds():
    values = np.random.default_rng(0).standard_normal(100_000, np.float32)
    sent = []
    for round_number in range(1, 7):
        made = codec("dgc", {}, round_number)
        assert isinstance(made, DeepGradientCompression)
        parts = made.encode(values, RNG)
        same = TopK(made.sent_fraction).encode(values, RNG)
        assert parts["code"].tobytes() == same["code"].tobytes()
        out = np.empty_like(values)
        made.decode(ArrayParts(parts), values.shape, 0, values.size, out)
        sent.append(np.count_nonzero(out))
    assert sent == [25_000, 6_287, 1_581, 398, 100, 100]


@pytest.mark.parametrize(
    ("parameters", "round_number", "fraction"),
    [
        ({"warmupRounds": 0}, 1, 0.001),
        ({"fraction": 0.25}, 1, 0.25),
        ({"fraction": 0.5}, 1, 0.5),
        ({"fraction": 0.01, "warmupRounds": 1}, 1, 0.25),
        ({"fraction": 0.01, "warmupRounds": 1}, 2, 0.01),
        ({"fraction": 0.0025, "warmupRounds": 2}, 2, 0.025),
    ],
    ids=str,
)
def test_the_warm_up_of_dgc_comes_down_from_a_quarter(parameters, round_number, fraction):
    made = codec("dgc", parameters, round_number)
    assert isinstance(made, DeepGradientCompression)
    assert made.sent_fraction == pytest.approx(fraction)


def test_an_update_of_the_warm_up_is_too_long_for_a_later_round():
    values = np.random.default_rng(0).standard_normal(100_000, np.float32)
    first, later = codec("dgc", {}, 1), codec("dgc", {}, 9)
    layout = layout_of(first.encode(values, RNG))
    first.check(layout, values.shape)
    with pytest.raises(UpdateError, match="codec 'dgc': part 'code'"):
        later.check(layout, values.shape)
