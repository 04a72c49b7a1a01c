"""Cancelling, suspending, retrying, deleting and editing a job that runs on Kubeflow Pipelines."""

from __future__ import annotations

from dataclasses import replace

import pytest

from controller.cluster.conditions import TrackingFacts
from controller.cluster.kfp_api import KfpConnection
from controller.cluster.kfp_settings import KfpSettings
from controller.cluster.resources import CONFIG_MAPS, JOBS, PODS, SECRETS
from fedloom.errors import TransientError


def test_a_cancelled_job_terminates_its_run_and_keeps_no_secrets(bench):
    bench.apply_job()
    bench.look()
    bench.round(0)
    bench.annotate(cancel="true")
    bench.look()
    assert bench.run(1)["state"] == "CANCELING"
    assert bench.condition("Failed") == ("True", "Cancelled")
    assert "r1-a1-server" in bench.secrets()  # its pods may still read them
    bench.end_run(1, "CANCELED")
    assert bench.look() is None
    assert bench.secrets() == []
    assert len(bench.titles()) == 2


def test_a_run_that_ended_because_its_job_was_cancelled_is_no_reason_of_its_own(bench):
    bench.apply_job(participation={"retries": 0})
    bench.look()
    bench.round(0)
    bench.annotate(cancel="true")
    bench.end_run(1, "CANCELED")
    bench.look()
    assert bench.condition("Failed") == ("True", "Cancelled")


def test_a_run_that_was_asked_for_without_an_answer_is_found_to_be_cancelled(bench, cut):
    bench.apply_job()

    def lose(verb, path):
        if (verb, path) == ("POST", "/runs"):
            raise cut

    bench.server.after = lose
    bench.try_look()
    bench.server.after = lambda verb, path: None
    bench.annotate(cancel="true")
    bench.now += 5.0
    bench.restart()
    bench.look()
    assert bench.run(0)["state"] == "CANCELING"
    assert bench.condition("Failed") == ("True", "Cancelled")


def test_a_suspended_job_ends_the_round_at_hand_and_goes_on_when_it_may(bench):
    bench.apply_job()
    bench.look()
    bench.edit(suspend=True)
    bench.restart()
    bench.look()
    assert bench.condition("Progressing") == ("True", "RoundRunning")
    bench.round(0)
    assert bench.condition("Suspended") == ("True", "SuspendedByUser")
    assert bench.titles() == ["toy / round 000"]
    bench.edit(suspend=False)
    bench.look()
    assert bench.titles() == ["toy / round 000", "toy / round 001"]


def test_a_job_that_failed_goes_on_with_an_attempt_of_its_own_when_asked(bench):
    bench.apply_job(participation={"retries": 0})
    bench.look()
    bench.end_run(0, "FAILED")
    bench.look()
    assert bench.condition("Failed") == ("True", "RunFailed")
    bench.annotate(retry_at="2100-01-01T00:00:00Z")
    bench.look()
    assert bench.titles() == ["toy / round 000", "toy / round 000 / attempt 2"]
    bench.commit(0)
    bench.end_run(0, attempt=2)
    bench.look()
    assert bench.titles()[-1] == "toy / round 001"


def test_a_deleted_job_leaves_no_run_no_record_and_no_secret(bench):
    bench.apply_job()
    bench.look()
    bench.round(0)
    bench.cluster.delete(JOBS, "ns", "toy")
    bench.look()
    assert bench.run(1)["state"] == "CANCELING"
    assert bench.records() == []
    assert bench.secrets() == []


def test_a_job_that_was_deleted_while_nobody_looked_is_swept_up_after(bench):
    bench.apply_job()
    bench.look()
    bench.cluster.delete(JOBS, "ns", "toy")
    bench.enqueued.clear()
    bench.restart()
    for cache in bench.run_watches.all:
        cache.refresh("kubeflow")
    assert ("ns", "toy") in bench.enqueued
    bench.look()
    assert bench.run(0)["state"] == "CANCELING"
    assert bench.cluster.all(CONFIG_MAPS) == []
    assert bench.cluster.all(SECRETS) == []


def test_sweeping_up_waits_for_a_backend_that_is_down(bench):
    bench.apply_job()
    bench.look()
    bench.cluster.delete(JOBS, "ns", "toy")
    bench.server.stop()
    with pytest.raises(TransientError):
        bench.look()
    assert bench.records() == ["r0-a1"]
    bench.server.start()
    bench.now += 60.0
    bench.look()
    assert bench.records() == []


def test_the_runs_of_a_job_of_the_same_name_that_is_gone_are_ended(bench):
    bench.apply_job()
    bench.look()
    old = bench.run(0)
    bench.cluster.delete(JOBS, "ns", "toy")
    again = bench.dataset("x")  # any other document: the job is made anew below
    del again
    document = dict(bench_job(bench))
    document["metadata"] = {**document["metadata"], "uid": "99999999-0000-4000-8000-000000000000"}
    bench.apply(document)
    bench.look()
    assert old["state"] == "CANCELING"
    names = {each["display_name"] for each in bench.server.experiments.values()}
    assert names == {"toy-38bc8f64", "toy-99999999"}
    assert len(bench.server.named("toy / round 000")) == 2


def bench_job(bench):
    """The job's document as its user wrote it."""
    import sys

    job = sys.modules["cluster_benches"].job_document
    return job(engine={"name": "kfp"})


