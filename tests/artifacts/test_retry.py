"""Trying again, without waiting for real; and several parts on their way at once."""

from __future__ import annotations

import threading
import time

import pytest

from fedloom.artifacts.artifact import digest_of, digest_of_file
from fedloom.artifacts.retry import RetryPolicy
from fedloom.artifacts.transfer import Span, Transfer
from fedloom.errors import JobError, StoreUnavailableError


class Failing:
    """An operation that fails `failures` times before it succeeds."""

    def __init__(self, failures: int, error: Exception) -> None:
        self.failures = failures
        self.error = error
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error
        return "done"


def test_a_passing_failure_is_tried_again():
    pauses: list[float] = []
    operation = Failing(3, StoreUnavailableError("busy"))
    assert RetryPolicy(attempts=4, sleep=pauses.append).run(operation) == "done"
    assert operation.calls == 4
    assert len(pauses) == 3


def test_a_final_failure_is_not():
    operation = Failing(1, JobError("StoreDenied", "no"))
    with pytest.raises(JobError, match="no"):
        RetryPolicy(sleep=lambda seconds: None).run(operation)
    assert operation.calls == 1


def test_the_last_failure_says_how_often_it_was_tried():
    operation = Failing(99, StoreUnavailableError("busy"))
    policy = RetryPolicy(attempts=3, sleep=lambda seconds: None)
    with pytest.raises(StoreUnavailableError, match=r"busy \(tried 3 times") as caught:
        policy.run(operation)
    assert operation.calls == 3
    assert caught.value.retry_after_seconds == policy.cap_seconds
    assert caught.value.__cause__ is operation.error


def test_pauses_double_up_to_the_cap_and_are_full_of_jitter():
    longest = RetryPolicy(base_seconds=0.5, cap_seconds=3.0, uniform=lambda: 1.0)
    assert [longest.pause_seconds(n) for n in range(1, 6)] == [0.5, 1.0, 2.0, 3.0, 3.0]
    assert longest.pause_seconds(5000) == 3.0
    assert RetryPolicy(uniform=lambda: 0.0).pause_seconds(4) == 0.0
    assert len({RetryPolicy().pause_seconds(3) for _ in range(20)}) > 1


def test_no_attempt_starts_after_the_time_is_spent():
    now = [0.0]

    def operation() -> None:
        now[0] += 10.0
        raise StoreUnavailableError("slow")

    policy = RetryPolicy(
        attempts=99, total_seconds=25.0, clock=lambda: now[0], sleep=lambda seconds: None
    )
    with pytest.raises(StoreUnavailableError, match=r"tried 3 times in 30\.0 s"):
        policy.run(operation)


def test_a_policy_without_an_attempt_is_refused():
    with pytest.raises(ValueError, match="attempts: got 0"):
        RetryPolicy(attempts=0)


def test_an_object_is_cut_into_parts_that_cover_it():
    transfer = Transfer(part_bytes=10)
    assert transfer.spans(0) == [Span(1, 0, 0)]
    assert transfer.spans(10) == [Span(1, 0, 10)]
    assert transfer.spans(25) == [Span(1, 0, 10), Span(2, 10, 10), Span(3, 20, 5)]


def test_parts_grow_where_s3_would_not_take_so_many():
    spans = Transfer(part_bytes=10).spans(1_000_001)
    assert len(spans) <= 10_000
    assert sum(span.length for span in spans) == 1_000_001


def test_results_come_in_order_and_few_of_them_wait():
    begun: list[int] = []

    def work(number: int) -> int:
        begun.append(number)
        time.sleep(0.002 * (5 - number % 5))
        return number

    for taken, number in enumerate(Transfer(parallel=3).in_order(work, range(20))):
        assert number == taken
        assert len(begun) <= taken + 1 + 3


def test_the_first_error_ends_the_work():
    done = threading.Event()
    begun: list[int] = []

    def work(number: int) -> int:
        begun.append(number)
        if number == 1:
            raise StoreUnavailableError("part 1")
        return number

    with pytest.raises(StoreUnavailableError, match="part 1"):
        list(Transfer(parallel=2).in_order(work, range(1000)))
    assert not done.is_set()
    assert len(begun) < 10


def test_the_digest_of_a_file_is_that_of_its_bytes(tmp_path):
    data = bytes(range(256)) * 8192 + b"x"
    path = tmp_path / "file"
    path.write_bytes(data)
    assert digest_of_file(path) == digest_of(data) == digest_of(memoryview(data))
    assert digest_of(b"").startswith("sha256:e3b0c442")
