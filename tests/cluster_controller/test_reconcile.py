"""A job on a cluster, from its CR to its end, whatever happens on the way."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from controller.cluster.answers import ApiUnavailableError, ConflictError
from controller.cluster.resources import (
    DATASETS,
    EVENTS,
    JOBS,
    MODELS,
    NODES,
    PODS,
    SECRETS,
    WORKFLOWS,
)
from fedloom.artifacts import layout
from fedloom.errors import StoreUnavailableError


def test_a_job_becomes_a_workflow_round_after_round_and_completes(bench):
    bench.apply_job()
    bench.look()
    assert bench.workflows() == ["r0-a1"]
    assert bench.status["phase"] == "Running"
    for number in range(3):
        assert bench.status["currentRound"] == max(1, number)
        bench.round(number)
    assert bench.workflows() == ["r0-a1", "r1-a1", "r2-a1"]
    assert bench.condition("Complete") == ("True", "RoundsDone")
    assert bench.status["phase"] == "Succeeded"
    assert bench.status["aggregationCount"] == 2
    assert bench.status["metrics"] == {"train/loss": "0.5"}
    assert bench.status["traffic"] == {"uplinkBytes": 60, "downlinkBytes": 48}
    assert bench.status["model"]["round"] == 2
    assert bench.status["completionTime"]


def test_a_workflow_belongs_to_its_job_and_shows_no_secret(bench, store_settings):
    job = bench.apply_job()
    bench.look()
    bench.round(0)
    for workflow in bench.cluster.all(WORKFLOWS):
        owner = workflow["metadata"]["ownerReferences"][0]
        assert (owner["kind"], owner["uid"]) == ("FederatedLearningJob", job["metadata"]["uid"])
        text = json.dumps(workflow)
        assert store_settings.credentials.secret_key not in text
        assert "X-Amz-Signature" not in text


def test_its_secrets_are_the_workflows_and_their_urls_are_for_the_edges(bench):
    bench.apply_job()
    bench.look()
    bench.round(0)
    secrets = [s for s in bench.cluster.all(SECRETS) if "-r1-a1-edge-" in s["metadata"]["name"]]
    assert len(secrets) == 2
    for secret in secrets:
        assert secret["metadata"]["ownerReferences"][0]["kind"] == "Workflow"
        told = json.loads(base64.b64decode(next(iter(secret["data"].values()))))
        urls = told["urls"]
        assert set(urls["get"]) == {layout.model_key(0)}
        assert len(urls["put"]) == 2
        for url in (*urls["get"].values(), *urls["put"].values()):
            assert url.startswith("http://edge.example:9000/")


def test_where_nothing_changed_nothing_is_written(bench):
    bench.apply_job()
    bench.look()
    writes = {k: n for k, n in bench.cluster.calls.items() if k[0] not in ("list", "get")}
    for _ in range(5):
        bench.look()
    assert {k: n for k, n in bench.cluster.calls.items() if k[0] not in ("list", "get")} == writes


def test_a_status_that_somebody_edits_is_repaired(bench):
    bench.apply_job()
    bench.look()
    right = bench.status
    for rubbish in (
        {"phase": "Succeeded"},
        {},
        {**right, "conditions": [{"type": "Complete", "status": "True", "reason": "x"}]},
        {**right, "startTime": "1999-01-01T00:00:00Z", "aggregationCount": 77},
    ):
        bench.cluster.set_status(JOBS, "ns", "toy", rubbish)
        bench.look()
        assert bench.status == right


def test_a_forged_status_does_not_stop_a_restarted_controller_from_telling_the_truth(bench):
    bench.apply_job()
    bench.look()
    bench.round(0)
    bench.cluster.set_status(JOBS, "ns", "toy", {"phase": "Failed", "currentRound": 9})
    bench.restart()
    bench.look()
    assert (bench.status["phase"], bench.status["currentRound"]) == ("Running", 1)


def test_missing_references_are_told_and_heal_in_any_order(bench, make_job, make_node):
    bench.apply(make_job())
    again = bench.look()
    assert bench.condition("ResolvedRefs") == ("False", "DatasetNotFound")
    assert bench.status["phase"] == "Pending"
    assert again is not None
    assert bench.workflows() == []
    bench.apply(bench.model("m"), bench.dataset("b"))
    bench.look()
    assert bench.condition("ResolvedRefs") == ("False", "DatasetNotFound")
    bench.apply(bench.dataset("a"))
    bench.look()
    assert bench.condition("ResolvedRefs") == ("False", "NodeNotFound")
    bench.apply(make_node("edge-1"))
    bench.look()
    assert bench.condition("ResolvedRefs") == ("True", "Resolved")
    assert bench.workflows() == ["r0-a1"]


def test_events_of_what_a_job_names_enqueue_it(bench):
    bench.apply_job()
    bench.look()
    bench.enqueued.clear()
    bench.watches.datasets.take("MODIFIED", bench.cluster.get(DATASETS, "ns", "a") | {"x": 1})
    edited = bench.cluster.patch(MODELS, "ns", "m", {"spec": {"url": "/other"}})
    bench.watches.models.take("MODIFIED", edited)
    node = bench.cluster.patch(NODES, None, "edge-1", {"status": {"conditions": []}})
    bench.watches.nodes.take("MODIFIED", node)
    assert bench.enqueued == [("ns", "toy")] * 2
    workflow = bench.cluster.all(WORKFLOWS)[0]
    bench.watches.workflows.take("DELETED", workflow)
    assert bench.enqueued[-1] == ("ns", "toy")
    assert len(bench.enqueued) == 3


def test_an_invalid_spec_is_not_accepted_and_an_edit_heals_it(bench):
    bench.apply_job(rounds=0)
    bench.look()
    assert bench.condition("Accepted") == ("False", "Invalid")
    bench.edit(rounds=2)
    bench.look()
    assert bench.condition("Accepted") == ("True", "Valid")
    assert bench.workflows() == ["r0-a1"]


def test_what_the_engine_cannot_run_is_not_accepted(bench):
    job = bench.apply_job()
    bench.look()
    workers = job["spec"]["trainingWorkers"]
    workers[0]["template"]["spec"]["containers"][0]["args"] = ["{{workflow.name}}"]
    bench.edit(trainingWorkers=workers)
    bench.round(0)
    assert bench.condition("Accepted") == ("False", "TemplateBraces")
    assert bench.workflows() == ["r0-a1"]


def test_a_suspended_job_ends_its_round_waits_and_goes_on(bench):
    bench.apply_job()
    bench.look()
    bench.edit(suspend=True)
    bench.look()
    assert bench.condition("Suspended") == ("False", "NotSuspended")  # its round still runs
    bench.round(0)
    assert bench.condition("Suspended") == ("True", "SuspendedByUser")
    assert bench.workflows() == ["r0-a1"]
    bench.edit(suspend=False)
    bench.look()
    assert bench.condition("Suspended") == ("False", "Resumed")
    assert bench.workflows() == ["r0-a1", "r1-a1"]


def test_an_edit_in_mid_job_takes_effect_with_the_next_round(bench):
    bench.apply_job()
    bench.look()
    bench.round(0)
    bench.edit(rounds=1)
    bench.round(1)
    assert bench.condition("Complete") == ("True", "RoundsDone")
    assert bench.status["observedGeneration"] == 2


def test_a_failed_attempt_is_tried_again_and_then_the_job_fails(bench):
    bench.apply_job(participation={"retries": 1})
    bench.look()
    bench.round(0)
    bench.end_workflow("r1-a1", "Failed", "no luck")
    bench.look()
    assert bench.workflows()[-1] == "r1-a2"
    assert bench.condition("Progressing") == ("True", "RoundRetried")
    bench.end_workflow("r1-a2", "Failed", "no luck either")
    bench.look()
    assert bench.condition("Failed") == ("True", "WorkflowFailed")
    assert bench.status["phase"] == "Failed"


def test_a_restarted_controller_neither_loses_nor_repeats_anything(bench):
    bench.apply_job(participation={"retries": 1})
    for step in (
        lambda: None,
        lambda: bench.round(0),
        lambda: bench.end_workflow("r1-a1", "Failed"),
        lambda: None,
        lambda: bench.commit(1),
        lambda: bench.end_workflow("r1-a2"),
        lambda: bench.round(2),
    ):
        step()
        bench.restart()
        bench.look()
    assert bench.workflows() == ["r0-a1", "r1-a1", "r1-a2", "r2-a1"]
    assert bench.condition("Complete") == ("True", "RoundsDone")


@pytest.mark.parametrize("calls", range(1, 14))
def test_killed_after_any_call_it_goes_on_where_it_stood(bench, monkeypatch, calls):
    bench.apply_job()
    left = [calls]

    class KilledError(BaseException):
        pass

    def mortal(call):
        def called(*arguments, **options):
            if left[0] == 0:
                raise KilledError
            left[0] -= 1
            return call(*arguments, **options)

        return called

    with monkeypatch.context() as patch:
        for name in ("create", "patch", "replace"):
            patch.setattr(bench.cluster, name, mortal(getattr(bench.cluster, name)))
        try:
            bench.look()
            bench.commit(0)
            bench.end_workflow("r0-a1")
            bench.look()
        except KilledError:
            pass
    if "r0-a1" in bench.workflows() and not bench.job_store.exists(layout.result_key(0)):
        bench.commit(0)
        bench.end_workflow("r0-a1")
    bench.restart()
    bench.look()
    if bench.workflows() == ["r0-a1"]:
        bench.round(0)
    bench.round(1)
    bench.round(2)
    assert bench.workflows() == ["r0-a1", "r1-a1", "r2-a1"]
    assert bench.condition("Complete") == ("True", "RoundsDone")
    for secret in bench.cluster.all(
        SECRETS
    ):  # they go with their workflow, at the latest with the job
        assert secret["metadata"]["ownerReferences"][0]["kind"] in ("Workflow", JOBS.kind)


def test_a_store_that_does_not_answer_costs_no_attempt(bench, monkeypatch):
    bench.apply_job(participation={"retries": 0})
    bench.look()
    bench.commit(0)
    bench.end_workflow("r0-a1")
    run = bench.reconciler._runs["ns", "toy"]

    def away(*_, **__):
        raise StoreUnavailableError("no answer")

    with monkeypatch.context() as patch:
        patch.setattr(run.store, "get", away)
        for _ in range(3):
            with pytest.raises(StoreUnavailableError):
                bench.look()
    assert bench.condition("Progressing") == ("False", "StoreUnavailable")
    assert bench.status["phase"] == "Running"
    bench.look()
    assert bench.workflows() == ["r0-a1", "r1-a1"]
    assert bench.condition("Progressing") == ("True", "RoundRunning")


def test_an_api_server_that_does_not_answer_costs_no_attempt(bench):
    bench.apply_job(participation={"retries": 0})
    bench.look()
    bench.commit(0)
    bench.end_workflow("r0-a1")
    for cache in bench.watches.all:
        cache.refresh("ns" if cache.resource.is_namespaced else None)
    bench.cluster.is_down = True
    with pytest.raises(ApiUnavailableError):
        bench.reconciler.reconcile(("ns", "toy"))
    bench.cluster.is_down = False
    bench.look()
    assert bench.workflows() == ["r0-a1", "r1-a1"]


def test_a_bucket_that_does_not_exist_is_told(bench):
    bench.store_settings = replace(bench.store_settings, uri="s3://no-such-bucket/x")
    bench.restart()
    bench.apply_job()
    assert bench.look() is not None
    status, reason = bench.condition("ResolvedRefs")
    assert status == "False"
    assert "Bucket" in reason or "Store" in reason


def test_without_any_store_the_job_says_what_to_set(bench):
    bench.store_settings = None
    bench.restart()
    bench.apply_job()
    bench.look()
    assert bench.condition("ResolvedRefs") == ("False", "NoStore")


def test_a_stale_view_of_the_job_is_refused_not_written(bench):
    bench.apply_job()
    for cache in bench.watches.all:
        cache.refresh("ns" if cache.resource.is_namespaced else None)
    bench.edit(rounds=5)
    with pytest.raises(ConflictError):
        bench.reconciler.reconcile(("ns", "toy"))
    assert "status" not in bench.job
    bench.look()
    assert bench.status["observedGeneration"] == 2


def test_a_deleted_job_is_forgotten_and_one_of_its_name_starts_anew(bench):
    first = bench.apply_job()
    bench.look()
    bench.round(0)
    bench.cluster.delete(JOBS, "ns", "toy")
    assert bench.workflows() == []  # with the job goes all that it owns
    assert bench.look() is None
    first["metadata"]["uid"] = "99999999-0000-4000-8000-000000000000"
    bench.apply(first)
    bench.look()
    assert bench.workflows() == ["r0-a1"]
    assert bench.status["currentRound"] == 1


def test_an_ended_job_stays_ended_though_its_datasets_and_its_store_are_gone(bench):
    bench.apply_job(rounds=1)
    bench.look()
    bench.round(0)
    bench.round(1)
    before = bench.status
    bench.cluster.delete(DATASETS, "ns", "a")
    bench.job_store.delete("round-")
    for _ in range(2):
        assert bench.look() is None
        bench.restart()
    assert bench.status == before


def test_a_failed_job_is_tried_again_when_asked(bench):
    bench.apply_job(participation={"retries": 0})
    bench.look()
    bench.round(0)
    bench.end_workflow("r1-a1", "Failed")
    bench.look()
    assert bench.status["phase"] == "Failed"
    bench.annotate(retry_at="2126-01-01T00:00:00Z")
    bench.restart()
    bench.look()
    assert bench.workflows()[-1] == "r1-a2"
    assert bench.status["phase"] == "Running"
    assert bench.condition("Failed") is None


def test_a_cancelled_job_stops_its_workflow_and_has_failed(bench):
    bench.apply_job()
    bench.look()
    bench.annotate(cancel="true")
    bench.look()
    assert bench.condition("Failed") == ("True", "Cancelled")
    assert bench.cluster.all(WORKFLOWS)[0]["spec"]["shutdown"] == "Terminate"


def test_a_workflow_that_somebody_deletes_is_made_again(bench):
    bench.apply_job()
    bench.look()
    bench.cluster.delete(WORKFLOWS, "ns", bench.cluster.all(WORKFLOWS)[0]["metadata"]["name"])
    bench.restart()
    bench.look()
    assert bench.workflows() == ["r0-a1"]


def servers_pod(bench, make_pod, state, phase="Running"):
    """The pod of the newest workflow's last task, which Argo takes for running."""
    workflow = bench.cluster.all(WORKFLOWS)[-1]
    name = workflow["metadata"]["name"]
    last = workflow["metadata"]["annotations"]["fedloom.io/last-task"]
    pod = make_pod(client=None, phase=phase, startTime="2026-01-01T00:00:00Z")
    pod["metadata"]["labels"]["fedloom.io/round"] = workflow["metadata"]["labels"][
        "fedloom.io/round"
    ]
    pod["metadata"]["annotations"]["workflows.argoproj.io/node-name"] = f"{name}.{last}(0)"
    pod["status"]["containerStatuses"] = [
        {"name": "wait", "state": {"running": {}}},
        {"name": "commit", "state": state},
    ]
    bench.cluster.set_status(WORKFLOWS, "ns", name, {"phase": "Running"})
    return pod


