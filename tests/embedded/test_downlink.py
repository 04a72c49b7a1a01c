"""Models go down as changes, from a job's YAML alone: fewer bytes, near models, same bits, honest counts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from controller.embedded.run import Order, run_embedded
from fedloom.api.documents import read_documents
from fedloom.api.validation import job_to_run
from fedloom.artifacts.arrays import load_arrays

CLIENTS = ("a", "b", "c", "d", "e")
ROUNDS = 6
WAYS_DOWN = {
    "int8": {"codec": "int8"},
    "int8-zstd": {"codec": "int8", "lossless": "zstd"},
    "zstd": {"codec": "none", "lossless": "zstd"},
    "topk": {"codec": "topk", "fraction": 0.05},
    "stc": {"codec": "stc", "fraction": 0.02},
    "sign": {"codec": "sign"},
    "lowrank": {"codec": "lowrank"},
}


@pytest.fixture
def many(bench):
    """Five clients, of which two take part in a round, and a model that is worth compressing."""
    bench.files["train.py"] = bench.files["train.py"].replace("(3, 2)", "(60, 50)")
    worker = bench.spec["trainingWorkers"][0]
    workers = [{**worker, "dataset": {"name": name}} for name in CLIENTS]
    bench.spec |= {"rounds": ROUNDS, "trainingWorkers": json.loads(json.dumps(workers))}
    bench.spec["participation"] |= {"clientsPerRound": 2, "minClients": 2}
    for name in ("d", "e"):
        (bench.folder / f"{name}.txt").write_text("6\n7\n")
        spec = {"url": f"{name}.txt", "format": "txt", "nodeName": name}
        head = {"apiVersion": "sedna.io/v1alpha1", "kind": "Dataset", "metadata": {"name": name}}
        bench.extra.append({**head, "spec": spec})
    return bench


def compress(bench, down: dict[str, Any], up: dict[str, Any] | None = None) -> None:
    bench.spec["compression"] = {"downlink": down, **({"uplink": up} if up else {})}


def results_of(state: Path) -> list[dict[str, Any]]:
    paths = sorted(state.glob("artifacts/default/*/round-*/result.json"))
    return [json.loads(path.read_bytes()) for path in paths]


def interrupt(bench, state: Path, number: int) -> None:
    """Run the job until a round is committed and stop it there, as Ctrl-C does."""
    documents = read_documents([bench.write()])
    order = Order(documents, job_to_run(documents), state, parallel=2, is_tracked=False)

    def stop(event: dict[str, Any]) -> None:
        if event.get("round") == number:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_embedded(order, stop)


@pytest.mark.parametrize("down", WAYS_DOWN.values(), ids=WAYS_DOWN.keys())
def test_a_stopped_job_goes_on_to_the_same_bits_with_fewer_bytes(many, tmp_path, down):
    compress(many, down)
    assert many.run(tmp_path / "whole").phase == "Succeeded"
    expected = many.finished["model"]["digest"]
    results = results_of(tmp_path / "whole")
    plain = sum(2 * result["model"]["size_bytes"] for result in results[1:])
    received = sum(result["traffic"]["downlink_bytes"] for result in results)
    assert received < 0.95 * plain
    interrupt(many, tmp_path / "stopped", 3)
    many.run(tmp_path / "stopped")
    assert many.finished["model"]["digest"] == expected
    again = [result["traffic"] for result in results_of(tmp_path / "stopped")]
    assert again[:4] == [result["traffic"] for result in results[:4]]


def test_every_byte_down_is_one_of_an_object_in_the_store(many):
    """A client fetches the changes since it was last there, or the model where that is less."""
    compress(many, {"codec": "topk", "fraction": 0.05})
    many.run()
    results = results_of(many.state)
    sizes = {
        number: each["state"]["model-delta"]["size_bytes"] for number, each in enumerate(results)
    }
    (store,) = (many.state / "artifacts/default").iterdir()
    for number, size in sizes.items():
        assert size == (store / f"round-{number:04d}/model-delta.safetensors").stat().st_size
    held: dict[str, int] = {}
    caught_up = 0
    for result in results[1:]:
        number = result["round"] - 1
        for name, client in result["clients"].items():
            missed = range(held.get(name, -1) + 1, number + 1)
            changes = sum(sizes[each] for each in missed)
            model = results[number]["state"]["broadcast"]["size_bytes"]
            assert client["downlink_bytes"] == min(changes, model)
            caught_up += name in held and len(missed) > 1
            held[name] = number
        down = sum(client["downlink_bytes"] for client in result["clients"].values())
        assert result["traffic"]["downlink_bytes"] == down
    assert caught_up, "no client was away for a round: the test shows nothing"
    assert many.rounds()[-1]["traffic"] == results[-1]["traffic"]


def test_clients_train_from_what_they_hold_and_the_model_stays_the_server_s_own(many):
    compress(many, {"codec": "int8"})
    many.run()
    (store,) = (many.state / "artifacts/default").iterdir()
    for result in results_of(many.state)[1:]:
        model = load_arrays(store / result["model"]["key"])[0]
        held = load_arrays(store / result["state"]["broadcast"]["key"])[0]
        assert result["model"]["digest"] != result["state"]["broadcast"]["digest"]
        assert held["steps"] == model["steps"]
        assert 0 < np.abs(held["w"] - model["w"]).max() < 0.1
    assert many.finished["model"]["digest"] == result["model"]["digest"]


def test_the_way_down_does_not_change_a_model_that_is_smaller_than_a_change(bench):
    bench.run(bench.folder / "plain")
    expected = [event["model"]["digest"] for event in bench.rounds()]
    compress(bench, {"codec": "int8"})
    bench.run()
    assert [event["model"]["digest"] for event in bench.rounds()] == expected
    size = results_of(bench.state)[0]["model"]["size_bytes"]
    for event in bench.rounds():
        assert event["traffic"]["downlink_bytes"] == 3 * size


def test_a_job_without_it_keeps_no_model_on_the_edge(bench):
    bench.run()
    assert not list(bench.state.glob("edge/*/fedloom"))
    assert all("broadcast" not in result["state"] for result in results_of(bench.state))


@pytest.mark.parametrize("name", ["state/broadcast-0006", "round-0006/model-delta"])
@pytest.mark.parametrize("damage", [b"", None])
def test_a_round_whose_broadcast_was_damaged_is_run_again(many, name, damage):
    compress(many, {"codec": "stc"})
    many.run()
    digest = many.finished["model"]["digest"]
    path = next(many.state.glob(f"artifacts/default/*/{name}.safetensors"))
    path.unlink()
    if damage is not None:
        path.write_bytes(damage)
    many.run()
    assert [event["round"] for event in many.rounds()] == [ROUNDS]
    assert many.finished["model"]["digest"] == digest


def test_damaged_caches_cost_bytes_and_change_no_bits(many, tmp_path):
    compress(many, {"codec": "stc", "fraction": 0.02})
    many.run(tmp_path / "whole")
    expected = many.finished["model"]["digest"]
    interrupt(many, tmp_path / "stopped", 2)
    for path in (tmp_path / "stopped").glob("edge/*/fedloom/model-*"):
        path.write_bytes(path.read_bytes()[:-1])
    many.run(tmp_path / "stopped")
    assert many.finished["model"]["digest"] == expected
    said = [c.get("message") for event in many.rounds() for c in event["clients"].values()]
    assert any("all of it was fetched" in message for message in said if message)


def test_an_attempt_that_failed_costs_no_second_model(many):
    compress(many, {"codec": "int8"})
    many.spec["participation"] |= {"clientsPerRound": 5, "minClients": 5, "retries": 1}
    many.break_client(
        "b",
        "flag = self.client.dataset + '.failed'\n"
        "import os\n"
        "if context.number == 2 and not os.path.exists(flag):\n"
        "    open(flag, 'w').close()\n"
        "    raise RuntimeError('no battery')",
    )
    many.files["train.py"] = many.files["train.py"].replace("(3, 2)", "(60, 50)")
    assert many.run().phase == "Succeeded"
    second = results_of(many.state)[2]
    assert second["attempt"] == 2
    assert second["traffic"]["downlink_bytes"] == 0, (
        "everybody held the model since the first attempt"
    )


def test_a_program_gets_the_model_that_its_node_holds(many):
    many.files["program.py"] = (
        "import json, os\n"
        "from fedloom.artifacts.arrays import dump_arrays, load_arrays\n"
        "model = load_arrays(os.environ['FEDLOOM_MODEL'])[0]\n"
        "model['w'] += 0.1 * int(os.environ['FEDLOOM_ROUND'])\n"
        "open(os.environ['FEDLOOM_UPDATE'], 'wb').write(dump_arrays(model))\n"
        "json.dump({'num_examples': 3}, open(os.environ['FEDLOOM_RESULT'], 'w'))\n"
    )
    container = many.spec["trainingWorkers"][1]["template"]["spec"]["containers"][0]
    container["command"] = ["python", "program.py"]
    compress(many, {"codec": "int8"}, {"codec": "stc"})
    many.spec["participation"] |= {"clientsPerRound": 5, "minClients": 5}
    assert many.run().phase == "Succeeded"
    assert len({event["clients"]["b"]["downlink_bytes"] for event in many.rounds()[1:]}) == 1
