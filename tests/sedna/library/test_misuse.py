"""Scripts that do something else than Sedna's: each ends with one line that says what, and exit code 1."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

V1 = Path(__file__).parent.parent / "scripts" / "v1_train.py"
HEAD = """
import numpy as np
from sedna.core.federated_learning import FederatedLearning

class Estimator:
    def __init__(self):
        self.w = [np.zeros((2, 2), np.float32)]
    def train(self, train_data, valid_data=None):
        self.w = [w + 1 for w in self.w]
        return {"loss": 0.5, "note": "text", "broken": float("nan")}
    def predict(self, x):
        return x
    def get_weights(self):
        return self.w
    def set_weights(self, weights):
        self.w = weights

data = [1, 2, 3]
"""
MODEL = {"0000": np.ones((2, 2), np.float32)}


def test_a_script_of_the_smallest_kind_trains(run):
    done = run(HEAD + "FederatedLearning(Estimator).train(data)", "train", model=MODEL)
    assert done.code == 0, done.output
    assert done.result == {"num_examples": 3, "metrics": {"loss": 0.5}}
    assert np.array_equal(done.arrays["0000"], MODEL["0000"] + 1)


@pytest.mark.parametrize("script", ["v1_train.py", "v1_aggregate.py", "v2_aggregate.py"])
def test_a_script_started_by_hand_is_told_how_to_run(run, script):
    done = run(V1.with_name(script), None)
    assert done.code == 1
    assert "FEDLOOM_TASK is not set" in done.last_line
    assert "fedloom run -f" in done.last_line
    assert "Traceback" not in done.output


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            "fl = FederatedLearning(Estimator)\nfl.train(data)\nfl.train(data)",
            "train() was called twice",
        ),
        ("fl = FederatedLearning(Estimator)", "ended without calling train()"),
        ("FederatedLearning(Estimator).inference(data)", "ended without calling train()"),
        ("FederatedLearning(Estimator).train([])", "the data holds no samples"),
        ("FederatedLearning(Estimator).train(3)", "the data got int, which has no length"),
        (
            "Estimator.get_weights = lambda self: None\nFederatedLearning(Estimator).train(data)",
            "get_weights gave None",
        ),
        (
            "Estimator.set_weights = lambda self, w: setattr(self, 'w', [np.ones((3, 2), np.float32)])\n"
            "FederatedLearning(Estimator).train(data)",
            "weights '0000' got the shape (3, 2), the global model has (2, 2)",
        ),
        (
            "Estimator.train = lambda self, train_data: self.w.append(np.ones(1))\n"
            "FederatedLearning(Estimator).train(data)",
            "got 2 arrays, the global model has 1",
        ),
        (
            "Estimator.__init__ = lambda self: setattr(self, 'w', [np.ones(5, np.float32)])\n"
            "FederatedLearning(Estimator).train(data)",
            "the global model of round 1: Estimator: weights '0000' got the shape (5,)",
        ),
        (
            "class Nothing: pass\nFederatedLearning(Nothing).train(data)",
            "Nothing: expected get_weights() and set_weights(list)",
        ),
        (
            "Estimator.get_weights = lambda self: ['a']\nFederatedLearning(Estimator).train(data)",
            "got dtype <U1, expected numbers",
        ),
        (
            "from sedna.service.server import AggregationServer\nAggregationServer('FedAvg').start()",
            "the task is 'train', which expects a script with FederatedLearning(...).train()",
        ),
    ],
    ids=[
        *(
            "twice",
            "never",
            "inference only",
            "no samples",
            "no length",
            "no weights",
            "shapes change",
        ),
        *("more arrays", "another model", "no estimator", "text", "an aggregating script"),
    ],
)
def test_what_cannot_be_handed_over_is_said(run, code, message):
    done = run(HEAD + code, "train", model=MODEL)
    assert done.code == 1
    assert done.last_line.startswith("sedna: ")
    assert message in done.last_line


def test_a_training_script_in_the_aggregation_worker_is_named(run):
    done = run(V1, "describe")
    assert done.code == 1
    assert "AggregationServer(...).start() in aggregationWorker" in done.last_line


def test_an_estimator_without_weights_before_training_is_named(run):
    code = "Estimator.get_weights = lambda self: None\nFederatedLearning(Estimator).train(data)"
    done = run(HEAD + code, "initialize")
    assert done.code == 1
    assert "the first model: Estimator: get_weights gave None" in done.last_line


def test_an_error_of_the_script_keeps_its_own_traceback_as_the_last_word(run):
    done = run(
        HEAD + "FederatedLearning(Estimator)\nraise RuntimeError('mine')", "train", model=MODEL
    )
    assert done.code == 1
    assert done.last_line == "RuntimeError: mine"


def test_weights_first_known_at_train_make_the_first_model_too(run):
    code = """