def test_a_round_is_over_when_its_last_pod_is_though_argo_has_not_noticed(bench, make_pod):
    bench.apply_job()
    bench.look()
    bench.commit(0)
    bench.apply(servers_pod(bench, make_pod, {"terminated": {"exitCode": 0}}))
    bench.look()
    assert bench.workflows() == ["r0-a1", "r1-a1"]


def test_a_round_is_over_when_its_result_is_there_though_its_pod_still_runs(bench, make_pod):
    bench.apply_job()
    bench.look()
    bench.apply(servers_pod(bench, make_pod, {"running": {}}))
    assert bench.look() <= 5  # it may be there any moment
    assert bench.workflows() == ["r0-a1"]
    bench.commit(0)
    bench.look()
    assert bench.workflows() == ["r0-a1", "r1-a1"]
    bench.end_workflow("r0-a1")
    bench.look()
    assert bench.workflows() == ["r0-a1", "r1-a1"]
    assert bench.status["aggregationCount"] == 0


def test_a_dropped_client_shows_what_its_pod_said(bench, make_pod):
    bench.apply_job()
    bench.look()
    bench.round(0)
    bench.end_workflow("r1-a1", "Running")
    state = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
    bench.apply(make_pod("a", "Failed", containerStatuses=[{"name": "train", "state": state}]))
    bench.look()
    bench.round(1, a="NoUpdate")
    shown = {each["name"]: each for each in bench.status["clients"]}
    assert (shown["a"]["state"], shown["a"]["reason"]) == ("Failed", "OOMKilled")


