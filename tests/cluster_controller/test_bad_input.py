"""What users and their hands can do to a job: each ends in a condition that says what to do."""

from __future__ import annotations

import base64
import re
from typing import Any

import pytest

from controller.cluster.resources import DATASETS, JOBS, SECRETS, WORKFLOWS
from pipelines.engines.argo_names import MOST_CHARACTERS

DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
LONG = "a" * 62
UIDS = ("11111111-0000-4000-8000-000000000000", "22222222-0000-4000-8000-000000000000")


def message(bench, kind: str) -> str:
    return next(each["message"] for each in bench.status["conditions"] if each["type"] == kind)


def secret(name: str, endpoint: str = "", **data: str) -> dict[str, Any]:
    coded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    meta = {"name": name, "namespace": "ns", "annotations": {"s3-endpoint": endpoint}}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "data": coded}


def keys(store_settings) -> dict[str, str]:
    credentials = store_settings.credentials
    return {
        "ACCESS_KEY_ID": credentials.access_key,
        "SECRET_ACCESS_KEY": credentials.secret_key,
        "endpoint": store_settings.endpoint,
    }


def with_s3(bench, path: str) -> None:
    bench.apply_job(transmitter={"s3": {"aggDataPath": path, "credentialName": "mine"}})


def test_a_secret_without_keys_is_told_and_heals(bench, store_settings, monkeypatch):
    monkeypatch.setattr("controller.cluster.objects._SECRET_SECONDS", 0.0)
    with_s3(bench, store_settings.uri)
    bench.look()
    assert bench.condition("ResolvedRefs") == ("False", "SecretNotFound")
    bench.apply(secret("mine", USER="me"))
    bench.look()
    assert bench.condition("ResolvedRefs") == ("False", "SecretIncomplete")
    said = message(bench, "ResolvedRefs")
    assert "'mine'" in said
    assert "ACCESS_KEY_ID" in said
    assert "SECRET_ACCESS_KEY" in said
    bench.cluster.patch(SECRETS, "ns", "mine", secret("mine", **keys(store_settings)))
    bench.look()
    assert bench.condition("ResolvedRefs") == ("True", "Resolved")
    assert bench.workflows() == ["r0-a1"]


def test_a_path_in_a_bucket_that_does_not_exist_is_told(bench, store_settings):
    bench.apply(secret("mine", **keys(store_settings)))
    with_s3(bench, "s3://no-such-bucket/jobs")
    assert bench.look() is not None
    assert bench.condition("ResolvedRefs") == ("False", "BucketNotFound")
    assert "no-such-bucket" in message(bench, "ResolvedRefs")
    assert bench.workflows() == []


def test_a_path_in_a_bucket_of_others_without_a_secret_is_told(bench):
    bench.apply_job(transmitter={"s3": {"aggDataPath": "s3://theirs/jobs"}})
    bench.look()
    assert bench.condition("ResolvedRefs") == ("False", "NoStore")
    assert "'s3://theirs/jobs' without a credentialName" in message(bench, "ResolvedRefs")


def test_names_of_sixty_three_characters_make_legal_and_different_names(bench, make_job, make_node):
    bench.apply(
        make_node("edge-1"), bench.model("m"), *map(bench.dataset, (LONG + "b", LONG + "c"))
    )
    jobs = []
    for end, uid in zip("xy", UIDS, strict=True):
        job = make_job(LONG + end, clients=(LONG + "b", LONG + "c"))
        job["metadata"]["uid"] = uid
        bench.apply(job)
        jobs.append(job["metadata"]["name"])
    for name in jobs:
        bench.look(name)
        commit(bench, name)
        for each in bench.cluster.all(WORKFLOWS):
            status = {"phase": "Succeeded"}
            bench.cluster.set_status(WORKFLOWS, "ns", each["metadata"]["name"], status)
        bench.look(name)
    workflows = [each["metadata"] for each in bench.cluster.all(WORKFLOWS)]
    assert len({each["name"] for each in workflows}) == 4
    for each in workflows:
        assert DNS_LABEL.fullmatch(each["name"])
        assert len(each["name"]) <= MOST_CHARACTERS
        assert all(len(value) <= MOST_CHARACTERS for value in each["labels"].values())
    secrets = [each["metadata"]["name"] for each in bench.cluster.all(SECRETS)]
    # Of each job: the server's of two rounds, and one of either client.
    assert len(set(secrets)) == 8
    assert all(DNS_LABEL.fullmatch(name) and len(name) < 253 for name in secrets)


