"""A job runs to its end on one machine, and its numbers are right."""

from __future__ import annotations

import json

import numpy as np


def test_the_model_is_the_weighted_mean_of_the_clients_models(bench, read_model):
    bench.spec["rounds"] = 1
    bench.files["train.py"] = bench.files["train.py"].replace("scale=0.01", "scale=0.0")
    assert bench.run().phase == "Succeeded"
    state = next((bench.state / "artifacts/default").iterdir())
    from fedloom.artifacts.arrays import load_arrays

    first = load_arrays(state / "round-0000/model.safetensors")[0]["w"]
    pulled = [first + 0.5 * (mean - first) for mean in (2.0, 4.5, 10.0)]
    expected = (3 * pulled[0] + 2 * pulled[1] + 1 * pulled[2]) / 6
    model = read_model(bench.finished)
    np.testing.assert_allclose(model["w"], expected, rtol=1e-5)
    assert model["steps"] == round((3 * 3 + 2 * 2 + 1 * 1) / 6)


def test_every_round_is_told_with_metrics_clients_and_real_sizes(bench):
    assert bench.run().phase == "Succeeded"
    rounds = bench.rounds()
    assert [event["round"] for event in rounds] == [1, 2, 3]
    for event in rounds:
        assert set(event["metrics"]) == {"error", "train/loss"}
        assert {c["state"] for c in event["clients"].values()} == {"Succeeded"}
        assert [c["num_examples"] for c in event["clients"].values()] == [3, 2, 1]
        sizes = [c["uplink_bytes"] for c in event["clients"].values()]
        assert event["traffic"]["uplink_bytes"] == sum(sizes) > 0
        assert event["model"]["digest"].startswith("sha256:")


def test_the_final_model_is_copied_to_where_the_model_document_says(bench):
    bench.run()
    from fedloom.artifacts.artifact import digest_of_file

    copied = bench.folder / "out/model.safetensors"
    assert digest_of_file(copied) == bench.finished["model"]["digest"]


def test_the_same_job_gives_the_same_bits_whatever_the_parallelism(bench, tmp_path):
    digests = set()
    for number, parallel in enumerate((1, 3)):
        bench.run(tmp_path / f"state-{number}", parallel)
        digests.add(bench.finished["model"]["digest"])
    assert len(digests) == 1


def test_another_seed_gives_another_model(bench, tmp_path):
    bench.run(tmp_path / "one")
    one = bench.finished["model"]["digest"]
    bench.spec["participation"]["seed"] = 6
    bench.run(tmp_path / "two")
    assert bench.finished["model"]["digest"] != one


def test_a_program_in_any_language_and_a_class_give_the_same_bits(bench, tmp_path):
    bench.run(tmp_path / "class")
    warm = bench.finished["model"]["digest"]
    for worker in bench.spec["trainingWorkers"]:
        container = worker["template"]["spec"]["containers"][0]
        container["command"] = ["sh", "-c", "exec python train.py"]
    bench.run(tmp_path / "program")
    assert bench.finished["model"]["digest"] == warm


def test_a_stop_condition_ends_the_job_early(bench):
    bench.spec["rounds"] = 50
    bench.spec["stopCondition"] = {"metric": "error", "goal": "minimize", "threshold": 100.0}
    decision = bench.run()
    assert (decision.phase, decision.reason) == ("Succeeded", "StopConditionMet")
    assert bench.finished["rounds"] == 1


def test_only_the_chosen_clients_train_when_the_round_takes_fewer(bench):
    bench.spec["participation"] |= {"clientsPerRound": 2}
    bench.run()
    cohorts = [tuple(event["clients"]) for event in bench.rounds()]
    assert all(len(cohort) == 2 for cohort in cohorts)
    assert len(set(cohorts)) > 1


def test_evaluation_every_second_round_leaves_the_others_without(bench):
    bench.spec["evaluation"]["everyRounds"] = 2
    bench.run()
    assert ["error" in event["metrics"] for event in bench.rounds()] == [False, True, True]


def test_hyperparameters_reach_the_client_and_the_workers_variable_wins(bench):
    bench.spec["hyperparameters"] = {"batchSize": 32, "learningRate": 0.1}
    container = bench.spec["trainingWorkers"][0]["template"]["spec"]["containers"][0]
    container["env"] = [{"name": "batch_size", "value": "8"}]
    bench.files["train.py"] = bench.files["train.py"].replace(
        "pass",
        "import os; print(self.client.name, self.client.hyperparameters['batchSize'], "
        "os.environ['batch_size'], os.environ['LEARNING_RATE'], flush=True)",
    )
    bench.run()
    logs = {name: (bench.state / f"logs/{name}.log").read_text() for name in "ab"}
    assert logs["a"].splitlines()[0] == "a 8 8 0.1"
    assert logs["b"].splitlines()[0] == "b 32 32 0.1"


def test_a_pretrained_model_is_where_the_job_starts(bench):
    from fedloom.artifacts.arrays import dump_arrays
    from fedloom.artifacts.artifact import digest_of

    first = dump_arrays({"w": np.full((3, 2), 7, np.float32), "steps": np.array(0, np.int64)})
    (bench.folder / "first.safetensors").write_bytes(first)
    bench.spec["pretrainedModel"] = {"name": "first"}
    model = {"url": "first.safetensors", "format": "safetensors"}
    bench.extra.append(
        {
            "apiVersion": "sedna.io/v1alpha1",
            "kind": "Model",
            "metadata": {"name": "first"},
            "spec": model,
        }
    )
    bench.run()
    result = next(bench.state.glob("artifacts/default/*/round-0000/result.json"))
    assert json.loads(result.read_bytes())["model"]["digest"] == digest_of(first)


def test_what_a_client_keeps_in_its_state_folder_is_there_in_the_next_round(bench):
    bench.files["train.py"] = bench.files["train.py"].replace(
        "pass",
        "path = self.client.state / 'count'\n"
        "        seen = int(path.read_text()) if path.exists() else 0\n"
        "        path.write_text(str(seen + 1))\n"
        "        print('seen', seen, flush=True)",
    )
    bench.run()
    assert (bench.state / "logs/a.log").read_text().split() == [
        "seen",
        "0",
        "seen",
        "1",
        "seen",
        "2",
    ]


def test_each_client_meets_its_own_instance_in_every_round(bench):
    bench.files["train.py"] = bench.files["train.py"].replace(
        "pass", "self.calls = getattr(self, 'calls', 0) + 1; print(self.calls, flush=True)"
    )
    bench.run(parallel=2)
    for name in "abc":
        assert (bench.state / f"logs/{name}.log").read_text().split() == ["1", "2", "3"]
