"""What became of a round and its clients, read from documents that Argo 3.7.18 wrote on a real cluster."""

from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from fedloom.errors import JobError
from pipelines.engine import RunPhase
from pipelines.engines.argo_clients import ClientStatus, job_status, pod_status, remembered
from pipelines.engines.argo_reasons import Ended, cause_of_end, cause_of_failure
from pipelines.engines.argo_status import run_status

STATUSES = Path(__file__).parent / "statuses"


def written(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((STATUSES / f"{name}.json").read_text())
    return document


def reasons(name: str) -> dict[str, tuple[str, str]]:
    clients = run_status(written(name)).clients
    return {client: (status.state, status.reason) for client, status in clients.items()}


def test_a_round_that_is_done():
    status = run_status(written("done"))
    assert status.phase is RunPhase.SUCCEEDED
    assert status.is_closed
    assert (status.round, status.attempt) == (1, 1)
    assert {c.state for c in status.clients.values()} == {"Succeeded"}
    assert [c.node for c in status.clients.values()] == ["edge-1", "edge-2", "edge-3"]
    first = status.clients["digits-1"]
    assert first.seconds == 11
    assert first.pod == "digits-11111111-r1-a1-client-2121657689"
    assert status.as_run().clients["digits-1"] == "Succeeded"


@pytest.mark.parametrize("name", ["two-clients-and-the-server-failed", "items-two-clients-failed"])
def test_what_a_step_printed_last_is_the_reason(name):
    status = run_status(written(name))
    assert status.phase is RunPhase.FAILED
    assert status.reason == "TooFewClients"
    assert status.message == "round 1 needs 2 updates, got 1"
    assert status.clients["digits-2"].reason == "NoUpdate"
    assert status.clients["digits-2"].message == "no update was written"
    assert status.clients["digits-3"].reason == "ScriptFailed"
    assert status.clients["digits-3"].message.endswith("Traceback\nValueError: bad learning rate")
    (third,) = status.clients.keys() - {"digits-2", "digits-3"}
    assert third.startswith("digits.1.")
    assert status.clients[third].state == "Succeeded"


def test_why_a_client_does_not_start_is_told_while_it_waits():
    found = reasons("every-kind-of-waiting")
    assert found["c"] == ("Pending", "ImagePullBackOff")
    assert found["e"] == ("Pending", "Unschedulable")
    assert found["k"] == ("Pending", "CreateContainerConfigError")
    assert found["d"] == ("Pending", "")  # a node that does not exist: Argo cannot know
    assert found["f"] == ("Pending", "")  # a volume's Secret that does not: only events tell
    message = run_status(written("every-kind-of-waiting")).clients["k"].message
    assert message == 'secret "nope" not found'


def test_every_kind_of_failure_has_a_reason():
    found = reasons("every-kind-of-failure")
    assert found == {
        "a.b": ("Succeeded", ""),
        "b": ("Failed", "ScriptFailed"),
        "c": ("Failed", "PodDeleted"),
        "d": ("Failed", "DeadlineExceeded"),
        "e": ("Failed", "DeadlineExceeded"),
        "f": ("Failed", "DeadlineExceeded"),
        "g": ("Failed", "OOMKilled"),
        "h": ("Failed", "DeadlineExceeded"),
        "i": ("Failed", "DeadlineExceeded"),
        "k": ("Failed", "DeadlineExceeded"),
        "l": ("Failed", "FetchFailed"),
    }


def test_a_container_is_not_blamed_for_another_ones_end():
    message = run_status(written("every-kind-of-failure")).clients["b"].message
    assert message == "train ended with exit code 3"


def test_the_round_is_over_with_its_last_task_though_argo_keeps_the_workflow_running():
    document = written("done-but-not-closed")
    assert document["status"]["phase"] == "Running"
    status = run_status(document)
    assert status.phase is RunPhase.SUCCEEDED
    assert not status.is_closed


def test_a_client_that_argo_gave_up_and_calls_pending_has_failed():
    client = run_status(written("done-but-not-closed")).clients["digits-3"]
    assert (client.state, client.reason) == ("Failed", "DeadlineExceeded")


def test_the_reason_of_the_waiting_is_remembered_beyond_the_deadline():
    before = run_status(written("every-kind-of-waiting")).clients["k"]
    after = run_status(written("every-kind-of-failure")).clients["k"]
    found = remembered(before, after)
    assert (found.state, found.reason) == ("Failed", "CreateContainerConfigError")
    assert remembered(None, after) == after
    crashed = ClientStatus("Failed", "ScriptFailed", "exit code 1")
    assert remembered(before, crashed) == crashed


def test_packed_nodes_are_read_like_others():
    document = written("two-clients-and-the-server-failed")
    plain = run_status(document)
    nodes = json.dumps(document["status"].pop("nodes")).encode()
    document["status"]["compressedNodes"] = base64.b64encode(gzip.compress(nodes)).decode()
    assert run_status(document) == plain


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        ({"compressedNodes": "KLUv/QRY"}, "WORKFLOW_COMPRESSION_ALGORITHM at gzip"),
        ({"compressedNodes": "!"}, "expected gzip"),
        ({"offloadNodeStatusVersion": "fnv:1"}, "Turn nodeStatusOffLoad off"),
    ],
)
def test_nodes_that_cannot_be_read_are_refused_with_advice(status, advice):
    with pytest.raises(JobError, match=advice) as caught:
        run_status({"metadata": {"name": "w"}, "status": status})
    assert caught.value.reason == "UnreadableStatus"


