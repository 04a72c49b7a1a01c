"""The publish process: what it says, what is in MLflow afterwards, and how it takes what goes wrong."""

import json
import os
import signal
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from components import publish as publish_step
from components.publication import Progress, Publication
from fedloom.errors import TrackingUnavailableError
from fedloom.tracking.null_tracker import NullTracker

FINISH = {"task": "finish", "status": "FINISHED"}


def run_of(client, job):
    experiment = client.get_experiment_by_name(f"{job.namespace}/{job.name}")
    (run,) = client.search_runs(
        [experiment.experiment_id], f"tags.`sedna.io/job-uid` = '{job.uid}'"
    )
    return run


def steps(client, run, key="accuracy"):
    return [metric.step for metric in client.get_metric_history(run.info.run_id, key)]


def versions(client):
    found = client.search_model_versions("name = 'digits'")
    return sorted((int(v.version), int(v.tags["sedna.io/round"])) for v in found)


def test_a_job_from_begin_to_finish(publish, client, job, tmp_path):
    process = publish()
    process.send_rounds([0, 1, 2, 3])
    process.send(FINISH)
    assert process.end() == 0
    kinds = Counter(event["event"] for event in process.events)
    assert process.events[0]["event"] == "tracking"
    assert process.events[0]["recorded_through"] == -1
    assert process.events[-1] == {"event": "finished", "available": True, "pending_rounds": 0}
    assert kinds["registered"] == 3
    assert kinds["unavailable"] == 0
    assert [e["round"] for e in process.events if e["event"] == "recorded"][-1] == 3
    run = run_of(client, job)
    assert run.info.run_id == process.events[0]["run_id"]
    assert run.info.status == "FINISHED"
    assert steps(client, run) == [1, 2, 3]
    assert versions(client) == [(1, 1), (2, 2), (3, 3)]
    assert process.log.read_text() == ""
    assert not list(tmp_path.glob(".*.part"))


def test_a_fresh_database_is_made_and_small_libraries_suffice(publish, job, tmp_path):
    """Not one of the libraries that MLflow can do without is loaded."""
    from mlflow import MlflowClient

    address = f"sqlite:///{tmp_path}/deep/state/mlflow.db"
    process = publish(tracking_uri=address)
    process.send_rounds([1])
    process.wait_for("registered", round=1)
    mapped = Path(f"/proc/{process.process.pid}/maps").read_text()
    assert "pandas" not in mapped
    assert "numpy" not in mapped
    process.send(FINISH)
    assert process.end() == 0
    assert versions(MlflowClient(tracking_uri=address)) == [(1, 1)]


def test_an_mlflow_that_needs_more_gets_everything(publish, client, job):
    """MLflow cannot be imported without fastapi; hidden first, it is shown when that is seen."""
    code = (
        "from fedloom.tracking import process; process.HIDDEN_LIBRARIES += ('fastapi',); "
        "from components import publish; publish.main()"
    )
    process = publish(program=("-c", code))
    process.send_rounds([1])
    process.send(FINISH)
    assert process.end() == 0
    assert process.events[-1]["available"] is True
    assert steps(client, run_of(client, job)) == [1]


def test_without_mlflow_a_job_is_told_so(publish):
    code = (
        "import sys; sys.modules['mlflow'] = None; from components import publish; publish.main()"
    )
    process = publish(program=("-c", code))
    message = process.wait_for("unavailable")["message"]
    assert "MLflow cannot be imported" in message
    process.send({"task": "finish", "status": "KILLED"})
    assert process.end() == 0
    assert process.events[-1]["available"] is False


def test_a_later_run_logs_what_is_new_in_the_same_run(publish, client, job):
    first = publish()
    first.send_rounds([0, 1])
    first.wait_for("registered", round=1)
    first.end()
    assert first.events[-1]["event"] == "finished"
    assert run_of(client, job).info.status == "KILLED"
    second = publish()
    assert second.wait_for("tracking")["recorded_through"] == 1
    second.send_rounds([0, 1, 2, 3])
    second.send(FINISH)
    second.end()
    run = run_of(client, job)
    assert steps(client, run) == [1, 2, 3]
    assert run.info.status == "FINISHED"
    assert versions(client) == [(1, 1), (2, 2), (3, 3)]
    assert [e["round"] for e in second.events if e["event"] == "registered"] == [2, 3]


@pytest.mark.parametrize(
    ("event", "number"),
    [
        pytest.param("tracking", None, marks=pytest.mark.slow),
        pytest.param("recorded", None),
        pytest.param("registered", 1, marks=pytest.mark.slow),
        pytest.param("registered", 4),
    ],
)
def test_killed_in_the_middle_every_round_is_there_once_in_the_end(
    publish, client, job, event, number
):
    last = 8
    first = publish()
    first.send_rounds(range(last + 1))
    first.wait_for(event, **({} if number is None else {"round": number}))
    time.sleep(0.02)  # into the next thing it does
    first.kill()
    second = publish()
    second.send_rounds(range(last + 1))
    second.send(FINISH)
    assert second.end() == 0
    assert second.events[-1] == {"event": "finished", "available": True, "pending_rounds": 0}
    run = run_of(client, job)
    for key in ("accuracy", "client/a/loss", "round_seconds"):
        assert steps(client, run, key) == list(range(1, last + 1))
    assert sorted(number for _, number in versions(client)) == list(range(1, last + 1))
    models = client.search_logged_models([run.info.experiment_id])
    assert sorted(model.name for model in models) == [f"round-{n:04d}" for n in range(1, last + 1)]
    champion = client.get_model_version_by_alias("digits", "champion")
    assert champion.tags["sedna.io/round"] == str(last)


