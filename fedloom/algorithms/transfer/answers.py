"""What clients say of candidates, and which of it can be compared: only what all of them measured."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Probe:
    """What one client says of one candidate.

    Attributes:
        loss: mean over the client's samples, the smaller the better.
        samples: how many they are.
    """

    loss: float
    samples: int


@dataclass(frozen=True)
class Answers:
    """The part of the answers in which every client has measured every candidate.

    Attributes:
        clients: that count, sorted.
        counts: client -> samples, of those.
        losses: candidate -> client -> loss, finite; candidates sorted by name.
        left_out: clients that said something, but not of every candidate; sorted.
        refused: candidates that are not compared; sorted.
    """

    clients: tuple[str, ...]
    counts: Mapping[str, int]
    losses: Mapping[str, Mapping[str, float]]
    left_out: tuple[str, ...]
    refused: tuple[str, ...]

    @property
    def samples(self) -> int:
        """How many samples the clients that count have, together."""
        return sum(self.counts.values())


def gather(probes: Mapping[str, Mapping[str, Probe]], candidates: Collection[str]) -> Answers:
    """Keep what can be compared.

    A candidate that has no finite loss for half of the samples is refused: it is the candidate
    that is broken (NaN weights, say), not the clients. Of the others every client must have given a
    finite loss, over the same number of samples; one that has not does not count at all.

    Args:
        probes: candidate -> client -> answer.
        candidates: those that were probed, whether anybody answered or not.
    """
    clients = sorted({client for answered in probes.values() for client in answered})
    sizes = {client: _size(probes, client) for client in clients}
    asked = sum(sizes.values())
    refused: list[str] = []
    kept: list[str] = []
    for candidate in sorted(candidates):
        answered = probes.get(candidate, {})
        told = sum(answered[client].samples for client in answered if _is_good(answered[client]))
        (kept if 2 * told >= asked and told > 0 else refused).append(candidate)
    good = [
        client
        for client in clients
        if kept
        and all(
            client in probes[candidate]
            and _is_good(probes[candidate][client])
            and probes[candidate][client].samples == sizes[client]
            for candidate in kept
        )
    ]
    counts = {client: sizes[client] for client in good}
    return Answers(
        clients=tuple(good),
        counts=counts,
        losses={
            candidate: {client: probes[candidate][client].loss for client in good}
            for candidate in kept
        },
        left_out=tuple(sorted(sizes.keys() - counts.keys())),
        refused=tuple(refused),
    )


def _size(probes: Mapping[str, Mapping[str, Probe]], client: str) -> int:
    """Give the most samples that a client speaks of."""
    return max(
        max(answered[client].samples, 0) for answered in probes.values() if client in answered
    )


def _is_good(probe: Probe) -> bool:
    return probe.samples > 0 and math.isfinite(probe.loss)
