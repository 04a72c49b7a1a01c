"""Every server optimizer in whole jobs: its state is carried from round to round, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

from fedloom.algorithms.optimizers.registry import server_optimizer
from fedloom.artifacts.arrays import load_arrays

NAMES = ["fedavgm", "fedadam", "fedyogi", "fedadagrad"]
# Every client moves every value by the same: what comes out is the optimizer's doing alone.
SCRIPT = """
import numpy as np
import fedloom

class Push:
    def __init__(self, client):
        pass

    @staticmethod
    def initialize(seed):
        return {
            "half": np.zeros(4, np.float16),
            "single": np.zeros((3, 2), np.float32),
            "double": np.zeros((2, 1)),
            "none": np.zeros((0, 3), np.float32),
            "steps": np.array(0, np.int64),
        }

    def train(self, model, context):
        for name in ("half", "single", "double"):
            model[name] = model[name] + model[name].dtype.type(0.5)
        model["steps"] = model["steps"] + 2
        return fedloom.Update(model, num_examples=1)

    def evaluate(self, model, context):
        return fedloom.Evaluation(num_examples=1, metrics={"zero": 0.0})

fedloom.main(Push)
"""


@pytest.mark.parametrize("name", NAMES)
def test_a_job_in_two_runs_gives_the_bits_of_one_run(bench, tmp_path, name):
    bench.spec["algorithm"] = {"name": name}
    bench.spec["rounds"] = 2
    bench.run()
    bench.spec["rounds"] = 5
    bench.run()
    assert [event["round"] for event in bench.rounds()] == [3, 4, 5]
    resumed = bench.finished["model"]["digest"]
    bench.run(tmp_path / "at-once", parallel=1)
    assert [event["round"] for event in bench.rounds()] == [1, 2, 3, 4, 5]
    assert bench.finished["model"]["digest"] == resumed


@pytest.mark.parametrize("name", NAMES)
def test_floats_of_every_width_go_through_the_optimizer_and_counters_are_averaged(
    bench, read_model, name
):
    bench.spec["algorithm"] = {"name": name, "parameters": {"serverLearningRate": 0.25}}
    bench.files["train.py"] = SCRIPT
    bench.run()
    model, state = read_model(bench.finished), last_state(bench)
    value, slots = three_rounds(name)
    for tensor, dtype, kept_as, tolerance in [
        ("half", np.float16, np.float32, 2e-3),
        ("single", np.float32, np.float32, 1e-6),
        ("double", np.float64, np.float64, 1e-12),
    ]:
        assert model[tensor].dtype == dtype
        np.testing.assert_allclose(model[tensor], value, rtol=tolerance)
        for slot, expected in slots.items():
            kept = state[f"{slot}/{tensor}"]
            assert (kept.dtype, kept.shape) == (kept_as, model[tensor].shape)
            np.testing.assert_allclose(kept, expected, rtol=tolerance)
    assert model["steps"] == 6
    assert {key.split("/")[1] for key in state} == {"half", "single", "double", "none"}


def three_rounds(name: str) -> tuple[float, dict[str, float]]:
    """The value of an element, and of its slots, that is moved by 0.5 three times from 0."""
    optimizer = server_optimizer(name, {"serverLearningRate": 0.25})
    model = np.zeros(1)
    slots = {slot: np.full(1, value) for slot, value in optimizer.slots.items()}
    for number in (1, 2, 3):
        model, slots = optimizer.apply(model, np.full(1, 0.5), slots, number)
    return model[0], {slot: values[0] for slot, values in slots.items()}


def last_state(bench) -> dict[str, np.ndarray]:
    path = max(bench.state.glob("artifacts/default/*/state/server-optimizer-*.safetensors"))
    assert path.stem.endswith("-0003")
    return load_arrays(path)[0]
