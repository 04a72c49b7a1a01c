"""Shamir's sharing: a threshold of shares gives the secret, one less says nothing."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedloom.algorithms.privacy.secret_sharing import (
    PRIME,
    SHARE_BYTES,
    combine,
    find_wrong,
    interpolate,
    split,
)
from fedloom.errors import JobError

SECRETS = st.binary(min_size=32, max_size=32)


@given(SECRETS, st.integers(1, 12), st.data())
def test_any_threshold_of_shares_gives_the_secret(secret, holders, data):
    threshold = data.draw(st.integers(1, holders))
    shares = split(secret, threshold, list(range(1, holders + 1)))
    assert {len(share) for share in shares.values()} == {SHARE_BYTES}
    chosen = data.draw(st.permutations(list(shares)))[:threshold]
    assert combine({holder: shares[holder] for holder in chosen}) == secret


def test_every_subset_of_a_threshold_works():
    shares = split(bytes(range(32)), 3, [1, 2, 5, 7, 9])
    for chosen in itertools.combinations(shares, 3):
        assert combine({holder: shares[holder] for holder in chosen}) == bytes(range(32))


@given(SECRETS, SECRETS, st.integers(2, 8))
def test_one_share_less_fits_every_secret(secret, other, threshold):
    """For any other secret there is a polynomial through the very same threshold - 1 shares."""
    shares = split(secret, threshold, list(range(1, threshold + 1)))
    known = {holder: shares[holder] for holder in range(1, threshold)}
    value = int.from_bytes(other, "big")
    through = {0: value, **{h: int.from_bytes(share, "big") for h, share in known.items()}}
    last = _lagrange(through, threshold)
    forged = {**known, threshold: last.to_bytes(SHARE_BYTES, "big")}
    assert combine(forged) == other


def test_shares_of_one_secret_look_like_shares_of_another():
    """The first byte of a share that is one below the threshold: uniform, whatever the secret."""
    for secret in (bytes(32), b"\xff" * 32):
        counts = Counter(split(secret, 2, [1, 2])[1][1] >> 4 for _ in range(4000))
        expected = 4000 / 16
        chi_square = sum((counts[k] - expected) ** 2 / expected for k in range(16))
        assert chi_square < 55  # 15 degrees of freedom: once in 10^6


def test_the_field_is_a_prime_that_holds_every_secret():
    assert PRIME > 2**256
    assert all(pow(base, PRIME - 1, PRIME) == 1 for base in (2, 3, 5, 7, 11, 13))


@pytest.mark.parametrize(
    ("secret", "threshold", "holders"),
    [
        (bytes(31), 2, [1, 2]),
        (bytes(32), 0, [1, 2]),
        (bytes(32), 3, [1, 2]),
        (bytes(32), 1, []),
        (bytes(32), 2, [1, 1]),
        (bytes(32), 2, [0, 1]),
    ],
)
def test_what_cannot_be_shared_is_refused(secret, threshold, holders):
    with pytest.raises(JobError, match="expected"):
        split(secret, threshold, holders)


@pytest.mark.parametrize(
    "shares", [{}, {1: b""}, {1: b"\xff" * 33}, {0: bytes(33)}, {1: bytes(32)}], ids=repr
)
def test_what_is_no_share_is_refused(shares):
    with pytest.raises(JobError, match="expected"):
        combine(shares)


def test_a_wrong_share_is_found_and_named():
    secret = bytes(range(32))
    shares = split(secret, 4, list(range(1, 8)))
    for bad in shares:
        given_shares = {**shares, bad: bytes(33)}
        found = find_wrong(given_shares, 4, lambda each: each == secret)
        assert found is not None
        assert found[0] == secret
        assert found[1] in ([], [bad])  # [] where the first four were right
        assert (found[1] == []) == (bad > 4)


def test_too_few_right_shares_are_no_secret():
    secret = bytes(range(32))
    shares = split(secret, 4, list(range(1, 6)))
    assert find_wrong({h: shares[h] for h in (1, 2, 3)}, 4, lambda each: each == secret) is None
    wrong = {**shares, 1: bytes(33), 3: bytes(33)}
    assert find_wrong(wrong, 4, lambda each: each == secret) is None


def test_interpolation_gives_a_holder_its_own_share():
    shares = split(bytes(range(32)), 3, [1, 2, 3, 4])
    three = {holder: shares[holder] for holder in (1, 2, 3)}
    assert interpolate(three, 4).to_bytes(SHARE_BYTES, "big") == shares[4]


def _lagrange(points, place):
    total = 0
    for x, y in points.items():
        above, below = 1, 1
        for other in points:
            if other != x:
                above = above * (place - other) % PRIME
                below = below * (x - other) % PRIME
        total += y * above * pow(below, -1, PRIME)
    return total % PRIME
