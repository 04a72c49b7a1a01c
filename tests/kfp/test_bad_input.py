"""What goes wrong between a job and its backend is a condition with a reason, and heals where it can."""

from __future__ import annotations

from dataclasses import replace

import pytest

from controller.cluster.kfp_api import KfpApi, KfpConnection
from controller.cluster.kfp_settings import KfpSettings
from controller.cluster.resources import JOBS, NODES, WORKFLOWS
from fedloom.artifacts import layout


def attempt_record(bench, number, attempt):
    import json

    return json.loads(bench.job_store.get(layout.attempt_key(number, attempt)))


def test_an_endpoint_that_is_down_is_told_and_the_job_goes_on_when_it_is_up(bench):
    bench.server.stop()
    bench.apply_job()
    bench.try_look()
    assert bench.condition("Progressing") == ("False", "KfpUnreachable")
    assert bench.condition("Accepted") == ("True", "Valid")
    bench.try_look()  # left alone meanwhile
    bench.server.start()
    bench.now += 60.0
    bench.look()
    assert bench.condition("Progressing") == ("True", "RoundRunning")
    assert bench.titles() == ["toy / round 000"]


def test_an_endpoint_that_goes_down_in_mid_round_fails_no_attempt(bench):
    bench.apply_job()
    bench.look()
    bench.round(0)
    bench.server.stop()
    bench.look()
    assert bench.condition("Progressing") == ("False", "KfpUnreachable")
    assert bench.status["phase"] == "Running"
    bench.server.start()
    bench.now += 60.0
    bench.round(1)
    bench.round(2)
    assert bench.condition("Complete") == ("True", "RoundsDone")
    assert bench.titles() == [f"toy / round 00{number}" for number in range(3)]


def test_a_backend_that_does_not_answer_is_asked_seldom(bench):
    bench.apply_job()
    bench.look()
    bench.server.before = lambda verb, path: (_ for _ in ()).throw(ConnectionResetError())
    before = len(bench.server.calls)
    for _ in range(60):  # two minutes
        bench.look()
    assert len(bench.server.calls) - before <= 8


@pytest.fixture
def token_bench(make_bench, server, tmp_path):
    path = tmp_path / "token"
    connection = KfpConnection(server.url, token_path=path)
    server.token = "good"
    return make_bench(KfpSettings(connection)), path


def test_a_wrong_token_is_told_and_a_new_one_in_its_file_is_used(token_bench):
    bench, path = token_bench
    path.write_text("bad\n")
    bench.apply_job()
    bench.try_look()
    assert bench.condition("Progressing") == ("False", "KfpUnauthorized")
    path.write_text("good\n")
    bench.now += 60.0
    bench.look()
    assert bench.titles() == ["toy / round 000"]
    bench.server.token = "renewed"
    path.write_text("renewed")
    bench.round(0)
    assert bench.titles()[-1] == "toy / round 001"


def test_a_token_file_that_is_not_there_is_told(token_bench):
    bench, path = token_bench
    bench.apply_job()
    bench.try_look()
    assert bench.condition("Progressing") == ("False", "KfpUnauthorized")
    (message,) = [c["message"] for c in bench.status["conditions"] if c["type"] == "Progressing"]
    assert str(path) in message


def test_a_login_page_in_place_of_an_answer_is_told(bench):
    bench.server.login = "<html>Log in to Dex</html>"
    bench.apply_job()
    bench.try_look()
    assert bench.condition("Progressing") == ("False", "KfpUnauthorized")


def test_who_may_not_is_told(bench):
    bench.server.is_forbidden = True
    bench.apply_job()
    bench.try_look()
    assert bench.condition("Progressing") == ("False", "KfpForbidden")


def test_an_address_that_is_another_servers_is_no_backend_without_runs(bench):
    """A 404 for everything must not look as if all runs were deleted."""
    bench.apply_job()
    bench.look()
    other = KfpApi(KfpConnection(f"{bench.server.url}/pages"))
    bench.runs.poll._api = other
    bench.look()
    assert bench.condition("Progressing") == ("False", "KfpUnreachable")
    assert bench.titles() == ["toy / round 000"]


def test_a_run_that_somebody_deleted_is_made_again_and_does_not_count(bench):
    bench.apply_job(participation={"retries": 0})
    bench.look()
    del bench.server.runs[bench.run(0)["run_id"]]
    bench.look()
    assert attempt_record(bench, 0, 1)["reason"] == "RunDeleted"
    assert bench.condition("Failed") is None
    assert bench.condition("Progressing") == ("False", "BackingOff")


