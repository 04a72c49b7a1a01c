"""Differential privacy from YAML alone: noise, the account of it, its end, and going on after a stop."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from fedloom.algorithms.privacy.accountant import NoisyRounds
from fedloom.algorithms.privacy.local import LocalMechanism
from fedloom.artifacts.arrays import load_arrays
from fedloom.errors import InvalidJobError, StateError

NOISE = {"clipNorm": 1.0, "noiseMultiplier": 2.0, "delta": 1e-5}


def use(bench, rounds=3, participation=None, **privacy):
    bench.spec["rounds"] = rounds
    bench.spec["privacy"] = privacy
    bench.spec["participation"] |= participation or {}


def of_poisson(bench, per_round):
    del bench.spec["participation"]["minClients"]
    bench.spec["participation"] |= {"sampling": "poisson", "clientsPerRound": per_round}


def store_of(state):
    return next((state / "artifacts/default").iterdir())


def result_of(state, number):
    return json.loads((store_of(state) / f"round-{number:04d}/result.json").read_text())


def model_of(state, number):
    return load_arrays(store_of(state) / f"round-{number:04d}/model.safetensors")[0]


def notices(bench):
    return {
        event["reason"]: event["message"] for event in bench.events if event["event"] == "notice"
    }


def test_every_round_tells_what_was_spent_and_two_runs_differ(bench, tmp_path):
    use(bench, **NOISE, maxEpsilon=100.0)
    digests = set()
    for name in ("one", "other"):
        assert bench.run(tmp_path / name).phase == "Succeeded"
        digests.add(bench.finished["model"]["digest"])
    assert len(digests) == 2
    first = [model_of(tmp_path / name, 0)["w"] for name in ("one", "other")]
    np.testing.assert_array_equal(*first)  # what no client had a part in repeats
    rounds = NoisyRounds("fixed", 1.0, 2.0)
    for number, event in enumerate(bench.rounds(), start=1):
        epsilon = rounds.epsilon(number, 1e-5)
        assert event["metrics"]["privacy/epsilon"] == pytest.approx(epsilon)
        assert event["metrics"]["privacy/clip_norm"] == 1.0
        assert result_of(tmp_path / "other", number)["privacy"] == {
            "epsilon": epsilon,
            "max_epsilon": 100.0,
            "delta": 1e-5,
            "noise_multiplier": 2.0,
            "adjacency": "add-or-remove-one",
            "clip_norm": 1.0,
            "clipped_fraction": None,
        }
    assert model_of(tmp_path / "other", 3)["steps"] == 0  # what the clients counted is not told
    assert f"{rounds.epsilon(3, 1e-5):.3g} after 3" in notices(bench)["Privacy"]


def test_without_noise_a_round_is_the_clipped_sum_over_the_cohort_and_repeats(bench, tmp_path):
    use(bench, rounds=1, clipNorm=0.5, noiseMultiplier=0.0)
    bench.files["train.py"] = bench.files["train.py"].replace("scale=0.01", "scale=0.0")
    digests = set()
    for name in ("one", "other"):
        assert bench.run(tmp_path / name).phase == "Succeeded"
        digests.add(bench.finished["model"]["digest"])
    assert len(digests) == 1
    first, after = (model_of(tmp_path / "one", number)["w"] for number in (0, 1))
    deltas = [0.5 * (mean - first) for mean in (2.0, 4.5, 10.0)]
    clipped = [each * min(1.0, 0.5 / np.linalg.norm(each)) for each in deltas]
    np.testing.assert_allclose(after, first + sum(clipped) / 3, rtol=1e-5)
    assert result_of(tmp_path / "one", 1)["privacy"]["epsilon"] is None
    assert "nothing is promised" in notices(bench)["Privacy"]


def test_a_missing_client_leaves_the_denominator_as_it_is(bench):
    use(bench, rounds=1, clipNorm=0.5, noiseMultiplier=0.0)
    bench.files["train.py"] = bench.files["train.py"].replace("scale=0.01", "scale=0.0")
    bench.break_client("c", "raise RuntimeError('away')")
    bench.files["train.py"] = bench.files["train.py"].replace("scale=0.01", "scale=0.0")
    assert bench.run().phase == "Succeeded"
    first, after = (model_of(bench.state, number)["w"] for number in (0, 1))
    deltas = [0.5 * (mean - first) for mean in (2.0, 4.5)]
    clipped = [each * min(1.0, 0.5 / np.linalg.norm(each)) for each in deltas]
    np.testing.assert_allclose(after, first + sum(clipped) / 3, rtol=1e-5)


def test_the_job_ends_before_the_round_that_would_exceed_the_budget(bench):
    epsilons = [NoisyRounds("fixed", 1.0, 2.0).epsilon(number, 1e-5) for number in range(4)]
    use(bench, **NOISE, rounds=9, maxEpsilon=0.5 * (epsilons[2] + epsilons[3]))
    decision = bench.run()
    assert (decision.phase, decision.reason) == ("Succeeded", "PrivacyBudgetSpent")
    assert f"another would make it {epsilons[3]:.4g}" in decision.message
    assert bench.finished["rounds"] == 2
    assert bench.finished["metrics"]["privacy/epsilon"] == pytest.approx(epsilons[2])
    bench.spec["privacy"]["maxEpsilon"] = epsilons[3]  # a larger budget: the job goes on
    assert bench.run().reason == "PrivacyBudgetSpent"
    assert bench.finished["rounds"] == 3
    bench.spec["privacy"]["maxEpsilon"] = 0.9 * epsilons[3]  # one that is overspent: it does not
    assert bench.run().reason == "PrivacyBudgetSpent"
    assert bench.finished["rounds"] == 3


def test_a_budget_below_one_round_is_refused_before_anything_is_written(bench):
    use(bench, **NOISE, maxEpsilon=0.5)
    with pytest.raises(InvalidJobError) as error:
        bench.run()
    problem = error.value.problems[0]
    assert problem.field == "spec.privacy.maxEpsilon"
    one = NoisyRounds("fixed", 1.0, 2.0).epsilon(1, 1e-5)
    assert f"one round costs {one:.4g}" in problem.message
    assert "noiseMultiplier" in problem.message
    assert not bench.state.exists()


def test_a_job_that_is_taken_up_again_keeps_its_clip_norm_and_its_account(bench):
    use(bench, **NOISE, rounds=2, clipQuantile=0.5)
    assert bench.run().phase == "Succeeded"
    kept = load_arrays(store_of(bench.state) / "state/privacy-0002.safetensors")[0]["clip_norm"]
    bench.spec["rounds"] = 4
    assert bench.run().phase == "Succeeded"
    told = [result_of(bench.state, number)["privacy"] for number in range(1, 5)]
    assert told[0]["clip_norm"] == 1.0
    assert told[2]["clip_norm"] == float(kept) != 1.0
    assert len({each["clipped_fraction"] for each in told}) == 4
    for number, each in enumerate(told, start=1):
        assert each["epsilon"] == NoisyRounds("fixed", 1.0, 2.0).epsilon(number, 1e-5)


def test_rounds_of_one_job_are_all_noised_alike(bench):
    use(bench, **NOISE, rounds=1)
    assert bench.run().phase == "Succeeded"
    changes = {"noiseMultiplier": 3.0, "clipNorm": 2.0, "delta": 1e-6, "clipQuantile": 0.5}
    for field, value in changes.items():
        bench.spec["privacy"] = {**NOISE, field: value}
        with pytest.raises(StateError, match=r"spec\.privacy"):
            bench.run()


def test_a_round_of_nobody_is_a_round(bench):
    use(bench, **NOISE, rounds=30)
    of_poisson(bench, 1)
    assert bench.run().phase == "Succeeded"
    results = [result_of(bench.state, number) for number in range(31)]
    empty = [result["round"] for result in results[1:] if not result["clients"]]
    assert empty  # 0.7 ** 30 of the runs have none
    for number in empty:
        assert results[number]["attempt"] == 1
        assert (model_of(bench.state, number)["w"] != model_of(bench.state, number - 1)["w"]).all()
    epsilon = NoisyRounds("poisson", 1 / 3, 2.0).epsilon(30, 1e-5)
    assert results[30]["privacy"]["epsilon"] == pytest.approx(epsilon)


def test_who_takes_part_cannot_be_worked_out_from_the_job(bench, tmp_path):
    use(bench, **NOISE, rounds=12)
    bench.spec["participation"] |= {"clientsPerRound": 1, "minClients": 1}
    cohorts = set()
    for name in ("one", "other"):
        bench.run(tmp_path / name)
        cohorts.add(tuple(tuple(event["clients"]) for event in bench.rounds()))
    assert len(cohorts) == 2
    assert result_of(tmp_path / "one", 1)["privacy"]["adjacency"] == "replace-one"


def test_a_client_that_sends_nan_is_named_and_the_noise_covers_the_rest(bench):
    use(bench, **NOISE, rounds=1)
    bench.break_client(
        "b",
        "import components.compress\n"
        "components.compress.check_update = lambda layout, arrays: None\n"
        "model['w'][2, 1] = np.nan",
    )
    assert bench.run().phase == "Succeeded"
    client = bench.rounds()[0]["clients"]["b"]
    assert (client["state"], client["reason"]) == ("Failed", "NotFinite")
    assert np.isfinite(model_of(bench.state, 1)["w"]).all()


@pytest.mark.parametrize("codec", ["int8", "topk"])
def test_noise_works_with_compressed_updates(bench, codec):
    use(bench, **NOISE, rounds=2)
    bench.spec["compression"] = {"uplink": {"codec": codec}}
    assert bench.run().phase == "Succeeded"
    assert result_of(bench.state, 2)["privacy"]["epsilon"] > 0


LOCAL = {
    "gaussian": {"mechanism": "gaussian", "epsilon": 8.0, "clip": 0.5, "delta": 1e-6},
    "laplace": {"mechanism": "laplace", "epsilon": 8.0},
    "randomized-response": {"mechanism": "randomized-response", "epsilon": 2.0, "clip": 0.1},
}


@pytest.mark.parametrize("name", LOCAL)
def test_clients_can_add_the_noise_and_the_composed_epsilon_is_told(bench, tmp_path, name):
    use(bench, rounds=2, local=LOCAL[name])
    digests = set()
    for folder in ("one", "other"):
        assert bench.run(tmp_path / folder).phase == "Succeeded"
        digests.add(bench.finished["model"]["digest"])
    assert len(digests) == 2
    local = LOCAL[name]
    delta = local.get("delta", 0.0)
    mechanism = LocalMechanism(name, local["epsilon"], local.get("clip", 1.0), delta)
    told = result_of(tmp_path / "one", 2)["privacy"]
    assert told == {
        "local": {
            "mechanism": name,
            "epsilon": local["epsilon"],
            "epsilon_of": "value" if name == "randomized-response" else "update",
            "delta": delta,
            "values": 6,
            "releases": 2,
            "composed_epsilon": mechanism.composed_epsilon(2, 6),
        }
    }
    assert model_of(tmp_path / "one", 2)["steps"] == 0
    assert name in notices(bench)["Privacy"]


def test_what_leaves_a_client_is_one_bit_of_every_value(bench):
    local = LOCAL["randomized-response"]
    use(bench, rounds=1, local=local)
    bench.spec["participation"] |= {"clientsPerRound": 1, "minClients": 1}
    assert bench.run().phase == "Succeeded"
    moved = model_of(bench.state, 1)["w"] - model_of(bench.state, 0)["w"]
    np.testing.assert_allclose(np.abs(moved), 0.1 / math.tanh(1.0), rtol=1e-4)


def test_updates_of_attempts_that_failed_have_been_sent_too(bench, tmp_path):
    use(bench, rounds=2, local=LOCAL["laplace"], participation={"minClients": 3, "retries": 1})
    flag = tmp_path / "broken-once"
    bench.break_client(
        "c",
        f"import pathlib\nflag = pathlib.Path({str(flag)!r})\n"
        "if not flag.exists():\n    flag.touch()\n    raise RuntimeError('once')",
    )
    assert bench.run().phase == "Succeeded"
    assert [result_of(bench.state, n)["privacy"]["local"]["releases"] for n in (1, 2)] == [2, 3]
    assert result_of(bench.state, 2)["privacy"]["local"]["composed_epsilon"] == 24.0


def test_a_job_without_privacy_writes_nothing_about_it(bench):
    bench.spec["rounds"] = 1
    assert bench.run().phase == "Succeeded"
    assert "privacy" not in result_of(bench.state, 1)
    assert not list(store_of(bench.state).glob("state/privacy*"))
    assert "Privacy" not in notices(bench)
