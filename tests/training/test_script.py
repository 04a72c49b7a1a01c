"""`fedloom.main`: the same class, warm or as a program of its own, and what it refuses."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fedloom.artifacts.arrays import dump_arrays, load_arrays
from fedloom.errors import JobError, UpdateError
from fedloom.training import script
from fedloom.training.context import Client, Evaluation, Round, Update
from fedloom.training.environment import TaskEnvironment

SOURCE = """
import numpy as np
import fedloom
from fedloom.training.numpy import batches


class Regression:
    def __init__(self, client):
        data = np.load(client.dataset)
        self.x, self.y = data["x"], data["y"]
        self.client = client

    @staticmethod
    def initialize(seed):
        return {"w": np.random.default_rng(seed).normal(size=8).astype(np.float32)}

    def train(self, model, context):
        rate, steps = np.float32(self.client.hyperparameters["learningRate"]), np.int64(0)
        for batch in batches(len(self.y), 16, context.seed, epochs=2):
            error = self.x[batch] @ model["w"] - self.y[batch]
            gradients = context.correct({"w": self.x[batch].T @ error / len(batch)}, model)
            model["w"] -= rate * gradients["w"]
            steps += 1
        model["w"] += np.float32(context.number / context.total) + np.float32(self.client.seed)
        loss = np.mean(error**2)
        return fedloom.Update(model, np.int64(len(self.y)), {"loss": loss}, num_steps=steps)

    def evaluate(self, model, context):
        error = np.abs(self.x @ model["w"] - self.y).mean()
        return fedloom.Evaluation(len(self.y), {"error": error, "name": len(self.client.name)})


fedloom.main(Regression)
"""


@pytest.fixture
def place(tmp_path):
    """A folder with the script, its data, a model, and a training task that uses them."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(70, 8)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=x, y=x @ np.arange(8, dtype=np.float32))
    (tmp_path / "train.py").write_text(SOURCE)
    model = dump_arrays({"w": rng.normal(size=8).astype(np.float32)})
    (tmp_path / "model.safetensors").write_bytes(model)
    return tmp_path


def task_of(place: Path, task: str) -> TaskEnvironment:
    return TaskEnvironment(
        task=task,
        round=0 if task == "initialize" else 2,
        rounds=5,
        client="berlin",
        seed=31,
        client_seed=1,
        model=None if task == "initialize" else place / "model.safetensors",
        update=None if task == "evaluate" else place / "update.safetensors",
        result=None if task == "initialize" else place / "result.json",
        hyperparameters={"learningRate": 0.05},
        state=place / "state",
        dataset="" if task == "initialize" else str(place / "data.npz"),
    )


def run_alone(place: Path, variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("FEDLOOM_")}
    return subprocess.run(
        [sys.executable, "train.py"],
        cwd=place,
        env={**inherited, **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def warm_class(place: Path) -> type:
    received: list[type] = []
    with script.received_by(received.append):
        runpy.run_path(str(place / "train.py"), run_name="__main__")
    return received[0]


def test_training_as_a_program_gives_the_bytes_of_the_warm_class(place):
    task = task_of(place, "train")
    done = run_alone(place, task.variables())
    assert (done.returncode, done.stderr) == (0, "")

    warm = warm_class(place)(script.client_of(task))
    model, _ = load_arrays(task.model)
    update = script.call(warm, "train", model, script.round_of(task))
    assert task.update.read_bytes() == dump_arrays(script.arrays_of(update.model))
    result = json.loads(task.result.read_bytes())
    assert result == {
        "num_examples": 70,
        "num_steps": 10,
        "metrics": {"loss": float(update.metrics["loss"])},
    }
    assert isinstance(result["num_steps"], int)


def test_evaluation_as_a_program_gives_the_numbers_of_the_warm_class(place):
    task = task_of(place, "evaluate")
    assert run_alone(place, task.variables()).returncode == 0
    warm = warm_class(place)(script.client_of(task))
    model, _ = load_arrays(task.model)
    evaluation = script.call(warm, "evaluate", model, script.round_of(task))
    assert json.loads(task.result.read_bytes()) == {
        "num_examples": 70,
        "metrics": {"error": float(evaluation.metrics["error"]), "name": 6},
    }
    assert not (place / "update.safetensors").exists()


def test_the_first_model_needs_no_data_and_is_the_warm_one(place):
    (place / "data.npz").unlink()
    task = task_of(place, "initialize")
    assert run_alone(place, task.variables()).returncode == 0
    first = script.initialize(warm_class(place), 31)
    assert task.update.read_bytes() == dump_arrays(first)
    assert not list(place.glob("*.part"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"FEDLOOM_TASK": ""}, "error: FEDLOOM_TASK: got nothing, expected a value"),
        ({"FEDLOOM_ROUND": "x"}, "error: FEDLOOM_ROUND: got 'x', expected an integer"),
    ],
)
def test_a_program_in_a_wrong_environment_ends_with_one_line(place, change, message):
    done = run_alone(place, {**task_of(place, "train").variables(), **change})
    assert done.returncode == 1
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1
    assert not (place / "update.safetensors").exists()


def test_a_program_whose_model_is_damaged_says_so_and_writes_nothing(place):
    (place / "model.safetensors").write_bytes(b"\0" * 4)
    done = run_alone(place, task_of(place, "train").variables())
    assert done.returncode == 1
    assert "CorruptArtifactError" in done.stderr.splitlines()[-1]
    assert not (place / "update.safetensors").exists()
    assert not (place / "result.json").exists()


