"""Scripts that import sedna and nothing of Fedloom's: a whole job by `fedloom run -f`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

# As Sedna's V1 examples are written: an estimator with get_weights and set_weights, found by its class.
TRAIN_V1 = """
import numpy as np
from sedna.common.config import BaseConfig, Context
from sedna.core.federated_learning import FederatedLearning
from sedna.datasources import TxtDataParse


class Pull:
    def __init__(self, **kwargs):
        self.w = np.full((3, 2), 7.0, np.float32)

    def get_weights(self):
        return [self.w, np.array([len(self.w)], np.float32)]

    def set_weights(self, weights):
        self.w = np.asarray(weights[0], np.float32)

    def train(self, train_data, valid_data=None, rate=0.5, **kwargs):
        numbers = np.asarray(train_data.x, np.float32)
        self.w = self.w + np.float32(rate) * (numbers.mean() - self.w)
        return {"loss": float(np.abs(numbers.mean() - self.w).mean())}

    def save(self, path):
        raise AssertionError("nobody asked for a file")


def number_of(line):
    return float(str(line).split()[0]), 0


data = TxtDataParse(data_type="train", func=number_of)
data.parse(BaseConfig.train_dataset_url)
job = FederatedLearning(estimator=Pull, aggregation="Middle")
job.train(train_data=data, rate=float(Context.get_parameters("rate", 0.5)))
print("after training", job.estimator is not None)
"""

AGGREGATE_V1 = """
import numpy as np
from sedna.algorithms.aggregation import FedAvg
from sedna.algorithms.aggregation.aggregation import BaseAggregation
from sedna.common.class_factory import ClassFactory, ClassType
from sedna.service.server import AggregationServer


@ClassFactory.register(ClassType.FL_AGG, alias="Middle")
class Middle(BaseAggregation):
    def aggregate(self, clients):
        self.total_size = sum(client.num_samples for client in clients)
        return [np.median(arrays, axis=0) for arrays in zip(*(client.weights for client in clients))]


AggregationServer(aggregation="AGGREGATION", exit_round=ROUNDS, participants_count=2).start()
"""


def aggregate(aggregation: str = "FedAvg", rounds: int = 2) -> str:
    return AGGREGATE_V1.replace("AGGREGATION", aggregation, 1).replace("ROUNDS", str(rounds))


@pytest.fixture
def v1(mover: Any) -> Any:
    mover.keep_clients(2)
    mover.files = {"train.py": TRAIN_V1, "aggregate.py": aggregate()}
    return mover


def test_a_v1_job_runs_as_many_rounds_as_its_aggregation_script_says(v1):
    decision = v1.run()
    assert (decision.phase, decision.reason) == ("Succeeded", "RoundsDone")
    assert v1.result(0)["description"] == {
        "algorithm": "fedavg",
        "rounds": 2,
        "participants": 2,
    }
    assert [event["round"] for event in v1.rounds()] == [1, 2]
    assert {name: c["num_examples"] for name, c in v1.result(2)["clients"].items()} == {
        "a": 3,
        "b": 2,
    }
    # Means 2 and 4.5, weighted 3 to 2: each round halves the distance of 7 to 3.
    np.testing.assert_allclose(v1.model(2)["0000"], np.full((3, 2), 4.0), rtol=1e-6)
    assert v1.result(2)["metrics"]["train/loss"] > 0
    assert "after training" in (v1.folder / "state/logs/a.log").read_text()


def test_an_aggregation_of_the_scripts_own_gives_the_model_of_the_same_rule(v1):
    v1.spec["trainingWorkers"].append(
        {**v1.spec["trainingWorkers"][0], "dataset": {"name": "c"}},
    )
    v1.files["aggregate.py"] = aggregate("Middle")
    assert v1.run().phase == "Succeeded"
    assert v1.result(0)["description"]["aggregation"] == "Middle"
    own = v1.model(2)
    v1.spec |= {"compat": "sedna", "aggregation": {"rule": "median"}}
    assert v1.run("rule").phase == "Succeeded"
    ours = v1.model(2, "rule")
    assert own.keys() == ours.keys()
    for name in own:
        np.testing.assert_allclose(own[name], ours[name], rtol=1e-6)


@pytest.mark.parametrize("aggregation", ["FedAvg", "Middle"])
def test_a_v1_job_that_was_killed_goes_on_to_the_same_bits(v1, aggregation):
    v1.files["aggregate.py"] = aggregate(aggregation, rounds=3)
    assert v1.run("whole").phase == "Succeeded"
    expected = v1.result(3, "whole")["model"]["digest"]
    command = [sys.executable, "-m", "cli.main", "run", "-f", v1.write(), "-o", "json"]
    process = subprocess.Popen(
        [*command, "--state", v1.folder / "killed", "--parallel", "2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=Path(__file__).resolve().parents[3],
    )
    assert process.stdout is not None
    for line in process.stdout:
        if json.loads(line).get("round") == 1:
            break
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert not list((v1.folder / "killed").glob("artifacts/**/round-0003/result.json"))
    assert v1.run("killed").phase == "Succeeded"
    assert v1.notices("Resumed")
    assert v1.result(3, "killed")["model"]["digest"] == expected


def test_a_client_whose_script_never_trains_is_told_what_to_call(v1):
    v1.spec |= {"compat": "sedna", "participation": {"minClients": 1, "retries": 0}}
    text = TRAIN_V1.replace(
        "job.train(", "if Context.get_parameters('DATASET_NAME') != 'a': job.train("
    )
    v1.files["train.py"] = text
    v1.files["aggregate.py"] = aggregate(rounds=1)
    decision = v1.run()
    assert decision.phase == "Succeeded", decision
    failed = v1.result(1)["clients"]["a"]
    assert failed["reason"] in ("ScriptFailed", "NoUpdate")
    assert "train()" in failed["message"]
    assert "FederatedLearning" in failed["message"]


def test_a_script_without_sedna_is_told_as_well(mover):
    mover.keep_clients(2)
    mover.describe({"rounds": 1})
    mover.spec |= {"compat": "sedna", "participation": {"minClients": 1, "retries": 0}}
    stop = "if os.environ['DATASET_NAME'] == 'a' and task == 'train': raise SystemExit(0)\nmodel ="
    mover.files["train.py"] = mover.files["train.py"].replace("model =", stop, 1)
    mover.run()
    failed = mover.result(1)["clients"]["a"]
    assert failed["reason"] == "NoUpdate"
    assert "FederatedLearning(...).train()" in failed["message"]


def test_an_aggregation_that_crashes_ends_the_job_with_its_last_words(v1):
    v1.files["aggregate.py"] = aggregate("Middle").replace(
        "self.total_size =", "raise RuntimeError('no idea'); self.total_size ="
    )
    v1.spec |= {"compat": "sedna", "participation": {"retries": 0}}
    decision = v1.run()
    assert (decision.phase, decision.reason) == ("Failed", "AggregationFailed")
    assert "no idea" in decision.message
