"""The FEDLOOM_* variables: what is written is read back, and what is wrong is named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fedloom.errors import JobError
from fedloom.training.environment import TASKS, TaskEnvironment

TRAIN = TaskEnvironment(
    task="train",
    round=3,
    rounds=20,
    client="berlin",
    seed=11,
    client_seed=12,
    model=Path("in/model.safetensors"),
    update=Path("out/update.safetensors"),
    result=Path("out/result.json"),
    hyperparameters={"epochs": 2, "learningRate": 0.1, "names": ["ä", None]},
    state=Path("state"),
    dataset="data/berlin.npz",
)
OF_TASK = {
    "initialize": replace(TRAIN, task="initialize", round=0, model=None, result=None, dataset=""),
    "train": TRAIN,
    "evaluate": replace(TRAIN, task="evaluate", client="evaluation", update=None),
}


@pytest.mark.parametrize("task", TASKS)
def test_what_is_written_is_read_back(task):
    assert TaskEnvironment.read(OF_TASK[task].variables()) == OF_TASK[task]


@pytest.mark.parametrize(
    ("task", "absent"),
    [
        ("initialize", {"FEDLOOM_MODEL", "FEDLOOM_RESULT"}),
        ("train", set()),
        ("evaluate", {"FEDLOOM_UPDATE"}),
    ],
)
def test_a_task_has_the_paths_it_uses_and_no_others(task, absent):
    paths = {"FEDLOOM_MODEL", "FEDLOOM_UPDATE", "FEDLOOM_RESULT"}
    assert paths - OF_TASK[task].variables().keys() == absent


@pytest.mark.parametrize(
    ("task", "name"),
    [
        *[("train", name) for name in TRAIN.variables() if name.startswith("FEDLOOM_")],
        ("evaluate", "FEDLOOM_MODEL"),
        ("evaluate", "FEDLOOM_RESULT"),
        ("initialize", "FEDLOOM_UPDATE"),
    ],
)
def test_a_missing_variable_is_named_unless_there_is_a_default(task, name):
    variables = OF_TASK[task].variables()
    for gone in ({k: v for k, v in variables.items() if k != name}, {**variables, name: ""}):
        if name in ("FEDLOOM_CLIENT_SEED", "FEDLOOM_HYPERPARAMETERS") and name not in gone:
            assert TaskEnvironment.read(gone).client == "berlin"
            continue
        if name == "FEDLOOM_CLIENT_SEED":
            assert TaskEnvironment.read(gone).client_seed == TRAIN.seed
            continue
        with pytest.raises(JobError, match=f"^{name}: got ") as caught:
            TaskEnvironment.read(gone)
        assert caught.value.reason == "BadEnvironment"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("FEDLOOM_TASK", "trian", "got 'trian', expected one of initialize, train, evaluate"),
        ("FEDLOOM_ROUND", "one", "got 'one', expected an integer"),
        ("FEDLOOM_ROUNDS", "3.5", "got '3.5', expected an integer"),
        ("FEDLOOM_SEED", "0x10", "got '0x10', expected an integer"),
        ("FEDLOOM_CLIENT_SEED", "none", "got 'none', expected an integer"),
        ("FEDLOOM_HYPERPARAMETERS", "epochs=2", "got 'epochs=2', expected a JSON object"),
        ("FEDLOOM_HYPERPARAMETERS", "[2]", r"got '\[2\]', expected a JSON object"),
    ],
)
def test_a_wrong_value_is_named_with_what_was_expected(name, value, message):
    with pytest.raises(JobError, match=f"^{name}: {message}"):
        TaskEnvironment.read({**TRAIN.variables(), name: value})


def test_a_script_started_by_hand_is_told_how_to_run_it():
    with pytest.raises(JobError, match=r"FEDLOOM_TASK: got nothing.*fedloom run -f job\.yaml"):
        TaskEnvironment.read({})
