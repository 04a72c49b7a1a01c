"""Rounds compressed both ways, run by hand as containers would: the bits and bytes of an embedded run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
EXAMPLE = ROOT / "examples/01-digits-numpy"
COMPRESSION = """
  compression:
    uplink: {codec: stc, fraction: 0.02}
    downlink: {codec: stc, fraction: 0.02, lossless: zstd}
"""
ROUNDS = 2


def embedded_run(folder: Path) -> Path:
    """Run the digits with two clients a round; give the store."""
    for name in ("job.yaml", "train.py", "prepare.py"):
        shutil.copy(EXAMPLE / name, folder)
    text = (folder / "job.yaml").read_text().replace("rounds: 20", f"rounds: {ROUNDS}")
    kept = [
        line for line in text.splitlines() if "uplink" not in line and "compression" not in line
    ]
    text = "\n".join(kept).replace("\nspec:\n", f"\nspec:{COMPRESSION}", 1)
    old, new = "participation:\n", "participation:\n    clientsPerRound: 2\n"
    (folder / "job.yaml").write_text(
        text.replace(old, new).replace("minClients: 8", "minClients: 2")
    )
    subprocess.run([sys.executable, folder / "prepare.py"], check=True)
    command = [sys.executable, "-m", "cli.main", "run", "-f", "job.yaml", "--state", "state"]
    found = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr
    return next((folder / "state/artifacts/default").iterdir())


def run_step(step: str, plan: Path, store: Path, work: Path, client: str | None) -> dict:
    command = [sys.executable, "-I", "-m", f"components.{step}", "--plan", plan]
    where = ["--store", store.as_uri(), "--workdir", work, "--edge", plan.parent / "edge"]
    whose = ["--client", client] if client else []
    found = subprocess.run([*command, *where, *whose], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
    return json.loads(found.stdout)


def run_script(folder: Path, task: dict, number: int, model: Path, work: Path) -> None:
    """What the user's container does."""
    settings = task["settings"]
    result = "result.json" if settings["task"] == "train" else "evaluation.json"
    variables = {
        "FEDLOOM_TASK": settings["task"],
        "FEDLOOM_ROUND": str(number),
        "FEDLOOM_ROUNDS": str(ROUNDS),
        "FEDLOOM_CLIENT": task["client"] or "evaluation",
        "FEDLOOM_SEED": str(settings["seed"]),
        "FEDLOOM_MODEL": str(model),
        "FEDLOOM_UPDATE": str(work / "update.safetensors"),
        "FEDLOOM_RESULT": str(work / result),
        "FEDLOOM_STATE": str(work),
        "FEDLOOM_HYPERPARAMETERS": json.dumps(settings["hyperparameters"]),
        "TRAIN_DATASET_URL": settings["dataset"],
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    environment = {**os.environ, **settings["environment"], **variables}
    subprocess.run([sys.executable, "train.py"], cwd=folder, env=environment, check=True)


def test_rounds_of_commands_give_the_bits_and_bytes_of_embedded_ones(tmp_path):
    folder = tmp_path / "example"
    folder.mkdir()
    embedded, store = embedded_run(folder), tmp_path / "store"
    shutil.copytree(embedded / "round-0000", store / "round-0000")
    (store / "state").mkdir()
    shutil.copy(embedded / "state/broadcast-0000.safetensors", store / "state")
    for number in range(1, ROUNDS + 1):
        plan = tmp_path / f"plan-{number}.json"
        shutil.copy(embedded / f"round-{number:04d}/plan.json", plan)
        down = 0
        for task in json.loads(plan.read_bytes())["tasks"]:
            work = tmp_path / f"{number}-{task['client'] or 'server'}"
            if task["step"] == "train":
                run_step("fetch", plan, store, work, task["client"])
                run_script(folder, task, number, work / "model.safetensors", work)
                (work / "model.safetensors").write_bytes(b"whatever the container does to it")
            elif task["step"] == "evaluate":
                model = store / f"round-{number:04d}/model.safetensors"
                run_script(folder, task, number, model, work)
            elif task["step"] != "receive":  # which `fetch` does
                printed = run_step(task["step"], plan, store, work, task["client"])
            if task["step"] == "compress":
                size = (store / task["outputs"]["update"]).stat().st_size
                assert printed["report"]["uplink_bytes"] == size
                down += printed["report"]["downlink_bytes"]
        expected = json.loads((embedded / f"round-{number:04d}/result.json").read_bytes())
        result = json.loads((store / f"round-{number:04d}/result.json").read_bytes())
        for field in ("metrics", "traffic"):
            assert result[field] == expected[field]
        assert result["model"]["digest"] == expected["model"]["digest"]
        assert {name: each["digest"] for name, each in result["state"].items()} == {
            name: each["digest"] for name, each in expected["state"].items()
        }
        assert result["traffic"]["downlink_bytes"] == down
