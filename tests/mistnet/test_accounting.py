"""What a release costs, and what attacks see, against figures worked out by hand or elsewhere."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fedloom.algorithms.mistnet.accounting import (
    ReleaseCost,
    capacity,
    composed_epsilon,
    composed_information_bytes,
)
from fedloom.algorithms.mistnet.bits import pack_bits
from fedloom.algorithms.mistnet.inversion import RidgeInversion
from fedloom.algorithms.mistnet.linkage import linkage
from fedloom.algorithms.mistnet.randomized_response import RandomizedResponse, debias, release_bits
from fedloom.errors import JobError

NANO_640, SMALL_640 = 409_600, 819_200


@pytest.mark.parametrize(
    ("epsilon", "bits_per_bit", "nano_bytes", "small_bytes"),
    [
        (0.1, 0.0018, 92, 184),
        (0.5, 0.0437, 2_240, 4_480),
        (1, 0.1601, 8_197, 16_394),
        (2, 0.4729, 24_200, 48_400),
        (4, 0.8700, 44_550, 89_100),
    ],
)
def test_the_information_bound_of_a_detector_at_640_pixels(
    epsilon, bits_per_bit, nano_bytes, small_bytes
):
    mechanism = RandomizedResponse(epsilon)
    assert capacity(mechanism) == pytest.approx(bits_per_bit, abs=6e-5)
    nano, small = ReleaseCost(NANO_640, mechanism), ReleaseCost(SMALL_640, mechanism)
    assert nano.information_bytes == pytest.approx(nano_bytes, rel=0.005)
    assert small.information_bytes == pytest.approx(small_bytes, rel=0.005)
    assert nano.image_epsilon == NANO_640 * epsilon
    assert (nano.release_bytes, small.release_bytes) == (51_200, 102_400)


def test_without_noise_the_bound_is_the_release_itself_and_epsilon_infinite():
    cost = ReleaseCost(NANO_640, RandomizedResponse(100))
    assert cost.information_bytes == 51_200
    assert cost.image_epsilon == math.inf
    assert cost.share_of(25_600) == 2


def test_the_bound_keeps_its_digits_where_there_is_almost_only_noise():
    assert capacity(RandomizedResponse(1e-6)) == pytest.approx(1e-12 / 8 / math.log(2), rel=1e-3)


def test_releases_of_one_image_add_up():
    costs = [ReleaseCost(100, RandomizedResponse(epsilon)) for epsilon in (0.5, 2)]
    assert composed_epsilon(costs) == 250
    assert composed_epsilon([]) == 0
    assert composed_information_bytes(costs) == pytest.approx(100 * (0.0437 + 0.4729) / 8, rel=1e-3)


def bits_of(rng, images, size):
    return np.stack([pack_bits(rng.random(size) < 0.4) for _ in range(images)])


def test_clean_bits_are_always_linked_and_noise_alone_never():
    rng = np.random.default_rng(1)
    candidates = bits_of(rng, 50, 403)
    order = rng.permutation(50)
    figures = linkage(candidates[order], candidates, order)
    assert (figures.releases, figures.candidates, figures.top1) == (50, 50, 1.0)
    assert figures.chance == 0.02
    noise = linkage(bits_of(rng, 50, 403), candidates, order)
    assert noise.top1 < 0.2


def test_linkage_is_the_best_agreement_bit_by_bit():
    rng = np.random.default_rng(2)
    candidates, released = (rng.integers(0, 256, (9, 5000), np.uint8) for _ in range(2))
    agreements = [[np.unpackbits(~(a ^ b)).sum() for b in candidates] for a in released]
    best = np.argmax(agreements, axis=1)
    assert linkage(released, candidates, best).top1 == 1
    assert linkage(released, candidates, (best + 1) % 9).top1 == 0


def test_candidates_that_tie_share_the_hit():
    same = np.zeros((4, 3), np.uint8)
    assert linkage(same, same, np.arange(4)).top1 == 0.25


def test_linkage_survives_where_utility_does_not():
    """At an epsilon of 0.5 a bit, an image among 100 is still found: its bits are many."""
    rng, mechanism = np.random.default_rng(3), RandomizedResponse(0.5)
    features = rng.normal(size=(100, 2304))
    clean = np.stack([pack_bits(each > 0) for each in features])
    released = np.stack([release_bits(each, mechanism, rng.bytes) for each in features])
    assert linkage(released, clean, np.arange(100)).top1 > 0.95


def test_shapes_that_do_not_fit_are_refused():
    rows = np.zeros((4, 3), np.uint8)
    with pytest.raises(JobError, match="got releases of shape"):
        linkage(rows, rows[:, :2], np.arange(4))
    with pytest.raises(JobError, match="no release"):
        linkage(rows[:0], rows, np.arange(0))


def images_and_maps(count, mechanism, seed):
    """Smooth images of 12 x 12 pixels; each place of a map compares its patch's means."""
    rng = np.random.default_rng(seed)
    levels = np.random.default_rng(0).normal(0.5, 0.25, 16)
    for _ in range(count):
        coarse = rng.random((6, 6, 1))
        image = np.repeat(np.repeat(coarse, 2, axis=0), 2, axis=1)
        features = (coarse[:, :, 0][None] - levels[:, None, None]).astype(np.float32)
        yield debias(release_bits(features, mechanism, rng.bytes), features.shape, mechanism), image