def test_killed_while_the_database_is_made_the_next_run_makes_it(publish, job, tmp_path):
    from mlflow import MlflowClient

    address = f"sqlite:///{tmp_path}/state/mlflow.db"
    first = publish(tracking_uri=address)
    deadline = time.monotonic() + 30
    while not list(tmp_path.glob("state/.mlflow.db-*/*")) and time.monotonic() < deadline:
        time.sleep(0.005)
    first.kill()
    assert not (tmp_path / "state" / "mlflow.db").exists()
    second = publish(tracking_uri=address)
    second.send_rounds([1])
    second.send(FINISH)
    assert second.end() == 0
    assert versions(MlflowClient(tracking_uri=address)) == [(1, 1)]


def test_rounds_wait_for_an_mlflow_that_comes_back(publish, job, tmp_path):
    from mlflow import MlflowClient

    (tmp_path / "place").write_text("a file where the database's folder should be")
    address = f"sqlite:///{tmp_path}/place/mlflow.db"
    process = publish(tracking_uri=address)
    process.send_rounds([0, 1, 2])
    message = process.wait_for("unavailable")["message"]
    assert "place" in message
    (tmp_path / "place").unlink()
    process.wait_for("recorded", round=2)
    process.send_rounds([3])
    process.send(FINISH)
    assert process.end() == 0
    assert process.events[-1]["available"] is True
    assert [e["event"] for e in process.events].count("unavailable") == 1
    client = MlflowClient(tracking_uri=address)
    assert steps(client, run_of(client, job)) == [1, 2, 3]


def test_the_policy_last_registers_the_last_round_at_the_end(publish, client, job):
    job = replace(job, save_policy="last")
    killed = publish(job)
    killed.send_rounds([1, 2])
    killed.wait_for("recorded", round=2)
    killed.end()
    process = publish(job)
    assert process.wait_for("tracking")["recorded_through"] == 1  # round 2's model may be needed
    process.send_rounds([2, 3])
    process.send(FINISH)
    process.end()
    assert versions(client) == [(1, 3)]
    assert int(client.get_model_version_by_alias("digits", "champion").version) == 1
    assert steps(client, run_of(client, job)) == [1, 2, 3]


def test_the_policy_best_registers_the_best_round_at_the_end(publish, client, job):
    job = replace(job, save_policy="best", best_metric="accuracy", best_goal="minimize")
    process = publish(job)
    process.send_rounds([1, 2, 3])
    process.send(FINISH)
    process.end()
    assert versions(client) == [(1, 1)]


def test_a_job_that_registers_nothing_is_tracked_all_the_same(publish, client, job):
    job = replace(job, registered_model=None, alias=None)
    process = publish(job)
    process.send_rounds([1, 2])
    process.send(FINISH)
    process.end()
    assert process.events[-1] == {"event": "finished", "available": True, "pending_rounds": 0}
    assert client.search_registered_models() == []
    assert steps(client, run_of(client, job)) == [1, 2]


def test_ctrl_c_is_left_to_the_parent(publish, client, job):
    process = publish()
    process.send_rounds([1])
    process.wait_for("recorded", round=1)
    os.kill(process.process.pid, signal.SIGINT)
    process.send_rounds([2])
    process.wait_for("recorded", round=2)
    process.send({"task": "finish", "status": "KILLED"})
    assert process.end() == 0
    assert run_of(client, job).info.status == "KILLED"


def test_the_end_of_input_ends_the_run_quickly(publish, client, job):
    process = publish()
    process.send_rounds([1])
    process.wait_for("tracking")
    started = time.monotonic()
    assert process.end() == 0
    assert time.monotonic() - started < 4
    assert run_of(client, job).info.status == "KILLED"
    assert steps(client, run_of(client, job)) == [1]


def test_a_line_that_makes_no_sense_is_told_and_passed_over(publish, client, job):
    process = publish()
    process.process.stdin.write(b"\xff not json\n")
    process.send({"task": "round"})
    process.send({"what": 1})
    process.send({"task": "finish", "status": "Done"})
    process.send_rounds([1])
    process.send(FINISH)
    assert process.end() == 0
    said = [e["message"] for e in process.events if e["event"] == "unavailable"]
    assert len(said) == 3
    assert "got 'Done'" in said[2]
    assert "not JSON" in process.log.read_text()
    assert steps(client, run_of(client, job)) == [1]


def test_no_secret_is_said_logged_or_stored(publish, database, job, tmp_path):
    secret = "hunter2-" + "x" * 8
    noisy = replace(
        job,
        parameters={"s3.secretKey": secret, "endpoint": f"https://me:{secret}@h/?sig={secret}"},
        datasets=(
            replace(job.datasets[0], source=f"s3://me:{secret}@h/d?X-Amz-Signature={secret}"),
        ),
    )
    environment = {"MLFLOW_TRACKING_PASSWORD": secret, "AWS_SECRET_ACCESS_KEY": secret}
    working = publish(noisy, **environment)
    working.send_rounds([1, 2])
    working.send(FINISH)
    working.end()
    assert working.events[-1]["available"] is True
    refused = publish(noisy, f"http://me:{secret}@127.0.0.1:9/", **environment)
    refused.send_rounds([1])
    refused.wait_for("unavailable")
    refused.end()
    assert secret not in json.dumps(working.events + refused.events)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert database in files
    for path in files:
        assert secret.encode() not in path.read_bytes(), path


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
