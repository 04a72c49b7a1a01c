"""Clipping around every rule: who is too long is scaled down, nobody else is touched."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedloom.algorithms.aggregation.clipping import ClipToNorm, ClipToQuantile
from fedloom.algorithms.aggregation.geometric_median import GeometricMedian
from fedloom.algorithms.aggregation.krum import Krum
from fedloom.algorithms.aggregation.mean import Mean
from fedloom.algorithms.aggregation.median import Median
from fedloom.algorithms.aggregation.norms import update_norms
from fedloom.algorithms.aggregation.source import ArraySource
from fedloom.algorithms.aggregation.trimmed_mean import TrimmedMean
from fedloom.algorithms.layout import BLOCK_ELEMENTS, layout_of
from fedloom.errors import JobError

RULES = {
    "mean": Mean(),
    "median": Median(),
    "trimmed-mean": TrimmedMean(1),
    "multi-krum": Krum(1, keep=0),
    "geometric-median": GeometricMedian(),
}
CLIPS = {
    "fixed": lambda rule: ClipToNorm(rule, 2.0),
    "median": lambda rule: ClipToQuantile(rule, 0.5),
}
every_rule = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
every_clip = pytest.mark.parametrize("clip", CLIPS.values(), ids=CLIPS)


def run(rule, updates, weights=None):
    layout = layout_of(updates[0])
    weights = np.ones(len(updates)) if weights is None else np.asarray(weights, np.float64)
    sources = [ArraySource(update) for update in updates]
    found: dict[str, list[np.ndarray]] = {name: [] for name in layout}
    for block in rule.aggregate(sources, weights, layout):
        found[block.name].append(block.values.copy())
    return {name: np.concatenate(blocks) for name, blocks in found.items()}


def cohort(clients, seed=0, dtype=np.float32):
    """Updates of many lengths in two tensors of floats, and a counter."""
    rng = np.random.default_rng(seed)
    return [
        {
            "a": (rng.normal(size=(3, 4)) * 4.0 ** rng.integers(-3, 3)).astype(dtype),
            "b": rng.normal(size=5).astype(dtype),
            "n": np.array(rng.integers(1000, 2000)),
        }
        for _ in range(clients)
    ]


def slow_clip(updates, bound_of):
    norms = [
        np.sqrt(sum((update[k].astype(np.float64) ** 2).sum() for k in "ab")) for update in updates
    ]
    bound = bound_of(norms)
    factors = [min(1.0, bound / norm) for norm in norms]
    return [
        {
            name: array if name == "n" else array * array.dtype.type(factor)
            for name, array in update.items()
        }
        for update, factor in zip(updates, factors, strict=True)
    ]


@every_rule
@given(st.integers(5, 11), st.integers(0, 2**32))
def test_clipping_is_the_rule_over_clipped_updates(rule, clients, seed):
    updates, weights = cohort(clients, seed), np.arange(1.0, clients + 1)
    for clip, bound_of in [
        (ClipToNorm(rule, 3.0), lambda norms: 3.0),
        (ClipToQuantile(rule, 0.5), np.median),
        (ClipToQuantile(rule, 0.8), lambda norms: np.quantile(norms, 0.8)),
    ]:
        expected = run(rule, slow_clip(updates, bound_of), weights)
        for name, got in run(clip, updates, weights).items():
            np.testing.assert_allclose(got, expected[name], rtol=1e-5, atol=1e-6)


@given(st.integers(1, 9), st.integers(0, 2**32))
def test_the_norm_is_that_of_all_floats_together_at_whatever_position(clients, seed):
    updates = cohort(clients, seed)
    layout = layout_of(updates[0])
    norms = update_norms([ArraySource(update) for update in updates], layout)
    flat = [np.concatenate([u["a"].ravel(), u["b"]]).astype(np.float64) for u in updates]
    np.testing.assert_allclose(norms, [np.linalg.norm(row) for row in flat], rtol=1e-12)
    again = update_norms([ArraySource(update) for update in reversed(updates)], layout)
    assert again.tobytes() == norms[::-1].tobytes()


def test_an_update_within_the_bound_keeps_its_bits():
    updates = cohort(5)
    one, other = run(ClipToNorm(Mean(), 1e9), updates), run(Mean(), updates)
    assert all(one[name].tobytes() == other[name].tobytes() for name in one)
    alone = run(ClipToQuantile(Mean(), 0.5), updates[:1])
    assert alone["a"].tobytes() == updates[0]["a"].tobytes()


@pytest.mark.parametrize("factor", [-5.0, 1e3, 1e30])
def test_two_of_ten_that_go_far_are_held_at_the_median(factor):
    rng = np.random.default_rng(1)
    updates = [{"w": rng.normal(1, 0.3, 40).astype(np.float32)} for _ in range(10)]
    honest = run(Mean(), updates[2:])["w"]
    for update in updates[:2]:
        update["w"] *= np.float32(factor)
    for rule, most in ((Mean(), np.inf), (ClipToQuantile(Mean(), 0.5), 0.45)):
        moved = np.linalg.norm(run(rule, updates)["w"].astype(np.float64) - honest)
        assert moved / np.linalg.norm(honest) < most


@every_clip
@every_rule
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_clipping_hides_nothing_that_its_rule_would_show(rule, clip, bad):
    updates = cohort(7)
    updates[3]["b"][2] = bad
    clipped = clip(rule)
    assert clipped.shows_bad_values == rule.shows_bad_values
    assert clipped.least_updates == rule.least_updates
    if clipped.shows_bad_values:
        assert not np.isfinite(run(clipped, updates)["b"][2])


@every_clip
def test_odd_updates_are_clipped_too(clip):
    zeros = [{"a": np.zeros(3), "e": np.zeros((0, 2)), "s": np.zeros(())} for _ in range(3)]
    assert run(clip(Mean()), zeros)["a"].tolist() == [0, 0, 0]
    counters = [{"n": np.array([k, 7])} for k in range(3)]
    assert run(clip(Mean()), counters)["n"].tolist() == [1, 7]
    halves = [{"h": np.full(5, k, np.float16)} for k in (1, 2, 3)]
    assert np.isfinite(run(clip(Mean()), halves)["h"]).all()
    with pytest.raises(JobError) as caught:
        run(clip(Krum(1)), cohort(4))
    assert caught.value.reason == "TooFewForRule"


@every_clip
def test_an_update_beyond_measure_counts_as_zeros(clip):
    updates = cohort(5, dtype=np.float64)
    updates[2]["a"][:] = 1e200
    got = run(clip(Mean()), updates)["a"]
    assert np.abs(got).max() < 1e3
    for update in updates:
        update["a"][:] = 1e200
    assert np.isfinite(run(clip(Mean()), updates)["b"]).all()


def test_clips_wrap_each_other():
    updates = cohort(9)
    both = ClipToQuantile(ClipToNorm(Median(), 1.0), 0.5)
    bound = np.median(update_norms([ArraySource(u) for u in updates], layout_of(updates[0])))
    expected = run(Median(), slow_clip(updates, lambda norms: min(1.0, bound)))
    np.testing.assert_allclose(run(both, updates)["a"], expected["a"], rtol=1e-5)


@every_clip
def test_inputs_are_not_written_to(clip):
    updates = cohort(5)
    before = [update["a"].tobytes() for update in updates]
    run(clip(Mean()), updates)
    assert [update["a"].tobytes() for update in updates] == before


class Ones:
    """An update of any size that takes no memory."""

    def read(self, name, start, stop, scratch):
        scratch[: stop - start] = 1
        return scratch[: stop - start]


@every_clip
def test_memory_does_not_grow_with_the_model(clip):
    layout = layout_of({"w": np.broadcast_to(np.float32(0), (4_000_000,))})
    tracemalloc.start()
    try:
        for block in clip(Mean()).aggregate([Ones()] * 8, np.ones(8), layout):
            assert block.values.size <= BLOCK_ELEMENTS
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 * 4 * BLOCK_ELEMENTS
