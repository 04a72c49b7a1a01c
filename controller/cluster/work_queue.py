"""Keys that want work: each once, each in one worker's hands at a time, failed ones later and later."""

from __future__ import annotations

import heapq
import itertools
import random
import threading
import time
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)

_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 60.0


class WorkQueue(Generic[Key]):
    """A queue for several workers; safe to use from any thread.

    A key that is added while it is worked on is given out again when that is done. `clock` gives
    seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._condition = threading.Condition()
        self._due: dict[Key, None] = {}  # in the order of their coming
        self._working: set[Key] = set()
        self._later: list[tuple[float, int, Key]] = []
        self._times: dict[Key, float] = {}  # the valid entry of `_later` for each key
        self._numbers = itertools.count()
        self._failures: dict[Key, int] = {}
        self._is_closed = False

    def __len__(self) -> int:
        """How many keys wait for a worker now."""
        with self._condition:
            return len(self._due)

    def add(self, key: Key) -> None:
        """Ask for work on this key."""
        with self._condition:
            self._due[key] = None
            self._times.pop(key, None)
            self._condition.notify()

    def add_after(self, key: Key, seconds: float) -> None:
        """Ask for work in so many seconds; the earliest wish counts."""
        if seconds <= 0:
            self.add(key)
            return
        with self._condition:
            at = self._clock() + seconds
            if key in self._due or self._times.get(key, at + 1) <= at:
                return
            self._times[key] = at
            heapq.heappush(self._later, (at, next(self._numbers), key))
            self._condition.notify()

    def add_failed(self, key: Key, at_least_seconds: float = 0.0) -> float:
        """Ask for work after a pause that doubles with each failure; give its seconds."""
        with self._condition:
            count = self._failures.get(key, 0)
            self._failures[key] = count + 1
        pause = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2.0 ** min(count, 20))
        pause = max(pause * random.uniform(0.8, 1.2), at_least_seconds)  # noqa: S311
        self.add_after(key, pause)
        return pause

    def forget(self, key: Key) -> None:
        """Work on the key went well: the next failure's pause is short again."""
        with self._condition:
            self._failures.pop(key, None)

    def take(self, timeout_seconds: float) -> Key | None:
        """Give a key to work on, None after so many seconds or when closed; `done` must follow."""
        until = self._clock() + timeout_seconds
        with self._condition:
            while not self._is_closed:
                self._move_due()
                for key in self._due:
                    if key not in self._working:
                        del self._due[key]
                        self._working.add(key)
                        return key
                now = self._clock()
                if now >= until:
                    return None
                first = self._later[0][0] if self._later else until
                self._condition.wait(max(0.001, min(until, first) - now))
        return None

    def done(self, key: Key) -> None:
        """Give a key back."""
        with self._condition:
            self._working.discard(key)
            self._condition.notify()

    def close(self) -> None:
        """Send every waiting worker home."""
        with self._condition:
            self._is_closed = True
            self._condition.notify_all()

    def _move_due(self) -> None:
        now = self._clock()
        while self._later and self._later[0][0] <= now:
            at, _, key = heapq.heappop(self._later)
            if self._times.get(key) == at:
                del self._times[key]
                self._due[key] = None
