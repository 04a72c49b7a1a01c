"""FedProx, SCAFFOLD and L2-SP in whole jobs: what a direct program computes, also over failures."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from fedloom.artifacts.arrays import dump_arrays, load_arrays

RATE = 0.05
NUMBERS = {"a": [1, 2, 3], "b": [4, 5], "c": [10]}  # as the bench's clients have them
# Gradient descent on half the squared distance to the mean of the client's numbers, a step for each.
SCRIPT = """
import numpy as np
import fedloom

class Walk:
    def __init__(self, client):
        self.client = client
        self.numbers = np.loadtxt(client.dataset, ndmin=1).astype(np.float32)
        self.rate = np.float32(client.hyperparameters["learningRate"])

    @staticmethod
    def initialize(seed):
        return {
            "w": np.arange(6, dtype=np.float32).reshape(3, 2),
            "double": np.ones(2),
            "steps": np.array(0, np.int64),
        }

    def train(self, model, context):
        FAULT
        for _ in self.numbers:
            gradients = {name: model[name] - self.numbers.mean() for name in ("w", "double")}
            gradients = context.correct(gradients, model)
            for name, gradient in gradients.items():
                model[name] -= model[name].dtype.type(self.rate) * gradient
        model["steps"] = model["steps"] + len(self.numbers)
        return fedloom.Update(model, len(self.numbers), num_steps=len(self.numbers))

    def evaluate(self, model, context):
        return fedloom.Evaluation(1, {"error": float(np.abs(model["w"]).mean())})

fedloom.main(Walk)
"""
# The same as a program that knows nothing of this library.
PROGRAM = """
import json, os
import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

task, update, result = (os.environ.get("FEDLOOM_" + n) for n in ("TASK", "UPDATE", "RESULT"))
numbers = np.loadtxt(os.environ["TRAIN_DATASET_URL"], ndmin=1) if task != "initialize" else []
if task == "initialize":
    first = {"w": np.arange(6, dtype=np.float32).reshape(3, 2), "double": np.ones(2)}
    save_file({**first, "steps": np.array(0, np.int64)}, update)
elif task == "evaluate":
    json.dump({"num_examples": 1, "metrics": {}}, open(result, "w"))
else:
    model = load_file(os.environ["FEDLOOM_MODEL"])
    path = os.environ.get("FEDLOOM_CORRECTION")
    parts = load_file(path) if path else {}
    mu = float(safe_open(path, "np").metadata()["mu"]) if path else 0.0
    for _ in numbers:
        for name in ("w", "double"):
            gradient = model[name] - numbers.astype(np.float32).mean()
            if "offset/" + name in parts:
                gradient += parts["offset/" + name]
            if "anchor/" + name in parts:
                gradient += mu * (model[name] - parts["anchor/" + name])
            model[name] -= model[name].dtype.type(np.float32(os.environ["LEARNING_RATE"])) * gradient
    model["steps"] = np.array(model["steps"] + len(numbers))
    save_file(model, update)
    outcome = {"num_examples": len(numbers), "num_steps": len(numbers), "metrics": {}}
    json.dump(outcome | ANSWER, open(result, "w"))
