"""A failing client is data: it is dropped and named, and the round goes on while minClients hold."""

from __future__ import annotations

import pytest

FAULTS = {
    "raises": ("raise RuntimeError('no battery')", "ScriptFailed", "RuntimeError: no battery"),
    "exits": ("raise SystemExit(0)", "ScriptFailed", "SystemExit: 0"),
    "dies": ("import os; os._exit(3)", "WorkerDied", "exit code 3"),
    "killed": ("import os; os.kill(os.getpid(), 9)", "WorkerDied", "SIGKILL"),
    "returns-nothing": ("return None", "ScriptFailed", "expected fedloom.Update"),
    "returns-no-dict": ("return fedloom.Update([1], num_examples=1)", "MalformedUpdate", "list"),
    "nan": ("model['w'][1, 0] = np.nan", "NotFinite", "'w'"),
    "inf": ("model['w'][:] = np.inf", "NotFinite", "'w'"),
    "shape": (
        "model['w'] = model['w'][:2]; return fedloom.Update(model, 1)",
        "ShapeMismatch",
        "[2, 2]",
    ),
    "dtype": (
        "model['w'] = model['w'].astype(np.float64)\nreturn fedloom.Update(model, num_examples=1)",
        "DtypeMismatch",
        "float64",
    ),
    "missing": ("del model['steps']; return fedloom.Update(model, 1)", "MissingTensor", "steps"),
    "extra": ("model['more'] = model['w']", "UnexpectedTensor", "more"),
    "objects": ("model['w'] = [None]; return fedloom.Update(model, 1)", "MalformedUpdate", "'w'"),
    "zero-examples": ("return fedloom.Update(model, num_examples=0)", "BadResult", "num_examples"),
    "negative": ("return fedloom.Update(model, num_examples=-4)", "BadResult", "got -4"),
    "nan-examples": ("return fedloom.Update(model, num_examples=np.nan)", "BadResult", "got nan"),
    "true-examples": ("return fedloom.Update(model, num_examples=True)", "BadResult", "got True"),
    "text-metric": (
        "return fedloom.Update(model, 1, metrics={'loss': 'low'})",
        "BadResult",
        "metrics.loss",
    ),
}


@pytest.mark.parametrize("fault", FAULTS, ids=FAULTS)
def test_a_broken_client_is_dropped_and_named(bench, fault):
    statements, reason, words = FAULTS[fault]
    bench.break_client("b", statements)
    bench.spec["rounds"] = 2
    assert bench.run().phase == "Succeeded"
    for event in bench.rounds():
        failed = event["clients"]["b"]
        assert (failed["state"], failed["reason"]) == ("Failed", reason)
        assert words in failed["message"]
        assert [event["clients"][name]["state"] for name in "ac"] == ["Succeeded", "Succeeded"]


@pytest.mark.parametrize("fault", ["raises", "dies", "nan"])
def test_too_few_clients_fail_the_job_with_the_reason(bench, fault):
    statements, reason, _ = FAULTS[fault]
    bench.break_client("b", statements)
    bench.spec["participation"]["minClients"] = 3
    decision = bench.run()
    assert (decision.phase, decision.reason) == ("Failed", "TooFewClients")
    assert "needs 3 updates" in decision.message
    assert f"b: {reason}" in decision.message
    assert bench.finished["phase"] == "Failed"


def test_a_client_that_hangs_is_stopped_at_its_deadline(bench):
    bench.spec["participation"]["deadlineSeconds"] = 1
    bench.spec["rounds"] = 1
    bench.break_client("b", "import time; time.sleep(600)")
    assert bench.run().phase == "Succeeded"
    failed = bench.rounds()[0]["clients"]["b"]
    assert failed["reason"] == "DeadlineExceeded"
    assert "1 s" in failed["message"]


def test_a_failed_attempt_is_tried_again(bench):
    bench.spec["participation"] |= {"minClients": 3, "retries": 1}
    bench.break_client(
        "b",
        "from pathlib import Path\nmark = Path('seen')\n"
        "if not mark.exists():\n    mark.touch()\n    raise RuntimeError('first time')",
    )
    assert bench.run().phase == "Succeeded"
    notices = [event for event in bench.events if event["event"] == "notice"]
    assert [notice["reason"] for notice in notices] == ["RoundRetried"]
    assert "first time" in notices[0]["message"]


def test_the_state_folder_of_a_dropped_client_stays_as_it_was(bench):
    bench.break_client(
        "b",
        "path = self.client.state / 'rounds'\n"
        "path.write_text((path.read_text() if path.exists() else '') + str(context.number))\n"
        "print('kept', path.read_text(), flush=True)\n"
        "if context.number == 2:\n    raise RuntimeError('after writing')",
    )
    bench.run()
    printed = (bench.state / "logs/b.log").read_text().split()
    assert printed == ["kept", "1", "kept", "12", "kept", "13"]


def test_a_script_that_is_not_there_fails_before_the_first_round(bench):
    bench.files = {}
    decision = bench.run()
    assert (decision.phase, decision.reason) == ("Failed", "NoInitialModel")
    assert "train.py" in decision.message


def test_a_script_with_a_syntax_error_is_named_with_its_line(bench):
    bench.files["train.py"] = "import fedloom\n\nclass Broken(:\n    pass\n"
    decision = bench.run()
    assert decision.phase == "Failed"
    assert "line 3" in decision.message


def test_a_failing_evaluation_fails_the_round_with_its_own_reason(bench):
    bench.files["train.py"] = bench.files["train.py"].replace(
        "error = float", "raise ValueError('no labels'); error = float"
    )
    decision = bench.run()
    assert (decision.phase, decision.reason) == ("Failed", "EvaluationFailed")
    assert "no labels" in decision.message


def test_a_class_without_initialize_and_no_pretrained_model_is_refused(bench):
    bench.files["train.py"] = bench.files["train.py"].replace("def initialize", "def make")
    decision = bench.run()
    assert decision.reason == "NoInitialModel"
    assert "spec.pretrainedModel" in decision.message
