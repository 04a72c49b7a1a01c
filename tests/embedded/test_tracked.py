"""A job as a user runs it leaves its metrics, datasets and models in MLflow."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parent.parent.parent / "examples/01-digits-numpy"
LOOK = """
import json, sys
import mlflow, numpy as np
mlflow.set_tracking_uri(sys.argv[1])
client = mlflow.MlflowClient()
(run,) = client.search_runs([e.experiment_id for e in client.search_experiments()])
data = np.load(sys.argv[2])
scores = mlflow.pyfunc.load_model("models:/digits@champion").predict(data["x"])
print(json.dumps({
    "status": run.info.status,
    "metrics": sorted(run.data.metrics),
    "params": run.data.params,
    "steps": [m.step for m in client.get_metric_history(run.info.run_id, "accuracy")],
    "datasets": len(run.inputs.dataset_inputs),
    "versions": len(client.search_model_versions("name='digits'")),
    "accuracy": float((scores.argmax(axis=1) == data["y"]).mean()),
}))
"""


@pytest.fixture(scope="module")
def tracked(tmp_path_factory):
    """Three rounds of the digits: the events, and what MLflow says of them."""
    folder = tmp_path_factory.mktemp("digits")
    for name in ("job.yaml", "train.py", "prepare.py"):
        shutil.copy(EXAMPLE / name, folder)
    text = (folder / "job.yaml").read_text().replace("rounds: 20", "rounds: 3")
    (folder / "job.yaml").write_text(text)
    subprocess.run([sys.executable, folder / "prepare.py"], check=True)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
    command = [sys.executable, "-I", "-m", "cli.main", "run", "-f", folder / "job.yaml"]
    found = subprocess.run(
        [*command, "--state", folder / "state", "-o", "json"],
        capture_output=True,
        check=True,
        env=environment,
    )
    events = [json.loads(line) for line in found.stdout.splitlines()]
    database = f"sqlite:///{folder}/state/mlflow.db"
    looked = subprocess.run(
        [sys.executable, "-I", "-c", LOOK, database, folder / "data/test.npz"],
        capture_output=True,
        check=True,
        cwd=tmp_path_factory.mktemp("elsewhere"),
        env=environment,
    )
    return events, json.loads(looked.stdout.splitlines()[-1])


def test_every_round_is_a_step_of_one_finished_run(tracked):
    _, seen = tracked
    assert (seen["status"], seen["steps"]) == ("FINISHED", [1, 2, 3])


def test_the_promised_metrics_and_parameters_are_there(tracked):
    _, seen = tracked
    promised = {"accuracy", "loss", "round_seconds", "uplink_bytes", "downlink_bytes", "clients"}
    assert promised | {"train/loss", "client/digits-0/loss"} <= set(seen["metrics"])
    assert seen["params"]["learningRate"] == "0.1"
    assert seen["params"]["uplink.codec"] == "int8"


def test_every_clients_dataset_is_an_input(tracked):
    _, seen = tracked
    assert seen["datasets"] == 11


def test_every_aggregated_model_is_registered_and_the_champion_predicts(tracked):
    events, seen = tracked
    assert seen["versions"] == 3
    assert seen["accuracy"] == pytest.approx(events[-1]["metrics"]["accuracy"])
    assert events[-1]["tracking"]["available"] is True
