"""Big objects in parts: how they are cut, and several parts on their way at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from fedloom.artifacts.retry import RetryPolicy

PART_COUNT_LIMIT = 10_000

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Span:
    """One part of an object: `number` counts from 1, `offset` and `length` are in bytes."""

    number: int
    offset: int
    length: int


@dataclass(frozen=True)
class Transfer:
    """How bytes travel: patience, and the size and number of the parts of a big object.

    Objects above `part_bytes` travel in parts, `parallel` at once; about `parallel + 1` parts are
    held in memory. S3 takes parts of 5 MiB to 5 GiB (the last may be smaller), 10,000 at most.
    """

    retry: RetryPolicy = field(default_factory=RetryPolicy)
    connect_timeout_seconds: float = 5.0
    read_timeout_seconds: float = 60.0
    part_bytes: int = 16 << 20
    parallel: int = 3

    def spans(self, size_bytes: int) -> list[Span]:
        """The parts of an object of this size, in order; one empty part for an empty object."""
        step = max(self.part_bytes, -(-size_bytes // PART_COUNT_LIMIT))
        return [
            Span(number, offset, min(step, size_bytes - offset))
            for number, offset in enumerate(range(0, max(size_bytes, 1), step), start=1)
        ]

    def in_order(self, work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """`work` of each item, in the order of the items, `parallel` threads at work.

        Never more than `parallel` results wait to be taken. The first error ends it: what has not
        begun is not begun any more.
        """
        with ThreadPoolExecutor(self.parallel, "fedloom-transfer") as pool:
            waiting: deque[Future[Result]] = deque()
            try:
                for item in items:
                    if len(waiting) == self.parallel:
                        yield waiting.popleft().result()
                    waiting.append(pool.submit(work, item))
                while waiting:
                    yield waiting.popleft().result()
            finally:
                pool.shutdown(wait=True, cancel_futures=True)


STANDARD = Transfer()
