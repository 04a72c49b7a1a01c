"""Who takes part in an inner round of Sedna's first protocol, and when it is over. Pure.

A round closes when every client that may still answer has done so, or at its deadline if enough have; it
fails when enough cannot come any more. A client is in one of these states:

    awaited    it is connected, or was never seen, and has not answered
    answered   its update is in, or was refused: it waits for the global weights
    gone       it was connected and has left without an answer; if it comes back it is awaited again
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from fedloom.errors import UpdateError

RETURN_SECONDS = 30.0
"""How long a round waits for clients that have left to come back, where it cannot do without them."""

Failures = dict[str, dict[str, str]]


class Verdict(Enum):
    """What is to be done with the round at hand."""

    WAIT = "wait"
    CLOSE = "close"
    FAIL = "fail"


@dataclass(frozen=True)
class Terms:
    """What holds for all inner rounds of a job.

    Attributes:
        workers: name of a worker, which is what a client calls itself -> the client's own name.
        least: how many updates an inner round needs.
        deadline_seconds: after how long it closes with those that are in.
        rounds: how many inner rounds.
    """

    workers: Mapping[str, str]
    least: int
    deadline_seconds: float
    rounds: int


@dataclass(frozen=True)
class Answer:
    """What a client sent in a round: an update, or nothing that can be used and why.

    Attributes:
        num_examples: what the update was made from; 0 where it was refused.
        path: of the file with the update; empty where it was refused.
        digest: of that file.
        uplink_bytes: of the message.
        seconds: from the round's begin to its arrival.
        reason, message: why it was refused; empty otherwise.
    """

    num_examples: int = 0
    path: str = ""
    digest: str = ""
    uplink_bytes: int = 0
    seconds: float = 0.0
    reason: str = ""
    message: str = ""

    @property
    def is_good(self) -> bool:
        return not self.reason


@dataclass
class Gathering:
    """The clients of the inner round at hand; `began` in seconds of the caller's clock."""

    terms: Terms
    began: float
    present: set[str] = field(default_factory=set)
    _seen: set[str] = field(default_factory=set)
    _answers: dict[str, Answer] = field(default_factory=dict)
    _left: float = 0.0

    def client_of(self, worker: str) -> str:
        """Give the client of a worker's name. Raises UpdateError("UnknownClient")."""
        client = self.terms.workers.get(worker)
        if client is None:
            raise UpdateError(
                "UnknownClient", f"client_id: got {worker!r}, which is no worker of this round"
            )
        return client

    def enter(self, client: str) -> None:
        """A client has subscribed, for the first time or again."""
        self.present.add(client)
        self._seen.add(client)

    def leave(self, client: str, now: float) -> None:
        """A client's connection is gone; an update that it has sent still counts."""
        self.present.discard(client)
        self._left = now

    def answer(self, client: str, answer: Answer) -> None:
        """A client has answered; what it sends again takes the place of what it sent before."""
        self._answers[client] = answer

    def verdict(self, now: float) -> Verdict:
        """Say whether the round goes on, is over, or cannot come to a good end."""
        good = sum(answer.is_good for answer in self._answers.values())
        open_ = [c for c in self.terms.workers.values() if c not in self._answers]
        awaited = [client for client in open_ if not self._is_gone(client)]
        is_enough, is_late = good >= self.terms.least, now >= self.deadline
        if is_enough and (is_late or not awaited):
            return Verdict.CLOSE
        is_possible = good + len(open_) >= self.terms.least
        is_returning = awaited or now < self._left + RETURN_SECONDS
        return Verdict.WAIT if is_possible and is_returning and not is_late else Verdict.FAIL

    def seconds_left(self, now: float) -> float:
        """After how long the verdict may change though nothing happens."""
        returning = self._left + RETURN_SECONDS
        moment = min(self.deadline, returning) if returning > now else self.deadline
        return max(0.0, moment - now)

    @property
    def deadline(self) -> float:
        return self.began + self.terms.deadline_seconds

    def close(self, now: float) -> tuple[dict[str, Answer], Failures]:
        """End the round and begin the next; give what came, and why the others have nothing in it."""
        answers, self._answers = dict(sorted(self._answers.items())), {}
        failures = self.failures(answers)
        self.began = now
        return answers, failures

    def failures(self, answers: Mapping[str, Answer] | None = None) -> Failures:
        """Say of every client without a good update why it has none."""
        found = self._answers if answers is None else answers
        return {
            client: self._why(client, found.get(client))
            for client in sorted(self.terms.workers.values())
            if client not in found or not found[client].is_good
        }

    def waiting(self, clients: Iterable[str]) -> list[str]:
        """Those of the clients that are there to be told."""
        return sorted(self.present.intersection(clients))

    def _is_gone(self, client: str) -> bool:
        return client in self._seen and client not in self.present

    def _why(self, client: str, answer: Answer | None) -> dict[str, str]:
        if answer is not None:
            return {"reason": answer.reason, "message": answer.message}
        if self._is_gone(client):
            return {
                "reason": "Disconnected",
                "message": "its connection ended before its update came",
            }
        if client not in self._seen:
            return {"reason": "NeverConnected", "message": "it did not come to the aggregator"}
        message = "no update arrived before the deadline (spec.participation.deadlineSeconds)"
        return {"reason": "DeadlineExceeded", "message": message}
