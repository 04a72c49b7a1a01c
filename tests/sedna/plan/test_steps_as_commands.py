"""A round whose program combines, run container by container as pods do: the embedded engine's bits."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedloom.artifacts.arrays import dump_arrays, load_arrays


class Pods:
    """A store that holds round 1 of a job up to its updates, and the server's pod beside it."""

    def __init__(self, bench: Any, folder: Path) -> None:
        self.bench, self.folder = bench, folder
        (self.embedded,) = (bench.folder / "state").glob("artifacts/*/*")
        self.plan = json.loads((self.embedded / "round-0001/plan.json").read_bytes())
        self.store, self.work = folder / "store", folder / "server"

    def step(self, step: str, *more: str, work: Path | None = None) -> tuple[int, dict[str, Any]]:
        command = [sys.executable, "-I", "-m", f"components.{step}"]
        command += ["--plan", str(self.folder / "plan.json"), "--store", self.store.as_uri()]
        command += ["--workdir", str(work or self.work), *more]
        found = subprocess.run(command, capture_output=True, text=True, check=False)
        assert "Traceback" not in found.stderr
        return found.returncode, json.loads(found.stdout)

    def run(self, name: str, work: Path) -> None:
        """What a user's container does: the program of the task `name`."""
        task = next(each for each in self.plan["tasks"] if each["name"] == name)
        settings, result = task["settings"], work / "result.json"
        work.mkdir(parents=True, exist_ok=True)
        variables = {
            "FEDLOOM_TASK": settings["task"],
            "FEDLOOM_SEED": str(settings["seed"]),
            "FEDLOOM_MODEL": str(work / "model.safetensors"),
            "FEDLOOM_UPDATE": str(work / "update.safetensors"),
            "FEDLOOM_UPDATES": str(work / "clients"),
            "FEDLOOM_RESULT": str(result),
            "TRAIN_DATASET_URL": settings["dataset"],
        }
        command = [sys.executable, *settings["command"][1:], *settings["args"]]
        subprocess.run(command, cwd=self.bench.folder, env={**os.environ, **variables}, check=True)

    def train(self) -> None:
        """Everything that happens before the server's pod starts."""
        shutil.copytree(self.embedded / "round-0000", self.store / "round-0000")
        (self.folder / "plan.json").write_text(json.dumps(self.plan))
        for name in ("a", "b", "c"):
            work = self.folder / name
            assert self.step("fetch", "--client", name, work=work)[0] == 0
            self.run(f"train-{name}", work)
            assert self.step("compress", "--client", name, work=work)[0] == 0


@pytest.fixture(scope="module")
def trained(make_mover, tmp_path_factory) -> Pods:
    """A job that was run, and the same round up to its server; for copying."""
    bench = make_mover(tmp_path_factory.mktemp("bench"))
    bench.describe({"rounds": 1, "aggregation": "Median"})
    assert bench.run().phase == "Succeeded"
    pods = Pods(bench, tmp_path_factory.mktemp("pods"))
    pods.train()
    return pods


@pytest.fixture
def pods(trained, tmp_path) -> Pods:
    shutil.copytree(trained.folder, tmp_path, dirs_exist_ok=True)
    return Pods(trained.bench, tmp_path)