@pytest.mark.parametrize("release", [(2, 0), (2, 17)])
def test_a_run_that_somebody_cancelled_ends_its_attempt_with_the_reason(
    make_bench, fake_release, release
):
    server = fake_release(*release)
    bench = make_bench(on=server)
    bench.apply_job(participation={"retries": 1})
    bench.look()
    bench.round(0)
    run = bench.run(1)["run_id"]
    server.cancel(run)
    if release < (2, 1):  # says FAILED, with nothing else: its Workflow tells
        bench.cluster.create(WORKFLOWS, workflow_of(run))
    bench.look()
    assert attempt_record(bench, 1, 1)["reason"] == "RunCancelled"
    assert server.named("toy / round 001 / attempt 2")
    server.cancel(bench.run(1, 2)["run_id"])
    if release < (2, 1):
        bench.cluster.create(WORKFLOWS, workflow_of(bench.run(1, 2)["run_id"]))
    bench.look()
    assert bench.condition("Failed") == ("True", "RunCancelled")
    assert bench.secrets() == []


def workflow_of(run):
    meta = {"name": f"wf-{run}", "namespace": "kubeflow", "labels": {"pipeline/runid": run}}
    return {"metadata": meta, "spec": {"activeDeadlineSeconds": 0}}


def test_a_run_that_is_being_cancelled_is_waited_for(bench):
    bench.apply_job()
    bench.look()
    bench.server.set_state(bench.run(0)["run_id"], "CANCELING")
    bench.look()
    assert bench.condition("Progressing") == ("True", "RoundRunning")


def test_a_run_that_failed_names_the_tasks_that_did(bench):
    bench.apply_job()
    bench.look()
    bench.end_run(0, "FAILED", tasks=None, initialize="FAILED", root="FAILED")
    bench.look()
    record = attempt_record(bench, 0, 1)
    assert record["reason"] == "RunFailed"
    assert "has failed: initialize" in record["message"]
    assert "/#/runs/details/" in record["message"]


def test_a_round_is_done_where_its_result_is_whatever_the_run_says(bench):
    bench.apply_job()
    bench.look()
    bench.commit(0)
    bench.end_run(0, "FAILED")
    bench.look()
    assert bench.titles() == ["toy / round 000", "toy / round 001"]


def test_a_run_that_succeeds_without_a_model_has_failed(bench):
    bench.apply_job(participation={"retries": 0})
    bench.look()
    bench.end_run(0)
    bench.look()
    assert bench.condition("Failed") == ("True", "WorkflowFailed")


def test_an_experiment_that_was_deleted_is_made_again(bench):
    bench.apply_job()
    bench.look()
    bench.server.experiments.clear()
    bench.round(0)
    (experiment,) = bench.server.experiments.values()
    assert experiment["display_name"] == "toy-38bc8f64"
    assert bench.run(1)["experiment_id"] == experiment["experiment_id"]
    bench.restart()
    bench.round(1)
    bench.round(2)
    assert bench.condition("Complete") == ("True", "RoundsDone")


def test_an_experiment_that_was_put_away_comes_back_with_the_next_round(bench):
    bench.apply_job()
    bench.look()
    (experiment,) = bench.server.experiments.values()
    experiment["storage_state"] = bench.run(0)["storage_state"] = "ARCHIVED"
    bench.round(0)
    assert experiment["storage_state"] == "AVAILABLE"
    assert bench.titles() == ["toy / round 000", "toy / round 001"]


def test_a_package_that_the_backend_does_not_take_is_not_accepted(bench, compiler, monkeypatch):
    real = compiler.compile_plan
    bad = {"pipelineInfo": {"name": "refused"}}
    monkeypatch.setattr(compiler, "compile_plan", lambda *args: replace(real(*args), pipeline=bad))
    bench.apply_job()
    assert bench.look() == 20.0
    assert bench.condition("Accepted") == ("False", "KfpRefused")
    monkeypatch.setattr(compiler, "compile_plan", real)
    bench.look()
    assert bench.condition("Accepted") == ("True", "Valid")
    assert bench.titles() == ["toy / round 000"]


def test_a_backend_that_fails_is_told_and_tried_again(bench, refusal):
    def fail(verb, path):
        if verb == "POST" and path == "/runs":
            raise refusal(500, 13, "InternalServerError: etcdserver: request is too large")

    bench.server.before = fail
    bench.apply_job()
    bench.try_look()
    assert bench.condition("Progressing") == ("False", "KfpFailed")
    (message,) = [c["message"] for c in bench.status["conditions"] if c["type"] == "Progressing"]
    assert "request is too large" in message


