"""A mistnet job from its YAML to a model: what goes down, what goes up, what is told of it."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest

from fedloom.artifacts.arrays import load_arrays
from fedloom.artifacts.layout import model_key

BITS = 24 * 8 * 8


def test_a_job_ends_with_a_whole_model_and_a_privacy_report(job):
    result = job.run_well()
    store = job.store()
    assert {name: client["state"] for name, client in result["clients"].items()} == dict.fromkeys(
        "abc", "Succeeded"
    )
    assert [client["num_examples"] for client in result["clients"].values()] == [40, 40, 40]
    # Down: the extractor alone, which is a hundredth of the model. Up: packed bits, names, labels.
    first = job.result(number=0)
    extractor, whole = first["state"]["extractor"]["size_bytes"], first["model"]["size_bytes"]
    assert extractor < whole / 100
    assert result["traffic"]["downlink_bytes"] == 3 * extractor
    most = 40 * (BITS // 8 + 16 + 4 + 8) + 2048
    assert all(40 * BITS // 8 < c["uplink_bytes"] < most for c in result["clients"].values())
    # The model is the first one with another tail, and is where a job's model goes.
    before, after = (load_arrays(store / model_key(number))[0] for number in (0, 1))
    assert before.keys() == after.keys()
    for name in before:
        assert np.array_equal(before[name], after[name]) == name.startswith("filters")
    assert (job.folder / "out/model.safetensors").read_bytes() == (
        store / model_key(1)
    ).read_bytes()
    assert 0.5 < result["metrics"]["accuracy"] <= 1
    assert {"clean/accuracy", "train/loss"} <= result["metrics"].keys()
    _check_report(job, result)


def _check_report(job, result):
    report, told = job.report(), result["disclosure"]
    assert (report["eps_bit"], report["r"], report["eps_image"]) == (2, BITS, 2 * BITS)
    assert report["images"] == report["labels"]["count"] == 120
    assert [each["edge"] for each in report["releases"]] == ["a", "b", "c"]
    assert report["leakage"]["linkage"]["top1"] > 0.9, "who has an image can tell"
    assert report["leakage"]["inversion"]["variance_recovered"] > 0.2
    assert report["effective"]["epochs"] == 8
    assert report["effective"]["cutLayer"] == 1
    assert "vacuous" in " ".join(report["warnings"])
    assert "labels in clear" in told["summary"]
    assert result["metrics"]["privacy/eps_image"] == 2 * BITS
    page = (job.store() / told["page"]["key"]).read_text()
    assert "<script" not in page
    assert "http" not in page, "nothing is loaded from elsewhere"
    assert "3072" in page
    parser = HTMLParser()
    parser.feed(page)
    parser.close()
    assert "turned" not in job.notices("Privacy")[0]
    assert "epsilon 2 per bit" in job.notices("Privacy")[0]


def test_no_key_and_no_seed_of_noise_is_in_anything_that_the_job_leaves(job):
    job.run_well()
    keys = [path.read_bytes() for path in (job.state.parent / "_nodes").glob("*/noise-key")]
    assert len(keys) == 3
    assert len(set(keys)) == 3, "every client stands for an edge of its own"
    spellings = [each for key in keys for each in (key, key.hex().encode())]
    for path in job.state.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert not any(spelling in data for spelling in spellings), path


def test_the_same_job_anew_releases_the_same_bits_and_spends_nothing(job):
    first = job.run_well()
    spent = job.report()["eps_total"]
    job.forget()
    again = job.run_well()
    digests = [{name: c["digest"] for name, c in r["clients"].items()} for r in (first, again)]
    assert digests[0] == digests[1]
    assert job.report()["eps_total"] == spent == 2 * BITS
    assert again["model"]["digest"] == first["model"]["digest"]


def test_another_seed_of_the_job_changes_no_release_as_long_as_the_extractor_is_the_same(job):
    text = (job.folder / "train.py").read_text()
    fixed = text.replace("rng = np.random.default_rng(seed)", "rng = np.random.default_rng(0)", 1)
    (job.folder / "train.py").write_text(fixed)
    first = job.run_well()
    job.spec["participation"]["seed"] = 4
    job.forget()
    again = job.run_well()
    for name, client in first["clients"].items():
        assert again["clients"][name]["digest"] == client["digest"]


def test_an_edge_refuses_what_its_budget_does_not_hold(job):
    job.parameters["maxEpsilon"] = 2.5 * BITS
    job.run_well()
    job.forget()
    job.parameters["epsilon"] = 1
    decision = job.run()
    assert (decision.phase, decision.reason) == ("Failed", "TooFewClients")
    assert "PrivacyBudgetSpent" in decision.message
    assert f"spent {2 * BITS:.6g}, this release {BITS:.6g}" in decision.message


def test_a_program_does_the_same_as_a_class(job):
    as_class = job.run_well()
    for worker in job.spec["trainingWorkers"]:
        worker["template"]["spec"]["containers"][0]["command"] = ["env", "python", "train.py"]
    job.forget()
    as_program = job.run_well()
    assert as_program["model"]["digest"] == as_class["model"]["digest"]
    assert as_program["metrics"] == pytest.approx(as_class["metrics"])


def test_without_data_in_the_cloud_the_tail_is_tried_on_what_was_held_out(job):
    del job.spec["evaluation"]
    job.parameters["holdOut"] = 0.25
    result = job.run_well()
    assert 0 < result["metrics"]["accuracy"] <= 1
    report = job.report()
    assert report["leakage"] == {"linkage": None, "inversion": None}
    assert any("attacks were not tried" in each for each in report["warnings"])
    assert "leakage-report" not in result["server"]["steps"]


def test_privacy_none_is_said_loudly(job):
    job.parameters.update(privacy="none")
    del job.parameters["epsilon"]
    result = job.run_well()
    assert "NO privacy" in job.notices("Privacy")[0]
    assert job.report()["eps_image"] == "infinite"
    assert "privacy/eps_image" not in result["metrics"]
    assert "clean/accuracy" not in result["metrics"], "there is no other path"


def test_epsilon_100_is_no_privacy_at_all(job):
    job.parameters["epsilon"] = 100
    job.run_well()
    assert "no privacy at all" in job.notices("Privacy")[0]
    assert any("no privacy at all" in each for each in job.report()["warnings"])
    assert job.report()["eps_bit"] == "infinite"


def test_the_environment_of_sednas_example_counts(job):
    del job.spec["algorithm"], job.spec["hyperparameters"], job.spec["rounds"]
    cloud = {"CUT_LAYER": "1", "Epsilon": "4", "aggregation_algorithm": "MistNet", "epochs": "6"}
    job.set_environment(None, {**cloud, "batch_size": "20"})
    for worker in range(3):
        edge = {"cut_layer": "1", "epsilon": "4", "epochs": "1", "learning_rate": "0.01"}
        job.set_environment(worker, edge)
    job.run_well()
    told = job.report()["effective"]
    expected = {"cutLayer": 1, "epsilon": 4, "batchSize": 20, "learningRate": 0.01, "epochs": 6}
    assert {name: told[name] for name in expected} == expected
    assert any("practically no privacy" in each for each in job.report()["warnings"])


def test_the_report_is_in_mlflow(job):
    command = [sys.executable, "-m", "cli.main", "run", "-f", str(job.write()), "-o", "json"]
    environment = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
    done = subprocess.run(
        command, cwd=job.folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    with contextlib.closing(sqlite3.connect(job.state / "mlflow.db")) as database:
        params, tags, metrics = (
            dict(database.execute(f"SELECT key, value FROM {table}"))
            for table in ("params", "tags", "latest_metrics")
        )
    assert (params["algorithm.epsilon"], params["algorithm.cutLayer"]) == ("2", "1")
    assert params["epochs"] == "8"
    assert metrics["privacy/eps_image"] == 2 * BITS
    assert tags["privacy.r"] == str(BITS)
    assert tags["privacy.page"].endswith("privacy-report.html")
    assert "labels in clear" in tags["privacy.summary"]


def test_a_job_without_mistnet_loads_none_of_it():
    code = (
        "import sys, json; import components.worker, pipelines.rounds, controller.embedded.run; "
        "print(json.dumps([name for name in sys.modules if 'mistnet' in name or 'split_' in name "
        "or 'disclos' in name or 'sqlite' in name]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    allowed = {"fedloom.api.split_fields", "fedloom.api.split_parameters", "pipelines.split_round"}
    assert set(json.loads(done.stdout)) <= allowed
