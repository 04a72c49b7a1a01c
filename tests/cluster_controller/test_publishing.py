"""Rounds on their way into MLflow: nothing is lost, nothing waits, few processes."""

from __future__ import annotations

import json
import time

import pytest

from controller.cluster.publishing import Publishing
from fedloom.artifacts import layout
from fedloom.artifacts.local import LocalStore
from fedloom.errors import StoreUnavailableError
from fedloom.tracking.tracker import JobDescription


class Process:
    """A publish process that notes what it is told."""

    def __init__(self, begin, path, on_event):
        self.uid = begin["description"]["uid"]
        self.tell = on_event
        self.rounds = []
        self.ended = ""
        self.is_running = True
        self.is_available = True

    def publish(self, result, find_model):
        self.rounds.append(result["round"])
        find_model()

    def finish(self, status, timeout_seconds):
        self.ended, self.is_running = status, False
        self.tell({"event": "finished", "available": self.is_available, "pending_rounds": 0})
        return True

    def abandon(self):
        self.ended, self.is_running = "abandoned", False


class Launched(list):
    def __call__(self, begin, path, on_event):
        self.append(Process(begin, path, on_event))
        return self[-1]


@pytest.fixture
def launched():
    return Launched()


@pytest.fixture
def publishing(tmp_path, launched):
    return Publishing("http://mlflow", tmp_path, 2, launched)


def result(number):
    return {"round": number, "model": {"key": layout.model_key(number), "digest": "sha256:0"}}


def store_with(path, *numbers):
    store = LocalStore(path)
    for number in numbers:
        store.put(layout.result_key(number), json.dumps(result(number)).encode())
    return store


def opened(publishing, uid, store, news=None):
    description = JobDescription(namespace="ns", name=uid, uid=uid, rounds=9, parameters={})
    publishing.open(description, store, news or (lambda: None))


def test_rounds_go_to_one_process_in_their_order(publishing, launched, tmp_path):
    opened(publishing, "u1", store_with(tmp_path))
    publishing.publish("u1", [result(0), result(1)])
    publishing.turn()
    publishing.publish("u1", [result(2)])
    publishing.turn()
    assert [each.rounds for each in launched] == [[0, 1, 2]]


def test_without_news_there_is_no_process(publishing, launched, tmp_path):
    opened(publishing, "u1", store_with(tmp_path))
    publishing.turn()
    assert launched == []


def test_a_process_that_died_is_followed_by_one_that_hears_everything(
    publishing, launched, tmp_path, monkeypatch
):
    opened(publishing, "u1", store_with(tmp_path, 0, 1))
    publishing.publish("u1", [result(0), result(1)])
    publishing.turn()
    launched[0].is_running = False
    publishing.turn()
    later = time.monotonic() + 31
    monkeypatch.setattr(time, "monotonic", lambda: later)
    publishing.turn()
    assert [each.rounds for each in launched] == [[0, 1], [0, 1]]


def test_more_jobs_than_processes_take_turns(publishing, launched, tmp_path):
    for uid in ("u1", "u2", "u3"):
        opened(publishing, uid, store_with(tmp_path / uid, 0, 1))
        publishing.publish(uid, [result(0)])
    publishing.turn()
    assert [each.uid for each in launched] == ["u1", "u2"]
    launched[0].tell({"event": "recorded", "round": 0})  # it has nothing left to do
    publishing.turn()
    assert [each.uid for each in launched] == ["u1", "u2", "u3"]
    assert launched[0].ended == "abandoned"  # its run stays open
    launched[1].tell({"event": "recorded", "round": 0})
    publishing.publish("u1", [result(1)])
    publishing.turn()
    assert launched[3].uid == "u1"
    assert launched[3].rounds == [0, 1]


def test_the_end_of_a_job_ends_its_run(publishing, launched, tmp_path):
    news = []
    opened(publishing, "u1", store_with(tmp_path), lambda: news.append(1))
    publishing.publish("u1", [result(0)])
    publishing.finish("u1", "FINISHED")
    publishing.turn()
    until = time.monotonic() + 5
    while not (publishing.is_done("u1") and news) and time.monotonic() < until:
        time.sleep(0.01)
    assert launched[0].ended == "FINISHED"
    assert publishing.is_done("u1")


def test_what_could_not_be_said_at_the_end_is_said_later(
    publishing, launched, tmp_path, monkeypatch
):
    opened(publishing, "u1", store_with(tmp_path, 0))
    publishing.publish("u1", [result(0)])
    publishing.turn()
    launched[0].is_available = False
    publishing.finish("u1", "FINISHED")
    publishing.turn()
    until = time.monotonic() + 5
    while publishing._channels["u1"].is_ending and time.monotonic() < until:
        time.sleep(0.01)
    assert not publishing.is_done("u1")
    later = time.monotonic() + 31
    monkeypatch.setattr(time, "monotonic", lambda: later)
    publishing.turn()
    assert launched[1].rounds == [0]


def test_what_is_said_becomes_facts(publishing, launched, tmp_path):
    news = []
    opened(publishing, "u1", store_with(tmp_path), lambda: news.append(1))
    publishing.publish("u1", [result(0)])
    publishing.turn()
    tell = launched[0].tell
    tell({"event": "unavailable", "message": "refused"})
    facts = publishing.facts("u1")
    assert (facts.is_known, facts.finding.reason) == (True, "Unavailable")
    run = {"experiment_id": "1", "run_id": "r", "url": None, "recorded_through": -1}
    tell({"event": "tracking", **run})
    tell({"event": "registered", "round": 1, "version": "7"})
    facts = publishing.facts("u1")
    assert (facts.finding, facts.run_id, facts.versions) == (None, "r", {1: "7"})
    assert len(news) == 3
    tell({"event": "recorded", "round": 0})
    assert len(news) == 3  # nothing that a status shows


def test_an_outage_of_the_store_is_no_end(publishing, launched, tmp_path, monkeypatch):
    store = store_with(tmp_path, *range(40))
    opened(publishing, "u1", store)
    publishing.publish("u1", [result(number) for number in range(40)])  # more than is kept

    def away(*_, **__):
        raise StoreUnavailableError("no answer")

    with monkeypatch.context() as patch:
        patch.setattr(store, "get", away)
        publishing.turn()
    assert publishing.facts("u1").finding.reason == "Unavailable"
    later = time.monotonic() + 31
    monkeypatch.setattr(time, "monotonic", lambda: later)
    publishing.turn()
    assert launched[0].rounds == list(range(40))


def test_a_job_that_is_gone_ends_its_run_as_killed(publishing, launched, tmp_path):
    opened(publishing, "u1", store_with(tmp_path))
    publishing.publish("u1", [result(0)])
    publishing.turn()
    publishing.forget("u1")
    until = time.monotonic() + 5
    while not launched[0].ended and time.monotonic() < until:
        time.sleep(0.01)
    assert launched[0].ended == "KILLED"
    assert not publishing.knows("u1")
