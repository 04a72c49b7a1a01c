"""The inner rounds one after another: waits for answers, has them combined, says who is to get what.

It knows connections by the names of their clients only.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Protocol

from components.inner_rounds import Combined, TooFewUpdatesError
from components.websocket_gathering import Answer, Failures, Gathering, Terms, Verdict
from components.websocket_messages import (
    Subscribe,
    Talk,
    UpdateWeight,
    read_message,
    weights_message,
)
from fedloom.errors import UpdateError


class Rounds(Protocol):
    """What the server asks for the mathematics; its methods may block, they run on threads."""

    @property
    def done(self) -> int: ...

    def keep(self, client: str, update: UpdateWeight, uplink_bytes: int, seconds: float) -> Answer:
        """Check an update and keep it. Raises UpdateError."""
        ...

    def combine(self, answers: dict[str, Answer], failures: Failures) -> Combined:
        """Make and store the model of the next inner round. Raises JobError."""
        ...

    def last_combined(self) -> Combined | None:
        """Give the last inner round's weights once more."""
        ...


class InnerLoop:
    """Goes through the inner rounds of one attempt; to be made where an event loop runs.

    `tell(client, message)` sends a client its weights; it returns at once. `final` is the last message,
    once there is one.
    """

    def __init__(self, terms: Terms, rounds: Rounds, tell: Callable[[str, bytes], None]) -> None:
        self._terms = terms
        self._rounds = rounds
        self._tell = tell
        self._news = asyncio.Event()
        self._decoding = asyncio.Lock()
        self._gathering = Gathering(terms, now())
        self.final: bytes | None = None

    def client_of(self, worker: str) -> str:
        """Give the client of a worker's name. Raises UpdateError("UnknownClient")."""
        return self._gathering.client_of(worker)

    def enter(self, client: str) -> None:
        say(f"{client} has come")
        self._gathering.enter(client)
        self._news.set()

    def leave(self, client: str) -> None:
        self._gathering.leave(client, now())
        self._news.set()

    def refuse(self, client: str, error: UpdateError) -> None:
        """Note that a client's answer cannot be used."""
        self._gathering.answer(client, self._refusal(client, error))
        self._news.set()

    async def take(self, worker: str, client: str, data: bytes) -> bool:
        """Do what a message of a client asks for; say whether everybody is to hear it.

        Raises UpdateError for what no client of this protocol says.
        """
        seconds = now() - self._gathering.began
        async with self._decoding:
            answer = await asyncio.to_thread(self._read, worker, client, data, seconds)
        if isinstance(answer, Talk):
            return True
        is_here = client in self._gathering.present
        if (
            self.final is not None and is_here
        ):  # too late for every round: it gets the last weights at once
            self._tell(client, self.final)
        self._gathering.answer(client, answer)
        self._news.set()
        return False

    async def wait(self, seconds: float) -> None:
        """Wait until something happens, at most so long."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._news.wait(), seconds)
        self._news.clear()

    async def run(self) -> None:
        """Go on until the last inner round has its model. Raises TooFewUpdatesError, JobError."""
        combined = await asyncio.to_thread(self._rounds.last_combined)
        while self._rounds.done < self._terms.rounds:
            combined = await self._one_round()
        assert combined is not None
        self.final = self._payload(combined)

    async def _one_round(self) -> Combined:
        gathering = self._gathering
        while (verdict := gathering.verdict(now())) is Verdict.WAIT:
            await self.wait(gathering.seconds_left(now()) + 0.01)
        answers, failures = gathering.close(now())
        if verdict is Verdict.FAIL:
            good = sum(answer.is_good for answer in answers.values())
            number = self._rounds.done + 1
            raise TooFewUpdatesError(number, good, self._terms.least, failures)
        combined = await asyncio.to_thread(self._rounds.combine, answers, failures)
        say(f"inner round {combined.number} of {self._terms.rounds}: {_listed(answers, failures)}")
        payload = self._payload(combined)
        for client in gathering.waiting(answers):
            self._tell(client, payload)
        gathering.began = now()
        return combined

    def _payload(self, combined: Combined) -> bytes:
        is_last = combined.number >= self._terms.rounds
        number, examples = combined.number, combined.num_examples
        return weights_message(combined.weights, number, examples, is_last=is_last)

    def _read(self, worker: str, client: str, data: bytes, seconds: float) -> Answer | Talk:
        try:
            message = read_message(data)
            if isinstance(message, Talk):
                return message
            given = message.worker
            if given != worker:
                text = f"got a message of {given!r} from {worker!r}"
                raise UpdateError("MalformedMessage", text)
            if isinstance(message, Subscribe):
                return Talk("subscribe")
            return self._rounds.keep(client, message, len(data), seconds)
        except UpdateError as error:
            if error.reason == "MalformedMessage":
                raise
            return self._refusal(client, error)

    def _refusal(self, client: str, error: UpdateError) -> Answer:
        say(f"an update of {client} is refused: {error.reason}: {error.message}")
        return Answer(reason=error.reason, message=error.message)


def now() -> float:
    """Give the event loop's time, in seconds."""
    return asyncio.get_running_loop().time()


def say(text: str) -> None:
    """Tell whoever reads the log."""
    print(f"fedloom: {text}", flush=True)


def _listed(answers: dict[str, Answer], failures: Failures) -> str:
    good = [client for client, answer in answers.items() if answer.is_good]
    others = [f"{client} {why['reason']}" for client, why in failures.items()]
    return f"{len(good)} updates" + (f"; without {', '.join(others)}" if others else "")