def test_why_a_client_did_not_start_is_told_though_its_deadline_ended_it(bench, make_pod):
    bench.apply_job(rounds=1, participation={"minClients": 1})
    bench.look()
    bench.round(0)
    bench.end_workflow("r1-a1", "Running")
    waiting = {"reason": "ErrImageNeverPull", "message": "no such image"}
    pod = make_pod("a", "Pending", containerStatuses=[{"name": "x", "state": {"waiting": waiting}}])
    pod["metadata"]["creationTimestamp"] = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    bench.apply(pod)
    bench.look()  # too early to give it up
    message = "Pod was active on the node longer than the specified deadline"
    ended = {"phase": "Failed", "reason": "DeadlineExceeded", "message": message}
    ended["containerStatuses"] = []
    bench.cluster.set_status(PODS, "ns", "pod-a", ended)
    bench.look()
    bench.round(1, a="NoUpdate")
    shown = {each["name"]: each for each in bench.status["clients"]}
    assert shown["a"]["state"] == "Failed"
    assert "Image" in shown["a"]["reason"]


def test_a_job_that_failed_shows_how_its_clients_did(bench, make_pod):
    bench.apply_job(participation={"retries": 0})
    bench.look()
    bench.round(0)
    bench.end_workflow("r1-a1", "Running")
    state = {"terminated": {"exitCode": 1, "reason": "Error"}}
    bench.apply(make_pod("a", "Failed", containerStatuses=[{"name": "train", "state": state}]))
    bench.look()
    bench.end_workflow("r1-a1", "Failed")
    bench.look()
    shown = {each["name"]: each for each in bench.status["clients"]}
    assert (shown["a"]["state"], shown["a"]["reason"]) == ("Failed", "ScriptFailed")
    assert bench.status["failed"] == 1
    failed = next(each for each in bench.status["conditions"] if each["type"] == "Failed")
    assert "Their pods say: a: ScriptFailed (train ended with exit code 1" in failed["message"]