def test_ridge_inversion_recovers_less_the_more_noise_there_is():
    recovered = []
    for epsilon in (100, 2, 0.5, 0.01):
        mechanism = RandomizedResponse(epsilon)
        attack = RidgeInversion.fit(images_and_maps(60, mechanism, 1))
        figures = attack.measure(images_and_maps(20, mechanism, 2))
        assert figures.images == 20
        assert figures.blind_mse == pytest.approx(1 / 12, rel=0.15)
        recovered.append(figures.variance_recovered)
    assert recovered[0] > 0.95
    assert recovered == sorted(recovered, reverse=True)
    assert -0.1 < recovered[-1] < 0.05, "under noise alone it is about as good as the blind guess"


def test_ridge_inversion_is_the_closed_form():
    pairs = list(images_and_maps(10, RandomizedResponse(2), 4))
    attack = RidgeInversion.fit(pairs, strength=0.01)
    rows, patches = [], []
    for features, image in pairs:
        padded = np.pad(features, ((0, 0), (1, 1), (1, 1)))
        for row in range(6):
            for column in range(6):
                rows.append([*padded[:, row : row + 3, column : column + 3].ravel(), 1.0])
                patches.append(image[2 * row : 2 * row + 2, 2 * column : 2 * column + 2].ravel())
    x, y = np.array(rows, np.float64), np.array(patches)
    ridge = 0.01 * np.trace(x.T @ x) / x.shape[1] * np.diag([*[1.0] * (x.shape[1] - 1), 0.0])
    expected = np.linalg.solve(x.T @ x + ridge, x.T @ y)
    np.testing.assert_allclose(attack.weights, expected, rtol=1e-6, atol=1e-9)
    guess = attack.guess(pairs[0][0])
    np.testing.assert_allclose(guess[2:4, 4:6].ravel(), (x[8] @ expected), rtol=1e-6)


def test_a_map_of_many_places_is_worked_on_in_bands():
    """A whole one, and the last of them shorter: its guess is exact, and in place."""
    rng = np.random.default_rng(0)
    features = rng.integers(0, 2, (8, 300, 400)).astype(np.float32)
    image = features[:3].transpose(1, 2, 0) * 0.5 + features[3][:, :, None] * 0.25
    figures = RidgeInversion.fit([(features, image)]).measure([(features, image)])
    assert figures.variance_recovered == 0  # of one image, the blind guess is the image
    assert figures.mse < 1e-6


def test_a_blind_guess_recovers_nothing():
    pairs = [(np.zeros((2, 3, 3), np.float32), np.full((6, 6, 3), level)) for level in (0.2, 0.4)]
    figures = RidgeInversion.fit(pairs).measure(pairs)
    assert figures.variance_recovered == pytest.approx(0, abs=1e-2)
    assert figures.correlation == 0


@pytest.mark.parametrize(
    ("features", "image"), [((2, 3, 3), (7, 6, 1)), ((2, 3), (6, 6, 1)), ((2, 3, 3), (2, 2, 1))]
)
def test_maps_and_images_that_do_not_fit_are_refused(features, image):
    with pytest.raises(JobError, match="whole number of pixels"):
        RidgeInversion.fit([(np.zeros(features), np.zeros(image))])
    with pytest.raises(JobError, match="no public image"):
        RidgeInversion.fit([])
