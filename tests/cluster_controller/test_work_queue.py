"""The queue of keys: each once, one worker each, failures later and later."""

from __future__ import annotations

import itertools
import threading

from controller.cluster.work_queue import WorkQueue


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_key_that_is_added_often_is_given_out_once():
    queue = WorkQueue()
    for _ in range(3):
        queue.add("a")
    assert queue.take(0) == "a"
    queue.done("a")
    assert queue.take(0) is None


def test_keys_come_in_the_order_of_their_adding():
    queue = WorkQueue()
    for key in "cab":
        queue.add(key)
    assert [queue.take(0) for _ in range(3)] == ["c", "a", "b"]


def test_a_key_in_somebodys_hands_is_given_to_nobody_else_and_comes_again_after():
    queue = WorkQueue()
    queue.add("a")
    assert queue.take(0) == "a"
    queue.add("a")
    assert queue.take(0) is None
    queue.done("a")
    assert queue.take(0) == "a"


def test_of_two_wishes_for_later_the_earlier_counts():
    clock = Clock()
    queue = WorkQueue(clock)
    queue.add_after("a", 10)
    queue.add_after("a", 2)
    queue.add_after("a", 5)
    clock.now = 2.0
    assert queue.take(0) == "a"
    queue.done("a")
    clock.now = 20.0
    assert queue.take(0) is None


def test_being_added_now_cancels_the_wish_for_later():
    clock = Clock()
    queue = WorkQueue(clock)
    queue.add_after("a", 5)
    queue.add("a")
    assert queue.take(0) == "a"
    queue.done("a")
    clock.now = 6.0
    assert queue.take(0) is None


def test_the_pause_after_failures_doubles_up_to_a_minute_and_is_short_again_after_success():
    clock = Clock()
    queue = WorkQueue(clock)
    pauses = []
    for _ in range(12):
        pauses.append(queue.add_failed("a"))
        clock.now += 100
        queue.take(0)
        queue.done("a")
    assert 0.4 <= pauses[0] <= 0.6
    assert all(b > a for a, b in itertools.pairwise(pauses[:6]))
    assert 48 <= pauses[-1] <= 72
    queue.forget("a")
    assert queue.add_failed("a") <= 0.6


def test_a_failure_may_ask_for_a_longer_pause():
    assert WorkQueue().add_failed("a", 10.0) >= 10.0


def test_closing_sends_a_waiting_worker_home():
    queue = WorkQueue()
    found = []
    thread = threading.Thread(target=lambda: found.append(queue.take(30)))
    thread.start()
    queue.close()
    thread.join(5)
    assert found == [None]


def test_eight_workers_never_hold_the_same_key():
    queue = WorkQueue()
    held, clashes, done = set(), [], []
    lock = threading.Lock()

    def work():
        while len(done) < 400:
            key = queue.take(0.01)
            if key is None:
                continue
            with lock:
                if key in held:
                    clashes.append(key)
                held.add(key)
            with lock:
                held.discard(key)
                done.append(key)
            queue.done(key)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    while len(done) < 400:
        for key in range(5):
            queue.add(key)
    for thread in threads:
        thread.join(10)
    assert not clashes