def test_runs_on_many_small_pages_are_all_seen(bench):
    bench.server.largest_page = 1
    bench.apply_job()
    bench.look()
    for number in (0, 1, 2):
        bench.restart()
        bench.round(number)
    assert bench.condition("Complete") == ("True", "RoundsDone")
    assert len(bench.titles()) == 3


def test_records_that_may_not_be_read_hold_up_only_their_own_jobs(bench):
    bench.apply_job()
    for cache in bench.watches.all:
        cache.refresh("ns" if cache.resource.is_namespaced else None)
    bench.run_watches.records._synced.clear()
    bench.run_watches.records.last_error = "configmaps is forbidden"
    with pytest.raises(Exception, match="configmaps is forbidden"):
        bench.reconciler.reconcile(("ns", "toy"))
    assert bench.condition("Progressing") == ("False", "KfpRecordsUnreadable")
    bench.edit(engine={"name": "argo"})
    bench.cluster.is_quiet = True
    for cache in bench.watches.all:
        cache.refresh("ns" if cache.resource.is_namespaced else None)
    bench.reconciler.reconcile(("ns", "toy"))
    assert bench.workflows() == ["r0-a1"]


def test_a_controller_without_a_backend_says_so(bench):
    around = bench.reconciler._around
    bench.reconciler._around = replace(around, shared=replace(around.shared, kfp=None))
    bench.apply_job()
    bench.look()
    assert bench.condition("ResolvedRefs") == ("False", "NoKfpEndpoint")


def test_a_folder_of_the_node_is_refused_with_the_alternative(bench):
    bench.apply_job(edge={"state": {"hostPath": "/var/lib/state"}})
    bench.look()
    assert bench.condition("Accepted") == ("False", "Invalid")
    (message,) = [c["message"] for c in bench.status["conditions"] if c["type"] == "Accepted"]
    assert "spec.edge.state.claim" in message


def test_dispatch_is_refused(bench):
    bench.apply_job(edge={"runtime": "dispatch"})
    bench.look()
    assert bench.condition("Accepted") == ("False", "Invalid")


def test_no_pod_with_the_stores_keys_may_come_to_an_edge(bench, make_bench, server):
    label = {"metadata": {"labels": {"node-role.kubernetes.io/edge": ""}}}
    bench.apply_job()
    bench.cluster.patch(NODES, None, "edge-1", label)
    bench.look()
    assert bench.condition("Accepted") == ("False", "NoServerNodes")
    taints = [{"key": "edge", "effect": "NoSchedule"}]
    bench.cluster.patch(NODES, None, "edge-1", {"spec": {"taints": taints}})
    bench.look()
    assert bench.titles() == ["toy / round 000"]
    settings = KfpSettings(KfpConnection(server.url), server_nodes={"cloud": "yes"})
    other = make_bench(settings)
    other.apply_job()
    other.cluster.patch(NODES, None, "edge-1", label)
    other.look()
    assert other.condition("Accepted") == ("True", "Valid")


def test_a_record_that_somebody_deleted_is_made_again_and_its_run_is_adopted(bench):
    from controller.cluster.resources import CONFIG_MAPS

    bench.apply_job()
    bench.look()
    bench.round(0)
    for each in bench.cluster.all(CONFIG_MAPS):
        bench.cluster.delete(CONFIG_MAPS, "kubeflow", each["metadata"]["name"])
    bench.restart()
    bench.look()
    assert bench.titles() == ["toy / round 000", "toy / round 001"]
    assert bench.cluster.get(JOBS, "ns", "toy")["status"]["workflow"]["name"] == "toy / round 001"


def test_a_record_that_is_deleted_while_its_run_goes_on_holds_up_nothing(bench):
    from controller.cluster.resources import CONFIG_MAPS

    bench.apply_job()
    bench.look()
    for each in bench.cluster.all(CONFIG_MAPS):
        bench.cluster.delete(CONFIG_MAPS, "kubeflow", each["metadata"]["name"])
    for number in (0, 1, 2):
        bench.look()
        bench.round(number)
    assert bench.condition("Complete") == ("True", "RoundsDone")
    assert bench.titles() == [f"toy / round 00{number}" for number in range(3)]


def test_a_run_that_never_ends_is_ended_long_after_the_deadline(bench):
    bench.apply_job(participation={"deadlineSeconds": 60, "retries": 0})
    bench.look()
    bench.round(0)
    bench.now += 3_600.0
    bench.look()
    assert bench.run(1)["state"] == "PENDING"
    bench.now += 1_000.0
    bench.look()
    assert bench.run(1)["state"] == "CANCELING"
    bench.end_run(1, "CANCELED")
    bench.now += 10.0
    bench.look()
    assert bench.condition("Failed") == ("True", "DeadlineExceeded")
