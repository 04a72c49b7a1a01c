"""Jobs on a cluster that learn from others: what they look at, wait for, and say."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any

import pytest

from controller.cluster.job_sources import JobSources
from controller.cluster.resolve import resolve
from controller.cluster.resources import DATASETS, JOBS, MODELS
from controller.cluster.sources import look_at_sources
from controller.sources import READY, Looked
from fedloom.api.defaults import with_defaults
from fedloom.api.reading import read_job
from fedloom.artifacts import layout

WARM = {"mode": "warmStart", "from": [{"job": "teacher"}]}
DONE = {
    "phase": "Succeeded",
    "model": {
        "uri": "s3://fl/jobs/ns/teacher-12345678/round-0003/model.safetensors",
        "round": 3,
        "digest": "sha256:t",
        "registeredModel": "digits",
        "version": "7",
    },
    "tracking": {"runId": "run-1"},
}


class Objects:
    """What is there, by (resource, namespace, name)."""

    def __init__(self) -> None:
        self.known: dict[Any, Any] = {}

    def get(self, resource, namespace, name):
        return self.known.get((resource, namespace, name))

    def nodes(self):
        return None

    def add(self, resource, name, spec, status=None, namespace="ns", **meta):
        self.known[resource, namespace, name] = {
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "metadata": {"name": name, "namespace": namespace, **meta},
            "spec": spec,
            **({"status": status} if status else {}),
        }


@pytest.fixture
def objects():
    return Objects()


@pytest.fixture
def look(make_job, objects):
    """Look at one source of a job."""

    def at(source: dict[str, Any], **spec: Any) -> Looked:
        document = make_job(transfer={"mode": "warmStart", "from": [source]}, **spec)
        objects.known[JOBS, "ns", "toy"] = document
        (found,) = look_at_sources(with_defaults(read_job(document)), objects)
        return found

    return at


def test_the_final_model_of_a_job_that_is_done_with_all_that_it_comes_from(look, objects):
    objects.add(JOBS, "teacher", {}, DONE)
    found = look({"job": "teacher"})
    assert found.state == READY
    assert found.candidates[0] == {
        "name": "job/teacher",
        "url": DONE["model"]["uri"],
        "uri": DONE["model"]["uri"],
        "digest": "sha256:t",
        "job": "ns/teacher",
        "round": 3,
        "run_id": "run-1",
        "registered_model": "digits",
        "version": "7",
    }


def test_the_first_model_of_a_job_that_still_runs(look, objects):
    objects.add(JOBS, "teacher", {}, {**DONE, "phase": "Running"})
    found = look({"job": "teacher", "start": True})
    (candidate,) = found.candidates
    assert candidate["url"].endswith("/teacher-12345678/round-0000/model.safetensors")
    assert "digest" not in candidate
    assert "version" not in candidate


STATUSES = {
    "not seen yet": (None, "Coming", "SourceRunning"),
    "pending": ({"phase": "Pending"}, "Coming", "SourceRunning"),
    "running": ({**DONE, "phase": "Running", "aggregationCount": 2}, "Coming", "SourceRunning"),
    "failed": (
        {**DONE, "phase": "Failed", "conditions": [{"type": "Failed", "status": "True"}]},
        "Absent",
        "SourceFailed",
    ),
}


@pytest.mark.parametrize("case", STATUSES)
def test_a_job_that_is_not_done(look, objects, case):
    status, state, reason = STATUSES[case]
    objects.add(JOBS, "teacher", {"rounds": 5}, status)
    found = look({"job": "teacher"})
    assert (found.state, found.reason) == (state, reason)


def test_what_is_not_there_or_about_to_go(look, objects):
    assert look({"job": "teacher"}).reason == "SourceNotFound"
    assert look({"model": "m"}).reason == "SourceNotFound"
    objects.add(JOBS, "teacher", {}, DONE, deletionTimestamp="2026-01-01T00:00:00Z")
    assert look({"job": "teacher"}).reason == "SourceNotFound"


@pytest.mark.parametrize(
    ("annotation", "reason"),
    [(None, "SourceNotAllowed"), ("x", "SourceNotAllowed"), ("x, ns", ""), ("*", "")],
)
def test_another_namespace_must_allow_it_by_an_annotation(look, objects, annotation, reason):
    meta = {} if annotation is None else {"annotations": {"fedloom.io/transfer-to": annotation}}
    objects.add(JOBS, "teacher", {}, DONE, namespace="far", **meta)
    assert look({"job": "teacher", "namespace": "far"}).reason == reason


def test_no_secret_of_another_namespace_is_lent(look, objects):
    allowed = {"annotations": {"fedloom.io/transfer-to": "*"}}
    s3 = {"transmitter": {"s3": {"aggDataPath": "s3://a/b", "credentialName": "keys"}}}
    objects.add(JOBS, "teacher", s3, DONE, namespace="far", **allowed)
    assert look({"job": "teacher", "namespace": "far"}).reason == "SourceUnreadable"
    spec = {"url": "s3://a/m", "format": "x", "credentialName": "keys"}
    objects.add(MODELS, "m2", spec, namespace="far", **allowed)
    assert look({"model": "m2", "namespace": "far"}).reason == "SourceUnreadable"


def test_a_secret_that_opens_a_source_is_looked_up(look, objects, make_job):
    s3 = {"transmitter": {"s3": {"aggDataPath": "s3://a/b", "credentialName": "keys"}}}
    objects.add(JOBS, "teacher", s3, DONE)
    assert look({"job": "teacher"}).candidates[0]["credential"] == "keys"
    objects.add(DATASETS, "a", {"url": "/d", "format": "x", "nodeName": "n"})
    objects.add(DATASETS, "b", {"url": "/d", "format": "x", "nodeName": "n"})
    objects.add(MODELS, "m", {"url": "/m", "format": "x"})
    found = resolve(make_job(transfer=WARM), objects)
    assert found.missing is not None
    assert found.missing.reason == "SecretNotFound"


def test_a_circle_of_jobs_is_named(look, objects):
    objects.add(JOBS, "teacher", {"transfer": {"from": [{"job": "third"}]}}, DONE)
    objects.add(JOBS, "third", {"transfer": {"from": [{"job": "toy"}]}})
    found = look({"job": "teacher"})
    assert found.reason == "SourceCircular"
    assert "ns/toy -> ns/teacher -> ns/third -> ns/toy" in found.message


def test_a_url_needs_a_signature_only_where_the_store_is_not_the_jobs_own(look):
    assert "credential" not in look({"uri": "s3://fl/m.safetensors"}).candidates[0]
    assert look({"uri": "https://h/m"}).candidates[0]["credential"] == ""
    uri = {"uri": "s3://else/m", "credentialName": "keys"}
    assert look(uri).candidates[0]["credential"] == "keys"
    assert look({"uri": "/"}).reason == "SourceUnreadable"


def settled(sources: JobSources, job: Any) -> Any:
    for _ in range(200):
        found = sources.look(job, ())
        if found is not None:
            return found
        time.sleep(0.01)
    raise AssertionError


def test_a_look_at_a_job_never_waits_for_the_registry(make_job, store_settings, tmp_path):
    from controller.cluster.stores import access_of

    job = with_defaults(read_job(make_job(transfer={"mode": "auto"})))
    store = access_of(job, None, store_settings).open()
    path = tmp_path / "found.safetensors"
    path.write_bytes(b"weights")

    def search(uris, wanted, folder, asked):
        assert asked is job
        time.sleep(0.05)
        return [Looked("registry", READY, candidates=({"name": "r:1", "url": str(path)},))]

    sources = JobSources("http://mlflow", tmp_path, store, search)
    assert sources.look(job, ()) is None
    (candidate,) = settled(sources, job).candidates
    assert "url" not in candidate
    assert store.get(candidate["key"], digest=candidate["digest"]) == b"weights"


def test_without_mlflow_a_search_says_so(make_job, store_settings, tmp_path):
    job = with_defaults(read_job(make_job(transfer={"mode": "auto"})))
    found = JobSources(None, tmp_path, None).look(job, ())
    assert found.unusable[0]["reason"] == "RegistryUnavailable"
    assert found.waiting is None  # scratch is the fallback of auto


def begun(bench: Any, **beginning: Any) -> None:
    """Round 0 happens, as the cloud's pod leaves it."""
    bench.commit(0)
    key = layout.result_key(0)
    result = json.loads(bench.job_store.get(key))
    result["transfer"] = {
        "mode": "auto",
        "choice": "job/teacher",
        "kind": "full",
        "reason": "BestLoss",
        "message": "job/teacher has loss 0.7, 1.5 (+- 0.1) below scratch",
        "is_sure": True,
        "source": {"name": "job/teacher", "uri": "s3://x", "digest": "sha256:t", "run_id": "r"},
        "frozen": [],
        "unusable": [{"name": "model/n", "reason": "SourceNotFound", "message": "none"}],
        "scores": [
            {
                "candidate": "job/teacher",
                "kind": "full",
                "loss": 0.7,
                "standard_error": None,
                "samples": 20,
            }
        ],
        "clients": {},
        "epsilon": None,
        "traffic": {"uplink_bytes": 1, "downlink_bytes": 2},
        **beginning,
    }
    bench.job_store.put(key, json.dumps(result).encode(), replace=True)
    bench.end_workflow("r0-a1")
    bench.look()


