"""The cohort of a round, and every other seed, from the job's one seed.

Both are made of SHA-256 alone: a generator's stream may change with the version of numpy or
Python, a hash does not, so a round that is taken up elsewhere chooses the same clients.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence

from fedloom.errors import JobError


def derive_seed(*parts: str | int) -> int:
    """Give a seed of 63 bits that depends on every part, its type and its place.

    The same on every machine and Python version. `derive_seed("a", "bc")`, `derive_seed("ab", "c")`
    and `derive_seed("1")`, `derive_seed(1)` are unrelated.
    """
    digest = hashlib.sha256()
    for part in parts:
        data = str(int(part) if isinstance(part, int) else part).encode()
        kind = b"i" if isinstance(part, int) else b"s"
        digest.update(kind + str(len(data)).encode() + b":" + data)
    return int.from_bytes(digest.digest()[:8], "big") >> 1


def choose_cohort(
    clients: Sequence[str], count: int, seed: int, round_number: int, attempt: int
) -> tuple[str, ...]:
    """Choose the clients of a round: uniformly, without replacement.

    Each client is given the hash of (seed, round, attempt, its name), the `count` smallest are
    taken. So the choice does not depend on the order of `clients`, a client that joins or leaves
    displaces at most one other, and a larger `count` adds clients and takes none away.

    Args:
        clients: names, each once, in any order.
        count: how many to choose, >= 1; all of them where there are no more.
        seed: of the job.
        round_number: from 1.
        attempt: of the round, from 1: a round that is tried again gets another cohort.

    Returns:
        The chosen names, sorted.

    Raises:
        JobError: `InvalidCohort`, for a count below 1 or a name that is there twice.
    """
    if count < 1:
        raise JobError("InvalidCohort", f"got a cohort of {count} clients, expected at least 1")
    names = _checked(clients)
    if count >= len(names):
        return tuple(names)
    drawn = sorted(names, key=lambda name: (_draw(name, seed, round_number, attempt), name))
    return tuple(sorted(drawn[:count]))


def poisson_cohort(
    clients: Sequence[str], expected: float, seed: int, round_number: int, attempt: int
) -> tuple[str, ...]:
    """Choose each client by itself with probability expected / number of clients.

    The number of chosen clients differs from round to round and may be 0. What the accounting of
    differential privacy calls Poisson sampling (Mironov, Talwar, Zhang 2019, arXiv 1908.10530).

    Args:
        clients: names, each once, in any order.
        expected: clients of a round on average, > 0; all take part where it is their number or more.
        seed, round_number, attempt: as in `choose_cohort`.

    Returns:
        The chosen names, sorted.

    Raises:
        JobError: `InvalidCohort`, for an expectation of 0 or less or a name that is there twice.
    """
    if not expected > 0:
        raise JobError("InvalidCohort", f"got {expected} clients on average, expected more than 0")
    names = _checked(clients)
    limit = expected / max(len(names), 1) * 2**63
    return tuple(name for name in names if _draw(name, seed, round_number, attempt) < limit)


def _draw(name: str, seed: int, round_number: int, attempt: int) -> int:
    """Give a client's lot in a round: uniform in 0 .. 2**63 - 1."""
    return derive_seed("cohort", seed, round_number, attempt, name)


def _checked(clients: Sequence[str]) -> list[str]:
    names = sorted(clients)
    twice = [name for name, following in itertools.pairwise(names) if name == following]
    if twice:
        raise JobError("InvalidCohort", f"got client {twice[0]!r} twice, expected names once each")
    return names