def test_a_client_that_never_starts_is_given_up_with_its_reason(bench, make_pod):
    bench.apply_job()
    bench.look()
    bench.round(0)
    bench.end_workflow("r1-a1", "Running")
    state = {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}
    bench.apply(make_pod("a", "Pending", containerStatuses=[{"name": "train", "state": state}]))
    bench.look()
    bench.look()
    assert bench.cluster.get(PODS, "ns", "pod-a")["spec"]["activeDeadlineSeconds"] == 1
    shown = {each["name"]: each for each in bench.status["clients"]}
    assert (shown["a"]["state"], shown["a"]["reason"]) == ("Failed", "ImagePullBackOff")
    notes = [event["message"] for event in bench.cluster.all(EVENTS)]
    assert any("client a" in note and "no such image" in note for note in notes)
    ended = {"phase": "Failed", "reason": "DeadlineExceeded", "containerStatuses": []}
    bench.cluster.set_status(PODS, "ns", "pod-a", ended)
    bench.look()
    bench.round(1, a="NoUpdate")
    shown = {each["name"]: each for each in bench.status["clients"]}
    assert (shown["a"]["state"], shown["a"]["reason"]) == ("Failed", "ImagePullBackOff")


def test_a_node_that_is_not_ready_is_waited_for(bench):
    bench.apply_job()
    bench.look()
    condition = {"type": "Ready", "status": "Unknown"}
    bench.cluster.patch(NODES, None, "edge-2", {"status": {"conditions": [condition]}})
    bench.round(0)
    assert bench.workflows() == ["r0-a1"]
    assert bench.condition("Progressing") == ("False", "WaitingForNodes")
    ready = {"type": "Ready", "status": "True"}
    bench.cluster.patch(NODES, None, "edge-2", {"status": {"conditions": [ready]}})
    bench.look()
    assert bench.workflows() == ["r0-a1", "r1-a1"]


