"""Trying again: how often, and how long to wait in between."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from fedloom.errors import StoreUnavailableError, TransientError

Result = TypeVar("Result")


@dataclass(frozen=True)
class RetryPolicy:
    """Exponential backoff with full jitter and a cap.

    The pause after attempt n is uniform in [0, min(`cap_seconds`, `base_seconds` * 2**(n-1))), so
    that many clients of one tired server spread out (Brooker, "Exponential Backoff And Jitter",
    AWS Architecture Blog, 2015). No attempt starts later than `total_seconds` after the first.
    `sleep`, `uniform` (a number in [0, 1)) and `clock` (seconds) are there to be replaced in tests.
    """

    attempts: int = 5
    base_seconds: float = 0.2
    cap_seconds: float = 5.0
    total_seconds: float = 180.0
    sleep: Callable[[float], None] = time.sleep
    uniform: Callable[[], float] = random.random
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError(f"attempts: got {self.attempts}, expected 1 or more")

    def run(self, operation: Callable[[], Result]) -> Result:
        """The operation's result; it is called again after each TransientError.

        The last failure is raised as StoreUnavailableError that says how often it was tried.
        """
        start = self.clock()
        attempt = 0
        while True:
            attempt += 1
            try:
                return operation()
            except TransientError as error:
                pause = self.pause_seconds(attempt)
                spent = self.clock() - start
                if attempt >= self.attempts or spent + pause > self.total_seconds:
                    raise StoreUnavailableError(
                        f"{error} (tried {attempt} times in {spent:.1f} s)", self.cap_seconds
                    ) from error
                self.sleep(pause)

    def pause_seconds(self, attempt: int) -> float:
        """How long to wait after this attempt, counted from 1."""
        # The exponent is bounded because 2.0**1024 overflows; the cap is reached long before.
        ceiling = min(self.cap_seconds, self.base_seconds * 2.0 ** min(attempt - 1, 60))
        return self.uniform() * ceiling
