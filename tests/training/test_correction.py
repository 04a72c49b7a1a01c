"""A drift correction as a script meets it: in its process, or as a file beside its model."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from fedloom.algorithms.drift.correction import DriftCorrection
from fedloom.artifacts.arrays import dump_arrays, load_arrays
from fedloom.errors import JobError
from fedloom.training import script
from fedloom.training.context import Round
from fedloom.training.correction import WatchedCorrection, read_correction, write_correction
from fedloom.training.environment import TaskEnvironment

SOURCE = """
import numpy as np
import fedloom

class Walk:
    def __init__(self, client):
        self.is_blind = client.hyperparameters["blind"]

    def train(self, model, context):
        for _ in range(3):
            gradients = {"w": model["w"] - np.float32(5)}
            if not self.is_blind:
                gradients = context.correct(gradients, model)
            model["w"] -= np.float32(0.1) * gradients["w"]
        return fedloom.Update(model, 7, num_steps=3)

if __name__ == "__main__":
    fedloom.main(Walk)
"""
MODEL = {"w": np.arange(3, dtype=np.float32), "bn": np.ones(2, np.float32)}
CORRECTION = DriftCorrection(
    0.25,
    {"w": np.full(3, 2, np.float32)},
    {"w": np.array([0.5, -1, 0], np.float32)},
    untouched=frozenset({"bn"}),
)


def test_a_correction_comes_out_of_its_file_as_it_went_in(tmp_path):
    path = tmp_path / "correction.safetensors"
    write_correction(path, CORRECTION)
    read = read_correction(path)
    assert (read.mu, read.untouched) == (0.25, {"bn"})
    gradients = {"w": np.ones(3, np.float32), "bn": np.ones(2, np.float32)}
    for name, expected in CORRECTION({n: g.copy() for n, g in gradients.items()}, MODEL).items():
        np.testing.assert_array_equal(read(gradients, MODEL)[name], expected)


def test_the_file_holds_only_the_parts_that_change_something(tmp_path):
    path = tmp_path / "correction.safetensors"
    anchor = {"w": np.ones(2, np.float32)}
    write_correction(path, DriftCorrection(0.5, anchor))
    tensors, metadata = load_arrays(path)
    assert (list(tensors), metadata) == (["anchor/w"], {"mu": "0.5", "untouched": "[]"})
    write_correction(path, DriftCorrection(0.0, {}, {"w": np.ones(2, np.float32)}))
    assert list(load_arrays(path)[0]) == ["offset/w"]


@pytest.mark.parametrize(
    "data",
    [
        None,
        b"",
        b"nothing like it",
        dump_arrays({}, {}),
        dump_arrays({}, {"mu": "strong", "untouched": "[]"}),
        dump_arrays({}, {"mu": "nan", "untouched": "[]"}),
        dump_arrays({}, {"mu": "-1", "untouched": "[]"}),
        dump_arrays({}, {"mu": "1", "untouched": "{"}),
        dump_arrays({}, {"mu": "1", "untouched": "5"}),
    ],
)
def test_any_other_file_is_refused_by_the_variable_s_name(tmp_path, data):
    path = tmp_path / "correction.safetensors"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(JobError, match="FEDLOOM_CORRECTION"):
        read_correction(path)


def test_it_is_known_whether_a_correction_was_applied():
    watched = WatchedCorrection(CORRECTION)
    context = Round(1, 2, 3, watched)
    assert (context.corrects, watched.was_used) == (True, False)
    context.correct({"w": np.zeros(3, np.float32)}, MODEL)
    assert watched.was_used


@pytest.fixture
def task(tmp_path):
    (tmp_path / "train.py").write_text(SOURCE)
    (tmp_path / "model.safetensors").write_bytes(dump_arrays(MODEL))
    write_correction(tmp_path / "correction.safetensors", CORRECTION)
    return TaskEnvironment(
        task="train",
        round=1,
        rounds=2,
        client="berlin",
        seed=3,
        client_seed=1,
        model=tmp_path / "model.safetensors",
        update=tmp_path / "update.safetensors",
        result=tmp_path / "result.json",
        hyperparameters={"blind": False},
        state=tmp_path,
        dataset="none",
        correction=tmp_path / "correction.safetensors",
    )


def run(task, **changes):
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("FEDLOOM_")}
    variables = {**inherited, **task.variables(), **changes}
    subprocess.run([sys.executable, "train.py"], cwd=task.state, env=variables, check=True)
    return json.loads(task.result.read_bytes()), load_arrays(task.update)[0]


def test_a_class_run_as_a_program_applies_what_the_file_holds_and_says_so(task):
    result, after = run(task)
    assert result["corrected"] is True
    expected = MODEL["w"].copy()
    for _ in range(3):
        expected -= np.float32(0.1) * CORRECTION({"w": expected - 5}, {"w": expected})["w"]
    np.testing.assert_array_equal(after["w"], expected)


def test_a_class_that_never_calls_correct_says_that_too(task):
    blind = json.dumps({"blind": True})
    result, _ = run(task, FEDLOOM_HYPERPARAMETERS=blind)
    assert result["corrected"] is False


def test_a_job_without_correction_has_no_such_variable_and_no_such_answer(task):
    variables = {**task.variables(), "FEDLOOM_CORRECTION": ""}
    assert TaskEnvironment.read(variables).correction is None
    assert "corrected" not in run(task, FEDLOOM_CORRECTION="")[0]


def test_the_environment_brings_the_correction_to_train_alone(task):
    variables = task.variables()
    assert TaskEnvironment.read(variables) == task
    evaluation = TaskEnvironment.read({**variables, "FEDLOOM_TASK": "evaluate"})
    assert evaluation.correction is None
    assert not script.round_of(evaluation).corrects
