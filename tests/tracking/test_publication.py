"""What is published of a job, by its policy and its progress, and the loop that does it."""

import json
import time
from dataclasses import replace

import pytest

from components import publish as publish_step
from components.publication import Progress, Publication
from fedloom.errors import TrackingUnavailableError
from fedloom.tracking.null_tracker import NullTracker

FINISH = {"task": "finish", "status": "FINISHED"}


@pytest.fixture
def go(tracker, tmp_path, round_result, weights):
    """Publish these rounds of a job in this process; give what was said."""

    def publish(job, numbers, status="FINISHED"):
        events = []
        progress = Progress(tmp_path / "tracking.json", job.uid, "x")
        publication = Publication(job, lambda: tracker, progress, events.append)
        for number in numbers:
            publication.take(round_result(number), weights(number))
        while publication.advance(with_models=status != "KILLED"):
            pass
        publication.finish(status)
        return events

    return publish


def test_the_policy_last_registers_the_last_round_at_the_end(go, stored, client, job):
    job = replace(job, save_policy="last")
    go(job, [1, 2], "KILLED")
    events = go(job, [2, 3])
    assert events[0]["recorded_through"] == 1  # round 2's model might have been the last
    assert stored.versions() == [(1, 3)]
    assert int(client.get_model_version_by_alias("digits", "champion").version) == 1
    assert stored.steps(job) == [1, 2, 3]


@pytest.mark.parametrize(("goal", "best"), [("minimize", 1), ("maximize", 3)])
def test_the_policy_best_registers_the_best_round_at_the_end(go, stored, job, goal, best):
    job = replace(job, save_policy="best", best_metric="accuracy", best_goal=goal)
    go(job, [0, 1, 2], "KILLED")
    go(job, [0, 1, 2, 3])
    assert stored.versions() == [(1, best)]


def test_a_job_that_failed_keeps_the_model_it_had(go, stored, job):
    go(replace(job, save_policy="last"), [0, 1, 2], "FAILED")
    assert stored.versions() == [(1, 2)]
    assert stored.run(job).info.status == "FAILED"


def test_a_job_that_registers_nothing_is_tracked_all_the_same(go, stored, client, job):
    go(replace(job, registered_model=None, alias=None), [1, 2])
    assert client.search_registered_models() == []
    assert stored.steps(job) == [1, 2]


class Flaky(NullTracker):
    """A tracker that is away until `back`; then it takes `failures` more calls to answer."""

    def __init__(self, back: float = 0.0) -> None:
        super().__init__()
        self.back = back
        self.recorded: list[int] = []
        self.tries = 0

    def record(self, results):
        self.tries += 1
        if time.monotonic() < self.back:
            raise TrackingUnavailableError("away")
        self.recorded += [result["round"] for result in results]


@pytest.fixture
def in_process(job, tmp_path, round_result, weights, monkeypatch):
    """Run the step's loop on this tracker in this process; give its events."""
    monkeypatch.setattr(publish_step, "_FIRST_PAUSE_SECONDS", 0.02)
    patience = dict.fromkeys(("FINISHED", "FAILED", "KILLED"), 0.5)
    monkeypatch.setattr(publish_step, "_PATIENCE_SECONDS", patience)

    def run(tracker, *messages, rounds=(1, 2)):
        events = []
        begin = {
            "task": "begin",
            "description": job.as_json(),
            "tracking_uri": "x",
            "state": str(tmp_path / "tracking.json"),
        }
        lines = [begin]
        lines += [
            {"task": "round", "result": round_result(n), "model_file": str(weights(n))}
            for n in rounds
        ]
        lines += messages
        step = publish_step.Publisher(lambda *_: tracker, events.append)
        step.read(json.dumps(line).encode() for line in lines)
        step.run()
        return events

    return run


def test_at_the_end_it_gives_up_after_a_while_and_says_what_is_missing(in_process):
    started = time.monotonic()
    events = in_process(Flaky(back=started + 1000), FINISH)
    assert time.monotonic() - started < 5
    assert events[-1] == {"event": "finished", "available": False, "pending_rounds": 2}
    assert [e["event"] for e in events].count("unavailable") == 1


