"""An old image trains for all its rounds through the aggregator, and the model is the mean by hand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fedloom.artifacts.arrays import load_arrays
from fedloom.errors import JobError

SCRIPT = Path(__file__).parents[1] / "scripts" / "websocket_client.py"


def run_program(aggregator, name, path, **variables):
    environment = {
        **os.environ,
        "AGG_IP": "127.0.0.1",
        "AGG_PORT": str(aggregator.port),
        "WORKER_NAME": f"trainworker-{name}",
        "TRAIN_DATASET_URL": str(path),
        **variables,
    }
    command = [sys.executable, str(SCRIPT)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def test_two_old_programs_train_three_rounds_to_the_mean_by_hand(serve, script, tmp_path):
    numbers = {"a": [1.0, 2.0, 3.0], "b": [10.0]}
    aggregator = serve("a", "b", inner_rounds=3)
    running = []
    for name, values in numbers.items():
        path = tmp_path / f"{name}.txt"
        path.write_text("\n".join(map(str, values)))
        running.append(run_program(aggregator, name, path))
    said = [process.communicate(timeout=30)[0] for process in running]
    found = aggregator.end()

    models = [script.Estimator(v, seed=f"trainworker-{n}") for n, v in numbers.items()]
    for _ in range(3):
        for model in models:
            model.train()
        mean = [
            (3 * one + 1 * other) / 4
            for one, other in zip(*(m.weights for m in models), strict=True)
        ]
        for model in models:
            model.weights = [tensor.astype(np.float32) for tensor in mean]
    stored, _ = load_arrays(aggregator.place.store.get(found.model.key))
    assert list(stored) == ["0000", "0001"]
    assert [tensor.dtype for tensor in stored.values()] == [np.float32, np.float32]
    for tensor, expected in zip(stored.values(), models[0].weights, strict=True):
        np.testing.assert_allclose(tensor, expected, rtol=1e-6)
    assert [process.returncode for process in running] == [0, 0]
    for text in said:
        weights = json.loads(text.splitlines()[-1].partition(": ")[2])
        for tensor, got in zip(stored.values(), weights, strict=True):
            np.testing.assert_array_equal(tensor, np.float32(got))

    assert found.failures == {}
    assert [each["inner"] for each in found.inner] == [1, 2, 3]
    assert found.reports["a"]["num_examples"] == 3
    assert found.reports["a"]["node"] == "edge-a"
    assert found.reports["a"]["uplink_bytes"] > 100
    assert found.inner[2]["model"]["digest"] == found.model.digest
    assert found.inner[0]["model"]["key"] == "round-0001/inner/1/0001/model.safetensors"


def test_everybody_hears_who_comes_and_everything_that_is_no_update(serve):
    aggregator = serve("a", "b")
    first, second = aggregator.client("a").subscribe(), aggregator.client("b")
    second.say({"type": "subscribe", "client_id": "trainworker-b"})
    assert first.hear() == {"type": "CLIENT_JOIN", "data": "trainworker-b"}
    assert first.hear() == {"type": "subscribe", "client_id": "trainworker-b"}
    assert second.hear() == {"type": "subscribe", "client_id": "trainworker-b"}
    first.say({"type": "hello", "data": [1]})
    assert first.hear() == second.hear() == {"type": "hello", "data": [1]}
    assert aggregator.get("/FedAvg") == {"clients": [{"client_id": "a"}, {"client_id": "b"}]}
    first.update([[1.0]], 1)
    second.update([[2.0]], 3)
    expected = {"total_sample": 4, "round_number": 1, "exit_flag": "ok", "weights": [[1.75]]}
    assert first.weights() == second.weights() == expected
    for client in (first, second):
        client.close()
    aggregator.end()


@pytest.mark.parametrize("path", ["/FedAvg", "/MyOwn", "/"])
def test_any_path_names_the_aggregation(serve, path):
    aggregator = serve("a")
    client = aggregator.client("a", path).subscribe()
    client.update([[1.0]])
    assert client.weights()["weights"] == [[1.0]]
    client.close()
    aggregator.end()


def test_a_round_closes_at_its_deadline_with_enough_updates_and_names_the_others(serve):
    aggregator = serve("a", "b", "c", min_clients=1, deadline_seconds=0.6)
    first, second = aggregator.client("a").subscribe(), aggregator.client("b").subscribe()
    first.update([[1.0]])
    assert first.weights()["weights"] == [[1.0]]
    for client in (first, second):
        client.close()
    found = aggregator.end()
    assert {name: why["reason"] for name, why in found.failures.items()} == {
        "b": "DeadlineExceeded",
        "c": "NeverConnected",
    }


def test_too_few_updates_at_the_deadline_end_the_attempt_and_say_why(serve):
    aggregator = serve("a", "b", deadline_seconds=0.5)
    client = aggregator.client("a").subscribe()
    client.update([[1.0]])
    with pytest.raises(
        JobError, match=r"inner round 1 needs 2 updates .* got 1\. b: NeverConnected"
    ):
        aggregator.end()
    assert set(aggregator.attempt.found.failures) == {"b"}


def test_a_client_that_comes_late_joins_the_next_round(serve):
    aggregator = serve("a", "b", min_clients=1, inner_rounds=2, deadline_seconds=0.5)
    early = aggregator.client("a").subscribe()
    early.update([[1.0]])
    assert early.weights()["exit_flag"] == "continue"
    late = aggregator.client("b").subscribe()
    late.update([[3.0]])
    early.update([[1.0]])
    assert late.weights() == early.weights()
    for client in (early, late):
        client.close()
    found = aggregator.end()
    assert [sorted(each["clients"]) for each in found.inner] == [["a"], ["a", "b"]]
    assert found.failures == {}


def test_a_client_that_reconnects_takes_part_again(serve):
    aggregator = serve("a", "b", inner_rounds=2)
    first, second = aggregator.client("a").subscribe(), aggregator.client("b").subscribe()
    first.update([[1.0]])
    second.update([[1.0]])
    first.weights()
    second.weights()
    second.close()  # in the middle of round 2
    first.update([[2.0]])
    again = aggregator.client("b").subscribe()
    again.update([[4.0]])
    assert again.weights()["weights"] == first.weights()["weights"] == [[3.0]]
    for client in (first, again):
        client.close()
    assert aggregator.end().failures == {}


def test_an_aggregator_that_is_started_again_goes_on_behind_its_last_round(serve):
    aggregator = serve("a", inner_rounds=3, deadline_seconds=0.6)
    client = aggregator.client("a").subscribe()
    client.update([[1.0]])
    client.weights()
    with pytest.raises(JobError):  # as if it was killed: round 2 has no update
        aggregator.end()
    again = serve("a", inner_rounds=3)
    client = again.client("a").subscribe()
    for expected in (2, 3):
        client.update([[float(expected)]])
        assert client.weights()["round_number"] == expected
    client.close()
    found = again.end()
    assert [each["inner"] for each in found.inner] == [1, 2, 3]
    # Everything is done: a third start has nothing to serve.
    third = serve("a", inner_rounds=3)
    assert third.end().model.digest == found.model.digest


def test_another_attempt_begins_at_the_first_round(serve):
    aggregator = serve("a", deadline_seconds=0.3)
    with pytest.raises(JobError):
        aggregator.end()
    second = serve("a", attempt=2)
    client = second.client("a").subscribe()
    client.update([[1.0]])
    assert client.weights()["round_number"] == 1
    client.close()
    assert second.end().inner[0]["model"]["key"].startswith("round-0001/inner/2/0001/")


def test_a_robust_rule_combines_whole_weights(serve):
    rule = {"rule": "median", "parameters": {}, "weights": "examples"}
    aggregator = serve("a", "b", "c", aggregation=rule)
    clients = [aggregator.client(name).subscribe() for name in "abc"]
    for client, value in zip(clients, (1.0, 2.0, 900.0), strict=True):
        client.update([[value]])
    assert clients[0].weights()["weights"] == [[2.0]]
    for client in clients:
        client.close()
    aggregator.end()