class _Whatever:
    def __init__(self, client):
        self.client = client

    def train(self, model, context):
        return self.client

    def evaluate(self, model, context):
        return Evaluation(3, {"loss": 1.0})


ROUND = Round(number=1, total=2, seed=3)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "_Whatever.train gave NoneType, expected fedloom.Update"),
        ({"w": 1}, "_Whatever.train gave dict, expected fedloom.Update"),
        (Evaluation(1), "_Whatever.train gave Evaluation, expected fedloom.Update"),
    ],
)
def test_training_must_give_an_update(given, message):
    with pytest.raises(JobError, match=message):
        script.call(_Whatever(given), "train", {}, ROUND)


def test_what_the_class_gives_passes_untouched():
    update = Update({"w": np.ones(1)}, 5)
    assert script.call(_Whatever(update), "train", {}, ROUND) is update
    assert script.call(_Whatever(None), "evaluate", {}, ROUND) == Evaluation(3, {"loss": 1.0})


def test_a_class_without_the_method_is_named():
    with pytest.raises(JobError, match=r"object.train does not exist, the job needs it"):
        script.call(object(), "train", {}, ROUND)


def test_a_class_without_initialize_is_told_what_else_would_do():
    with pytest.raises(JobError, match=r"_Whatever has no initialize.*spec.pretrainedModel"):
        script.initialize(_Whatever, 1)


@pytest.mark.parametrize(("made", "got"), [([1], "list"), ({}, "dict")], ids=["list", "empty"])
def test_a_first_model_must_be_a_dict_with_something_in_it(made, got):
    trainer = type("Trainer", (), {"initialize": staticmethod(lambda seed: made)})
    with pytest.raises(JobError, match=f"Trainer.initialize gave {got}, expected a non-empty dict"):
        script.initialize(trainer, 1)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ([1.0], "model: got list, expected a dict of arrays"),
        ({"w": None}, "tensor 'w': got NoneType, expected an array"),
        ({"w": {1, 2}}, "tensor 'w': got set, expected an array"),
    ],
)
def test_a_model_of_something_else_than_arrays_is_refused(model, message):
    with pytest.raises(UpdateError, match=message):
        script.arrays_of(model)


def test_what_numpy_can_look_at_is_an_array():
    arrays = script.arrays_of({"a": [1.0, 2.0], "b": np.float32(3), 4: memoryview(b"xy")})
    assert {name: (a.dtype.str, a.shape) for name, a in arrays.items()} == {
        "a": ("<f8", (2,)),
        "b": ("<f4", ()),
        "4": ("|u1", (2,)),
    }


def test_client_and_round_are_taken_from_the_environment(tmp_path):
    task = replace(task_of(tmp_path, "train"), hyperparameters={"epochs": 3})
    assert script.client_of(task) == Client(
        name="berlin",
        dataset=str(tmp_path / "data.npz"),
        hyperparameters={"epochs": 3},
        state=tmp_path / "state",
        seed=1,
    )
    assert script.round_of(task) == Round(number=2, total=5, seed=31)


def test_a_class_goes_to_the_innermost_receiver_and_to_none_that_has_left():
    outer, inner = [], []
    with script.received_by(outer.append):
        with script.received_by(inner.append):
            script.main(int)
        script.main(str)
    assert (outer, inner) == ([str], [int])


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        pytest.param("import fedloom\nfedloom.main(Digits)", True, id="the usual"),
        pytest.param("import fedloom as fl\nfl.main(Digits)", True, id="renamed package"),
        pytest.param("from fedloom import main\nmain(Digits)", True, id="imported by name"),
        pytest.param("from fedloom import main as go\ngo(Digits)", True, id="renamed function"),
        pytest.param(
            "from fedloom.training.script import main\nmain(Digits)", True, id="from its home"
        ),
        pytest.param(
            "import fedloom.training.torch\nfedloom.main(Digits)", True, id="through a module"
        ),
        pytest.param(
            "import fedloom\nif __name__ == '__main__':\n    fedloom.main(Digits)",
            True,
            id="guarded",
        ),
        pytest.param("def main(x): pass\nmain(Digits)", False, id="a main of its own"),
        pytest.param(
            "from fedloom import Client\nmain = print\nmain(Client)", False, id="another name"
        ),
        pytest.param("import other\nother.main(Digits)", False, id="another package's"),
        pytest.param("import fedloom\nfedloom.main", False, id="named, not called"),
        pytest.param("# fedloom.main(Digits)", False, id="a comment"),
        pytest.param("text = 'fedloom.main(Digits)'", False, id="a text"),
        pytest.param("import fedloom\nfedloom.run(Digits)", False, id="another function"),
        pytest.param("import fedloom\nfedloom.main(Digits", True, id="ours, with a typo"),
        pytest.param("from fedloom import main\nif x main()", True, id="ours, another typo"),
        pytest.param("print 'python 2 on fedloom'", False, id="another language"),
        pytest.param("fedloom\0main", False, id="binary"),
        pytest.param("", False, id="empty"),
    ],
)
def test_a_script_is_a_class_when_it_calls_main(source, expected):
    assert script.calls_main(source) is expected
