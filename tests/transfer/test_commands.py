"""Round 0 by hand, one command per step as containers would, gives the bits of an embedded round 0."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

THREADS = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def step(name: str, store: Path, work: Path, *more: str) -> dict[str, Any]:
    """Run one of our steps."""
    plan = work.parent / "plan.json"
    command = [sys.executable, "-I", "-m", f"components.{name}", "--plan", str(plan)]
    command += ["--store", store.as_uri(), "--workdir", str(work), *more]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    printed = json.loads(done.stdout)
    assert printed["state"] == "Succeeded", printed
    return dict(printed)


def program(shop: Any, task: dict[str, Any], work: Path) -> None:
    """Run the user's container of a task, told as a pod's is."""
    settings = task["settings"]
    folder = work / settings.get("folder", "")
    folder.mkdir(parents=True, exist_ok=True)
    variables = {
        "FEDLOOM_TASK": settings["task"],
        "FEDLOOM_ROUND": "0",
        "FEDLOOM_ROUNDS": "1",
        "FEDLOOM_CLIENT": task["client"] or "evaluation",
        "FEDLOOM_SEED": str(settings["seed"]),
        "FEDLOOM_MODEL": str(folder / "model.safetensors"),
        "FEDLOOM_UPDATE": str(folder / "update.safetensors"),
        "FEDLOOM_RESULT": str(folder / "result.json"),
        "FEDLOOM_STATE": str(work),
        "FEDLOOM_HYPERPARAMETERS": json.dumps(settings["hyperparameters"]),
        "TRAIN_DATASET_URL": settings["dataset"],
    }
    if (folder / "correction.safetensors").exists():
        variables["FEDLOOM_CORRECTION"] = str(folder / "correction.safetensors")
    environment = {**os.environ, **THREADS, **settings["environment"], **variables}
    command = [sys.executable, "train.py"]
    subprocess.run(command, cwd=shop.folder, env=environment, check=True)


def plan_of(shop: Any, to: Path, number: int = 0) -> dict[str, Any]:
    (path,) = (shop.folder / "state" / "target").glob(f"artifacts/*/*/round-{number:04}/plan.json")
    plan: dict[str, Any] = json.loads(path.read_bytes())
    to.mkdir()
    (to / "plan.json").write_text(json.dumps(plan))
    return plan


def result_of(store: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((store / "round-0000/result.json").read_bytes())
    return found


def test_a_probe(shop: Any, line: Any, tmp_path: Path) -> None:
    shop.slopes = (3.0, 3.1)
    shop.model("good", line(3.0))
    assert shop.run({"from": [{"model": "good"}]}).phase == "Succeeded"
    plan, store = plan_of(shop, tmp_path / "by-hand"), tmp_path / "store"
    tasks = {task["name"]: task for task in plan["tasks"]}
    prepare = tmp_path / "by-hand" / "prepare"
    program(shop, tasks["initialize"], prepare)
    step("initialize", store, prepare)
    assert step("stage", store, prepare)["sources"] == ["model/good"]
    for client in plan["cohort"]:
        work, whose = tmp_path / "by-hand" / client, ("--client", client)
        step("fetch", store, work, *whose)
        for slot in (0, 1):
            program(shop, tasks[f"probe-{slot}-{client}"], work)
        assert step("probe", store, work, *whose)["slots"] == [0, 1]
    step("server", store, tmp_path / "by-hand" / "server", "--group", "server")
    expected, result = shop.result(), result_of(store)
    assert result["model"]["digest"] == expected["model"]["digest"]
    assert result["transfer"]["choice"] == expected["transfer"]["choice"] == "model/good"
    assert result["transfer"]["scores"] == expected["transfer"]["scores"]


@pytest.mark.slow
def test_a_probe_of_bodies(shop: Any, line: Any, tmp_path: Path) -> None:
    shop.slopes = (3.0, 3.1)
    shop.model("wrong", line(-3.0))
    transfer = {"from": [{"model": "wrong"}], "probe": "heads"}
    assert shop.run(transfer, hyperparameters={"epochs": 1}).phase == "Succeeded"
    plan, store = plan_of(shop, tmp_path / "by-hand"), tmp_path / "store"
    tasks = {task["name"]: task for task in plan["tasks"]}
    prepare = tmp_path / "by-hand" / "prepare"
    program(shop, tasks["initialize"], prepare)
    for name in ("initialize", "stage"):
        step(name, store, prepare)
    for client in plan["cohort"]:
        work, whose = tmp_path / "by-hand" / client, ("--client", client)
        step("fetch", store, work, *whose)
        for name in ("probe-0", "probe-1", "tune-1", "tune-2"):
            program(shop, tasks[f"{name}-{client}"], work)
        step("probe", store, work, *whose)
    step("heads", store, tmp_path / "by-hand" / "merge")
    for client in plan["cohort"]:
        work, whose = tmp_path / "by-hand" / f"{client}-2", ("--client", client)
        step("fetch", store, work, *whose, "--group", f"judge-{client}")
        for name in ("judge-1", "judge-2"):
            program(shop, tasks[f"{name}-{client}"], work)
        assert step("assess", store, work, *whose)["slots"] == [1, 2]
    step("server", store, tmp_path / "by-hand" / "server", "--group", "server")
    expected, result = shop.result(), result_of(store)
    assert result["transfer"]["scores"] == expected["transfer"]["scores"]
    assert result["model"]["digest"] == expected["model"]["digest"]


def test_a_body(shop: Any, line: Any, tmp_path: Path) -> None:
    shop.slopes = (3.0,)
    shop.model("known", line(3.0))
    transfer = {"mode": "body", "from": [{"model": "known"}], "freeze": True}
    assert shop.run(transfer).phase == "Succeeded"
    plan, store = plan_of(shop, tmp_path / "by-hand"), tmp_path / "store"
    server = tmp_path / "by-hand" / "server"
    program(shop, plan["tasks"][0], server)
    for name in ("initialize", "adopt_source", "commit"):
        step(name, store, server)
    expected, result = shop.result(), result_of(store)
    assert result["model"]["digest"] == expected["model"]["digest"]
    assert result["transfer"]["frozen"] == expected["transfer"]["frozen"] == ["body.w"]


def test_a_client_of_ditto(shop: Any, tmp_path: Path) -> None:
    shop.slopes = (3.0,)
    assert shop.run({"anchor": {"kind": "ditto", "mu": 0.5}}).phase == "Succeeded"
    plan, store = plan_of(shop, tmp_path / "by-hand", 1), tmp_path / "store"
    (embedded,) = (shop.folder / "state" / "target").glob("artifacts/*/*")
    shutil.copytree(embedded / "round-0000", store / "round-0000")
    work, whose = tmp_path / "by-hand" / "client-0", ("--client", "client-0")
    step("fetch", store, work, *whose)
    for task in plan["tasks"][:2]:
        program(shop, task, work)
    step("compress", store, work, *whose)
    expected = shop.folder / "state/target/edge/client-0/fedloom/personal.safetensors"
    made = work / "edge/client-0/fedloom/personal.safetensors"
    assert made.read_bytes() == expected.read_bytes()
