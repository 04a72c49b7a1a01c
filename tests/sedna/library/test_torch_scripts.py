"""Torch: V2 scripts really train, V1 estimators need no loop; what is not honoured is refused."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed"),
]

SCRIPTS = Path(__file__).parent.parent / "scripts"
V2 = SCRIPTS / "v2_train.py"


@pytest.fixture
def run(new_runner, warm_torch):
    """Scripts here begin by loading torch, before anything of sedna: that is done once for all."""
    return new_runner(warm_torch)


@pytest.fixture(scope="module")
def first(new_runner, warm_torch):
    """The first model of the V2 script."""
    return new_runner(warm_torch)(V2, "initialize").arrays


def test_a_v2_script_learns_over_rounds(run, new_runner, data, first):
    model = first
    assert model["1.num_batches_tracked"].dtype == np.int64
    for number, run_one in (("1", new_runner()), ("2", run)):  # one with a Python of its own
        done = run_one(
            V2, "train", "-i", "1", model=model, TRAIN_DATASET_URL=data[0][0], FEDLOOM_ROUND=number
        )
        assert done.code == 0, done.output
        assert done.result["num_examples"] == 60
        assert done.result["num_steps"] == 16
        assert set(done.result["metrics"]) == {"loss", "valid_loss", "valid_accuracy"}
        model = done.arrays
    found = run(V2, "evaluate", model=model, TRAIN_DATASET_URL=data[1]).result
    assert found["num_examples"] == 90
    assert found["metrics"]["accuracy"] > 0.8


def test_the_hyperparameters_of_the_job_reach_a_v2_script(run, data, first):
    done = run(V2, "train", model=first, TRAIN_DATASET_URL=data[0][0], epochs="1", batch_size="30")
    assert done.result["num_steps"] == 2


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            '"type": "basic"',
            '"type": "yolov5"',
            "hyperparameters.type got 'yolov5', expected 'basic'",
        ),
        ('"SGD"', '"AdaHessian"', "optimizer: got 'ADAHESSIAN', expected SGD or Adam"),
        (
            '"momentum": 0.9',
            '"lr_schedule": "cosine"',
            "hyperparameters.lr_schedule is not known here",
        ),
        ('"momentum": 0.9', '"momentum": "much"', "momentum: got 'much', expected a number"),
        (
            "customized = True",
            "customized = trainset = None",
            "Plato's datasource 'COCO' is not here",
        ),
        ("self.saved = None", "self.trainer = object()", "estimator.trainer is set"),
        ("aggregation=FedAvgV2()", "aggregation=MistNet(4)", "does not train MistNet yet"),
        ("self.pretrained = None", "self.model = None", "expected a torch module or a keras model"),
    ],
    ids=["type", "optimizer", "unknown", "number", "parameters", "trainer", "mistnet", "no model"],
)
def test_what_a_v2_script_asks_for_and_cannot_get_is_refused(run, data, first, old, new, message):
    source = V2.read_text().replace(old, new).replace("import FedAvgV2", "import FedAvgV2, MistNet")
    if "trainset = None" in new:
        source = source.replace("self.trainset = ", "made = ").replace("self.testset = ", "_ = ")
        source = source.replace("self.parameters = {}", "self.parameters = {'datasource': 'COCO'}")
    done = run(source, "train", model=first, TRAIN_DATASET_URL=data[0][0])
    assert done.code == 1
    assert message in done.last_line
    assert done.left == []


def test_parameters_of_a_v2_script_may_name_an_npz_file(run, tmp_path, first):
    x = np.random.default_rng(1).normal(size=(20, 8)).astype("f4")
    np.savez(tmp_path / "d.npz", x=x, y=np.arange(20) % 3)
    source = V2.read_text().replace("customized = True", "customized = False")
    source = source.replace("self.trainset = TensorDataset(", "TensorDataset(")
    source = source.replace("self.testset = self.trainset", "self.trainset = None")
    source = source.replace(
        "self.parameters = {}", f"self.parameters = {{'data_path': {str(tmp_path / 'd.npz')!r}}}"
    )
    done = run(source, "train", model=first)
    assert done.code == 0, done.output
    assert done.result["num_examples"] == 20


V1_MODULE = """
import numpy as np, torch
from sedna.core.federated_learning import FederatedLearning
torch.set_num_threads(1)
torch.manual_seed(1)
x = np.random.RandomState(0).normal(size=(40, 4))
class Estimator(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, OUT)
    def forward(self, x):
        return self.layer(x)
fl = FederatedLearning(Estimator)
fl.train((x, Y), epochs=EPOCHS, learning_rate=0.1)
print("sees", tuple(fl.inference(torch.zeros(2, 4)).shape))
"""


@pytest.mark.parametrize(
    ("out", "labels"),
    [
        ("2", "(x[:, 0] > 0).astype(int)"),
        ("1", "(x[:, 0] > 0).astype(int)"),
        ("1", "x[:, 0] * 2.0"),
    ],
    ids=["classes", "one logit", "numbers"],
)
def test_a_v1_module_without_a_loop_gets_one(run, out, labels):
    source = V1_MODULE.replace("OUT", out).replace("Y)", f"{labels})")
    model = run(source.replace("EPOCHS", "1"), "initialize").arrays
    assert set(model) == {"layer.weight", "layer.bias"}
    few, many = (
        run(source.replace("EPOCHS", n), "train", model=model, BACKEND_TYPE="TORCH")
        for n in ("1", "20")
    )
    assert few.code == 0, few.output
    assert many.result["metrics"]["loss"] < 0.7 * few.result["metrics"]["loss"]
    assert "sees (2, " in few.output


def test_a_v1_estimator_with_a_model_and_its_own_loop_keeps_it(run):
    source = V1_MODULE.replace("OUT", "2").replace("EPOCHS", "1").replace("Y)", "x[:, 0] > 0)")
    source = source.replace(
        "fl = FederatedLearning(Estimator)",
        "class Mine:\n"
        "    def __init__(self):\n        self.model = Estimator()\n"
        "    def train(self, train_data):\n"
        "        with torch.no_grad():\n            self.model.layer.bias.fill_(3)\n"
        "        return {'loss': torch.tensor(0.25, requires_grad=True)}\n"
        "fl = FederatedLearning(Mine)",
    )
    model = run(source, "initialize").arrays
    done = run(source, "train", model=model)
    assert done.arrays["layer.bias"].tolist() == [3, 3]
    assert done.result["metrics"] == {"loss": 0.25}


def test_bfloat16_is_refused_by_name(run):
    source = V1_MODULE.replace("OUT", "2").replace("EPOCHS", "1").replace("Y)", "x[:, 0] > 0)")
    source = source.replace("torch.nn.Linear(4, 2)", "torch.nn.Linear(4, 2, dtype=torch.bfloat16)")
    done = run(source, "initialize")
    assert done.code == 1
    assert "layer.weight: got bfloat16" in done.last_line
