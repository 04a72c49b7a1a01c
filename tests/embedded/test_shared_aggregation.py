"""Trees and shards from YAML: the model is that of one aggregation, bit for bit, whoever fails."""

from __future__ import annotations

import json

import pytest

CLIENTS = [f"client-{number:02d}" for number in range(11)]

# One client's program ends, one sends NaN at the end of the model: its own check has been taken out.
FAULTS = """if self.client.name == 'client-02':
            raise SystemExit(3)
        if self.client.name == 'client-07':
            import components.compress
            components.compress.check_update = lambda layout, arrays: None
            model['w'][2, 1] = np.nan"""


@pytest.fixture
def crowd(bench):
    """Eleven clients with data of different sizes, two of whom fail; two rounds."""
    for number, name in enumerate(CLIENTS):
        numbers = "\n".join(str(value * 0.37) for value in range(number + 1))
        (bench.folder / f"{name}.txt").write_text(numbers + "\n")
        spec = {"url": f"{name}.txt", "format": "txt", "nodeName": name}
        head = {"apiVersion": "sedna.io/v1alpha1", "kind": "Dataset"}
        bench.extra.append({**head, "metadata": {"name": name}, "spec": spec})
    template = bench.spec["trainingWorkers"][0]["template"]
    bench.spec["trainingWorkers"] = [
        {"dataset": {"name": name}, "template": template} for name in CLIENTS
    ]
    bench.spec |= {"rounds": 2, "algorithm": {"name": "fedadam"}}
    bench.spec["participation"]["minClients"] = 3
    script = bench.files["train.py"].replace("        pass\n", f"        {FAULTS}\n")
    assert FAULTS in script
    # Two tensors more, so that stretches of the model have borders.
    wide = '"v": np.zeros(70_000, np.float32), "n": np.zeros(0, np.float32), "w": rng'
    moved = "model['v'] = model['v'] + rng.normal(size=70_000).astype(np.float32)"
    bench.files["train.py"] = script.replace('"w": rng', wide).replace(
        "return fedloom.Update(", f"{moved}\n        return fedloom.Update("
    )
    return bench


# This one says another digest of its update than it has.
LIE = """import components.compress
        tell = components.compress.write_report
        def lie(request, place, report):
            if request.client == 'client-05':
                report['update']['digest'] = 'sha256:' + '0' * 64
            tell(request, place, report)
        components.compress.write_report = lie"""


def run(bench, state, **aggregation):
    """What must not depend on who shares the work."""
    bench.spec["aggregation"] = aggregation
    decision = bench.run(state, parallel=3)
    assert decision.phase == "Succeeded", decision.message
    clients = [
        {name: (client["state"], client["reason"]) for name, client in each["clients"].items()}
        for each in bench.rounds()
    ]
    return bench.finished["model"]["digest"], clients, bench.rounds()[-1]["metrics"]


def test_trees_and_shards_give_the_bits_of_one_aggregation(crowd, tmp_path):
    digest, clients, metrics = run(crowd, tmp_path / "flat")
    assert clients[0]["client-02"] == ("Failed", "ScriptFailed")
    assert clients[0]["client-07"] == ("Failed", "NotFinite")
    for name, shape in {
        "pairs": {"fanIn": 2},
        "fours": {"fanIn": 4},
        "shards": {"shards": 3},
    }.items():
        assert run(crowd, tmp_path / name, **shape) == (digest, clients, metrics)


def test_shards_that_agree_on_the_clients_are_put_together(crowd, tmp_path):
    crowd.files["train.py"] = crowd.files["train.py"].replace("'client-07'", "'nobody'")
    one = run(crowd, tmp_path / "flat")
    assert run(crowd, tmp_path / "shards", shards=3) == one
    assert run(crowd, tmp_path / "many", shards=40) == one


def test_shards_read_large_updates_in_ranges_and_share_the_checking_of_digests(crowd, tmp_path):
    # More than is held in memory of each of eleven.
    crowd.files["train.py"] = crowd.files["train.py"].replace("70_000", "420_000")
    crowd.spec["rounds"] = 1
    one = run(crowd, tmp_path / "flat")
    assert run(crowd, tmp_path / "shards", shards=3) == one
    crowd.files["train.py"] = crowd.files["train.py"].replace(
        f"        {FAULTS}", f"        {FAULTS}\n        {LIE}"
    )
    two = run(crowd, tmp_path / "flat-2")
    assert two[1][0]["client-05"] == ("Failed", "CorruptArtifact")
    assert run(crowd, tmp_path / "shards-2", shards=3) == two


def test_shards_of_a_rule_that_outvotes_give_the_bits_of_one_aggregation(crowd, tmp_path):
    one = run(crowd, tmp_path / "flat", rule="median")
    assert run(crowd, tmp_path / "shards", rule="median", shards=2) == one


def test_what_the_tasks_of_a_round_hand_on_is_dropped_with_its_updates(crowd, tmp_path):
    run(crowd, tmp_path / "state", fanIn=4)
    store = next((tmp_path / "state/artifacts/default").iterdir())
    names = sorted(path.name for path in (store / "round-0002").rglob("*") if path.is_file())
    assert names == ["model.safetensors", "plan.json", "result.json"]
    plan = json.loads((store / "round-0002/plan.json").read_text())
    assert [task["name"] for task in plan["tasks"] if task["step"] == "combine"] == [
        "combine-1-0000",
        "combine-1-0001",
        "combine-1-0002",
    ]


@pytest.mark.parametrize("shape", [{"fanIn": 4}, {"shards": 2}], ids=["tree", "shards"])
def test_too_few_clients_are_told_as_after_one_aggregation(crowd, tmp_path, shape):
    crowd.spec["participation"]["minClients"] = 10
    crowd.spec["aggregation"] = shape
    decision = crowd.run(tmp_path / "state", parallel=2)
    assert (decision.phase, decision.reason) == ("Failed", "TooFewClients")
    assert "client-02: ScriptFailed" in decision.message
    assert "client-07: NotFinite" in decision.message


@pytest.mark.parametrize("shape", [{"fanIn": 4}, {"shards": 2}], ids=["tree", "shards"])
def test_why_a_task_that_shares_the_work_failed_is_why_the_job_failed(crowd, tmp_path, shape):
    crowd.spec["aggregation"] = {**shape, "exclude": ["bn.*"]}
    decision = crowd.run(tmp_path / "state", parallel=2)
    assert (decision.phase, decision.reason) == ("Failed", "NothingExcluded")
    store = next((tmp_path / "state/artifacts/default").iterdir())
    attempt = json.loads((store / "round-0001/attempt-1.json").read_text())
    assert attempt["reason"] == "NothingExcluded"
