"""Stopped in any way, a run goes on after its last committed round and gives the same bits."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fedloom.errors import StateError

ROUNDS = 12


def start(bench, state: Path) -> subprocess.Popen:
    """Start the job as a user does, in a process of its own; slowly, so that it can be stopped."""
    command = [sys.executable, "-m", "cli.main", "run", "-f", bench.write(), "--state", state]
    return subprocess.Popen(
        [*command, "-o", "json", "--parallel", "2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PAUSE_SECONDS": "0.15"},
        # A shell that runs these tests in the background has them ignore Ctrl-C, and so their children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL) and None,  # noqa: PLW1509
    )


def wait_for_round(process: subprocess.Popen, number: int) -> None:
    while json.loads(process.stdout.readline()).get("round", 0) < number:
        pass


@pytest.fixture
def slow_bench(bench):
    bench.spec["rounds"] = ROUNDS
    bench.spec["algorithm"] = {"name": "fedavgm", "parameters": {"momentum": 0.5}}
    bench.spec["compression"] = {"uplink": {"codec": "int8"}}
    bench.files["train.py"] = bench.files["train.py"].replace(
        "pass",
        "import os, time; time.sleep(float(os.environ.get('PAUSE_SECONDS', '0.01')))\n"
        "        path = self.client.state / 'sum'\n"
        "        before = float(path.read_text()) if path.exists() else 0.0\n"
        "        path.write_text(str(before + context.seed % 97))\n"
        "        model['w'] += np.float32(before * 1e-4)",
    )
    return bench


@pytest.mark.parametrize(
    ("how", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -9)]
)
def test_a_run_that_was_stopped_gives_the_same_bits_as_one_that_was_not(
    slow_bench, tmp_path, how, code
):
    slow_bench.run(tmp_path / "whole")
    expected = slow_bench.finished["model"]["digest"]

    state = tmp_path / "stopped"
    process = start(slow_bench, state)
    wait_for_round(process, 3)
    time.sleep(0.02)
    process.send_signal(how)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == code, errors
    assert "Traceback" not in errors

    slow_bench.run(state)
    assert slow_bench.finished["model"]["digest"] == expected
    notices = [e for e in slow_bench.events if e["event"] == "notice"]
    assert notices[0]["reason"] == "Resumed"
    first = slow_bench.rounds()[0]["round"]
    assert 4 <= first < ROUNDS
    assert [e["round"] for e in slow_bench.rounds()] == list(range(first, ROUNDS + 1))


def test_workers_of_a_killed_run_end_with_it(slow_bench, tmp_path):
    process = start(slow_bench, tmp_path / "state")
    wait_for_round(process, 1)
    children = _children(process.pid)
    assert len(children) >= 2
    process.kill()
    process.communicate(timeout=30)
    deadline = time.monotonic() + 10
    while any(_is_running(child) for child in children) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [child for child in children if _is_running(child)]


def test_a_finished_job_is_not_run_again(bench):
    bench.run()
    digest = bench.finished["model"]["digest"]
    assert bench.run().phase == "Succeeded"
    assert bench.rounds() == []
    assert bench.finished["model"]["digest"] == digest


def test_more_rounds_go_on_where_the_job_ended(bench, tmp_path):
    bench.run()
    bench.spec["rounds"] = 5
    bench.run()
    assert [event["round"] for event in bench.rounds()] == [4, 5]
    longer = bench.finished["model"]["digest"]
    bench.run(tmp_path / "at-once")
    assert bench.finished["model"]["digest"] == longer


def test_a_round_whose_model_was_damaged_is_run_again(bench):
    bench.run()
    digest = bench.finished["model"]["digest"]
    model = next(bench.state.glob("artifacts/default/*/round-0003/model.safetensors"))
    model.chmod(0o644)
    model.write_bytes(model.read_bytes()[:-3])
    bench.run()
    assert [event["round"] for event in bench.rounds()] == [3]
    assert bench.finished["model"]["digest"] == digest


def test_a_failed_job_can_be_run_again(bench):
    bench.spec["participation"]["minClients"] = 3
    bench.break_client("b", "raise RuntimeError('no battery')")
    assert bench.run().phase == "Failed"
    bench.files["train.py"] = bench.files["train.py"].replace("raise RuntimeError", "str")
    assert bench.run().phase == "Succeeded"


def test_a_suspended_job_stands_still_and_goes_on_later(bench):
    bench.spec["suspend"] = True
    decision = bench.run()
    assert (decision.phase, decision.reason) == ("Running", "Suspended")
    assert bench.rounds() == []
    bench.spec["suspend"] = False
    assert bench.run().phase == "Succeeded"


def test_two_runs_on_one_state_folder_at_once_are_refused(slow_bench, tmp_path):
    state = tmp_path / "state"
    process = start(slow_bench, state)
    try:
        wait_for_round(process, 1)
        with pytest.raises(StateError, match=f"in use by process {process.pid}"):
            slow_bench.run(state)
    finally:
        process.kill()
        process.communicate()


def test_the_state_folder_of_another_job_is_refused(bench):
    bench.run()
    record = bench.state / "job.json"
    record.write_text(record.read_text().replace('"name": "pull"', '"name": "push"'))
    before = _listing(bench.state)
    with pytest.raises(StateError, match="belongs to job default/push, got default/pull"):
        bench.run()
    assert _listing(bench.state) == before


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("spec.algorithm.name", {"algorithm": {"name": "fedavgm"}}),
        ("spec.hyperparameters.epochs", {"hyperparameters": {"epochs": 3}}),
        ("spec.hyperparameters.my_rate", {"hyperparameters": {"my_rate": 3}}),
        ("spec.compression.uplink.codec", {"compression": {"uplink": {"codec": "int8"}}}),
        ("spec.privacy", {"privacy": {"clipNorm": 1.0, "noiseMultiplier": 1.0}}),
    ],
)
def test_a_change_that_would_falsify_past_rounds_is_refused(bench, field, change):
    bench.run()
    bench.spec |= change
    with pytest.raises(StateError) as caught:
        bench.run()
    assert caught.value.field == field


def test_a_damaged_record_is_named_and_nothing_is_overwritten(bench):
    bench.run()
    (bench.state / "job.json").write_text("{")
    before = _listing(bench.state)
    with pytest.raises(StateError, match=r"job\.json"):
        bench.run()
    assert _listing(bench.state) == before


def test_a_folder_with_foreign_files_is_refused(bench):
    bench.state.mkdir()
    (bench.state / "thesis.txt").write_text("years of work")
    with pytest.raises(StateError, match=r"no job\.json"):
        bench.run()
    assert _listing(bench.state) == ["thesis.txt"]


def _listing(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def _children(pid: int) -> list[int]:
    listed = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=True
    )
    return [int(child) for child in listed.stdout.split()]


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in ("Z", "X")
