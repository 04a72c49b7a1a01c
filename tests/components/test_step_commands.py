"""A round run by hand, one command per step as containers would, gives the bits of an embedded run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
EXAMPLE = ROOT / "examples/01-digits-numpy"


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """The digits, one round run embedded: the state folder's store and the plan of round 1."""
    folder = tmp_path_factory.mktemp("example")
    for name in ("job.yaml", "train.py", "prepare.py"):
        shutil.copy(EXAMPLE / name, folder)
    text = (folder / "job.yaml").read_text().replace("rounds: 20", "rounds: 1")
    (folder / "job.yaml").write_text(text)
    subprocess.run([sys.executable, folder / "prepare.py"], check=True)
    command = [sys.executable, "-m", "cli.main", "run", "-f", "job.yaml", "--state", "state"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    store = next((folder / "state/artifacts/default").iterdir())
    return folder, store, json.loads((store / "round-0001/plan.json").read_bytes())


def run_step(step: str, store: Path, work: Path, *more: str) -> tuple[int, dict]:
    command = [
        sys.executable,
        "-I",
        "-m",
        f"components.{step}",
        "--plan",
        work.parent / "plan.json",
    ]
    found = subprocess.run(
        [*command, "--store", store.as_uri(), "--workdir", work, *more],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in found.stderr
    return found.returncode, json.loads(found.stdout)


def run_script(folder: Path, task: dict, model: Path, work: Path) -> None:
    """What the user's container does."""
    settings = task["settings"]
    is_training = settings["task"] == "train"
    work.mkdir(parents=True, exist_ok=True)
    variables = {
        "FEDLOOM_TASK": settings["task"],
        "FEDLOOM_ROUND": "1",
        "FEDLOOM_ROUNDS": "1",
        "FEDLOOM_CLIENT": task["client"] or "evaluation",
        "FEDLOOM_SEED": str(settings["seed"]),
        "FEDLOOM_MODEL": str(model),
        "FEDLOOM_UPDATE": str(work / "update.safetensors"),
        "FEDLOOM_RESULT": str(work / ("result.json" if is_training else "evaluation.json")),
        "FEDLOOM_STATE": str(work),
        "FEDLOOM_HYPERPARAMETERS": json.dumps(settings["hyperparameters"]),
        "TRAIN_DATASET_URL": settings["dataset"],
    }
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    subprocess.run(
        [sys.executable, "train.py"],
        cwd=folder,
        env={**os.environ, **threads, **settings["environment"], **variables},
        check=True,
    )


def test_a_round_of_commands_gives_the_bits_of_an_embedded_round(example, tmp_path):
    folder, embedded, plan = example
    store = tmp_path / "store"
    shutil.copytree(embedded / "round-0000", store / "round-0000")
    first = store / "round-0000/model.safetensors"
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    for task in plan["tasks"]:
        if task["step"] == "train":
            work, whose = tmp_path / task["client"], ("--client", task["client"])
            code, printed = run_step("fetch", store, work, *whose)
            assert (code, printed["state"]) == (0, "Succeeded")
            run_script(folder, task, work / "model.safetensors", work)
            code, printed = run_step("compress", store, work, *whose)
            assert (code, printed["state"]) == (0, "Succeeded")
            assert list(printed["report"]["steps"]) == ["fetch", "train", "compress"]
            assert printed["report"]["uplink_bytes"] < first.stat().st_size / 3
    server = tmp_path / "server"
    code, printed = run_step("aggregate", store, server)
    assert code == 0
    assert len(printed["accepted"]) == 10
    evaluate = next(task for task in plan["tasks"] if task["step"] == "evaluate")
    run_script(folder, evaluate, server / "model.safetensors", server)
    code, printed = run_step("commit", store, server)
    assert code == 0

    expected = json.loads((embedded / "round-0001/result.json").read_bytes())
    result = json.loads((store / "round-0001/result.json").read_bytes())
    assert result["model"]["digest"] == expected["model"]["digest"]
    assert result["metrics"] == expected["metrics"]
    assert result["traffic"] == expected["traffic"]


def test_a_client_without_an_update_and_a_round_with_too_few_say_so(example, tmp_path):
    _, embedded, plan = example
    store = tmp_path / "store"
    shutil.copytree(embedded / "round-0000", store / "round-0000")
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    (tmp_path / "empty").mkdir()
    code, printed = run_step("compress", store, tmp_path / "empty", "--client", "digits-0")
    assert (code, printed["reason"]) == (1, "NoUpdate")
    code, printed = run_step("compress", store, tmp_path / "empty", "--client", "nobody")
    assert (code, printed["reason"]) == (1, "NoSuchTask")
    code, printed = run_step("aggregate", store, tmp_path / "server")
    assert (code, printed["reason"]) == (1, "TooFewClients")
    attempt = json.loads((store / "round-0001/attempt-1.json").read_bytes())
    assert attempt["clients"]["digits-0"]["reason"] == "NoUpdate"
    assert not (store / "round-0001/result.json").exists()


def test_the_first_model_and_a_whole_group_of_the_server_are_commands_too(example, tmp_path):
    folder, embedded, plan = example
    store = tmp_path / "store"
    first = json.loads((embedded / "round-0000/plan.json").read_bytes())
    (tmp_path / "plan.json").write_text(json.dumps(first))
    (start,) = (task for task in first["tasks"] if task["step"] == "initialize")
    work = tmp_path / "server"
    run_script(folder, start, tmp_path / "none", work)
    for step in ("initialize", "commit"):
        code, printed = run_step(step, store, work)
        assert (code, printed["state"]) == (0, "Succeeded")
    made = (store / "round-0000/model.safetensors").read_bytes()
    assert made == (embedded / "round-0000/model.safetensors").read_bytes()

    tasks = [task for task in plan["tasks"] if task["step"] != "evaluate"]
    (tmp_path / "plan.json").write_text(json.dumps({**plan, "tasks": tasks}))
    for task in tasks:
        if task["step"] == "train":
            mine, whose = tmp_path / task["client"], ("--client", task["client"])
            run_step("fetch", store, mine, *whose)
            run_script(folder, task, mine / "model.safetensors", mine)
            run_step("compress", store, mine, *whose)
    code, printed = run_step("server", store, tmp_path / "cloud", "--group", "server")
    assert (code, printed["steps"]) == (0, ["aggregate", "commit"])
    result = json.loads((store / "round-0001/result.json").read_bytes())
    expected = json.loads((embedded / "round-0001/result.json").read_bytes())
    assert result["model"]["digest"] == expected["model"]["digest"]
    code, printed = run_step("server", store, tmp_path / "cloud", "--group", "nothing")
    assert (code, printed["reason"]) == (1, "NoSuchTask")
