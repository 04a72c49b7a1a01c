"""Pairwise masks: they cancel in every sum, and a masked update alone is noise."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedloom.algorithms.layout import TensorSpec
from fedloom.algorithms.privacy.integer_grid import GridLayout, GridRule, fit_update
from fedloom.algorithms.privacy.masks import (
    BLOCK_BYTES,
    Mask,
    apply_masks,
    blocks,
    mask_arrays,
    masks_left,
    new_scratch,
    sign_of,
    threshold_of,
)
from fedloom.keys.agreement import derive
from fedloom.keys.keystream import AesKeystream


def stream(*names):
    return AesKeystream(derive(b"test", "-".join(sorted(names)), b""))


class Group:
    """Clients with masks among each other."""

    def __init__(self, clients, layout, codec="none"):
        self.names = [f"c{number:02d}" for number in range(clients)]
        self.layout = layout
        self.grid = GridLayout(layout, GridRule(codec, 1.0, clients))

    def rounded(self, name):
        generator = np.random.default_rng(sum(name.encode()))
        deltas = {
            key: generator.uniform(-1, 1, size=spec.shape) for key, spec in self.layout.items()
        }
        return fit_update(deltas, self.grid, None, False, generator).arrays

    def masked(self, name):
        arrays = self.rounded(name)
        others = [other for other in self.names if other != name]
        masks = [Mask(stream(name), 1)]
        masks += [Mask(stream(name, other), sign_of(name, other)) for other in others]
        mask_arrays(arrays, self.grid, masks)
        return arrays

    def unmasked_sum(self, survivors):
        gone = [name for name in self.names if name not in survivors]
        own = {name: stream(name) for name in survivors}
        pairs = [(u, v, stream(u, v)) for v in gone for u in survivors]
        left = [mask.inverse() for mask in masks_left(survivors, own, pairs)]
        total = self.add([self.masked(name) for name in survivors])
        mask_arrays(total, self.grid, left)
        return total

    def add(self, updates):
        total = {ring: np.zeros(size, ring) for ring, size in self.grid.sizes.items()}
        for update in updates:
            for ring, array in update.items():
                total[ring] += array
        return total


def layout_of(*sizes):
    dtypes = itertools.cycle([np.dtype("<f4"), np.dtype("<f8"), np.dtype("<f2")])
    return {f"t{i}": TensorSpec((size,), next(dtypes)) for i, size in enumerate(sizes)}


@given(
    st.integers(3, 7),
    st.lists(st.integers(0, 40), min_size=1, max_size=4),
    st.sampled_from(["none", "int8"]),
    st.data(),
)
def test_the_sum_of_masked_updates_is_the_masked_sum_exactly(clients, sizes, codec, data):
    group = Group(clients, layout_of(*sizes), codec)
    survivors = sorted(data.draw(st.sets(st.sampled_from(group.names), min_size=1)))
    expected = group.add([group.rounded(name) for name in survivors])
    found = group.unmasked_sum(survivors)
    for ring in group.grid.sizes:
        assert np.array_equal(found[ring], expected[ring])


def test_every_pattern_of_drop_outs_is_recovered_down_to_one():
    group = Group(5, layout_of(17, 9))
    for size in range(1, 6):
        for survivors in itertools.combinations(group.names, size):
            expected = group.add([group.rounded(name) for name in survivors])
            found = group.unmasked_sum(list(survivors))
            assert all(np.array_equal(found[ring], expected[ring]) for ring in expected)


def test_the_mean_is_that_of_the_updates_up_to_the_rounding():
    group = Group(6, layout_of(30_000))
    found = group.unmasked_sum(group.names)
    segment = group.grid.segments["t0"]
    mean = segment.grid.mean(found[segment.grid.ring], 6)
    plain = [
        np.random.default_rng(sum(name.encode())).uniform(-1, 1, size=30_000)
        for name in group.names
    ]
    assert np.abs(mean - np.mean(plain, axis=0)).max() <= segment.grid.step


@pytest.mark.parametrize("codec", ["none", "int8"])
def test_one_masked_update_is_uniform_whatever_is_in_it(codec):
    group = Group(4, layout_of(200_000), codec)
    ring = group.grid.segments["t0"].grid.ring
    for name in group.names:
        masked = group.masked(name)[ring]
        for shift in range(0, 8 * ring.itemsize, 8):
            counts = np.bincount((masked >> shift & 255).astype(int), minlength=256)
            expected = masked.size / 256
            chi_square = (np.square(counts - expected) / expected).sum()
            assert 150 < chi_square < 400  # 255 degrees of freedom: 6 deviations of 22.6


def test_a_masked_update_tells_nothing_of_the_one_in_it():
    group = Group(3, layout_of(100_000))
    segment = group.grid.segments["t0"]
    plain = group.rounded("c00")[segment.grid.ring].view(np.int32).astype(float)
    masked = group.masked("c00")[segment.grid.ring].view(np.int32).astype(float)
    assert abs(np.corrcoef(plain[:-2], masked[:-2])[0, 1]) < 5 / np.sqrt(plain.size)


@given(st.data())
def test_without_one_mask_every_update_is_possible(data):
    """The algebra: take any other update; there is one mask that makes it look the same.

    So a server that misses one of a client's masks, which is uniform, has no reason to believe in
    one update rather than another.
    """
    group = Group(3, layout_of(8))
    ring = group.grid.segments["t0"].grid.ring
    seen = group.masked("c00")[ring]
    integers = st.lists(st.integers(0, 2**32 - 1), min_size=8, max_size=8)
    other = np.array(data.draw(integers), ring)
    known = np.zeros(8, ring)
    masks = [Mask(stream("c00"), 1), Mask(stream("c00", "c01"), 1)]
    apply_masks(known, 0, group.grid, masks, new_scratch())
    missing = seen - other - known
    assert np.array_equal(other + known + missing, seen)


def test_blocks_are_masked_wherever_they_begin():
    group = Group(3, layout_of(2 * BLOCK_BYTES // 4 + 5))
    whole = group.masked("c01")
    again = group.rounded("c01")
    masks = [
        Mask(stream("c01"), 1),
        Mask(stream("c01", "c00"), -1),
        Mask(stream("c01", "c02"), 1),
    ]
    for ring, start, stop in reversed(list(blocks(group.grid))):
        apply_masks(again[ring][start:stop], start, group.grid, masks, new_scratch())
    assert all(np.array_equal(whole[ring], again[ring]) for ring in whole)


def test_rings_do_not_share_mask_bytes():
    layout = {"a": TensorSpec((3,), np.dtype("<f4")), "b": TensorSpec((3,), np.dtype("<f8"))}
    group = Group(3, layout, "int8")
    ends = {ring: group.grid.offset_bytes(ring) + size * ring.itemsize
            for ring, size in group.grid.sizes.items()}  # fmt: skip
    rings = list(group.grid.sizes)
    assert group.grid.offset_bytes(rings[1]) >= ends[rings[0]]
    assert all(group.grid.offset_bytes(ring) % 16 == 0 for ring in rings)


@pytest.mark.parametrize(("clients", "threshold"), [(3, 3), (4, 3), (5, 4), (10, 7), (100, 67)])
def test_the_threshold_is_the_paper_s(clients, threshold):
    assert threshold_of(clients) == threshold
    colluding = -(-clients // 3) - 1
    # Two disjoint groups of answers about one client would need more honest clients than there are.
    assert 2 * (threshold - colluding) > clients - colluding