def test_a_job_waits_for_its_source_begins_with_it_and_tells_where_it_came_from(bench):
    bench.apply_job(transfer=WARM)
    assert bench.look() == pytest.approx(15.0)
    assert bench.workflows() == []
    assert bench.condition("WaitingForSource") == ("True", "SourceNotFound")
    assert bench.condition("Progressing") == ("False", "WaitingForSource")
    teacher = {**bench.job, "metadata": {"name": "teacher", "namespace": "ns", "uid": "t" * 36}}
    teacher = {**teacher, "spec": {k: v for k, v in teacher["spec"].items() if k != "transfer"}}
    bench.apply({**teacher, "status": {"phase": "Running"}})
    bench.look()
    assert bench.condition("WaitingForSource") == ("True", "SourceRunning")
    bench.cluster.set_status(JOBS, "ns", "teacher", DONE)
    bench.look()
    assert bench.workflows() == ["r0-a1"]
    assert bench.condition("WaitingForSource") == ("False", "SourceFound")
    begun(bench)
    assert bench.condition("WaitingForSource") == ("False", "BestLoss")
    transfer = bench.status["transfer"]
    assert (transfer["choice"], transfer["runId"]) == ("job/teacher", "r")
    assert transfer["scores"][0]["loss"] == "0.7"
    assert transfer["unusable"][0]["reason"] == "SourceNotFound"
    assert bench.workflows() == ["r0-a1", "r1-a1"]
    bench.restart()
    bench.look()
    assert bench.status["transfer"] == transfer


