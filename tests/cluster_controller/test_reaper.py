"""Who holds up a round and must go."""

from __future__ import annotations

import pytest

from controller.cluster.pods import client_runs, is_done, kept_of_pod
from controller.cluster.reaper import Limits, Verdict, carry_out, next_look_seconds, verdicts
from controller.cluster.resources import BATCH_JOBS, PODS, TASK_RESULTS
from pipelines.engines.argo_clients import ClientStatus

START = 1767225600.0  # 2026-01-01T00:00:00Z, when every pod of these tests was made
LIMITS = Limits(deadline_seconds=100, grace_seconds=10, lost_node_seconds=60)


def waiting(reason, message="no such image"):
    state = {"waiting": {"reason": reason, "message": message}}
    return {"containerStatuses": [{"name": "train", "state": state}]}


def ended(code, reason="Error"):
    state = {"terminated": {"exitCode": code, "reason": reason, "finishedAt": None}}
    return {"containerStatuses": [{"name": "train", "state": state}]}


def judged(pod, nodes, after, limits=LIMITS):
    return [
        (verdict.client, verdict.reason)
        for verdict in verdicts([kept_of_pod(pod)], nodes, limits, START + after)
    ]


@pytest.fixture
def nodes(make_node):
    return {"edge-1": make_node("edge-1")}


def test_who_trains_in_time_is_left_alone(make_pod, nodes):
    assert judged(make_pod(), nodes, 109) == []


def test_who_is_past_the_deadline_and_its_grace_goes(make_pod, nodes):
    assert judged(make_pod(), nodes, 110) == [("a", "DeadlineExceeded")]


def test_a_pod_that_was_never_scheduled_goes_at_the_deadline_too(make_pod, nodes):
    pod = make_pod(phase="Pending")
    pod["spec"] = {}
    assert judged(pod, nodes, 111) == [("a", "DeadlineExceeded")]


def test_without_a_deadline_nobody_is_late(make_pod, nodes):
    assert judged(make_pod(), nodes, 1e6, Limits()) == []


def test_the_server_has_no_deadline(make_pod, nodes):
    assert judged(make_pod(client=None), nodes, 1e6) == []


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_who_has_ended_is_left_alone(make_pod, phase):
    assert judged(make_pod(phase=phase), {}, 1e6) == []


def test_an_image_that_cannot_be_pulled_is_given_up_after_a_minute(make_pod, nodes):
    pod = make_pod(phase="Pending", **waiting("ImagePullBackOff"))
    assert judged(pod, nodes, 59) == []
    assert judged(pod, nodes, 60) == [("a", "ImagePullBackOff")]
    assert next_look_seconds([kept_of_pod(pod)], LIMITS, START + 50) == pytest.approx(10)


def test_so_is_the_servers(make_pod, nodes):
    pod = make_pod(client=None, phase="Pending", **waiting("InvalidImageName"))
    assert judged(pod, nodes, 61) == [(None, "InvalidImageName")]


def test_creating_is_no_reason_to_give_up(make_pod, nodes):
    pod = make_pod(phase="Pending", **waiting("ContainerCreating"))
    assert judged(pod, nodes, 100) == []


def test_a_node_that_is_gone_for_long_enough_loses_its_client(make_pod, make_node):
    nodes = {"edge-1": make_node("edge-1", "Unknown", "2026-01-01T00:00:20Z")}
    assert judged(make_pod(), nodes, 79) == []
    assert judged(make_pod(), nodes, 80) == [("a", "NodeLost")]
    assert judged(make_pod(), {}, 1) == [("a", "NodeLost")]


def test_a_pod_of_a_node_that_answers_gets_a_deadline_for_its_kubelet(cluster, make_pod, nodes):
    pod = make_pod()
    cluster.create(PODS, pod)
    cluster.create(TASK_RESULTS, {"metadata": {"name": "node-a", "namespace": "ns"}})
    verdict = next(iter(verdicts([kept_of_pod(pod)], nodes, LIMITS, START + 200)))
    for _ in range(2):  # once more does no harm
        carry_out(cluster, "ns", verdict)
    labels = cluster.get(TASK_RESULTS, "ns", "node-a")["metadata"]["labels"]
    assert labels == {"workflows.argoproj.io/report-outputs-completed": "true"}
    assert cluster.get(PODS, "ns", "pod-a")["spec"]["activeDeadlineSeconds"] == 1


