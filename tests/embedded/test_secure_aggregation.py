"""A secure job from its YAML: the server sees the sum alone, and the rest goes on as in any other job."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedloom.algorithms.layout import layout_of
from fedloom.algorithms.privacy.integer_grid import GridLayout, GridRule, fit_update
from fedloom.algorithms.sampling import derive_seed
from fedloom.artifacts.arrays import load_arrays

LARGEST = 20.0
NAMES = ("a", "b", "c", "d")
# What each client hands over, and what lies in its node's secrets while it trains.
SPY = """
from pathlib import Path
        self.spied = Path(self.client.dataset).parent / 'spied'
        self.spied.mkdir(exist_ok=True)
        name = f'{self.client.name}.json'
        secrets = Path(self.client.state).parent.parent / '.secrets' / name
        (self.spied / f'keys-{context.number}-{name}').write_bytes(secrets.read_bytes())
"""
HANDED_OVER = """        np.savez(self.spied / f'{self.client.name}-{context.number}.npz', **model)
        return fedloom.Update(model, num_examples=len(self.numbers)"""


@pytest.fixture
def secure_bench(bench):
    """Four clients, three of whom are enough."""
    (bench.folder / "d.txt").write_text("7\n8\n")
    worker = json.loads(json.dumps(bench.spec["trainingWorkers"][0]))
    worker["dataset"]["name"] = "d"
    bench.spec["trainingWorkers"].append(worker)
    dataset = {"url": "d.txt", "format": "txt", "nodeName": "d"}
    kind = {"apiVersion": "sedna.io/v1alpha1", "kind": "Dataset"}
    bench.extra.append({**kind, "metadata": {"name": "d"}, "spec": dataset})
    bench.spec["participation"]["minClients"] = 3
    bench.spec["privacy"] = {"secureAggregation": True, "maxValue": LARGEST}
    return bench


def spy_on(bench) -> None:
    text = bench.files["train.py"]
    bench.files["train.py"] = text.replace(
        "        rng = np.random.default_rng(context.seed)\n",
        f"        {SPY.strip()}\n        rng = np.random.default_rng(context.seed)\n",
    ).replace("        return fedloom.Update(model, num_examples=len(self.numbers)", HANDED_OVER)


def mean_of_rounded(
    bench, codec: str, number: int, before: dict[str, Any], names=NAMES
) -> dict[str, Any]:
    """The model after a round, from what the clients handed over and the job's own seeds."""
    grid = GridLayout(layout_of(before), GridRule(codec, LARGEST, len(NAMES)))
    total = {ring: np.zeros(size, ring) for ring, size in grid.sizes.items()}
    for name in names:
        given = np.load(bench.folder / f"spied/{name}-{number}.npz")
        deltas = {
            "w": given["w"] - before["w"],
            "steps": given["steps"].astype(np.float64) - before["steps"],
        }
        seed = derive_seed("compress", "pull", 5, number, name) & (2**31 - 1)
        rng = np.random.Generator(np.random.PCG64(seed))
        for ring, array in fit_update(deltas, grid, None, False, rng).arrays.items():
            total[ring] += array
    model = {}
    for name, segment in grid.segments.items():
        sums = total[segment.grid.ring][segment.start : segment.start + segment.size]
        mean = segment.grid.mean(sums, len(names)).reshape(before[name].shape)
        is_float = before[name].dtype.kind == "f"
        model[name] = (
            before[name] + mean.astype(np.float32)
            if is_float
            else np.rint(before[name] + mean).astype(np.int64)
        )
    return model


@pytest.mark.parametrize("codec", ["none", "int8"])
def test_the_model_is_the_plain_mean_on_the_grid(secure_bench, read_model, codec):
    secure_bench.spec["compression"] = {"uplink": {"codec": codec}}
    spy_on(secure_bench)
    assert secure_bench.run().phase == "Succeeded"
    store = next((secure_bench.state / "artifacts/default").iterdir())
    model = load_arrays(store / "round-0000/model.safetensors")[0]
    for event in secure_bench.rounds():
        model = mean_of_rounded(secure_bench, codec, event["round"], model)
        found = read_model(event)
        assert found["steps"] == model["steps"]
        assert np.array_equal(found["w"], model["w"])
    result = json.loads((store / "round-0001/result.json").read_bytes())
    assert result["privacy"]["secure_aggregation"] == {
        "clients": 4,
        "threshold": 3,
        "wrong_answers": {},
        "cut_values": 0,
        "shortened_updates": 0,
    }


def test_a_client_that_fails_is_left_out_and_the_sum_is_that_of_the_others(
    secure_bench, read_model
):
    secure_bench.break_client("b", "raise RuntimeError('no battery')")
    spy_on(secure_bench)
    secure_bench.spec["rounds"] = 2
    assert secure_bench.run().phase == "Succeeded"
    store = next((secure_bench.state / "artifacts/default").iterdir())
    model = load_arrays(store / "round-0000/model.safetensors")[0]
    for event in secure_bench.rounds():
        assert event["clients"]["b"]["reason"] == "ScriptFailed"
        model = mean_of_rounded(secure_bench, "none", event["round"], model, "acd")
        assert np.array_equal(read_model(event)["w"], model["w"])


def test_a_client_that_is_killed_is_left_out(secure_bench):
    secure_bench.break_client("c", "import os; os.kill(os.getpid(), 9)")
    secure_bench.spec["rounds"] = 1
    assert secure_bench.run(parallel=4).phase == "Succeeded"
    clients = secure_bench.rounds()[0]["clients"]
    assert clients["c"]["reason"] == "WorkerDied"
    assert [clients[name]["state"] for name in "abd"] == ["Succeeded"] * 3


def test_a_client_that_cannot_answer_is_tolerated_and_counts(secure_bench):
    """When `b` trains, on the only worker, `a` has sent its update: it loses its secrets then."""
    secure_bench.break_client(
        "b",
        "from pathlib import Path\n"
        "(Path(self.client.state).parent.parent / '.secrets/a.json').unlink()",
    )
    secure_bench.spec["rounds"] = 1
    assert secure_bench.run(parallel=1).phase == "Succeeded"
    assert secure_bench.rounds()[0]["clients"]["a"]["state"] == "Succeeded"
    store = next((secure_bench.state / "artifacts/default").iterdir())
    privacy = json.loads((store / "round-0001/result.json").read_bytes())["privacy"]
    assert privacy["secure_aggregation"]["wrong_answers"] == {"a": "no answer arrived"}


def test_too_few_clients_fail_the_attempt_which_is_tried_again_with_new_keys(secure_bench):
    secure_bench.spec["participation"]["retries"] = 1
    secure_bench.spec["rounds"] = 1
    fault = "mark = Path(self.client.dataset).with_suffix('.seen')\nif not mark.exists():\n"
    fault += "    mark.write_text('')\n    raise RuntimeError('first time')"
    secure_bench.break_client("a", f"from pathlib import Path\n{fault}")
    text = secure_bench.files["train.py"]
    secure_bench.files["train.py"] = text.replace("name == 'a'", "name in 'ab'")
    assert secure_bench.run().phase == "Succeeded"
    notices = [event for event in secure_bench.events if event["event"] == "notice"]
    assert [notice["reason"] for notice in notices] == ["RoundRetried"]
    assert "expected 3 or more" in notices[0]["message"]
    assert "RuntimeError: first time" in notices[0]["message"]
    store = next((secure_bench.state / "artifacts/default").iterdir())
    attempt = json.loads((store / "round-0001/attempt-1.json").read_bytes())
    assert attempt["reason"] == "TooFewClients"
    assert sorted(attempt["clients"]) == ["a", "b"]


def test_a_job_that_never_has_enough_clients_fails_with_the_reason(secure_bench):
    secure_bench.break_client("a", "raise RuntimeError('no battery')")
    text = secure_bench.files["train.py"]
    secure_bench.files["train.py"] = text.replace("name == 'a'", "name in 'ab'")
    decision = secure_bench.run()
    assert (decision.phase, decision.reason) == ("Failed", "TooFewClients")


def test_the_digest_does_not_depend_on_keys_or_workers(secure_bench, tmp_path):
    digests = set()
    for parallel in (1, 4):
        secure_bench.run(tmp_path / f"state-{parallel}", parallel=parallel)
        digests.add(secure_bench.finished["model"]["digest"])
    assert len(digests) == 1


KILLED_IN_TRAINING = """from pathlib import Path
mark = Path(self.client.dataset).with_suffix('.seen')
if context.number == 2 and not mark.exists():
    import os, signal, time
    mark.write_text('')
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(60)"""


def test_a_run_that_was_killed_in_the_middle_of_a_round_gives_the_same_bits(secure_bench, tmp_path):
    secure_bench.run(tmp_path / "whole")
    expected = secure_bench.finished["model"]["digest"]
    secure_bench.break_client("c", KILLED_IN_TRAINING)
    state = tmp_path / "killed"
    command = [sys.executable, "-m", "cli.main", "run", "-f", secure_bench.write()]
    found = subprocess.run(
        [*command, "--state", state, "--parallel", "1"], capture_output=True, check=False
    )
    assert found.returncode == -signal.SIGKILL
    secure_bench.run(state)
    assert secure_bench.finished["model"]["digest"] == expected
    assert [event["round"] for event in secure_bench.rounds()] == [2, 3]


def test_no_secret_is_in_anything_that_a_job_leaves(secure_bench):
    secure_bench.break_client("b", "raise RuntimeError('no battery')")
    spy_on(secure_bench)
    secure_bench.spec["rounds"] = 2
    assert secure_bench.run().phase == "Succeeded"
    keys = set()
    for path in (secure_bench.folder / "spied").glob("keys-*.json"):
        document = json.loads(path.read_bytes())
        keys |= {document[name] for name in ("share_key", "mask_key", "seed")} - {""}
    assert len(keys) >= 2 * 3 * 3
    files = [path for path in secure_bench.state.rglob("*") if path.is_file()]
    assert {"plan.json", "result.json", "job.json"} <= {path.name for path in files}
    told = [json.dumps(secure_bench.events).encode()]
    for data in [*told, *(path.read_bytes() for path in files)]:
        for key in keys:
            assert key.encode() not in data
            assert bytes.fromhex(key) not in data


def test_values_that_are_cut_are_counted_for_all_together(secure_bench):
    secure_bench.spec["privacy"] = {"secureAggregation": True, "maxValue": 0.5, "clipNorm": 3.0}
    secure_bench.spec["rounds"] = 1
    assert secure_bench.run().phase == "Succeeded"
    store = next((secure_bench.state / "artifacts/default").iterdir())
    privacy = json.loads((store / "round-0001/result.json").read_bytes())["privacy"]
    assert privacy["secure_aggregation"]["cut_values"] > 0
    assert privacy["secure_aggregation"]["shortened_updates"] > 0


def test_noise_goes_on_the_sum_that_nobody_saw(secure_bench, read_model):
    """With hardly any noise, and nobody missing, it is the clipped mean; integers stay as they are."""
    secure_bench.spec["rounds"] = 1
    secure_bench.spec["privacy"] = {"secureAggregation": True, "clipNorm": 4.0}
    assert secure_bench.run(secure_bench.folder / "bare").phase == "Succeeded"
    bare = read_model(secure_bench.finished)
    secure_bench.spec["privacy"] |= {"noiseMultiplier": 1e-6, "delta": 1e-5}
    assert secure_bench.run(secure_bench.folder / "noised").phase == "Succeeded"
    noised = read_model(secure_bench.finished)
    assert 0 < np.abs(noised["w"] - bare["w"]).max() < 1e-4
    assert noised["steps"] == 0
    store = next((secure_bench.folder / "noised/artifacts/default").iterdir())
    privacy = json.loads((store / "round-0001/result.json").read_bytes())["privacy"]
    assert privacy["secure_aggregation"] == {"clients": 4, "threshold": 3, "wrong_answers": {}}
    assert privacy["clip_norm"] == 4.0


def test_tensors_that_clients_keep_are_in_no_masked_update(secure_bench, read_model):
    secure_bench.spec["aggregation"] = {"exclude": ["ste*"]}
    secure_bench.spec["rounds"] = 1
    assert secure_bench.run().phase == "Succeeded"
    assert read_model(secure_bench.finished)["steps"] == 0


def test_it_goes_with_a_compressed_downlink_and_a_server_optimizer(secure_bench, read_model):
    secure_bench.spec["compression"] = {"downlink": {"codec": "int8"}, "uplink": {"codec": "int8"}}
    secure_bench.spec["algorithm"] = {"name": "fedavgm", "parameters": {"momentum": 0.5}}
    assert secure_bench.run().phase == "Succeeded"
    assert abs(read_model(secure_bench.finished)["w"] - 6).max() < 6


def test_a_job_without_it_pays_nothing_for_it(bench):
    bench.spec["rounds"] = 1
    assert bench.run().phase == "Succeeded"
    code = "import sys, components.worker, pipelines.rounds\n"
    code += (
        "print([name for name in sys.modules if 'cryptography' in name or 'secure_seq' in name])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
        env=dict(os.environ),
    )
    assert found.stdout.strip() == "[]"
    assert not (bench.state / "edge/.secrets").exists()