def test_at_the_end_an_mlflow_that_comes_back_still_gets_everything(in_process):
    tracker = Flaky(back=time.monotonic() + 0.2)
    events = in_process(tracker, FINISH)
    assert events[-1] == {"event": "finished", "available": True, "pending_rounds": 0}
    assert tracker.recorded == [1, 2]


def test_waiting_rounds_are_recorded_together(in_process):
    tracker = Flaky()
    in_process(tracker, FINISH, rounds=range(1, 50))
    assert tracker.tries <= 2
    assert tracker.recorded == list(range(1, 50))


def test_killed_it_leaves_models_to_the_next_run(in_process):
    events = in_process(NullTracker(), {"task": "finish", "status": "KILLED"})
    assert not [e for e in events if e["event"] == "registered"]
    assert events[-1] == {"event": "finished", "available": True, "pending_rounds": 2}
    events = in_process(NullTracker(), FINISH)
    assert [e["round"] for e in events if e["event"] == "registered"] == [1, 2]


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param([], id="no begin"),
        pytest.param([{"task": "begin", "description": {"name": "x"}}], id="half a description"),
    ],
)
def test_without_a_job_there_is_nothing_to_finish(lines):
    events = []
    step = publish_step.Publisher(lambda *_: NullTracker(), events.append)
    step.read(json.dumps(line).encode() for line in [*lines, FINISH])
    step.run()
    assert events[-1] == {"event": "finished", "available": False, "pending_rounds": 0}
    said = [event["message"] for event in events[:-1]]
    assert len(said) == len(lines)
    assert all("expected alias, best_goal" in message for message in said)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"{", id="cut"),
        pytest.param(b"[1]", id="a list"),
        pytest.param(b'{"target": "other", "run_id": "r"}', id="another job's"),
    ],
)
def test_a_state_file_that_is_none_is_left_aside(tmp_path, content):
    path = tmp_path / "tracking.json"
    path.write_bytes(content)
    progress = Progress(path, "u", "sqlite:///x")
    assert (progress.run_id, progress.recorded_through, progress.registered) == ("", -1, {})


def test_progress_holds_for_one_job_at_one_mlflow_in_one_run(tmp_path):
    path = tmp_path / "tracking.json"
    first = Progress(path, "u", "http://me:hunter2@h")
    first.belongs_to("run")
    first.recorded_through = 7
    first.save()
    assert Progress(path, "u", "http://me:hunter2@h").recorded_through == 7
    assert Progress(path, "u", "http://other").recorded_through == -1
    assert Progress(path, "v", "http://me:hunter2@h").recorded_through == -1
    again = Progress(path, "u", "http://me:hunter2@h")
    again.belongs_to("another run")
    assert again.recorded_through == -1
    assert "hunter2" not in path.read_text()


def test_a_state_file_that_cannot_be_written_stops_nothing(tmp_path, job, round_result, weights):
    (tmp_path / "file").write_text("")
    progress = Progress(tmp_path / "file" / "tracking.json", job.uid, "x")
    events = []
    publication = Publication(job, NullTracker, progress, events.append)
    publication.take(round_result(1), weights(1))
    assert publication.advance() is False
    assert [e["event"] for e in events] == ["tracking", "recorded", "registered"]


def test_a_model_file_that_is_gone_is_asked_for_again(
    tracker, job, tmp_path, round_result, weights
):
    progress = Progress(tmp_path / "tracking.json", job.uid, "x")
    events = []
    publication = Publication(job, lambda: tracker, progress, events.append)
    for number in (1, 2, 3):
        publication.take(round_result(number), weights(number))
    weights(2).unlink()
    while publication.advance():
        pass
    publication.finish("FINISHED")
    assert [e["round"] for e in events if e["event"] == "registered"] == [1, 3]
    assert publication.pending_rounds == 1
    assert progress.complete_through == 1
