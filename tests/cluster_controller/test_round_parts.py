"""Rounds of several Workflows: clients first, then the server, whatever happens in between."""

from __future__ import annotations

import contextlib
import time
import tracemalloc
from typing import Any

import pytest

from controller.cluster.resources import JOBS, SECRETS, WORKFLOWS
from controller.cluster.stores import access_of
from controller.cluster.submission import compile_submissions
from controller.decide import start_of
from controller.observed import Observed
from fedloom.api.defaults import with_defaults
from fedloom.api.reading import read_job, read_object
from pipelines.engines import argo
from pipelines.rounds import RoundPlanner

WHOLE = ["r0-a1", "r1-a1", "r1-a1-p1", "r1-a1-p2"]


@pytest.fixture
def bench(bench, monkeypatch):
    """Two clients are too many for one Workflow here."""
    monkeypatch.setattr(argo, "MOST_CLIENTS", 1)
    monkeypatch.setattr("controller.cluster.records._FIRST_PAUSE_SECONDS", 0.0)
    return bench


def begin(bench, **spec: Any) -> None:
    """Round 1 is submitted."""
    bench.apply_job(**spec)
    bench.look()
    bench.round(0)


def workflow(bench, run: str) -> dict[str, Any]:
    return next(w for w in bench.cluster.all(WORKFLOWS) if w["metadata"]["name"].endswith(run))


def is_held(bench, run: str) -> bool:
    return workflow(bench, run)["spec"].get("suspend") is True


def run_clients(bench, run: str, **clients: str) -> None:
    """Argo writes down how the clients of a Workflow stand."""
    name = workflow(bench, run)["metadata"]["name"]
    nodes = {
        f"{name}-{client}": {
            "id": f"{name}-{client}",
            "name": f"{name}.client-{client}",
            "type": "Pod",
            "phase": phase,
            "templateName": "client",
            "inputs": {"parameters": [{"name": "client", "value": client}]},
        }
        for client, phase in clients.items()
    }
    bench.cluster.set_status(WORKFLOWS, "ns", name, {"phase": "Running", "nodes": nodes})


def test_the_server_begins_when_all_clients_have_ended(bench):
    begin(bench)
    assert bench.workflows() == WHOLE
    assert bench.status["workflow"]["name"].endswith("-r1-a1")
    run_clients(bench, "-p1", a="Succeeded")
    run_clients(bench, "-p2", b="Running")
    bench.look()
    assert is_held(bench, "-r1-a1")
    shown = {each["name"]: each["state"] for each in bench.status["clients"]}
    assert shown == {"a": "Succeeded", "b": "Running"}
    assert (bench.status["succeeded"], bench.status["active"]) == (1, 1)
    run_clients(bench, "-p2", b="Failed")
    bench.look()
    assert not is_held(bench, "-r1-a1")
    bench.round(1)
    assert bench.workflows()[4:] == ["r2-a1", "r2-a1-p1", "r2-a1-p2"]
    for part in ("r2-a1-p1", "r2-a1-p2"):
        bench.end_workflow(part)
    bench.look()
    bench.round(2)
    assert bench.condition("Complete") == ("True", "RoundsDone")


def test_the_first_round_has_no_clients_and_one_workflow(bench):
    bench.apply_job()
    bench.look()
    assert bench.workflows() == ["r0-a1"]
    assert not is_held(bench, "r0-a1")


def test_the_servers_workflow_owns_the_others_and_each_its_secrets(bench):
    job = bench.apply_job()
    bench.look()
    bench.round(0)
    server = workflow(bench, "-r1-a1")
    assert server["metadata"]["ownerReferences"][0]["uid"] == job["metadata"]["uid"]
    for part in ("-p1", "-p2"):
        owners = workflow(bench, part)["metadata"]["ownerReferences"]
        assert [each["uid"] for each in owners] == [server["metadata"]["uid"]]
    for secret in bench.cluster.all(SECRETS):
        name = secret["metadata"]["name"].rpartition("-edge-")[0]
        if name:
            owners = secret["metadata"]["ownerReferences"]
            assert [each["name"] for each in owners] == [name]
    bench.cluster.delete(JOBS, "ns", "toy")
    assert bench.cluster.all(WORKFLOWS) == []
    assert bench.cluster.all(SECRETS) == []


def test_events_of_clients_workflows_concern_the_job(bench):
    begin(bench)
    bench.look()
    bench.enqueued.clear()
    bench.watches.workflows.take("DELETED", workflow(bench, "-p2"))
    assert bench.enqueued == [("ns", "toy")]


def test_a_restarted_controller_adopts_all_of_them(bench):
    begin(bench)
    for step in (
        lambda: None,
        lambda: run_clients(bench, "-p1", a="Succeeded"),
        lambda: run_clients(bench, "-p2", b="Succeeded"),
    ):
        assert is_held(bench, "-r1-a1")
        step()
        bench.restart()
        bench.look()
    assert not is_held(bench, "-r1-a1")
    assert bench.workflows() == WHOLE
    bench.restart()
    bench.round(1)
    assert bench.workflows()[4:] == ["r2-a1", "r2-a1-p1", "r2-a1-p2"]


