"""What a controller that starts finds: rounds and failed attempts, as another left them."""

from __future__ import annotations

import json

import pytest

from controller.cluster.records import SharedObserver
from fedloom.artifacts import layout
from fedloom.artifacts.local import LocalStore
from fedloom.errors import StoreUnavailableError
from pipelines.engine import RunPhase, RunStatus


class Engine:
    run = None

    def status(self):
        return self.run


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def store(tmp_path):
    return LocalStore(tmp_path)


@pytest.fixture
def engine():
    return Engine()


@pytest.fixture
def clock():
    return Clock()


def observer(store, engine, clock):
    found = SharedObserver(store, engine, clock)
    found.recover()
    return found


def commit(store, number):
    result = {
        "round": number,
        "metrics": {"loss": float(number)},
        "clients": {"a": {"state": "Succeeded", "digest": f"sha256:{number}"}},
        "traffic": {"uplink_bytes": 1, "downlink_bytes": 2},
        "model": {"key": layout.model_key(number), "digest": "sha256:m", "size_bytes": 1},
        "state": {},
    }
    store.put(layout.result_key(number), json.dumps(result).encode())


def record(store, number, attempt, reason="TooFewClients", finished=900.0):
    value = {"reason": reason, "message": "why", "finished": finished}
    store.put(layout.attempt_key(number, attempt), json.dumps(value).encode())


def failed(number, attempt, reason="ServerFailed"):
    return RunStatus(number, attempt, RunPhase.FAILED, reason, "exit code 1")


def test_a_restarted_controller_goes_on_where_the_other_stood(store, engine, clock):
    for number in range(3):
        commit(store, number)
    record(store, 3, 1)
    observed = observer(store, engine, clock).observe()
    assert observed.next_round == 3
    assert observed.failed_attempts == 1
    assert observed.failure == ("TooFewClients", "why")
    assert observed.uplink_bytes == 3
    assert observed.accepted == {"a": "sha256:2"}


def test_what_a_running_attempt_uploads_is_left_alone(store, engine, clock):
    commit(store, 0)
    key = layout.update_key(1, "a", 1)
    store.put(key, b"an update on its way")
    observer(store, engine, clock).observe()
    assert store.get(key) == b"an update on its way"


def test_a_failed_attempt_is_written_down_once(store, engine, clock):
    commit(store, 0)
    found = observer(store, engine, clock)
    engine.run = failed(1, 1)
    assert found.observe().failed_attempts == 1
    assert found.observe().failed_attempts == 1
    assert observer(store, engine, clock).observe().failed_attempts == 1
    again = json.loads(store.get(layout.attempt_key(1, 1)))
    assert (again["reason"], again["finished"]) == ("ServerFailed", 1000.0)


def test_the_commit_steps_own_record_stands(store, engine, clock):
    commit(store, 0)
    found = observer(store, engine, clock)
    record(store, 1, 1)
    engine.run = failed(1, 1)
    assert found.observe().failure == ("TooFewClients", "why")


def test_a_round_whose_result_is_there_is_done_whatever_the_engine_says(store, engine, clock):
    commit(store, 0)
    found = observer(store, engine, clock)
    commit(store, 1)
    engine.run = failed(1, 1)
    observed = found.observe()
    assert (observed.next_round, observed.failed_attempts) == (2, 0)


def test_success_without_a_result_is_a_failed_attempt(store, engine, clock):
    commit(store, 0)
    found = observer(store, engine, clock)
    engine.run = RunStatus(1, 1, RunPhase.SUCCEEDED)
    observed = found.observe()
    assert (observed.next_round, observed.failed_attempts) == (1, 1)


def test_an_older_run_that_shows_up_again_counts_for_nothing(store, engine, clock):
    for number in range(3):
        commit(store, number)
    engine.run = failed(1, 4)
    observed = observer(store, engine, clock).observe()
    assert (observed.next_round, observed.failed_attempts, observed.run) == (3, 0, None)


def test_an_outage_of_the_store_is_passed_on_and_loses_nothing(store, engine, clock, monkeypatch):
    commit(store, 0)
    found = observer(store, engine, clock)
    engine.run = RunStatus(1, 1, RunPhase.SUCCEEDED)
    commit(store, 1)

    def away(*_, **__):
        raise StoreUnavailableError("no answer")

    with monkeypatch.context() as patch:
        patch.setattr(store, "get", away)
        with pytest.raises(StoreUnavailableError):
            found.observe()
    assert found.observe().next_round == 2
    assert [each["round"] for each in found.take_new()] == [0, 1]


@pytest.mark.parametrize("reason", ["StoreUnavailableError", "Evicted", "NodeLost"])
def test_what_says_nothing_about_the_job_is_forgiven_and_waited_after(store, engine, clock, reason):
    commit(store, 0)
    record(store, 1, 1, reason, finished=1000.0)
    observed = observer(store, engine, clock).observe()
    assert (observed.failed_attempts, observed.forgiven_attempts) == (1, 1)
    assert observed.not_before == 1005.0


def test_pauses_grow_and_end_and_so_does_forgiving(store, engine, clock):
    commit(store, 0)
    for attempt in range(1, 25):
        record(store, 1, attempt, "StoreUnavailableError", finished=1000.0)
    observed = observer(store, engine, clock).observe()
    assert observed.failed_attempts == 24
    assert observed.forgiven_attempts == 20
    for attempt, pause in ((1, 5), (2, 10), (3, 20), (10, 120)):
        other = SharedObserver(store, engine, clock)
        other.recover()
        other._records = {n: other._records[n] for n in range(1, attempt + 1)}
        assert other.observe().not_before == 1000.0 + pause


def test_asking_for_another_try_forgives_what_was_before(store, engine, clock):
    commit(store, 0)
    record(store, 1, 1, finished=900.0)
    record(store, 1, 2, finished=1100.0)
    found = observer(store, engine, clock)
    found.forgive_before = 1000.0
    observed = found.observe()
    assert (observed.failed_attempts, observed.forgiven_attempts) == (2, 1)


def test_a_commit_forgets_the_failures_before_it(store, engine, clock):
    commit(store, 0)
    record(store, 1, 1)
    found = observer(store, engine, clock)
    commit(store, 1)
    engine.run = RunStatus(1, 2, RunPhase.SUCCEEDED)
    observed = found.observe()
    assert (observed.next_round, observed.failed_attempts, observed.forgiven_attempts) == (2, 0, 0)


def test_a_damaged_record_is_a_failed_attempt_all_the_same(store, engine, clock):
    commit(store, 0)
    store.put(layout.attempt_key(1, 1), b"{")
    observed = observer(store, engine, clock).observe()
    assert observed.failure[0] == "RecordDamaged"