Estimator.__init__ = lambda self: None
fl = FederatedLearning(Estimator)
fl.estimator.estimator.w = [np.full((2, 2), 4, np.float32)]
fl.train(data)
"""
    assert run(HEAD + code, "initialize").arrays["0000"].tolist() == [[4, 4], [4, 4]]


def test_plain_lists_are_numbers_and_take_the_models_dtype(run):
    code = "Estimator.__init__ = lambda self: setattr(self, 'w', [[0, 1], 2])\n"
    code += "Estimator.train = lambda self, train_data: None\n"
    code += "Estimator.set_weights = lambda self, w: setattr(self, 'w', [a.tolist() for a in w])\n"
    code += "FederatedLearning(Estimator()).train(data)"
    first = run(HEAD + code, "initialize").arrays
    assert {name: (a.dtype.name, a.shape) for name, a in first.items()} == {
        "0000": ("float64", (2,)),
        "0001": ("float64", ()),
    }
    halves = {name: a.astype(np.float16) for name, a in first.items()}
    assert run(HEAD + code, "train", model=halves).arrays["0000"].dtype == np.float16


def test_an_evaluation_by_hand_is_the_rounds(run):
    code = "Estimator.evaluate = lambda self, data: [0.3, 0.9]\n"
    code += "fl = FederatedLearning(Estimator)\nfl.evaluate(data)\nfl.evaluate([1])"
    done = run(HEAD + code, "evaluate", model=MODEL)
    assert done.code == 0
    assert done.result == {"num_examples": 3, "metrics": {"metric_0": 0.3, "metric_1": 0.9}}


def test_inference_alone_counts_its_samples_in_an_evaluation(run):
    code = "print(FederatedLearning(Estimator).inference(data, post_process=sum))"
    done = run(HEAD + code, "evaluate", model=MODEL)
    assert done.code == 0
    assert done.result == {"num_examples": 3, "metrics": {}}
    assert "6" in done.output


def test_an_evaluation_without_a_way_to_evaluate_is_refused(run):
    done = run(HEAD + "FederatedLearning(Estimator).train(data)", "evaluate", model=MODEL)
    assert done.code == 1
    assert "has no method evaluate(data)" in done.last_line


def test_a_callback_gets_the_estimator(run):
    code = """
from sedna.common.class_factory import ClassFactory, ClassType
@ClassFactory.register(ClassType.CALLBACK, alias="show")
def show(estimator):
    return estimator.w[0].sum()
print("sum:", FederatedLearning(Estimator).train(data, post_process="show"))
"""
    assert "sum: 8.0" in run(HEAD + code, "train", model=MODEL).output


def test_data_loaders_of_a_script_may_end_before_it_trains(run):
    code = """
import multiprocessing
def work():
    FederatedLearning  # a child, which trains nothing
if __name__ == "__main__":
    fl = FederatedLearning(Estimator)
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join()
    print("child ended with", child.exitcode)
    fl.train(data)
"""
    done = run(HEAD + code, "train", model=MODEL)
    assert done.code == 0
    assert "child ended with 0" in done.output


def test_a_model_that_is_no_safetensors_file_is_named(run, tmp_path):
    (tmp_path / "broken").write_bytes(b"not a model")
    code = HEAD + "FederatedLearning(Estimator).train(data)"
    done = run(code, "train", FEDLOOM_MODEL=str(tmp_path / "broken"))
    assert done.code == 1
    assert "the global model of round 1" in done.last_line