def test_a_workflow_that_argo_has_not_seen_yet_runs():
    status = run_status({"metadata": {"name": "w"}})
    assert status.phase is RunPhase.RUNNING
    assert not status.clients


def test_a_workflow_that_argo_refuses_has_failed_with_argos_words():
    status = {"phase": "Failed", "message": "invalid spec: templates.round: no"}
    found = run_status({"metadata": {"name": "w"}, "status": status})
    assert (found.phase, found.reason) == (RunPhase.FAILED, "WorkflowFailed")
    assert found.message == "invalid spec: templates.round: no"


def test_pods_of_jobs_are_read_directly():
    pods = {p["metadata"]["labels"]["fedloom.io/client"]: p for p in written("pods-of-jobs")}
    found = {client: pod_status(pod) for client, pod in pods.items()}
    assert (found["digits-1"].state, found["digits-1"].reason) == ("Failed", "OOMKilled")
    assert found["digits-2"].state == "Pending"
    assert found["digits-3"].message == "train ended with exit code 4: ValueError: no data"
    assert found["digits-3"].node == "edge-3"


def test_a_pod_that_waits_says_why():
    waiting = {"name": "train", "state": {"waiting": {"reason": "ErrImagePull", "message": "no"}}}
    pod = {
        "metadata": {"name": "p"},
        "status": {"phase": "Pending", "initContainerStatuses": [waiting]},
    }
    assert pod_status(pod) == ClientStatus("Pending", "ImagePullBackOff", "no", pod="p")


def test_a_job_that_was_too_slow_has_no_pod_any_more():
    failed = {
        "type": "Failed",
        "status": "True",
        "reason": "DeadlineExceeded",
        "lastTransitionTime": "2026-11-21T13:15:01Z",
    }
    status = {"startTime": "2026-11-21T13:14:25Z", "conditions": [failed]}
    found = job_status({"status": status}, None)
    assert (found.state, found.reason, found.seconds) == ("Failed", "DeadlineExceeded", 36)
    complete = {"type": "Complete", "status": "True"}
    assert job_status({"status": {"conditions": [complete]}}, None).state == "Succeeded"
    assert job_status({}, None).state == "Pending"


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("Pod was active on the node longer than the specified deadline", "DeadlineExceeded"),
        ("pod deleted", "PodDeleted"),
        ("The node was low on resource: memory. ", "Evicted"),
        ("Node didn't have enough resource: cpu", "NodeFull"),
        ("main: Error (exit code 2): ", "ScriptFailed"),
        ("wait: Error (exit code 2)", "EngineFailed"),
        ("", "PodFailed"),
    ],
)
def test_what_argo_says_of_a_whole_pod(message, reason):
    assert cause_of_failure(message, ()).reason == reason


def test_a_long_last_word_keeps_its_end():
    cause = cause_of_end(Ended("train", "Error", 1, "x" * 5_000 + "\nValueError: here"))
    assert cause.message.startswith("...")
    assert cause.message.endswith("ValueError: here")
    assert len(cause.message) < 1_100


def test_a_script_that_prints_json_is_not_taken_for_a_step():
    cause = cause_of_end(Ended("train", "Error", 1, '{"reason": 1}\nValueError'))
    assert cause.reason == "ScriptFailed"
