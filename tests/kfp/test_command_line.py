"""What the command line shows of a job that Kubeflow Pipelines runs."""

from __future__ import annotations

import pytest

from cli.cluster import logs
from cli.cluster.diagnosis.verdicts import kfp_finding
from cli.cluster.feed import Feed
from cli.cluster.kfp_rounds import is_on_kfp, pods_of_runs, runs_namespace
from cli.cluster.picture import Picture
from controller.cluster.resources import PODS

ENDED = {"state": {"terminated": {"exitCode": 0, "finishedAt": "2026-01-01T00:01:00Z"}}}
DONE = {
    "phase": "Succeeded",
    "startTime": "2026-01-01T00:00:00Z",
    "initContainerStatuses": [{"name": "init", **ENDED}, {"name": "kfp-launcher", **ENDED}],
    "containerStatuses": [{"name": "main", **ENDED}, {"name": "wait", **ENDED}],
}


@pytest.fixture
def running(bench):
    """A job in round 1, with the pods of a client, of the server and of a driver."""
    bench.apply_job()
    bench.look()
    bench.round(0)
    run = bench.run(1)["run_id"]
    for node, name in (
        ("root.clients.client-a.executor", "a"),
        ("root.server.executor", "s"),
        ("root.clients.client-a-driver", "d"),
    ):
        bench.cluster.create(PODS, pod(run, node, name))
    bench.look()
    return bench


def pod(run, node, name):
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "kubeflow",
            "labels": {"pipeline/runid": run},
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "annotations": {"workflows.argoproj.io/node-name": f"wf.{node}"},
        },
        "spec": {"nodeName": "edge-1"},
        "status": DONE,
    }


def test_logs_are_those_of_the_runs_own_pods(running):
    pods = pods_of_runs(running.cluster, running.job)
    attempt = logs.newest_attempt(pods, None)
    assert attempt == (1, 1)
    sources = list(logs.sources_of(pods, attempt, logs.Wanted()))
    assert [(each.namespace, each.pod, each.container, each.prefix) for each in sources] == [
        ("kubeflow", "a", "main", "a/client-a"),
        ("kubeflow", "s", "main", "server/server"),
    ]
    (only,) = logs.sources_of(pods, attempt, logs.Wanted(client="a"))
    assert only.pod == "a"


def test_watch_draws_the_run_with_its_clients(running):
    feed = Feed(running.cluster, running.job)
    for cache in (feed._jobs, feed._workflows, feed._pods):
        for namespace in cache._parts:
            cache.refresh(namespace)
    (picture, *_) = feed.pictures()
    assert isinstance(picture, Picture)
    attempt = picture.newest()
    assert (attempt.round, attempt.attempt) == (1, 1)
    states = {worker.name: (worker.is_client, worker.status.state) for worker in attempt.workers}
    assert states == {"a": (True, "Succeeded"), "server": (False, "Succeeded")}


def test_the_runs_are_looked_for_where_the_controller_has_them(running, monkeypatch):
    assert is_on_kfp(running.job)
    assert runs_namespace(running.job) == "kubeflow"
    monkeypatch.setenv("FEDLOOM_KFP_NAMESPACE", "*")
    assert runs_namespace(running.job) == "ns"
    assert not is_on_kfp({"spec": {"engine": {"name": "argo"}}})
    assert not is_on_kfp({"spec": {}})


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        ({"code": 200, "body": '{"commit_sha":"x", "multi_user":false}'}, "ok"),
        ({"code": 200, "body": '{"multi_user": true}'}, "ok"),
        ({"code": 200, "body": "<html>please log in</html>"}, "unknown"),
        ({"code": 403, "body": ""}, "unknown"),
        ({"code": 404, "body": "no"}, "problem"),
        ({"code": None, "error": "connection refused"}, "problem"),
    ],
)
def test_doctor_judges_what_the_backend_answers(answer, state):
    finding = kfp_finding("http://ml-pipeline.kubeflow:8888", answer)
    assert (finding.check, finding.state) == ("kfp", state)
    assert "http://ml-pipeline.kubeflow:8888" in finding.message