@pytest.mark.parametrize("calls", range(1, 15))
def test_killed_in_the_middle_of_making_them_it_begins_another_attempt(bench, monkeypatch, calls):
    """Nothing is trained twice at once: what was made of the first attempt is ended."""
    bench.apply_job(participation={"retries": 0})
    bench.look()
    bench.commit(0)
    bench.end_workflow("r0-a1")
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
        with contextlib.suppress(KilledError):
            bench.look()
    bench.restart()
    for _ in range(3):
        bench.look()
    attempt = bench.workflows()[-1][:5]
    runs = [run for run in bench.workflows() if run.startswith(attempt)]
    assert runs == [attempt, f"{attempt}-p1", f"{attempt}-p2"]
    for run in set(bench.workflows()) - set(runs) - {"r0-a1"}:
        if "-p" in run:
            assert workflow(bench, run)["spec"]["shutdown"] == "Terminate"
    for part in ("-p1", "-p2"):
        bench.end_workflow(f"{attempt}{part}")
    bench.look()
    assert not is_held(bench, attempt)
    bench.commit(1)
    bench.end_workflow(attempt)
    bench.look()
    assert bench.status["aggregationCount"] == 1


def test_a_round_that_lost_a_workflow_is_begun_anew_and_that_does_not_count(bench):
    begin(bench, participation={"retries": 0})
    bench.cluster.delete(WORKFLOWS, "ns", workflow(bench, "-p2")["metadata"]["name"])
    bench.restart()  # what this process has made, it expects to see
    bench.look()
    bench.look()
    assert bench.workflows() == [*WHOLE[:3], "r1-a2", "r1-a2-p1", "r1-a2-p2"]
    assert bench.condition("Progressing") == ("True", "RoundRetried")
    progressing = next(c for c in bench.status["conditions"] if c["type"] == "Progressing")
    assert "WorkflowLost: a workflow with clients of this round is gone" in progressing["message"]
    left = workflow(bench, "r1-a1-p1")["spec"]
    assert left["shutdown"] == "Terminate"


def test_what_is_left_of_an_attempt_is_closed_in_the_end(bench, monkeypatch):
    monkeypatch.setattr("controller.cluster.argo_engine._CLOSING_SECONDS", 0.0)
    begin(bench, participation={"retries": 0})
    bench.cluster.delete(WORKFLOWS, "ns", workflow(bench, "-p2")["metadata"]["name"])
    bench.restart()
    for _ in range(3):
        bench.look()
    old = workflow(bench, "r1-a1")["spec"]
    assert (old["shutdown"], old.get("suspend")) == ("Terminate", None)
    now = workflow(bench, "r1-a2")["spec"]
    assert (now.get("shutdown"), now["suspend"]) == (None, True)


def test_workflows_of_another_cohort_are_not_adopted(bench):
    begin(bench, participation={"retries": 0})
    name = workflow(bench, "-p2")["metadata"]["name"]
    change = {"metadata": {"annotations": {"fedloom.io/cohort": "another"}}}
    bench.cluster.patch(WORKFLOWS, "ns", name, change)
    engine = bench.reconciler._runs["ns", "toy"].engine
    with pytest.raises(Exception, match=f"{name} is there with other clients"):
        engine._make_workflow(
            {"metadata": {"name": name, "namespace": "ns", "annotations": {}}}, None
        )


def test_cancelling_ends_all_of_them(bench):
    begin(bench)
    bench.annotate(cancel="true")
    bench.look()
    for run in WHOLE[1:]:
        spec = workflow(bench, run)["spec"]
        assert (spec["shutdown"], spec.get("suspend")) == ("Terminate", None)


def test_of_ten_parts_only_one_is_in_memory(bench, make_job, monkeypatch, store_settings):
    monkeypatch.setattr(argo, "MOST_CLIENTS", 20)
    names = tuple(f"c{number:04}" for number in range(200))
    job = read_job(make_job(clients=names, participation={"minClients": 1}))
    job = with_defaults(job)
    datasets = {name: read_object(bench.dataset(name)) for name in names}
    models = {"m": read_object(bench.model("m"))}
    model = {"key": "round-0/model.safetensors", "digest": "sha256:0", "size_bytes": 8}
    observed = Observed(last={"round": 0, "model": model, "state": {}})
    plan = RoundPlanner(job, datasets, models).plan(start_of(job, observed, time.time()))
    access = access_of(job, None, store_settings)
    settings = bench.reconciler._around.shared.settings
    given = (plan, job, access, settings, ())
    next(iter(compile_submissions(*given)))  # what is imported stays

    def peak_bytes(use) -> int:
        tracemalloc.start()
        use(compile_submissions(*given))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return peak

    all_at_once = peak_bytes(list)
    assert peak_bytes(lambda each: sum(1 for _ in each)) < all_at_once / 2
