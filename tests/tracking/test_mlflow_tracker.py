"""What is in MLflow after the tracker was told of a job."""

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from fedloom.errors import ArtifactNotFoundError, TrackingUnavailableError
from fedloom.tracking.signature import signature_of_file


def runs_of(client, job):
    experiment = client.get_experiment_by_name(f"{job.namespace}/{job.name}")
    return client.search_runs([experiment.experiment_id])


def points(client, run_id, key):
    return [(m.step, m.timestamp, m.value) for m in client.get_metric_history(run_id, key)]


def test_a_job_becomes_one_run_with_its_tags_parameters_and_datasets(tracker, client, job):
    found = tracker.begin(job)
    assert found.url is None
    run = client.get_run(found.run_id)
    assert run.info.experiment_id == found.experiment_id
    assert run.info.run_name == "digits"
    assert run.info.status == "RUNNING"
    assert run.data.params == {"algorithm": "fedavg", "learningRate": "0.1", "rounds": "3"}
    assert run.data.tags == {
        "mlflow.runName": "digits",
        "mlflow.source.type": "JOB",
        "mlflow.source.name": "federatedlearningjob/fl/digits",
        "sedna.io/job-uid": "0000-1111",
        "sedna.io/namespace": "fl",
        "sedna.io/job-name": "digits",
    }
    inputs = {
        each.dataset.name: {tag.key: tag.value for tag in each.tags}
        for each in run.inputs.dataset_inputs
    }
    assert inputs == {
        "digits-0": {"mlflow.data.context": "training", "sedna.io/client": "a"},
        "digits-1": {"mlflow.data.context": "training", "sedna.io/client": "b"},
        "digits-test": {"mlflow.data.context": "evaluation"},
    }


def test_models_go_where_the_caller_says(tracker, client, job, tmp_path):
    experiment = client.get_experiment(tracker.begin(job).experiment_id)
    assert experiment.artifact_location == (tmp_path / "artifacts").as_uri()


def test_rounds_become_steps_at_the_time_they_ended(tracker, client, job, round_result):
    run = tracker.begin(job)
    tracker.record([round_result(0, metrics={"accuracy": 0.1}), round_result(1), round_result(2)])
    assert points(client, run.run_id, "accuracy") == [
        (0, 1_700_000_000_500, 0.1),
        (1, 1_700_000_001_500, 0.5),
        (2, 1_700_000_002_500, 0.75),
    ]
    assert points(client, run.run_id, "client/b/loss") == [
        (1, 1_700_000_001_500, 1.5),
        (2, 1_700_000_002_500, 1.25),
    ]


def test_what_is_told_twice_is_stored_once(tracker, database, job, round_result, weights):
    from fedloom.tracking.mlflow_tracker import MlflowTracker

    def tell(tracker):
        run = tracker.begin(job)
        tracker.record([round_result(1), round_result(2)])
        tracker.record([round_result(2), round_result(3)])
        versions = [tracker.register(round_result(n), weights(n)) for n in (1, 2, 3, 2)]
        tracker.finish("FINISHED", 3)
        return run, versions

    def rows():
        with sqlite3.connect(database) as connection:
            tables = ("runs", "metrics", "params", "inputs", "datasets", "model_versions")
            tables += ("logged_models", "logged_model_metrics")
            counts = {
                table: connection.execute(f"select count(*) from {table}").fetchone()[0]
                for table in tables
            }
        connection.close()
        return counts

    first = tell(tracker)
    before = rows()
    assert tell(MlflowTracker(f"sqlite:///{database}")) == first
    assert tell(tracker) == first
    assert rows() == before
    assert first[1] == ["1", "2", "3", "2"]


def test_more_metrics_than_one_batch_holds_all_arrive(tracker, client, job, round_result):
    run = tracker.begin(job)
    client_of = round_result(1)["clients"]["a"]
    clients = {f"c{place}": client_of for place in range(100)}
    tracker.record([round_result(number, clients=clients) for number in range(1, 6)])
    assert len(points(client, run.run_id, "client/c99/uplink_bytes")) == 5


def test_a_run_that_ended_goes_on(tracker, client, job, round_result):
    first = tracker.begin(job)
    tracker.finish("FAILED", None)
    assert client.get_run(first.run_id).info.status == "FAILED"
    assert tracker.begin(job) == first
    assert client.get_run(first.run_id).info.status == "RUNNING"
    tracker.record([round_result(1)])
    tracker.finish("FINISHED", None)
    run = client.get_run(first.run_id)
    assert run.info.status == "FINISHED"
    assert run.info.end_time is not None


def test_two_jobs_of_one_name_are_two_runs_of_one_experiment(tracker, client, job, other):
    one, two = tracker.begin(job), tracker.begin(other)
    assert one.run_id != two.run_id
    assert one.experiment_id == two.experiment_id
    assert tracker.begin(job) == one


def test_a_parameter_that_changed_is_told_in_a_tag(tracker, client, job):
    tracker.begin(job)
    longer = replace(job, rounds=40, parameters={**job.parameters, "note": "x"})
    run = client.get_run(tracker.begin(longer).run_id)
    assert run.data.params["rounds"] == "3"
    assert run.data.params["note"] == "x"
    assert run.data.tags["sedna.io/changed-parameters"] == '{"rounds": "3 -> 40"}'


