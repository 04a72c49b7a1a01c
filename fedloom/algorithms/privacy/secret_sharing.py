"""Shamir's secret sharing: any `threshold` shares give a secret back, fewer say nothing about it.

Shamir: "How to Share a Secret", Communications of the ACM 22 (11), 1979. A secret of 32 bytes is the
value at 0 of a random polynomial of degree threshold - 1 over the integers modulo `PRIME`; holder
number i >= 1 gets its value at i.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence

from fedloom.errors import JobError

PRIME = 2**256 + 297
"""The smallest prime above 2**256, so that every secret of 32 bytes is an element of the field."""

SECRET_BYTES = 32
SHARE_BYTES = 33


def split(
    secret: bytes,
    threshold: int,
    holders: Sequence[int],
    below: Callable[[int], int] = secrets.randbelow,
) -> dict[int, bytes]:
    """Cut a secret into shares.

    Args:
        secret: 32 bytes.
        threshold: how many shares give it back, 1 .. len(holders).
        holders: their numbers, each once, from 1.
        below: gives an unpredictable integer from 0 to its argument - 1.

    Returns:
        Number of the holder -> its share, 33 bytes.

    Raises:
        JobError: `InvalidSharing` for anything else.
    """
    if len(secret) != SECRET_BYTES:
        raise _invalid(f"a secret of {len(secret)} bytes, expected {SECRET_BYTES}")
    if not 1 <= threshold <= len(holders):
        raise _invalid(f"threshold {threshold} for {len(holders)} holders, expected 1 or more, "
                       "and no more than there are holders")  # fmt: skip
    if len(set(holders)) < len(holders) or min(holders) < 1:
        raise _invalid(f"holders {list(holders)[:8]}, expected different numbers from 1")
    coefficients = [below(PRIME) for _ in range(threshold - 1)]
    coefficients.append(int.from_bytes(secret, "big"))
    return {holder: _value_at(coefficients, holder).to_bytes(SHARE_BYTES, "big")
            for holder in holders}  # fmt: skip


def combine(shares: Mapping[int, bytes]) -> bytes:
    """Give the secret back from exactly as many shares as its threshold.

    Raises:
        JobError: `InvalidSharing` for no shares, for one that is none, and for shares that do not
            belong together where that shows; otherwise wrong shares give another secret, so whoever
            combines compares it with what is known of it.
    """
    if not shares or min(shares) < 1:
        raise _invalid(f"shares of {sorted(shares)[:8]}, expected some, of holders from 1")
    return _secret_of(interpolate(shares, 0))


def interpolate(shares: Mapping[int, bytes], place: int) -> int:
    """Give the value at `place` of the polynomial through these shares."""
    total = 0
    for holder, share in shares.items():
        above, below = 1, 1
        for other in shares:
            if other != holder:
                above = above * (place - other) % PRIME
                below = below * (holder - other) % PRIME
        total += _element(share) * above * pow(below, -1, PRIME)
    return total % PRIME


def find_wrong(
    shares: Mapping[int, bytes], threshold: int, is_right: Callable[[bytes], bool]
) -> tuple[bytes, list[int]] | None:
    """Give a secret that `is_right` says yes to, and the holders whose shares do not fit it.

    Usually the first `threshold` shares give it. If they do not, other runs of neighbours are tried:
    a few wrong shares are found as soon as `threshold` right ones stand side by side.

    Returns:
        None where no run gives it, or there are fewer shares than the threshold.
    """
    holders = sorted(shares)
    if len(holders) < threshold:
        return None
    for first in range(len(holders)):
        run = [*holders, *holders][first : first + threshold]
        chosen = {holder: shares[holder] for holder in run}
        try:
            secret = combine(chosen)
        except JobError:
            continue
        if is_right(secret):
            if first == 0:
                return secret, []
            others = [holder for holder in holders if holder not in chosen]
            return secret, [h for h in others if not _fits(chosen, h, shares[h])]
    return None


def _fits(chosen: Mapping[int, bytes], holder: int, share: bytes) -> bool:
    return interpolate(chosen, holder).to_bytes(SHARE_BYTES, "big") == share


def _value_at(coefficients: Sequence[int], place: int) -> int:
    """Horner's rule, the highest power first."""
    value = 0
    for coefficient in coefficients:
        value = (value * place + coefficient) % PRIME
    return value


def _element(share: bytes) -> int:
    value = int.from_bytes(share, "big")
    if len(share) != SHARE_BYTES or value >= PRIME:
        raise _invalid(f"a share of {len(share)} bytes, expected {SHARE_BYTES} of a field element")
    return value


def _secret_of(value: int) -> bytes:
    if value >= 2 ** (8 * SECRET_BYTES):
        raise _invalid("shares of no secret of 32 bytes, expected shares of one")
    return value.to_bytes(SECRET_BYTES, "big")


def _invalid(got: str) -> JobError:
    return JobError("InvalidSharing", f"got {got}")