"""


@pytest.fixture
def walk(bench):
    bench.files["train.py"] = SCRIPT.replace("FAULT", "pass")
    bench.spec["hyperparameters"] = {"learningRate": RATE}
    bench.spec.pop("evaluation")
    bench.spec["rounds"] = 4
    return bench


def break_in(bench, number, client="b"):
    fault = (
        f"if self.client.name == {client!r} and context.number == {number}: raise OSError('off')"
    )
    bench.files["train.py"] = SCRIPT.replace("FAULT", fault)


def edge_files(bench, client, kind):
    return sorted((bench.state / "edge" / client / "fedloom").glob(f"{kind}-*"))


def train_by_hand(x, client, offset=0.0, pulls=()):
    y, mean = x.copy(), np.mean(NUMBERS[client])
    for _ in NUMBERS[client]:
        y -= RATE * (y - mean + offset + sum(mu * (y - anchor) for mu, anchor in pulls))
    return y


def mean_of(ends, weights=None):
    weights = weights or {name: len(numbers) for name, numbers in NUMBERS.items()}
    return np.average(list(ends.values()), axis=0, weights=[weights[name] for name in ends])


def scaffold_by_hand(rounds, absent=(), weights=None):
    """Algorithm 1 of the paper, option II, for the value that starts at 0; c weighted as the model."""
    x, c, own = np.zeros(1), np.zeros(1), {name: np.zeros(1) for name in NUMBERS}
    for number in range(1, rounds + 1):
        present = [name for name in NUMBERS if (name, number) not in absent]
        ends = {name: train_by_hand(x, name, c - own[name]) for name in present}
        for name, y in ends.items():
            own[name] = own[name] - c + (x - y) / (len(NUMBERS[name]) * RATE)
        x, c = mean_of(ends, weights), mean_of(own, weights)
    return x, c, own


def test_fedprox_holds_the_clients_near_the_model_that_they_were_given(walk, read_model):
    mu = 1 / RATE - 1  # one step and every further one lead to (mean + mu * start) / (1 + mu)
    walk.spec["algorithm"] = {"name": "fedprox", "parameters": {"proximalMu": mu}}
    walk.spec["rounds"] = 1
    walk.run()
    first = np.arange(6, dtype=np.float32).reshape(3, 2)
    ends = [(np.mean(numbers) + mu * first) / (1 + mu) for numbers in NUMBERS.values()]
    expected = np.average(ends, axis=0, weights=[3, 2, 1])
    model = read_model(walk.finished)
    np.testing.assert_allclose(model["w"], expected, rtol=1e-5)
    np.testing.assert_array_equal(model["steps"], np.rint(np.average([3, 2, 1], weights=[3, 2, 1])))
    assert np.abs(expected - first).max() < 0.25


@pytest.mark.parametrize("codec", ["none", "int8"])
def test_a_scaffold_job_is_the_algorithm_of_the_paper_also_when_a_client_fails(
    walk, read_model, codec
):
    walk.spec["algorithm"] = {"name": "scaffold"}
    walk.spec["compression"] = {"uplink": {"codec": codec}}
    break_in(walk, 3)
    assert walk.run().phase == "Succeeded"
    states = [event["clients"]["b"]["state"] for event in walk.rounds()]
    assert states == ["Succeeded", "Succeeded", "Failed", "Succeeded"]
    x, c, own = scaffold_by_hand(4, absent={("b", 3)})
    model, state = read_model(walk.finished), last_variate(walk)
    tolerance = 1e-5 if codec == "none" else 2e-2
    np.testing.assert_allclose(model["w"][0, 0], x[0], rtol=tolerance)
    np.testing.assert_allclose(state["w"][0, 0], c[0], rtol=tolerance)
    for name in NUMBERS:
        kept, _ = load_arrays(edge_files(walk, name, "own")[-1])
        np.testing.assert_allclose(kept["control/w"][0, 0], own[name][0], rtol=tolerance)
    assert {name: str(array.dtype) for name, array in state.items()} == {
        "w": "float32",
        "double": "float64",
    }


@pytest.mark.parametrize("codec", ["none", "int4", "bf16"])
def test_server_and_clients_agree_on_the_mean_of_the_variates_through_any_codec(walk, codec):
    walk.spec["algorithm"] = {"name": "scaffold"}
    walk.spec["compression"] = {"uplink": {"codec": codec}}
    break_in(walk, 2)
    walk.run()
    state = last_variate(walk)
    kept = {name: load_arrays(edge_files(walk, name, "own")[-1])[0] for name in NUMBERS}
    for tensor, common in state.items():
        own = [kept[name][f"control/{tensor}"] for name in NUMBERS]
        np.testing.assert_allclose(
            common, np.average(own, axis=0, weights=[3, 2, 1]), rtol=1e-5, atol=1e-6
        )


def last_variate(bench):
    path = max(bench.state.glob("artifacts/default/*/state/control-variate-*.safetensors"))
    assert path.stem.endswith(f"-{bench.spec['rounds']:04d}")
    return load_arrays(path)[0]


def test_uniform_weights_give_the_variates_of_the_paper(walk):
    walk.spec["algorithm"] = {"name": "scaffold"}
    walk.spec["aggregation"] = {"weights": "uniform"}
    walk.run()
    _, c, _ = scaffold_by_hand(4, weights=dict.fromkeys(NUMBERS, 1))
    np.testing.assert_allclose(last_variate(walk)["w"][0, 0], c[0], rtol=1e-5)


def test_what_goes_up_and_down_beside_the_model_is_counted(walk):
    walk.spec["rounds"] = 2
    walk.run()
    plain = [event["clients"]["a"] for event in walk.rounds()]
    walk.spec["algorithm"] = {"name": "scaffold"}
    walk.run(walk.folder / "scaffold")
    with_variates = [event["clients"]["a"] for event in walk.rounds()]
    assert with_variates[0]["downlink_bytes"] == plain[0]["downlink_bytes"]
    path = next((walk.folder / "scaffold").glob("artifacts/*/*/state/control-variate-0001.*"))
    beside = with_variates[1]["downlink_bytes"] - plain[1]["downlink_bytes"]
    assert beside == path.stat().st_size
    assert all(
        w["uplink_bytes"] > p["uplink_bytes"] for w, p in zip(with_variates, plain, strict=True)
    )


def test_l2sp_holds_all_rounds_near_the_first_model_which_goes_down_once(walk, read_model):
    walk.spec["transfer"] = {"anchor": {"kind": "l2sp", "mu": 3.0}}
    walk.run()
    first = np.arange(6, dtype=np.float32).reshape(3, 2)
    x = first.copy()
    for _ in range(4):
        x = mean_of({name: train_by_hand(x, name, pulls=[(3, first)]) for name in NUMBERS})
    np.testing.assert_allclose(read_model(walk.finished)["w"], x, rtol=1e-5)
    down = [event["clients"]["a"]["downlink_bytes"] for event in walk.rounds()]
    assert len(set(down)) == 1
    assert len(edge_files(walk, "a", "anchor")) == 1


def test_l2sp_and_fedprox_pull_to_both(walk, read_model):
    walk.spec["transfer"] = {"anchor": {"kind": "l2sp", "mu": 2.0}}
    walk.spec["algorithm"] = {"name": "fedprox", "parameters": {"proximalMu": 1.0}}
    walk.spec["rounds"] = 2
    walk.run()
    first = np.arange(6, dtype=np.float32).reshape(3, 2)
    x = first.copy()
    for _ in range(2):
        pulls = [(2, first), (1, x)]
        x = mean_of({name: train_by_hand(x, name, pulls=pulls) for name in NUMBERS})
    np.testing.assert_allclose(read_model(walk.finished)["w"], x, rtol=1e-5)


JOBS = {
    "fedprox": {"algorithm": {"name": "fedprox"}},
    "scaffold": {"algorithm": {"name": "scaffold"}},
    "l2sp": {"transfer": {"anchor": {"mu": 0.5}}},
}


@pytest.mark.parametrize("job", JOBS)
def test_a_script_that_never_corrects_is_refused_and_told_what_to_call(walk, job):
    walk.spec |= JOBS[job]
    walk.spec["rounds"] = 1
    walk.files["train.py"] = walk.files["train.py"].replace(
        "gradients = context.correct(gradients, model)", "pass"
    )
    decision = walk.run()
    assert (decision.phase, decision.reason) == ("Failed", "TooFewClients")
    assert "CorrectionNotApplied" in decision.message
    assert "context.correct(gradients, model)" in decision.message


def test_a_pull_of_no_strength_asks_nothing_of_a_script(walk):
    walk.spec["algorithm"] = {"name": "fedprox", "parameters": {"proximalMu": 0.0}}
    walk.spec["rounds"] = 1
    walk.files["train.py"] = walk.files["train.py"].replace(
        "context.correct(gradients, model)", "gradients"
    )
    assert walk.run().phase == "Succeeded"


def as_program(bench, answer):
    bench.files["program.py"] = PROGRAM.replace("ANSWER", answer)
    for worker in bench.spec["trainingWorkers"]:
        worker["template"]["spec"]["containers"][0]["command"] = ["python", "program.py"]


@pytest.mark.parametrize(
    ("job", "rounds"),
    [(JOBS["fedprox"], 1), ({**JOBS["scaffold"], **JOBS["l2sp"]}, 2)],
    ids=["anchor", "anchor-and-offset"],
)
def test_a_program_of_any_language_applies_the_file_and_gives_the_bits_of_the_class(
    walk, job, rounds
):
    walk.spec |= {**job, "rounds": rounds}
    walk.run(walk.folder / "class")
    digest = walk.finished["model"]["digest"]
    as_program(walk, '{"corrected": True}')
    assert walk.run().phase == "Succeeded"
    assert walk.finished["model"]["digest"] == digest


def test_a_program_that_does_not_say_that_it_corrected_is_refused(walk):
    walk.spec |= {**JOBS["fedprox"], "rounds": 1}
    answers = {"a": {}, "b": {"corrected": False}, "c": {"corrected": "yes"}}
    as_program(walk, f"{answers}[os.environ['FEDLOOM_CLIENT']]")
    decision = walk.run()
    assert decision.message.count("CorrectionNotApplied") == 3
    assert 'says "corrected": true in FEDLOOM_RESULT' in decision.message


def test_what_a_client_lacks_for_scaffold_is_named(walk):
    walk.spec |= {**JOBS["scaffold"], "rounds": 1}
    walk.files["train.py"] = SCRIPT.replace("FAULT", "pass").replace(
        "return fedloom.Update(model, len(self.numbers), num_steps=len(self.numbers))",
        "steps = {'a': None, 'b': 0, 'c': 1}[self.client.name]\n"
        "        if self.client.name == 'c':\n"
        "            model['w'][:] = np.nan\n"
        "        return fedloom.Update(model, len(self.numbers), num_steps=steps)",
    )
    message = walk.run().message
    assert "a: NoSteps (num_steps: got None, expected the number of optimisation steps" in message
    assert "b: NoSteps (num_steps: got 0," in message
    assert "c: NotFinite (tensor 'w'" in message


def test_a_worker_s_own_learning_rate_counts_and_must_be_a_number(walk):
    walk.spec |= JOBS["scaffold"] | {"rounds": 1}
    container = walk.spec["trainingWorkers"][1]["template"]["spec"]["containers"][0]
    container["env"] = [{"name": "LEARNING_RATE", "value": "0.01"}]
    walk.run(walk.folder / "own-rate")
    clients = walk.folder / "own-rate/edge"
    (path,) = (clients / "b/fedloom").glob("own-*")
    # Plain descent: the first variate is the mean gradient, whatever the rate was.
    kept, y = load_arrays(path)[0]["control/w"][0, 0], 0.0
    gradients = []
    for _ in NUMBERS["b"]:
        gradients.append(y - 4.5)
        y -= 0.01 * gradients[-1]
    np.testing.assert_allclose(kept, np.mean(gradients), rtol=1e-5)

    container["env"] = [{"name": "LEARNING_RATE", "value": "-1"}]
    walk.run()
    failed = walk.rounds()[0]["clients"]["b"]
    assert failed["reason"] == "BadLearningRate"
    assert "-1" in failed["message"]


def test_a_client_whose_variate_is_gone_takes_no_further_part(walk):
    walk.spec |= JOBS["scaffold"] | {"rounds": 2}
    walk.run()
    for path in edge_files(walk, "b", "own"):
        path.unlink()
    (damaged,) = edge_files(walk, "c", "own")[-1:]
    damaged.write_bytes(damaged.read_bytes()[:-4] + b"\0\0\0\1")
    walk.spec["rounds"] = 3
    walk.spec["participation"]["minClients"] = 1
    assert walk.run().phase == "Succeeded"
    clients = walk.rounds()[0]["clients"]
    assert clients["b"]["reason"] == "EdgeStateLost"
    assert clients["c"]["reason"] == "EdgeStateDamaged"


def test_killed_in_every_round_a_scaffold_job_goes_on_to_the_same_bits(walk):
    walk.spec |= {**JOBS["scaffold"], **JOBS["l2sp"]}
    walk.spec["compression"] = {
        "uplink": {"codec": "int8", "errorFeedback": True, "lossless": "zstd"},
        "downlink": {"codec": "int8"},
    }
    walk.files["train.py"] = SCRIPT.replace("FAULT", "import time; time.sleep(0.05)")
    walk.run(walk.folder / "whole")
    expected = walk.finished["model"]["digest"]
    for number in (1, 2, 3):
        kill_after(walk, number)
    assert walk.run().phase == "Succeeded"
    assert walk.finished["model"]["digest"] == expected


def kill_after(bench, number):
    """Run the job as a user does, and kill it in the round after `number`."""
    command = [sys.executable, "-m", "cli.main", "run", "-f", bench.write(), "--state", bench.state]
    process = subprocess.Popen(
        [*command, "-o", "json", "--parallel", "2"], stdout=subprocess.PIPE, text=True
    )
    while json.loads(process.stdout.readline()).get("round", 0) < number:
        pass
    time.sleep(0.03)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=30)


def test_the_compress_command_asks_for_the_correction_too_and_keeps_the_variate(walk):
    walk.spec |= {**JOBS["scaffold"], "rounds": 1}
    walk.run()
    store = next(walk.state.glob("artifacts/default/*"))
    work = walk.folder / "work"
    work.mkdir()
    model, _ = load_arrays(store / "round-0000/model.safetensors")
    (work / "update.safetensors").write_bytes(dump_arrays({**model, "w": model["w"] + 1}))
    result = {"num_examples": 3, "num_steps": 3}
    printed = compress(store, work, result)
    assert (printed["state"], printed["reason"]) == ("Failed", "CorrectionNotApplied")
    printed = compress(store, work, {**result, "corrected": True})
    assert printed["state"] == "Succeeded", printed
    kept, _ = load_arrays(next((work / "edge/a/fedloom").glob("own-0001-*")))
    np.testing.assert_allclose(kept["control/w"], np.full((3, 2), -1 / (3 * RATE)), rtol=1e-5)


def compress(store, work, result):
    (work / "result.json").write_text(json.dumps(result))
    command = [sys.executable, "-I", "-m", "components.compress", "--client", "a"]
    plan = ["--plan", store / "round-0001/plan.json", "--store", store.as_uri()]
    found = subprocess.run(
        [*command, *plan, "--workdir", work], capture_output=True, text=True, check=False
    )
    return json.loads(found.stdout)