def commit(bench, name: str) -> None:
    """Round 0 of a job of any name is done."""
    import json

    from controller.cluster.stores import access_of
    from fedloom.api.reading import read_job
    from fedloom.artifacts import layout

    job = read_job(bench.cluster.get(JOBS, "ns", name))
    store = access_of(job, None, bench.store_settings).open()
    model = {"key": layout.model_key(0), "digest": "sha256:m", "size_bytes": 8, "uri": "s3://x"}
    value = {
        "round": 0,
        "rounds": 2,
        "attempt": 1,
        "started": 1767225600.0,
        "finished": 1767225610.0,
        "seconds": 10.0,
        "metrics": {},
        "clients": {},
        "traffic": {"uplink_bytes": 0, "downlink_bytes": 0},
        "model": model,
        "state": {},
    }
    store.put(layout.result_key(0), json.dumps(value).encode())


@pytest.mark.parametrize("kind", ["Complete", "Failed"])
def test_an_end_that_somebody_wrote_is_not_believed_while_a_round_runs(bench, kind):
    bench.apply_job()
    bench.look()
    bench.round(0)
    condition = {"type": kind, "status": "True", "reason": "RoundsDone", "message": "forged"}
    forged = {**bench.status, "phase": "Succeeded", "conditions": [condition]}
    bench.cluster.set_status(JOBS, "ns", "toy", forged)
    bench.restart()
    bench.look()
    assert bench.status["phase"] == "Running"
    assert bench.condition(kind) is None
    bench.round(1)
    bench.round(2)
    assert bench.condition("Complete") == ("True", "RoundsDone")
    assert bench.workflows() == ["r0-a1", "r1-a1", "r2-a1"]


def test_rounds_are_counted_in_the_store_whatever_the_status_says(bench):
    bench.apply_job()
    bench.look()
    bench.round(0)
    bench.round(1)
    bench.cluster.set_status(JOBS, "ns", "toy", {"aggregationCount": 0, "currentRound": 1})
    bench.restart()
    bench.look()
    assert (bench.status["aggregationCount"], bench.status["currentRound"]) == (1, 2)
    assert bench.workflows() == ["r0-a1", "r1-a1", "r2-a1"]


def test_a_pod_that_failed_since_the_last_look_says_why_nothing_came(bench, make_pod):
    bench.apply_job()
    bench.look()
    bench.round(0)
    bench.end_workflow("r1-a1", "Running")
    bench.look()
    state = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
    bench.apply(make_pod("a", "Failed", containerStatuses=[{"name": "train", "state": state}]))
    bench.round(1, a="NoUpdate", b="NotFinite")
    shown = {each["name"]: each["reason"] for each in bench.status["clients"]}
    assert shown == {"a": "OOMKilled", "b": "NotFinite"}


def test_who_cancelled_and_who_suspended_is_told(bench):
    bench.apply_job()
    bench.look()
    bench.edit(suspend=True)
    bench.look()
    assert "once the round at hand has ended" in message(bench, "Suspended")
    bench.round(0)
    for kind in ("Suspended", "Progressing"):
        assert message(bench, kind) == "spec.suspend is true: round 1 waits for it to be false"
    bench.annotate(cancel="true")
    bench.look()
    assert message(bench, "Failed") == "cancelled by annotation fedloom.io/cancel"


def test_a_job_that_cannot_run_can_be_cancelled(bench, make_job):
    bench.apply(make_job())
    bench.look()
    assert bench.condition("ResolvedRefs") == ("False", "DatasetNotFound")
    bench.annotate(cancel="true")
    assert bench.look() is None
    assert bench.condition("Failed") == ("True", "Cancelled")
    assert bench.status["phase"] == "Failed"
    assert bench.look() is None


def test_cancelling_stops_a_round_whose_dataset_has_gone(bench):
    bench.apply_job()
    bench.look()
    bench.cluster.delete(DATASETS, "ns", "a")
    bench.restart()
    bench.annotate(cancel="true")
    bench.look()
    assert bench.condition("Failed") == ("True", "Cancelled")
    assert bench.cluster.all(WORKFLOWS)[0]["spec"]["shutdown"] == "Terminate"


def test_a_complete_job_stays_complete_though_it_is_cancelled_and_its_datasets_are_gone(bench):
    bench.apply_job(rounds=1)
    bench.look()
    bench.round(0)
    bench.round(1)
    bench.cluster.delete(DATASETS, "ns", "a")
    bench.annotate(cancel="true")
    for _ in range(2):
        bench.restart()
        bench.look()
    assert bench.condition("Complete") == ("True", "RoundsDone")
    assert bench.condition("Failed") is None