def test_where_scratch_is_allowed_a_missing_source_holds_nobody_up(bench):
    bench.apply_job(transfer={**WARM, "fallback": "scratch"})
    bench.look()
    assert bench.workflows() == ["r0-a1"]


def test_a_source_of_another_namespace_without_permission_ends_the_job(bench):
    transfer = {"mode": "warmStart", "from": [{"job": "x", "namespace": "ns"}]}
    bench.apply_job(transfer=transfer)
    bench.look()
    assert bench.condition("WaitingForSource") == ("True", "SourceNotFound")


def test_a_change_of_the_source_wakes_the_jobs_that_wait_for_it(bench):
    bench.apply_job(transfer=WARM)
    bench.look()
    teacher = {**bench.job, "metadata": {"name": "teacher", "namespace": "ns", "uid": "t" * 36}}
    bench.enqueued.clear()
    bench.watches.jobs.take("ADDED", json.loads(json.dumps(teacher)))
    assert ("ns", "toy") in bench.enqueued


def test_jobs_that_learn_from_nobody_have_no_such_condition(bench):
    bench.apply_job()
    bench.look()
    assert bench.condition("WaitingForSource") is None
    assert "transfer" not in bench.status


def test_a_resolved_job_differs_where_its_sources_do(make_job, objects):
    for name in "ab":
        objects.add(DATASETS, name, {"url": "/d", "format": "x", "nodeName": "n"})
    objects.add(MODELS, "m", {"url": "/m", "format": "x"})
    before = resolve(make_job(transfer=WARM), objects)
    objects.add(JOBS, "teacher", {}, DONE)
    after = resolve(make_job(transfer=WARM), objects)
    assert before.is_complete
    assert before != after
    assert replace(before, sources=after.sources) == after
