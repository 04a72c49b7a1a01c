"""Aggregating scripts: what they want is written down, and their own aggregations combine a round."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

SCRIPTS = Path(__file__).parent.parent / "scripts"
CUSTOM = SCRIPTS / "v1_custom_aggregate.py"
MODEL = {"0000": np.ones((2, 2), np.float32), "0001": np.zeros(3, np.float32)}


def _update(value: float) -> dict[str, np.ndarray]:
    return {name: np.full_like(array, value) for name, array in MODEL.items()}


UPDATES = [("a", 10, _update(1.0)), ("b", 30, _update(2.0)), ("c", 60, _update(9.0))]


@pytest.mark.parametrize(
    ("script", "variables", "expected"),
    [
        (
            "v1_aggregate.py",
            {"exit_round": "5"},
            {"algorithm": "fedavg", "aggregation": None, "rounds": 5, "participants": 2},
        ),
        (
            "v1_aggregate.py",
            {"aggregation_algorithm": "fedprox", "EXIT_ROUND": "4"},
            {"algorithm": "fedprox", "aggregation": None, "rounds": 4, "participants": 2},
        ),
        (
            "v1_custom_aggregate.py",
            {},
            {"aggregation": "MiddleAggregation", "rounds": 2, "participants": 2},
        ),
        (
            "v2_aggregate.py",
            {"TRANSMITTER": "s3", "exit_round": "7"},
            {"algorithm": "fedavg", "aggregation": None, "rounds": 7, "participants": 2},
        ),
    ],
    ids=["v1", "v1 by name", "v1 custom", "v2"],
)
def test_a_script_says_what_it_wants(run, script, variables, expected):
    done = run(SCRIPTS / script, "describe", **variables)
    assert done.code == 0, done.output
    assert done.result == expected
    assert done.left == ["result.json"]


def test_what_a_script_does_not_say_is_absent(run):
    script = (
        "from sedna.service.server import AggregationServer\n"
        "AggregationServer('FedAvg').start()\nprint('never reached')"
    )
    done = run(script, "describe")
    assert done.result == {"algorithm": "fedavg", "aggregation": None}
    assert "never reached" not in done.output


def test_mistnet_is_described_by_its_name(run):
    script = (
        "from sedna.service.server import AggregationServerV2\n"
        "from sedna.algorithms.aggregation import MistNet\n"
        "AggregationServerV2(aggregation=MistNet(cut_layer='4', epsilon='100')).start()"
    )
    assert run(script, "describe").result == {"algorithm": "mistnet", "aggregation": None}


def test_a_registered_aggregation_combines_a_round(run):
    done = run(CUSTOM, "aggregate", model=MODEL, updates=UPDATES)
    assert done.code == 0, done.output
    assert done.result == {"metrics": {}}
    for name, array in done.arrays.items():
        assert array.dtype == np.float32
        assert np.array_equal(array, UPDATES[1][2][name])  # the median


def test_fedavg_of_the_library_weights_by_samples(run):
    done = run(SCRIPTS / "v1_aggregate.py", "aggregate", model=MODEL, updates=UPDATES)
    assert np.allclose(done.arrays["0001"], 0.1 * 1 + 0.3 * 2 + 0.6 * 9)


def test_an_aggregation_knows_the_model_that_the_clients_started_from(run):
    script = CUSTOM.read_text().replace(
        "self.weights = [",
        "assert self.weights[0].sum() == 4 and self.total_size == 100\n        self.weights = [",
    )
    assert run(script, "aggregate", model=MODEL, updates=UPDATES).code == 0


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return None", "gave NoneType, expected a list of 2 arrays"),
        ("return clients[0].weights[:1]", "gave 1 arrays, expected 2"),
        ("return [[1.0], [2.0]]", r"array 0 got (1,) of float64, expected (2, 2) of float32"),
        ("return [[[1], [2, 3]], [0, 0, 0]]", "array 0 got rows of different lengths"),
        ("return [[['a'] * 2] * 2, [0, 0, 0]]", "of <U1, expected"),
    ],
    ids=["nothing", "too few", "another shape", "ragged", "text"],
)
def test_what_an_aggregation_gives_is_checked(run, body, message):
    script = CUSTOM.read_text().replace("assert all", f"{body}\n        assert all")
    done = run(script, "aggregate", model=MODEL, updates=UPDATES)
    assert done.code == 1
    assert "MiddleAggregation.aggregate(clients)" in done.last_line
    assert message in done.last_line
    assert done.left == []


def test_a_name_that_is_no_class_cannot_aggregate(run):
    done = run(
        SCRIPTS / "v1_aggregate.py",
        "aggregate",
        model=MODEL,
        updates=UPDATES,
        aggregation_algorithm="fedprox",
    )
    assert done.code == 1
    assert "'fedprox' is no class of this script" in done.last_line


def test_a_broken_update_is_named(run):
    updates = [("a", 10, _update(1.0)), ("b", 10, {"0000": MODEL["0000"]})]
    done = run(CUSTOM, "aggregate", model=MODEL, updates=updates)
    assert done.code == 1
    assert "cannot be read" in done.last_line


def test_rounds_that_are_no_number_are_refused(run):
    script = (
        "from sedna.service.server import AggregationServer\n"
        "AggregationServer('FedAvg', exit_round='many').start()"
    )
    done = run(script, "describe")
    assert done.code == 1
    assert "rounds: got 'many', expected a whole number" in done.last_line