def test_a_registered_round_is_a_version_with_its_origin(
    tracker, client, job, round_result, weights
):
    run = tracker.begin(job)
    version = tracker.register(round_result(2), weights(2))
    found = client.get_model_version("digits", version)
    assert found.run_id == run.run_id
    assert found.tags == {
        "sedna.io/job-uid": "0000-1111",
        "sedna.io/namespace": "fl",
        "sedna.io/job-name": "digits",
        "sedna.io/round": "2",
        "sedna.io/digest": round_result(2)["model"]["digest"],
        "sedna.io/uri": round_result(2)["model"]["uri"],
        "sedna.io/tensor-signature": signature_of_file(weights(2)),
    }
    model = client.get_logged_model(found.source.removeprefix("models:/"))
    assert model.name == "round-0002"
    assert model.status == "READY"
    assert {metric.key: metric.value for metric in model.metrics}["accuracy"] == 0.75
    outputs = client.get_run(run.run_id).outputs.model_outputs
    assert [(output.model_id, output.step) for output in outputs] == [(model.model_id, 2)]


def test_the_alias_moves_along_and_ends_on_the_champion(
    tracker, client, job, round_result, weights
):
    tracker.begin(job)
    for number in (1, 2, 3):
        tracker.register(round_result(number), weights(number))
        assert int(client.get_model_version_by_alias("digits", "champion").version) == number
    tracker.finish("FINISHED", 2)
    assert int(client.get_model_version_by_alias("digits", "champion").version) == 2


def test_an_unfinished_job_leaves_the_alias_on_another_jobs_model(
    tracker, client, job, other, round_result, weights
):
    def holder():
        return client.get_model_version_by_alias("digits", "champion").tags["sedna.io/job-uid"]

    tracker.begin(job)
    tracker.register(round_result(1), weights(1))
    tracker.finish("FINISHED", 1)
    tracker.begin(other)
    tracker.register(round_result(1), weights(1))
    assert holder() == job.uid
    tracker.finish("FAILED", 1)
    assert holder() == job.uid
    tracker.finish("FINISHED", 1)
    assert holder() == other.uid


def test_only_the_policy_every_moves_the_alias_before_the_end(
    tracker, client, job, round_result, weights
):
    tracker.begin(replace(job, save_policy="last"))
    tracker.register(round_result(3), weights(3))
    assert client.get_registered_model("digits").aliases == {}
    tracker.finish("FINISHED", 3)
    assert int(client.get_model_version_by_alias("digits", "champion").version) == 1


def test_a_job_without_alias_sets_none(tracker, client, job, round_result, weights):
    tracker.begin(replace(job, alias=None))
    tracker.register(round_result(1), weights(1))
    tracker.finish("FINISHED", 1)
    assert client.get_registered_model("digits").aliases == {}


def test_a_missing_model_file_is_named(tracker, job, round_result):
    tracker.begin(job)
    with pytest.raises(ArtifactNotFoundError, match="nowhere"):
        tracker.register(round_result(1), Path("nowhere.safetensors"))


def test_what_a_killed_process_left_half_done_is_cleared_and_finished(
    tracker, client, job, round_result, weights
):
    run = tracker.begin(job)
    tracker.register(round_result(1), weights(1))
    half = client.create_logged_model(run.experiment_id, "round-0002", run.run_id)
    client.delete_model_version("digits", "1")  # its model is READY and has no version
    tracker.begin(job)
    assert tracker.register(round_result(1), weights(1)) == "2"
    tracker.register(round_result(2), weights(2))
    models = client.search_logged_models([run.experiment_id])
    assert sorted(model.name for model in models) == ["round-0001", "round-0002"]
    assert half.model_id not in {model.model_id for model in models}


def test_a_deleted_experiment_is_an_outage_that_says_so(tracker, client, job):
    client.delete_experiment(tracker.begin(job).experiment_id)
    with pytest.raises(TrackingUnavailableError, match="'fl/digits' was deleted; restore it"):
        tracker.begin(job)


def test_a_deleted_run_is_made_anew(tracker, client, job):
    first = tracker.begin(job)
    client.delete_run(first.run_id)
    assert tracker.begin(job).run_id != first.run_id


@pytest.mark.parametrize(
    "address",
    [
        pytest.param("http://me:hunter2@127.0.0.1:9/", id="refused connection"),
        pytest.param("http://me:hunter2@no.such.host.invalid/", id="unknown host"),
        pytest.param("sqlite:////proc/no/such/place/mlflow.db", id="no such folder"),
        pytest.param("gopher://me:hunter2@x", id="unknown kind"),
    ],
)
def test_an_outage_is_translated_without_credentials(job, address):
    from fedloom.tracking.mlflow_tracker import MlflowTracker

    with pytest.raises(TrackingUnavailableError, match="MLflow at ") as caught:
        MlflowTracker(address).begin(job)
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in repr(vars(caught.value))