def test_a_round_of_containers_gives_the_bits_of_an_embedded_one(pods):
    code, printed = pods.step("unpack")
    assert (code, printed["accepted"]) == (0, ["a", "b", "c"])
    listed = json.loads((pods.work / "clients/clients.json").read_bytes())
    assert listed == [
        {"name": "a", "num_examples": 3, "path": "a.safetensors"},
        {"name": "b", "num_examples": 2, "path": "b.safetensors"},
        {"name": "c", "num_examples": 1, "path": "c.safetensors"},
    ]
    for name in ("a", "b", "c"):  # what the client's program wrote, up to a rounding
        wrote = load_arrays(pods.folder / name / "update.safetensors")[0]["w"]
        read = load_arrays(pods.work / f"clients/{name}.safetensors")[0]["w"]
        np.testing.assert_allclose(read, wrote, rtol=1e-6)
    pods.run("script", pods.work)
    assert pods.step("aggregate")[0] == 0
    assert pods.step("commit")[0] == 0
    result = json.loads((pods.store / "round-0001/result.json").read_bytes())
    expected = json.loads((pods.embedded / "round-0001/result.json").read_bytes())
    assert result["model"]["digest"] == expected["model"]["digest"]
    assert result["metrics"] == expected["metrics"]
    assert result["metrics"]["aggregation/clients"] == 3
    assert set(result["server"]["steps"]) == {"unpack", "aggregate"}


def test_a_client_whose_update_is_damaged_is_not_laid_out(pods):
    (update,) = pods.store.glob("round-0001/updates/b/1/update.safetensors")
    update.write_bytes(update.read_bytes()[:-1])
    code, printed = pods.step("unpack")
    assert (code, printed["reason"]) == (1, "TooFewClients")
    assert not (pods.work / "clients/b.safetensors").exists()
    record = json.loads((pods.store / "round-0001/attempt-1.json").read_bytes())
    assert record["reason"] == "TooFewClients"
    assert record["clients"]["b"]["reason"] == "CorruptArtifact"


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        (None, "wrote no FEDLOOM_UPDATE"),
        ({}, "MissingTensor: tensor 'w'"),
        ({"w": np.zeros((3, 2), np.float64)}, "got dtype float64, expected float32"),
        ({"w": np.zeros((2, 3), np.float32)}, "got shape [2, 3], expected [3, 2]"),
        ({"w": np.full((3, 2), np.nan, np.float32)}, "NaN or infinite"),
        ({"w": np.zeros((3, 2), np.float32), "x": np.zeros(1)}, "UnexpectedTensor: tensor 'x'"),
        (b"no safetensors", "FEDLOOM_UPDATE"),
    ],
)
def test_what_a_program_made_and_is_no_such_model_is_refused(unpacked, arrays, said):
    made = unpacked.work / "update.safetensors"
    made.unlink(missing_ok=True)
    if arrays is not None:
        made.write_bytes(arrays if isinstance(arrays, bytes) else dump_arrays(arrays))
    code, printed = unpacked.step("aggregate")
    assert (code, printed["reason"]) == (1, "AggregationFailed")
    assert said in printed["message"]


@pytest.fixture(scope="module")
def unpacked(trained, tmp_path_factory) -> Pods:
    """Pods up to what the program is to make; for tests that change nothing else."""
    folder = tmp_path_factory.mktemp("unpacked")
    shutil.copytree(trained.folder, folder, dirs_exist_ok=True)
    pods = Pods(trained.bench, folder)
    assert pods.step("unpack")[0] == 0
    return pods


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ('{"rounds": 3}', {"rounds": 3}),
        (None, {"problem": "the aggregation worker's program wrote no description (see its log)"}),
        ("{", None),
    ],
)
def test_what_a_container_said_of_the_job_is_stored_whatever_it_is(
    trained, tmp_path, said, expected
):
    shutil.copy(trained.embedded / "round-0000/plan.json", tmp_path / "plan.json")
    store, work = tmp_path / "store", tmp_path / "work"
    work.mkdir()
    if said is not None:
        (work / "result.json").write_text(said)
    command = [sys.executable, "-I", "-m", "components.describe"]
    command += ["--plan", str(tmp_path / "plan.json"), "--store", store.as_uri()]
    found = subprocess.run([*command, "--workdir", str(work)], capture_output=True, check=False)
    assert found.returncode == 0
    stored = json.loads((store / "round-0000/description-1.json").read_bytes())
    if expected is None:
        assert "not JSON" in stored["problem"]
    else:
        assert stored == expected