def test_a_pod_without_a_kubelet_is_written_off(cluster, make_pod, make_node):
    pod = make_pod()
    cluster.create(PODS, pod)
    gone = {"edge-1": make_node("edge-1", "Unknown")}
    verdict = next(iter(verdicts([kept_of_pod(pod)], gone, LIMITS, START + 200)))
    carry_out(cluster, "ns", verdict)
    status = cluster.get(PODS, "ns", "pod-a")["status"]
    assert (status["phase"], status["reason"]) == ("Failed", "NodeLost")
    carry_out(cluster, "ns", Verdict("gone", None, "a", "NodeLost", ""))


def test_a_pod_that_was_never_scheduled_is_written_off(cluster, make_pod, nodes):
    pod = make_pod(phase="Pending")
    pod["spec"] = {}
    cluster.create(PODS, pod)
    verdict = next(iter(verdicts([kept_of_pod(pod)], nodes, LIMITS, START + 200)))
    carry_out(cluster, "ns", verdict)
    assert cluster.get(PODS, "ns", "pod-a")["status"]["phase"] == "Failed"


def test_a_dispatched_client_loses_its_job_or_that_would_make_the_pod_again(cluster, make_pod):
    pod = make_pod()
    pod["metadata"]["ownerReferences"] = [{"kind": "Job", "name": "j", "uid": "1"}]
    del pod["metadata"]["annotations"]
    cluster.create(BATCH_JOBS, {"metadata": {"name": "j", "namespace": "ns"}})
    cluster.create(PODS, pod)
    verdict = next(iter(verdicts([kept_of_pod(pod)], {}, LIMITS, START)))
    carry_out(cluster, "ns", verdict)
    assert cluster.get(BATCH_JOBS, "ns", "j") is None


def test_a_pod_knows_where_and_why_before_the_engine_does(make_pod):
    pods = [
        kept_of_pod(make_pod("a", "Failed", **ended(137, "OOMKilled"))),
        kept_of_pod(make_pod("b", "Pending", **waiting("ErrImagePull"))),
        kept_of_pod(make_pod("c")),
    ]
    runs = client_runs({"a": ClientStatus("Running"), "d": ClientStatus("Pending")}, pods)
    assert (runs["a"].state, runs["a"].reason, runs["a"].node) == ("Failed", "OOMKilled", "edge-1")
    assert (runs["b"].state, runs["b"].reason) == ("Pending", "ImagePullBackOff")
    assert (runs["c"].state, runs["c"].reason) == ("Running", None)
    assert runs["d"].state == "Pending"


def test_what_the_engine_says_of_an_end_stands(make_pod):
    said = {"a": ClientStatus("Failed", "ScriptFailed", "exit code 3", "edge-1")}
    runs = client_runs(said, [kept_of_pod(make_pod())])
    assert (runs["a"].state, runs["a"].reason) == ("Failed", "ScriptFailed")


def test_a_server_has_committed_when_all_containers_but_argos_have_ended_well(make_pod):
    pod = make_pod(client=None)

    def containers(**codes):
        return [
            {"name": name, "state": {"terminated": {"exitCode": code}} if code is not None else {}}
            for name, code in codes.items()
        ]

    for codes, expected in (
        ({"wait": None, "aggregate": 0, "commit": 0}, True),
        ({"wait": None, "aggregate": 0, "commit": None}, False),
        ({"wait": None, "aggregate": 0, "commit": 1}, False),
        ({"wait": 0}, False),
    ):
        pod["status"]["containerStatuses"] = containers(**codes)
        assert is_done(kept_of_pod(pod)) is expected