def test_datasets_and_the_model_learn_what_a_round_found(bench):
    bench.apply_job()
    bench.look()
    bench.round(0)
    bench.round(1, b="OOMKilled")
    assert bench.cluster.get(DATASETS, "ns", "a")["status"]["numberOfSamples"] == 7
    assert "status" not in bench.cluster.get(DATASETS, "ns", "b")
    model = bench.cluster.get(MODELS, "ns", "m")
    assert model["status"]["metrics"] == [{"key": "train/loss", "value": "0.5"}]


def test_events_tell_the_story_once(bench):
    bench.apply_job()
    bench.look()
    for number in range(3):
        bench.round(number, **({"b": "OOMKilled"} if number == 1 else {}))
    bench.restart()
    bench.look()
    reasons = sorted(event["reason"] for event in bench.cluster.all(EVENTS))
    assert reasons == ["ClientDropped", "Complete", *["RoundCommitted"] * 3]


def test_two_jobs_do_not_mind_each_other(bench, make_job):
    bench.apply_job()
    other = make_job("other")
    other["metadata"]["uid"] = "77777777-0000-4000-8000-000000000000"
    bench.apply(other)
    bench.look()
    bench.look("other")
    bench.round(0)
    bench.look("other")
    assert sorted(bench.workflows()) == ["r0-a1", "r0-a1", "r1-a1"]
