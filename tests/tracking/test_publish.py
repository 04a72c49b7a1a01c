"""The publish process: what it says, what is in MLflow afterwards, and how it takes what goes wrong."""

import json
import os
import signal
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

FINISH = {"task": "finish", "status": "FINISHED"}


def test_a_job_from_begin_to_finish(publish, stored, job, tmp_path):
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
    run = stored.run(job)
    assert run.info.run_id == process.events[0]["run_id"]
    assert run.info.status == "FINISHED"
    assert stored.steps(job) == [1, 2, 3]
    assert stored.versions() == [(1, 1), (2, 2), (3, 3)]
    assert process.log.read_text() == ""
    assert not list(tmp_path.glob(".*.part"))


def test_a_fresh_database_is_made_and_small_libraries_suffice(publish, stored_at, job, tmp_path):
    """Not one of the libraries that MLflow can do without is loaded."""
    address = f"sqlite:///{tmp_path}/deep/state/mlflow.db"
    process = publish(tracking_uri=address)
    process.send_rounds([1])
    process.wait_for("registered", round=1)
    mapped = Path(f"/proc/{process.process.pid}/maps").read_text()
    assert "pandas" not in mapped
    assert "numpy" not in mapped
    process.send(FINISH)
    assert process.end() == 0
    assert stored_at(address).versions() == [(1, 1)]


def test_an_mlflow_that_needs_more_gets_everything(publish, stored, job):
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
    assert stored.steps(job) == [1]


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


def test_a_later_run_logs_what_is_new_in_the_same_run(publish, stored, job):
    first = publish()
    first.send_rounds([0, 1])
    first.wait_for("registered", round=1)
    first.end()
    assert first.events[-1]["event"] == "finished"
    assert stored.run(job).info.status == "KILLED"
    second = publish()
    assert second.wait_for("tracking")["recorded_through"] == 1
    second.send_rounds([0, 1, 2, 3])
    second.send(FINISH)
    second.end()
    run = stored.run(job)
    assert stored.steps(job) == [1, 2, 3]
    assert run.info.status == "FINISHED"
    assert stored.versions() == [(1, 1), (2, 2), (3, 3)]
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
    publish, stored, client, job, event, number
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
    run = stored.run(job)
    for key in ("accuracy", "client/a/loss", "round_seconds"):
        assert stored.steps(job, key) == list(range(1, last + 1))
    assert sorted(number for _, number in stored.versions()) == list(range(1, last + 1))
    models = client.search_logged_models([run.info.experiment_id])
    assert sorted(model.name for model in models) == [f"round-{n:04d}" for n in range(1, last + 1)]
    champion = client.get_model_version_by_alias("digits", "champion")
    assert champion.tags["sedna.io/round"] == str(last)


def test_killed_while_the_database_is_made_the_next_run_makes_it(publish, stored_at, job, tmp_path):
    address = f"sqlite:///{tmp_path}/state/mlflow.db"
    first = publish(tracking_uri=address)
    deadline = time.monotonic() + 30
    while not list(tmp_path.glob("state/.mlflow.db-*")) and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(0.1)  # of half a second that it takes
    first.kill()
    assert not (tmp_path / "state" / "mlflow.db").exists()
    second = publish(tracking_uri=address)
    second.send_rounds([1])
    second.send(FINISH)
    assert second.end() == 0
    assert stored_at(address).versions() == [(1, 1)]


def test_rounds_wait_for_an_mlflow_that_comes_back(publish, stored_at, job, tmp_path):
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
    assert stored_at(address).steps(job) == [1, 2, 3]


def test_ctrl_c_is_left_to_the_parent(publish, stored, job):
    process = publish()
    process.send_rounds([1])
    process.wait_for("recorded", round=1)
    os.kill(process.process.pid, signal.SIGINT)
    process.send_rounds([2])
    process.wait_for("recorded", round=2)
    process.send({"task": "finish", "status": "KILLED"})
    assert process.end() == 0
    assert stored.run(job).info.status == "KILLED"


def test_the_end_of_input_ends_the_run_quickly(publish, stored, job):
    process = publish()
    process.send_rounds([1])
    process.wait_for("tracking")
    started = time.monotonic()
    assert process.end() == 0
    assert time.monotonic() - started < 4
    assert stored.run(job).info.status == "KILLED"
    assert stored.steps(job) == [1]


def test_a_line_that_makes_no_sense_is_told_and_passed_over(publish, stored, job):
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
    assert stored.steps(job) == [1]


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
