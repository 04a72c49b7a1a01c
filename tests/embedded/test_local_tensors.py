"""Tensors that stay with the clients (FedBN) in whole jobs: apart from each other, and resumed."""

from __future__ import annotations

import numpy as np
import pytest

from fedloom.artifacts.arrays import load_arrays

MEANS = {"a": 2.0, "b": 4.5, "c": 10.0}
SCRIPT = """
import numpy as np
import fedloom

class Normed:
    def __init__(self, client):
        self.client = client
        self.mean = np.loadtxt(client.dataset, ndmin=1).astype(np.float32).mean()

    @staticmethod
    def initialize(seed):
        return {
            "body.w": np.zeros(3, np.float32),
            "bn1.mean": np.zeros(2, np.float32),
            "bn1.batches": np.array(0, np.int64),
        }

    def train(self, model, context):
        FAULT
        print("starts", *model["bn1.mean"], model["bn1.batches"], flush=True)
        model["bn1.mean"] += np.float32(0.5) * (self.mean - model["bn1.mean"])
        model["bn1.batches"] = model["bn1.batches"] + 1
        gradients = context.correct(
            {"body.w": model["body.w"] - self.mean, "bn1.mean": np.zeros(2, np.float32)}, model
        )
        assert not gradients["bn1.mean"].any()
        model["body.w"] -= np.float32(0.5) * gradients["body.w"]
        return fedloom.Update(model, 1, num_steps=1)

    def evaluate(self, model, context):
        return fedloom.Evaluation(1, {"mean": float(model["bn1.mean"].mean())})

fedloom.main(Normed)
"""


@pytest.fixture
def normed(bench):
    bench.files["train.py"] = SCRIPT.replace("FAULT", "pass")
    bench.spec["aggregation"] = {"exclude": ["bn?.*"]}
    return bench


def starts(bench, client):
    lines = (bench.state / f"logs/{client}.log").read_text().splitlines()
    return [float(line.split()[1]) for line in lines if line.startswith("starts")]


def kept(bench, client):
    return load_arrays(max((bench.state / f"edge/{client}/fedloom").glob("own-*")))[0]


def test_every_client_goes_on_with_its_own_values_and_the_rest_is_averaged(normed, read_model):
    normed.run()
    for client, mean in MEANS.items():
        assert starts(normed, client) == [0, mean / 2, mean * 0.75]
        own = kept(normed, client)
        np.testing.assert_allclose(own["local/bn1.mean"], mean * 0.875)
        assert own["local/bn1.batches"] == 3
        assert sorted(own) == ["local/bn1.batches", "local/bn1.mean"]
    model = read_model(normed.finished)
    np.testing.assert_allclose(model["body.w"], np.mean(list(MEANS.values())) * 0.875, rtol=1e-6)


def test_the_global_model_keeps_its_first_values_and_is_evaluated_with_them(normed, read_model):
    normed.run()
    model = read_model(normed.finished)
    np.testing.assert_array_equal(model["bn1.mean"], np.zeros(2))
    assert model["bn1.batches"] == 0
    assert normed.rounds()[-1]["metrics"]["mean"] == 0


def test_what_stays_with_the_clients_is_not_sent(normed):
    normed.run()
    own = normed.rounds()[0]["clients"]["a"]["uplink_bytes"]
    normed.spec["aggregation"] = {}
    normed.run(normed.folder / "shared")
    assert own < normed.rounds()[0]["clients"]["a"]["uplink_bytes"]


def test_values_of_a_round_that_did_not_accept_the_client_do_not_count(normed):
    fault = "if self.client.name == 'b' and context.number == 2: model['body.w'][0] = np.nan"
    normed.files["train.py"] = SCRIPT.replace("FAULT", fault)
    normed.run()
    assert [event["clients"]["b"]["state"] for event in normed.rounds()][1] == "Failed"
    assert starts(normed, "b") == [0, 2.25, 2.25]
    assert starts(normed, "c") == [0, 5, 7.5]


def test_a_job_in_two_runs_gives_the_bits_of_one_run(normed):
    normed.spec["algorithm"] = {"name": "scaffold"}
    normed.spec["hyperparameters"] = {"lr": 0.5}
    normed.spec["compression"] = {"downlink": {"codec": "int8"}}
    normed.spec["rounds"] = 4
    normed.run(normed.folder / "at-once", parallel=1)
    expected = normed.finished["model"]["digest"]
    for rounds in (1, 2, 4):
        normed.spec["rounds"] = rounds
        normed.run()
    assert normed.finished["model"]["digest"] == expected
    own = kept(normed, "a")
    assert "control/body.w" in own
    assert "control/bn1.mean" not in own
    np.testing.assert_allclose(own["local/bn1.mean"], 2 * (1 - 0.5**4))


def test_own_values_that_are_gone_begin_anew_and_it_is_told(normed):
    normed.run()
    for path in (normed.state / "edge/c/fedloom").glob("own-*"):
        path.unlink()
    normed.spec["rounds"] = 4
    assert normed.run().phase == "Succeeded"
    assert starts(normed, "c")[-1] == 0
    assert "begin anew" in normed.rounds()[0]["clients"]["c"]["message"]


def test_a_job_that_shares_nothing_is_refused(normed):
    normed.spec["aggregation"] = {"exclude": ["*"]}
    decision = normed.run()
    assert (decision.phase, decision.reason) == ("Failed", "NothingShared")


def test_a_client_whose_own_values_are_not_finite_is_dropped(normed):
    fault = "if self.client.name == 'b': model['bn1.mean'][:] = np.inf"
    normed.files["train.py"] = SCRIPT.replace("FAULT", fault)
    normed.run()
    assert normed.rounds()[0]["clients"]["b"]["reason"] == "NotFinite"
