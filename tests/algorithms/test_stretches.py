"""Stretches of a model: every element in one of them, and the whole result out of the parts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedloom.algorithms.aggregation.exclusion import shared_part
from fedloom.algorithms.aggregation.mean import Mean
from fedloom.algorithms.aggregation.median import Median
from fedloom.algorithms.aggregation.source import ArraySource
from fedloom.algorithms.aggregation.stretches import StretchSource, stretches
from fedloom.algorithms.aggregation.trimmed_mean import TrimmedMean
from fedloom.algorithms.layout import BLOCK_ELEMENTS, TensorSpec, layout_of
from fedloom.errors import JobError

SIZES = st.sampled_from([0, 1, 5, 1000, BLOCK_ELEMENTS, BLOCK_ELEMENTS + 1, 5 * BLOCK_ELEMENTS + 7])
MODELS = st.dictionaries(st.text("abc", min_size=1, max_size=3), SIZES, min_size=1, max_size=5)


@given(MODELS, st.integers(1, 20))
def test_every_element_is_in_one_stretch_and_borders_are_those_of_blocks(sizes, count):
    layout = {name: TensorSpec((size,), np.dtype(np.float32)) for name, size in sizes.items()}
    cut = stretches(layout, count)
    assert len(cut) == count
    reached = dict.fromkeys(layout, 0)
    for stretch in cut:
        for name, spec in stretch.layout.items():
            assert stretch.starts[name] == reached[name]
            assert reached[name] % BLOCK_ELEMENTS == 0
            reached[name] += spec.size
    assert reached == sizes
    assert {name for stretch in cut for name in stretch.layout} == set(sizes)
    elements = [sum(spec.size for spec in stretch.layout.values()) for stretch in cut]
    assert max(elements) <= sum(sizes.values()) / count + BLOCK_ELEMENTS


@pytest.mark.parametrize("rule", [Mean(), Median(), TrimmedMean(1)], ids=str)
@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_stretches_give_the_bits_of_the_whole(rule, count):
    rng = np.random.default_rng(3)
    shapes = {"w": (3, BLOCK_ELEMENTS), "b": (7,), "s": (), "e": (0, 2)}
    updates = [
        {name: np.asarray(rng.normal(size=shape)).astype(np.float32) for name, shape in shapes.items()}
        for _ in range(5)
    ]  # fmt: skip
    layout, weights = layout_of(updates[0]), np.arange(1.0, 6.0)
    sources = [ArraySource(update) for update in updates]
    whole = {
        (block.name, block.start): block.values.tobytes()
        for block in rule.aggregate(sources, weights, layout)
    }
    parts = {}
    for stretch in stretches(layout, count):
        pieces = [StretchSource(source, stretch.starts) for source in sources]
        for block in rule.aggregate(pieces, weights, stretch.layout):
            start = stretch.starts[block.name] + block.start
            parts[block.name, start] = block.values.tobytes()
    assert parts == whole


MODEL = layout_of({name: np.zeros(2) for name in ("bn1.weight", "bn2.mean", "fc.w", "fc.W")})


@pytest.mark.parametrize(
    ("patterns", "left"),
    [
        ([], ["bn1.weight", "bn2.mean", "fc.W", "fc.w"]),
        (["bn?.*"], ["fc.W", "fc.w"]),
        (["bn1.weight", "fc.w"], ["bn2.mean", "fc.W"]),
        (["*.w"], ["bn1.weight", "bn2.mean", "fc.W"]),
    ],
)
def test_what_no_pattern_describes_is_shared(patterns, left):
    assert sorted(shared_part(MODEL, patterns)) == left


@pytest.mark.parametrize(
    ("patterns", "reason"),
    [
        pytest.param(["bn1"], "NothingExcluded", id="part-of-a-name"),
        pytest.param(["BN?.*"], "NothingExcluded", id="other-case"),
        pytest.param(["fc.*", "conv.*"], "NothingExcluded", id="one-of-two"),
        pytest.param(["bn[12].*"], "NothingExcluded", id="brackets"),
        pytest.param(["*"], "NothingShared", id="everything"),
    ],
)
def test_patterns_that_cannot_be_meant_are_refused(patterns, reason):
    with pytest.raises(JobError) as caught:
        shared_part(MODEL, patterns)
    assert caught.value.reason == reason
