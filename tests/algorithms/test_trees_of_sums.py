"""A mean that groups of the cohort make together has the bits of the mean that one makes alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedloom.algorithms.aggregation.mean import SUMMED, Mean, group_sums, total_weight
from fedloom.algorithms.aggregation.source import ArraySource
from fedloom.algorithms.aggregation.weights import Weights, weigh, weigh_normalized
from fedloom.algorithms.layout import accumulator_dtype, layout_of

LAYOUT = layout_of(
    {"w": np.zeros((3, 2), np.float32), "h": np.zeros(3, np.float16), "n": np.zeros((), np.int64),
     "d": np.zeros(2), "e": np.zeros((0, 4), np.float32)}
)  # fmt: skip
SIZES = st.integers(1, 70)
FAN_INS = st.sampled_from([2, 4, 8, 16, 64, 128])


class Group:
    """What a task of a tree hands on: its sums, how many updates are in them, the weight of one."""

    def __init__(self, sources, shares, positions, layout):
        self.updates = len(sources)
        self.share = shares[0]
        sums = {
            name: np.full(spec.size, np.nan, accumulator_dtype(spec.dtype))
            for name, spec in layout.items()
        }
        for block in group_sums(sources, np.array(shares), positions, layout):
            sums[block.name][block.start : block.start + block.values.size] = block.values
        self.source = ArraySource(sums)


def tree_mean(updates, weights: Weights, fan_in, layout):
    """The mean by levels; `updates` are by position, None for a client that failed."""
    shares = iter(weights.values)
    level = []
    for first in range(0, len(updates), fan_in):
        there = [
            (position, ArraySource(update), next(shares))
            for position, update in enumerate(updates[first : first + fan_in])
            if update is not None
        ]
        level.append(group_of(there, layout))
    while len(level) > fan_in:
        level = [
            group_of(parts_of(level[first : first + fan_in]), layout)
            for first in range(0, len(level), fan_in)
        ]
    positions, sources, shares = zip(*parts_of(level), strict=True)
    divisor = total_weight(weights.values) if weights.divisor is None else weights.divisor
    return collect(Mean(positions, divisor), sources, np.array(shares), layout)


def group_of(there, layout):
    if not there:
        return None
    positions, sources, shares = zip(*there, strict=True)
    group = Group(sources, shares, positions, layout)
    inside = [getattr(source, "updates", 1) for source in sources]
    group.updates = sum(inside)
    group.source.updates = group.updates
    return group


def parts_of(groups):
    return [
        (position, group.source, group.share if group.updates == 1 else SUMMED)
        for position, group in enumerate(groups)
        if group is not None
    ]


def flat_mean(updates, weights: Weights, layout):
    positions = tuple(k for k, update in enumerate(updates) if update is not None)
    sources = [ArraySource(updates[k]) for k in positions]
    return collect(Mean(positions, weights.divisor), sources, weights.values, layout)


def collect(rule, sources, weights, layout):
    return {
        (block.name, block.start): block.values.tobytes()
        for block in rule.aggregate(sources, weights, layout)
    }


def an_update(rng, scale, layout):
    return {
        name: np.asarray(rng.normal(0, scale if spec.dtype.kind == "f" else 3, spec.shape))
        .clip(-6e4, 6e4)
        .astype(spec.dtype)
        for name, spec in layout.items()
    }


def cohort(size, absent, seed, layout=LAYOUT):
    rng = np.random.default_rng(seed)
    scale = 10.0 ** rng.integers(-12, 12)
    updates = [
        None if position in absent else an_update(rng, scale, layout) for position in range(size)
    ]
    there = size - sum(update is None for update in updates)
    return updates, rng.integers(1, 10**6, there).tolist(), rng.integers(1, 500, there).tolist()


@given(SIZES, st.sets(st.integers(0, 69)), FAN_INS, st.integers(0, 2**32), st.booleans())
def test_a_tree_gives_the_bits_of_the_flat_mean_whoever_fails(size, absent, fan_in, seed, nova):
    updates, examples, steps = cohort(size, absent, seed)
    if not examples:
        return
    weights = (weigh_normalized if nova else weigh)("examples", examples, steps)
    assert tree_mean(updates, weights, fan_in, LAYOUT) == flat_mean(updates, weights, LAYOUT)


@pytest.mark.parametrize("fan_in", [4, 64, 4096])
def test_ten_thousand_clients_give_the_bits_of_one_aggregation(fan_in):
    layout = layout_of({"w": np.zeros(3, np.float32)})
    absent = set(range(64, 192)) | set(range(0, 10_000, 7))
    updates, examples, steps = cohort(10_000, absent, 3, layout)
    weights = weigh("examples", examples, steps)
    assert tree_mean(updates, weights, fan_in, layout) == flat_mean(updates, weights, layout)


def test_who_is_absent_changes_the_brackets_of_no_one_else():
    """Position 2 and 3 are added before 0 comes in, with 1 there or not."""
    layout = layout_of({"w": np.zeros(1, np.float32)})
    values = [1.0, None, 1e8, -1e8]
    updates = [None if v is None else {"w": np.array([v], np.float32)} for v in values]
    weights = weigh("uniform", [1, 1, 1], [])
    (mean,) = flat_mean(updates, weights, layout).values()
    assert np.frombuffer(mean, np.float32) == np.float32(1 / 3)


def test_a_nan_comes_out_of_a_tree_as_one():
    layout = layout_of({"w": np.zeros(4, np.float32)})
    updates, examples, steps = cohort(9, {1}, 5, layout)
    updates[6]["w"][2] = np.nan
    weights = weigh("examples", examples, steps)
    ((_, values),) = tree_mean(updates, weights, 2, layout).items()
    assert np.flatnonzero(~np.isfinite(np.frombuffer(values, np.float32))).tolist() == [2]
