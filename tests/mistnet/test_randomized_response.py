"""The mechanism: exact chances, independent coins, known answers, what is refused."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedloom.algorithms.mistnet.bits import count_ones, pack_bits, packed_size, unpack_bits
from fedloom.algorithms.mistnet.randomized_response import (
    RandomizedResponse,
    binarise,
    check_fraction,
    debias,
    randomise,
    release_bits,
)
from fedloom.errors import JobError, UpdateError
from fedloom.keys.noise import NoiseKey, Occasion

SIDES = 2**32
IMAGE, OTHER_IMAGE, EXTRACTOR = (f"sha256:{each:064x}" for each in (1, 2, 3))
KEY, OTHER_KEY = NoiseKey(bytes(range(32))), NoiseKey(bytes(range(1, 33)))


def noise(key=KEY, image=IMAGE, extractor=EXTRACTOR, shape=(8,), flips=1):
    return key.noise(Occasion(image, extractor, shape, flips))


def turned(mechanism, size, **occasion):
    bits = np.zeros(size, np.bool_)
    randomise(bits, mechanism, noise(flips=mechanism.flips, **occasion))
    return bits


@pytest.mark.parametrize(("epsilon", "p"), [(0.5, 0.6224593), (1, 0.7310586), (2, 0.8807971)])
def test_p_is_the_sigmoid_of_the_papers_epsilon(epsilon, p):
    assert RandomizedResponse(epsilon).p == pytest.approx(p, abs=5e-8)
    assert RandomizedResponse(epsilon).epsilon == epsilon


def test_platos_epsilon_is_twice_the_papers():
    plato = RandomizedResponse(2, "plato-sue")
    assert plato.p == RandomizedResponse(1).p
    assert plato.epsilon == 1
    assert RandomizedResponse(math.log(9), "plato-sue").p == pytest.approx(0.75, abs=1e-9)
    assert str(plato) == "epsilon 1 per bit (paper), 2 (plato-sue), p = 0.731059"


@given(st.floats(1e-8, 22))
def test_the_chances_are_those_of_the_epsilon_to_a_32nd_bit_and_never_beyond(epsilon):
    mechanism = RandomizedResponse(epsilon)
    assert abs(mechanism.q - 1 / (1 + math.exp(epsilon))) <= 2.0**-32
    ratio = Fraction(SIDES - mechanism.flips, mechanism.flips)
    assert math.log(ratio) <= epsilon + 1e-15
    assert Fraction(mechanism.p) / Fraction(mechanism.q) == ratio


@pytest.mark.parametrize("epsilon", [0.01, 0.5, 1, 2, 4, 20])
def test_a_bit_is_turned_by_exactly_so_many_of_all_coins(epsilon):
    """Two neighbouring coins decide; so P(answer | bit) is flips / 2**32, and the ratio is p / q."""
    mechanism = RandomizedResponse(epsilon)
    coins = np.array([0, mechanism.flips - 1, mechanism.flips, SIDES - 1], "<u4").tobytes()
    for clean in (False, True):
        bits = np.full(4, clean)
        randomise(bits, mechanism, lambda count: coins[:count])
        assert (bits != clean).tolist() == [True, True, False, False]


@pytest.mark.parametrize("epsilon", [23, 100, 800, math.inf])
def test_an_epsilon_without_noise_is_infinite(epsilon):
    mechanism = RandomizedResponse(epsilon)
    assert mechanism.is_noiseless
    assert mechanism.epsilon == math.inf
    assert (mechanism.p, mechanism.q, mechanism.variance) == (1, 0, 0)
    assert "no noise" in str(mechanism)

    def nothing(count):
        raise AssertionError(count)

    features = np.array([1.0, -1.0, 0.0])
    assert unpack_bits(release_bits(features, mechanism, nothing), 3).tolist() == [
        True,
        False,
        False,
    ]


def test_just_below_there_is_noise_of_a_finite_epsilon():
    assert RandomizedResponse(22.8).flips == 1
    assert RandomizedResponse(22.8).epsilon == 22.8


@pytest.mark.parametrize("epsilon", [0, -1, math.nan, 1e-12])
def test_no_other_epsilon_is_taken(epsilon):
    with pytest.raises(JobError, match="epsilon: got"):
        RandomizedResponse(epsilon)


def test_an_unknown_convention_is_refused():
    with pytest.raises(JobError, match=r"epsilonConvention: got 'sue'"):
        RandomizedResponse(1, "sue")


def test_no_epsilon_is_refused_unless_no_privacy_is_asked_for():
    with pytest.raises(JobError, match="privacy: none"):
        RandomizedResponse.chosen(None, "paper", is_private=True)
    with pytest.raises(JobError, match="together with privacy: none"):
        RandomizedResponse.chosen(1, "paper", is_private=False)
    assert RandomizedResponse.chosen(None, "paper", is_private=False).is_noiseless
    assert RandomizedResponse.chosen(2, "plato-sue", is_private=True).epsilon == 1


@pytest.mark.parametrize("clean", [False, True])
@pytest.mark.parametrize("epsilon", [0.5, 1, 2, 4])
def test_bits_are_turned_as_often_as_they_should_be(epsilon, clean):
    mechanism, size = RandomizedResponse(epsilon), 1_000_000
    features = np.full(size, 1.0 if clean else -1.0, np.float32)
    released = unpack_bits(release_bits(features, mechanism, noise(flips=mechanism.flips)), size)
    rate = np.mean(released != clean)
    assert abs(rate - mechanism.q) < 5 * math.sqrt(mechanism.p * mechanism.q / size)


@pytest.mark.parametrize(
    "other",
    [
        {"key": OTHER_KEY},
        {"image": OTHER_IMAGE},
        {"extractor": IMAGE},
        {"shape": (4, 2)},
        {"shape": (8, 1)},
    ],
    ids=lambda other: next(iter(other)),
)
def test_noise_of_another_edge_image_extractor_or_shape_is_independent(other):
    mechanism, size = RandomizedResponse(1), 400_000
    both = np.mean(turned(mechanism, size) & turned(mechanism, size, **other))
    expected = mechanism.q**2
    assert abs(both - expected) < 5 * math.sqrt(expected * (1 - expected) / size)


def test_noise_of_another_epsilon_is_independent():
    one, two, size = RandomizedResponse(1), RandomizedResponse(2), 400_000
    both = np.mean(turned(one, size) & turned(two, size))
    expected = one.q * two.q
    assert abs(both - expected) < 5 * math.sqrt(expected / size)


def test_neighbouring_bits_are_turned_independently():
    mechanism, size = RandomizedResponse(1), 400_000
    flips = turned(mechanism, size)
    expected = mechanism.q**2
    for lag in (1, 2, 3, 8, 64, 65536):
        both = np.mean(flips[:-lag] & flips[lag:])
        assert abs(both - expected) < 5 * math.sqrt(expected / (size - lag)), lag


def test_the_same_occasion_gives_the_same_bytes():
    features = np.random.default_rng(3).normal(size=(5, 7, 9)).astype(np.float32)
    mechanism = RandomizedResponse(1)
    first, again = (release_bits(features, mechanism, noise()) for _ in range(2))
    assert first.tobytes() == again.tobytes()


def test_an_average_over_debiased_answers_is_the_clean_bit():
    mechanism = RandomizedResponse(1)
    clean = np.random.default_rng(5).normal(size=(4, 10, 10))
    draws = 2000
    total = np.zeros(clean.shape)
    for number in range(draws):
        packed = release_bits(clean, mechanism, noise(image=f"sha256:{number:064x}"))
        total += debias(packed, clean.shape, mechanism)
    error = total / draws - (clean > 0)
    assert np.abs(error).max() < 5 * math.sqrt(mechanism.variance / draws)
    assert mechanism.variance == pytest.approx(0.92, abs=0.002)


def test_without_noise_debiasing_gives_zeros_and_ones():
    packed = pack_bits(np.array([True, False, True]))
    assert debias(packed, (3,), RandomizedResponse(100)).tolist() == [1, 0, 1]


@pytest.mark.parametrize("size", [1, 7, 8, 9, 105, 65536, 65539, 140_001])
def test_any_number_of_bits_is_packed_and_unpacked(size):
    features = np.random.default_rng(size).normal(size=size)
    mechanism = RandomizedResponse(100)
    packed = release_bits(features, mechanism, bytes)
    assert packed.shape == (packed_size(size),)
    assert (unpack_bits(packed, size) == (features > 0)).all()
    assert count_ones(packed) == np.count_nonzero(features > 0)
    assert (packed == pack_bits(features > 0)).all()


def test_blocks_make_no_difference_to_the_noise():
    mechanism, size = RandomizedResponse(1), 70_001
    whole = noise(flips=mechanism.flips)(4 * size)
    features = np.full(size, -1.0)
    bits = unpack_bits(release_bits(features, mechanism, noise(flips=mechanism.flips)), size)
    assert (bits == (np.frombuffer(whole, "<u4") < mechanism.flips)).all()


def test_bytes_that_are_no_bits_are_refused():
    with pytest.raises(UpdateError, match="expected 2 bytes for 9 bits"):
        unpack_bits(np.zeros(3, np.uint8), 9)
    with pytest.raises(UpdateError, match="expected zeros behind its first 1 bits"):
        unpack_bits(np.array([255, 255], np.uint8), 9)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_features_that_are_not_finite_are_refused(bad):
    with pytest.raises(UpdateError, match="got 1 of 3 values NaN or infinite"):
        binarise(np.array([1.0, bad, 2.0]))


def test_features_that_are_no_floats_are_refused():
    with pytest.raises(UpdateError, match="got int64, expected floats"):
        binarise(np.array([1]))


def test_zeros_of_both_signs_are_no_ones():
    assert binarise(np.array([0.0, -0.0, 1e-45], np.float32)).tolist() == [False, False, True]


def test_a_fraction_of_ones_outside_of_q_and_p_is_refused():
    mechanism = RandomizedResponse(1)  # q = .269, p = .731
    for ones in (2690, 5000, 7310):
        check_fraction(ones, 10_000, mechanism)
    for ones in (0, 2000, 8000):
        with pytest.raises(UpdateError, match="expected one between"):
            check_fraction(ones, 10_000, mechanism)
    check_fraction(1, 10_000, RandomizedResponse(100))
    for ones in (0, 10_000):
        with pytest.raises(UpdateError, match="expected one between"):
            check_fraction(ones, 10_000, RandomizedResponse(100))