def test_a_job_of_a_namespace_that_another_controller_serves_is_left_alone(bench):
    bench.apply_job()
    bench.look()
    (record,) = bench.cluster.all(CONFIG_MAPS)
    other = {**record, "metadata": {**record["metadata"], "name": "other-r0-a1", "uid": "u"}}
    other["data"] = {**record["data"], "uid": "other-uid"}
    document = bench_job(bench)
    bench.cluster.create(CONFIG_MAPS, other)
    # Not in this controller's caches, but in the API: the record's job is alive.
    bench.cluster.delete(JOBS, "ns", "toy")
    document["metadata"]["uid"] = "other-uid"
    for cache in bench.watches.all:
        cache.refresh("ns" if cache.resource.is_namespaced else None)
    bench.apply(document)
    for cache in bench.run_watches.all:
        cache.refresh("kubeflow")
    bench.reconciler.reconcile(("ns", "toy"))
    left = [each["data"]["uid"] for each in bench.cluster.all(CONFIG_MAPS)]
    assert left == ["other-uid"]


def test_a_job_that_changes_its_engine_leaves_nothing_at_work_on_the_other(bench):
    bench.apply_job(engine={"name": "argo"})
    bench.look()
    assert bench.workflows() == ["r0-a1"]
    bench.edit(engine={"name": "kfp"})
    bench.restart()
    bench.look()
    from controller.cluster.resources import WORKFLOWS

    (workflow,) = bench.cluster.all(WORKFLOWS)
    assert workflow["spec"]["shutdown"] == "Terminate"
    assert bench.titles() == ["toy / round 000"]
    bench.edit(engine={"name": "argo"})
    bench.look()
    assert bench.run(0)["state"] == "CANCELING"


def test_a_job_that_names_no_engine_gets_the_controllers_own_choice(bench):
    around = bench.reconciler._around
    settings = replace(around.shared.settings, engine="kfp")
    bench.reconciler._around = replace(around, shared=replace(around.shared, settings=settings))
    bench.apply_job(engine={})
    bench.look()
    assert bench.titles() == ["toy / round 000"]


def test_with_several_users_every_job_runs_in_its_own_namespace(make_bench, server):
    server.multi_user = True
    bench = make_bench(KfpSettings(KfpConnection(server.url), namespace=""))
    bench.apply_job()
    for number in (None, 0, 1, 2):
        bench.look() if number is None else bench.round(number)
    assert bench.condition("Complete") == ("True", "RoundsDone")
    assert {each["metadata"]["namespace"] for each in bench.cluster.all(CONFIG_MAPS)} == {"ns"}
    assert {each["namespace"] for each in server.experiments.values()} == {"ns"}


def test_what_the_ui_needs_is_sent_with_the_run(make_bench, server):
    settings = KfpSettings(
        KfpConnection(server.url),
        ui="https://kfp.example.com",
        pipeline_root="s3://fedloom/kfp",
        service_account="runner",
    )
    bench = make_bench(settings)
    bench.apply_job()
    bench.look()
    run = bench.run(0)
    assert run["runtime_config"]["pipeline_root"] == "s3://fedloom/kfp/ns/toy-38bc8f64"
    assert run["service_account"] == "runner"
    assert run["description"].startswith("Round 0 of 2 of job ns/toy.")
    assert run["description"].split()[-1] == "toy-38bc8f64-r0-a1"
    page = f"https://kfp.example.com/#/runs/details/{run['run_id']}"
    assert bench.status["workflow"]["url"] == page


def pod_of(run, task, client_pod, status):
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"wf-{task}-{client_pod}",
            "namespace": "kubeflow",
            "labels": {"pipeline/runid": run},
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "annotations": {
                "workflows.argoproj.io/node-id": f"node-{task}",
                "workflows.argoproj.io/node-name": f"wf.root.exit-handler-1.{client_pod}",
            },
        },
        "spec": {"nodeName": "edge-1"},
        "status": status,
    }


def test_clients_are_seen_in_the_pods_of_the_run_and_one_that_cannot_start_is_ended(bench):
    bench.apply_job()
    bench.look()
    bench.round(0)
    run = bench.run(1)["run_id"]
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}
    broken = {"phase": "Pending", "containerStatuses": [{"name": "main", "state": waiting}]}
    bench.cluster.create(PODS, pod_of(run, "a", "client-a.executor", {"phase": "Running"}))
    bench.cluster.create(PODS, pod_of(run, "b", "client-b.executor", broken))
    bench.cluster.create(PODS, pod_of(run, "drv", "client-a-driver", {"phase": "Succeeded"}))
    bench.look()
    clients = {each["name"]: each for each in bench.status["clients"]}
    assert (clients["a"]["state"], clients["a"]["nodeName"]) == ("Running", "edge-1")
    pod = bench.cluster.get(PODS, "kubeflow", "wf-b-client-b.executor")
    assert pod["spec"]["activeDeadlineSeconds"] == 1
    bench.look()
    clients = {each["name"]: each for each in bench.status["clients"]}
    assert (clients["b"]["state"], clients["b"]["reason"]) == ("Failed", "ImagePullBackOff")


def test_old_records_are_put_away(bench):
    bench.apply_job(rounds=14)
    bench.look()
    for number in range(14):
        bench.round(number)
    assert len(bench.records()) <= 12
    assert "r13-a1" in bench.records()


def test_a_run_says_where_its_job_is_tracked_and_files_kfps_own_logging_with_it(bench):
    bench.apply_job()
    bench.look()
    assert "plugins_input" not in bench.run(0)
    engine = bench.reconciler._runs["ns", "toy"].engine
    engine.track(TrackingFacts(is_known=True, run_id="abc", url="https://mlflow.example.com/#/abc"))
    bench.round(0)
    run = bench.run(1)
    assert run["plugins_input"] == {"mlflow": {"experiment_name": "ns/toy"}}
    assert "MLflow: https://mlflow.example.com/#/abc" in run["description"]
