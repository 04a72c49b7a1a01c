"""A job on Kubeflow Pipelines: every attempt is one run, found again by whoever goes on."""

from __future__ import annotations

from controller.cluster.resources import SECRETS


def test_every_round_is_one_run_of_the_jobs_experiment(bench):
    bench.apply_job()
    bench.look()
    assert bench.titles() == ["toy / round 000"]
    for number in (0, 1, 2):
        bench.round(number)
    assert bench.condition("Complete") == ("True", "RoundsDone")
    assert bench.titles() == ["toy / round 000", "toy / round 001", "toy / round 002"]
    (experiment,) = bench.server.experiments.values()
    assert experiment["display_name"] == "toy-38bc8f64"
    assert {run["experiment_id"] for run in bench.server.runs.values()} == {
        experiment["experiment_id"]
    }
    assert bench.status["workflow"] == {
        "engine": "kfp",
        "name": "toy / round 002",
        "url": f"{bench.server.url}/#/runs/details/{bench.run(2)['run_id']}",
    }


def test_the_secrets_of_a_run_are_where_its_pods_are_and_go_when_it_ends(bench):
    bench.apply_job()
    bench.look()
    bench.round(0)
    assert bench.secrets() == ["r1-a1-edge-0", "r1-a1-edge-1", "r1-a1-server"]
    assert {each["metadata"]["namespace"] for each in bench.cluster.all(SECRETS)} == {"kubeflow"}
    bench.round(1)
    bench.round(2)
    assert bench.secrets() == []
