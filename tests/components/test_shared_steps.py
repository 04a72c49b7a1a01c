"""The steps that share an aggregation, one by one: odd groups, and the same as commands."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components import aggregate, combine, shard
from components.aggregated import Aggregated
from components.request import Place, Request
from components.update_file import Encoding, write_update
from fedloom.api.learning import Aggregation
from fedloom.artifacts import layout
from fedloom.artifacts.arrays import dump_arrays
from fedloom.artifacts.local import LocalStore
from fedloom.errors import JobError
from pipelines.placement import Placement
from pipelines.plan import Plan, Task
from pipelines.shared_aggregation import shared
from pipelines.start import Start

CLIENTS = ("a", "b", "c", "d", "e")
SETTINGS = {
    "algorithm": "fedavgm",
    "parameters": {},
    "codec": "none",
    "codec_parameters": {},
    "min_clients": 1,
    "aggregation": {
        "rule": "mean",
        "parameters": {},
        "weights": "examples",
        "clip_norm": None,
        "clip_quantile": None,
        "exclude": ["own.*"],
    },
}
STEPS = {"combine": combine.run, "shard": shard.run, "aggregate": aggregate.run}


def model(fill: float = 0.0) -> dict[str, np.ndarray]:
    return {
        "own.mean": np.full(3, 7.0, np.float32),
        "w": np.full((2, 3), fill, np.float32),
        "wide": np.full(70_000, fill, np.float32),
        "half": np.full(5, fill, np.float16),
        "count": np.array(fill).astype(np.int64),
        "on": np.array([True, False]),
    }


class Server:
    """A store with a model and the updates of some clients, and a folder to work in."""

    def __init__(self, folder: Path, senders: str) -> None:
        self.store = LocalStore(folder / "store")
        work = folder / "work"
        work.mkdir(parents=True)
        self.place = Place(self.store, work, work, work, work, work)
        self.model = self.store.put("round-0000/model.safetensors", dump_arrays(model()))
        for client in senders:
            self.send(client)

    def send(self, client: str, **report: Any) -> None:
        rng = np.random.default_rng(ord(client))
        deltas = {
            "w": rng.normal(size=(2, 3)).astype(np.float32),
            "wide": rng.normal(size=70_000).astype(np.float32),
            "half": rng.normal(size=5).astype(np.float32),
            "count": np.array(float(ord(client))),
            "on": np.array([-1.0, 1.0]) * (client in "ab"),
        }
        keys = (1, client, 1)
        update = self.store.put(
            layout.update_key(*keys), write_update(deltas, Encoding("none", {}), rng)
        )
        told = {
            "client": client,
            "num_examples": 3 * ord(client),
            "num_steps": None,
            "metrics": {},
            "uplink_bytes": update.size_bytes,
            "update": {"key": update.key, "digest": update.digest},
            **report,
        }
        self.store.put(layout.report_key(*keys), json.dumps(told).encode())

    def plan(self, shape: Aggregation, **settings: Any) -> Plan:
        reports = {client: layout.report_key(1, client, 1) for client in CLIENTS}
        task = Task(
            name="aggregate",
            step="aggregate",
            group="server",
            client=None,
            depends=tuple(f"compress-{client}" for client in CLIENTS),
            may_fail=False,
            inputs={"model": {"key": self.model.key, "digest": self.model.digest}},
            outputs={
                "model": layout.model_key(1),
                "server-optimizer": layout.state_key("server-optimizer", 1),
            },
            settings={**SETTINGS, **settings, "reports": reports},
            placement=Placement("cloud"),
        )
        start = Start(1, 1, CLIENTS, 0.0, {})
        tasks = shared(task, shape, start)
        senders = [
            Task(name, "compress", name, None, (), True, {}, {}, {}, Placement("edge"))
            for name in task.depends
        ]
        job = {"namespace": "n", "name": "j", "uid": "u"}
        return Plan(job, 1, 1, 1, CLIENTS, (*senders, *tasks))

    def run(self, plan: Plan) -> Aggregated:
        document = plan.to_document()
        for task in document["tasks"]:
            if task["step"] in STEPS:
                found = STEPS[task["step"]](Request.of(document, task), self.place, {})
        return found


def outcome(found: Aggregated) -> Any:
    assert found.model is not None
    digests = {name: state.digest for name, state in found.states.items()}
    return found.model.digest, digests, sorted(found.reports), found.failures


@pytest.mark.parametrize("senders", ["abcde", "abe", "e", "bd", "cd"])
def test_whoever_is_missing_the_bits_are_those_of_one_aggregation(tmp_path, senders):
    flat = outcome((one := Server(tmp_path / "flat", senders)).run(one.plan(Aggregation())))
    shapes = {"pairs": Aggregation(fan_in=2), "fours": Aggregation(fan_in=4)}
    shapes |= {"shards": Aggregation(shards=2), "more": Aggregation(shards=9)}
    for name, shape in shapes.items():
        server = Server(tmp_path / name, senders)
        assert outcome(server.run(server.plan(shape))) == flat
        assert list(server.place.work.rglob("next-*")) == []


def test_excluded_tensors_are_carried_over_by_every_shape(tmp_path):
    from fedloom.artifacts.arrays import load_arrays

    for name, shape in {"tree": Aggregation(fan_in=2), "shards": Aggregation(shards=3)}.items():
        server = Server(tmp_path / name, "abcde")
        server.run(server.plan(shape))
        arrays, _ = load_arrays(server.store.get("round-0001/model.safetensors"))
        assert arrays["own.mean"].tolist() == [7, 7, 7]
        assert arrays["count"].dtype == np.int64
        state, _ = load_arrays(server.store.get("state/server-optimizer-0001.safetensors"))
        assert not any("own.mean" in slot for slot in state)


@pytest.mark.parametrize("shape", [Aggregation(fan_in=2), Aggregation(shards=2)], ids=str)
def test_no_update_at_all_gives_no_model_and_says_who_is_missing(tmp_path, shape):
    server = Server(tmp_path, "")
    found = server.run(server.plan(shape))
    assert found.model is None
    assert {why["reason"] for why in found.failures.values()} == {"NoUpdate"}
    assert sorted(found.failures) == list(CLIENTS)


@pytest.mark.parametrize("weights", ["examples", "uniform", "steps"])
def test_clients_count_alike_in_every_shape(tmp_path, weights):
    settings = {"aggregation": {**SETTINGS["aggregation"], "weights": weights}}
    digests = set()
    for name, shape in {"flat": Aggregation(), "tree": Aggregation(fan_in=2)}.items():
        server = Server(tmp_path / name, "ab")
        server.send("c", num_steps=4)
        server.send("d", num_steps=9)
        found = server.run(server.plan(shape, **settings))
        assert found.model is not None
        digests.add(found.model.digest)
        reasons = {client: why["reason"] for client, why in found.failures.items()}
        without = {"a": "NoSteps", "b": "NoSteps"} if weights == "steps" else {}
        assert reasons == {"e": "NoUpdate", **without}
    assert len(digests) == 1


def test_fednova_divides_by_steps_in_every_shape(tmp_path):
    digests = set()
    for name, shape in {"flat": Aggregation(), "tree": Aggregation(fan_in=2)}.items():
        server = Server(tmp_path / name, "")
        for client in "abce":
            server.send(client, num_steps=ord(client) - 90)
        found = server.run(server.plan(shape, algorithm="fednova"))
        assert found.model is not None
        digests.add(found.model.digest)
    assert len(digests) == 1


@pytest.mark.parametrize(
    "claimed",
    [10**400, 2**49, -1, 2.5, "many"],
    ids=["huge", "large", "negative", "fraction", "text"],
)
def test_a_client_that_claims_an_absurd_number_of_examples_is_dropped_by_name(tmp_path, claimed):
    for name, shape in {"flat": Aggregation(), "tree": Aggregation(fan_in=2)}.items():
        server = Server(tmp_path / name, "abc")
        server.send("d", num_examples=claimed)
        found = server.run(server.plan(shape))
        assert found.model is not None
        assert found.failures["d"]["reason"] == "BadResult"
        assert "num_examples" in found.failures["d"]["message"]


def test_a_sum_that_changed_on_its_way_is_not_taken(tmp_path):
    server = Server(tmp_path, "abcde")
    plan = server.plan(Aggregation(fan_in=4))
    document = plan.to_document()
    for task in document["tasks"]:
        if task["step"] == "combine":
            combine.run(Request.of(document, task), server.place, {})
    key = layout.part_key(1, 1, "combine-1-0000", "model.safetensors")
    server.store.put(key, b"other bytes", replace=True)
    with pytest.raises(JobError) as caught:
        aggregate.run(Request.of(document, document["tasks"][-1]), server.place, {})
    assert caught.value.reason == "CorruptArtifact"


def test_tasks_of_a_step_run_as_commands_by_name(tmp_path):
    server, other = Server(tmp_path / "one", "abcde"), Server(tmp_path / "other", "abcde")
    plan = server.plan(Aggregation(fan_in=4))
    expected = server.run(plan)
    (tmp_path / "plan.json").write_bytes(plan.to_json())

    def step(name: str, *more: str) -> tuple[int, dict[str, Any]]:
        command = [
            sys.executable,
            "-I",
            "-m",
            f"components.{name}",
            "--plan",
            tmp_path / "plan.json",
        ]
        where = ["--store", other.store.uri, "--workdir", tmp_path / "commands"]
        found = subprocess.run(
            [*command, *where, *more], capture_output=True, text=True, check=False
        )
        assert "Traceback" not in found.stderr
        return found.returncode, json.loads(found.stdout)

    code, printed = step("combine")
    assert (code, printed["reason"]) == (1, "NoSuchTask")
    assert "combine-1-0000, combine-1-0001" in printed["message"]
    for name in ("combine-1-0000", "combine-1-0001"):
        code, printed = step("combine", "--task", name)
        assert (code, printed["state"]) == (0, "Succeeded")
    code, printed = step("aggregate")
    assert code == 0
    assert expected.model is not None
    assert printed["model"]["digest"] == expected.model.digest
