"""The noised mean: nobody moves it by more than the clip norm, and the noise has the right size."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedloom.algorithms.aggregation.norms import update_norms
from fedloom.algorithms.aggregation.source import ArraySource
from fedloom.algorithms.layout import TensorSpec, layout_of
from fedloom.algorithms.privacy.adaptive_clip import LEARNING_RATE, QuantileClip
from fedloom.algorithms.privacy.private_mean import PrivateMean, clipped_sums

NO_WEIGHTS = np.ones(0)


def an_update(rng, scale=1.0):
    return {
        "w": (scale * rng.normal(size=(7, 5))).astype(np.float32),
        "wide": scale * rng.normal(size=3),
        "half": (min(scale, 1e3) * rng.normal(size=4)).astype(np.float16),
        "scalar": np.array(scale * rng.normal(), np.float32),
        "empty": np.zeros((0, 3), np.float32),
        "steps": np.array(rng.integers(1, 1000), np.int64),
        "seen": np.array([True, False]),
    }


def collected(blocks, layout):
    out = {name: [np.zeros(0)] for name in layout}
    for block in blocks:
        out[block.name].append(np.array(block.values, np.float64))
    return {name: np.concatenate(parts).reshape(layout[name].shape) for name, parts in out.items()}


def flat(arrays):
    """What counts: the tensors of floats, as one vector."""
    return np.concatenate(
        [
            np.asarray(a, np.float64).reshape(-1)
            for n, a in sorted(arrays.items())
            if a.dtype.kind == "f"
        ]
    )


def mean_of(updates, rule):
    layout = layout_of(updates[0])
    blocks = rule.aggregate([ArraySource(each) for each in updates], NO_WEIGHTS, layout)
    return collected(blocks, layout)


def reference(updates, clip_norm, denominator):
    """The three lines: clip each, add them up, divide by what was expected."""
    clipped = [flat(u) * min(1, clip_norm / np.linalg.norm(flat(u))) for u in updates]
    return np.sum(clipped, axis=0) / denominator


@given(st.integers(0, 2**32), st.integers(1, 6), st.floats(0.01, 100), st.integers(1, 9))
def test_without_noise_it_is_the_clipped_sum_over_the_denominator(seed, clients, clip, denominator):
    rng = np.random.default_rng(seed)
    updates = [an_update(rng, scale=10.0 ** rng.integers(-3, 3)) for _ in range(clients)]
    found = mean_of(updates, PrivateMean(clip, 0.0, denominator))
    found = {name: found[name].astype(updates[0][name].dtype) for name in found}
    np.testing.assert_allclose(
        flat(found), reference(updates, clip, denominator), rtol=2e-3, atol=1e-6 * clip
    )


@given(st.integers(0, 2**32), st.integers(1, 5), st.floats(0.01, 100))
def test_any_one_client_changes_the_clipped_sum_by_at_most_the_clip_norm(seed, clients, clip):
    rng = np.random.default_rng(seed)
    updates = [an_update(rng, scale=10.0 ** rng.integers(-6, 6)) for _ in range(clients)]
    layout = layout_of(updates[0])

    def total(of):
        sources = [ArraySource(each) for each in of]
        sums = clipped_sums(sources, update_norms(sources, layout), clip, layout)
        return flat(
            {n: a for n, a in collected(sums, layout).items() if layout[n].dtype.kind == "f"}
        )

    whole = total(updates)
    for index in range(clients):
        without = total(updates[:index] + updates[index + 1 :])
        assert np.linalg.norm(whole - without) <= clip * (1 + 1e-9)
    alone = total(updates[:1])
    assert np.linalg.norm(alone) <= clip  # and the bound itself to the last bit


@pytest.mark.parametrize("size", [1e37, 1e-38])
def test_updates_at_the_ends_of_float32_are_clipped_like_any_other(size):
    update = {"w": np.array([3, 4], np.float32) * np.float32(size)}
    found = mean_of([update], PrivateMean(1.0, 0.0, 1))["w"]
    expected = [0.6, 0.8] if size > 1 else [3e-38, 4e-38]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_an_update_whose_norm_is_beyond_float64_counts_as_nothing():
    update, other = {"w": np.array([1e200, 1e200])}, {"w": np.array([0.5, 0.0])}
    found = mean_of([update, other], PrivateMean(1.0, 0.0, 2))["w"]
    np.testing.assert_allclose(found, [0.25, 0.0], rtol=1e-9)


def test_counters_are_not_told_whatever_the_clients_counted():
    rng = np.random.default_rng(1)
    for noise in (0.0, 1.0):
        found = mean_of([an_update(rng) for _ in range(3)], PrivateMean(1.0, noise, 3))
        assert found["steps"] == 0
        assert not found["seen"].any()


def test_counters_do_not_take_part_in_the_norm():
    small = {"w": np.array([0.1], np.float32), "steps": np.array(10**9)}
    assert mean_of([small], PrivateMean(1.0, 0.0, 1))["w"] == pytest.approx(0.1, rel=1e-6)


def test_who_is_missing_changes_the_sum_and_not_the_denominator():
    updates = [{"w": np.ones(2, np.float32) * 0.1}] * 3
    for present in (1, 2, 3):
        found = mean_of(updates[:present], PrivateMean(1.0, 0.0, 3))["w"]
        np.testing.assert_allclose(found, 0.1 * present / 3, rtol=1e-6)


def test_the_noise_has_the_standard_deviation_of_noise_multiplier_times_clip_norm():
    layout = {"w": TensorSpec((200_000,), np.dtype(np.float32))}
    rule = PrivateMean(clip_norm=0.5, noise_multiplier=3.0, denominator=4)
    found = collected(rule.aggregate([], NO_WEIGHTS, layout), layout)["w"]
    assert abs(found.mean()) < 5e-3
    assert found.std() == pytest.approx(3.0 * 0.5 / 4, rel=0.01)


def test_noise_is_unbiased_and_the_same_whatever_is_under_it():
    update = {"w": np.linspace(-1e-3, 1e-3, 200_000).astype(np.float32)}
    rule = PrivateMean(clip_norm=1.0, noise_multiplier=0.1, denominator=1)
    noise = mean_of([update], rule)["w"] - update["w"]
    assert abs(noise.mean()) < 1.5e-3
    assert noise.std() == pytest.approx(0.1, rel=0.01)
    assert abs(np.corrcoef(noise, update["w"])[0, 1]) < 0.012


def test_every_block_and_every_tensor_is_noised():
    layout = {n: TensorSpec((65537,), np.dtype(np.float32)) for n in "ab"} | {
        "scalar": TensorSpec((), np.dtype(np.float64))
    }
    first, again = (
        collected(PrivateMean(1.0, 1.0, 1).aggregate([], NO_WEIGHTS, layout), layout)
        for _ in range(2)
    )
    for name in layout:
        assert (first[name] != 0).mean() > 0.999
        assert (first[name] != again[name]).mean() > 0.999


def test_a_round_of_nobody_is_noise_and_the_counters_stay():
    layout = layout_of(an_update(np.random.default_rng(0)))
    found = collected(PrivateMean(1.0, 1.0, 3).aggregate([], NO_WEIGHTS, layout), layout)
    assert found["w"].std() > 0
    assert found["steps"] == 0
    assert found["empty"].shape == (0, 3)


def test_a_model_of_counters_alone_is_left_alone():
    update = {"steps": np.array([3, 4])}
    np.testing.assert_array_equal(mean_of([update], PrivateMean(1.0, 1.0, 1))["steps"], [0, 0])


def test_memory_does_not_grow_with_the_model_or_the_clients():
    class Endless:
        def read(self, name, start, stop, scratch):
            scratch[: stop - start] = 1.0
            return scratch[: stop - start]

    layout = {"w": TensorSpec((3_000_000,), np.dtype(np.float32))}
    tracemalloc.start()
    for _ in PrivateMean(1.0, 1.0, 8, clip_quantile=0.5).aggregate(
        [Endless()] * 8, NO_WEIGHTS, layout
    ):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 1024 * 1024  # a dozen blocks of float64; the model has 12 MB


# Adaptive clipping


@given(st.floats(0.01, 50), st.integers(1, 10_000), st.floats(0.01, 0.99))
def test_both_releases_of_a_round_together_cost_what_the_noise_multiplier_says(
    noise, cohort, quantile
):
    clip = QuantileClip(quantile, noise, cohort)
    together = clip.sum_multiplier**-2 + (2 * clip.count_deviation) ** -2
    assert together**-0.5 == pytest.approx(noise, rel=1e-9)
    assert noise < clip.sum_multiplier < 1.16 * noise
    assert clip.count_deviation >= cohort / 20


def test_the_papers_count_noise_is_used_where_it_fits():
    clip = QuantileClip(0.5, 1.0, 100)
    assert clip.count_deviation == 5.0
    assert clip.sum_multiplier == pytest.approx((1 - 1 / 100) ** -0.5)


def test_the_clip_norm_follows_the_median_of_the_norms():
    norms = np.exp(np.random.default_rng(3).normal(size=200))
    for start in (1e-3, 1e3):
        clip_norm = start
        for _ in range(120):
            clip = QuantileClip(0.5, 1.0, len(norms))
            unclipped = int((norms <= clip_norm).sum())
            fraction = clip.noised_fraction(unclipped, len(norms))
            clip_norm = clip.next_norm(clip_norm, fraction)
        assert clip_norm == pytest.approx(np.median(norms), rel=0.25)


def test_the_update_is_the_papers():
    clip = QuantileClip(0.7, 0.0, 10)
    assert clip.noised_fraction(9, 10) == pytest.approx(0.9)
    assert clip.next_norm(2.0, 0.9) == pytest.approx(2.0 * math.exp(-LEARNING_RATE * 0.2))


def test_absent_clients_count_as_half_and_wild_noise_moves_the_clip_norm_by_little():
    clip = QuantileClip(0.5, 0.0, 10)
    assert clip.noised_fraction(0, 0) == pytest.approx(0.5)
    assert clip.next_norm(1.0, 0.5) == 1.0
    for wild in (-1e9, 1e9):
        assert 0.7 < clip.next_norm(1.0, wild) < 1.4


def test_the_count_is_noised_and_told_as_the_clipped_fraction():
    updates = [{"w": np.array([size], np.float32)} for size in (0.1, 0.2, 5.0, 6.0)]
    layout = layout_of(updates[0])
    sources = [ArraySource(each) for each in updates]
    exact = PrivateMean(1.0, 0.0, 4, clip_quantile=0.5).release(sources, layout)
    assert exact.clipped_fraction == pytest.approx(0.5)
    assert exact.next_clip_norm == pytest.approx(1.0)
    rule = PrivateMean(1.0, 1.0, 4, clip_quantile=0.5)
    told = {rule.release(sources, layout).clipped_fraction for _ in range(5)}
    assert len(told) == 5
    assert PrivateMean(1.0, 1.0, 4).release(sources, layout).clipped_fraction is None


def test_adaptive_rounds_have_the_larger_noise_on_the_sum():
    layout = {"w": TensorSpec((200_000,), np.dtype(np.float32))}
    rule = PrivateMean(clip_norm=1.0, noise_multiplier=1.0, denominator=1, clip_quantile=0.5)
    found = collected(rule.aggregate([], NO_WEIGHTS, layout), layout)["w"]
    assert found.std() == pytest.approx((1 - 0.25) ** -0.5, rel=0.01)
