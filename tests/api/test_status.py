"""A status is written as Kubernetes has it and reads back as it was."""

from __future__ import annotations

import pytest

from fedloom.api import status
from fedloom.api.reading import read_status
from fedloom.api.status import (
    ClientStatus,
    Condition,
    JobStatus,
    ModelStatus,
    TrackingStatus,
    Traffic,
    WorkflowStatus,
    to_document,
)
from fedloom.errors import InvalidJobError

FULL = JobStatus(
    phase=status.RUNNING,
    conditions=(
        Condition(status.ACCEPTED, status.TRUE, status.REASON_VALID, "", "2026-01-01T00:00:00Z", 1),
    ),
    start_time="2026-01-01T00:00:00Z",
    active=2,
    observed_generation=1,
    current_round=3,
    aggregation_count=2,
    clients=(ClientStatus("ward-a", "edge-1", 120, status.SUCCEEDED, metrics={"loss": "0.41"}),),
    traffic=Traffic(uplink_bytes=10, downlink_bytes=20),
    metrics={"val_accuracy": "0.93"},
    model=ModelStatus("s3://b/m", 2, "sha256:00"),
    tracking=TrackingStatus("1", "abc"),
    workflow=WorkflowStatus("argo", "digits-3"),
)


def test_names_are_kubernetes_and_what_is_none_is_absent():
    document = to_document(FULL)
    assert document["currentRound"] == 3
    assert document["clients"][0]["uplinkBytes"] == 0
    assert document["clients"][0]["nodeName"] == "edge-1"
    assert document["conditions"][0]["lastTransitionTime"] == "2026-01-01T00:00:00Z"
    assert document["metrics"] == {"val_accuracy": "0.93"}
    assert "completionTime" not in document
    assert "url" not in document["tracking"]


def test_a_status_reads_back_as_it_was():
    assert read_status(to_document(FULL)) == FULL


@pytest.mark.parametrize("document", [None, {}])
def test_no_status_is_an_empty_one(document):
    assert read_status(document) == JobStatus()


def test_a_status_that_sedna_wrote_is_read():
    condition = {"type": "Complete", "status": "True", "lastHeartbeatTime": "2025-03-06T00:00:00Z"}
    read = read_status(
        {"phase": "Succeeded", "succeeded": 3, "conditions": [condition], "extra": 1}
    )
    assert (read.phase, read.succeeded) == (status.SUCCEEDED, 3)
    assert read.conditions[0].last_heartbeat_time == "2025-03-06T00:00:00Z"


def test_a_status_of_other_types_is_refused():
    with pytest.raises(InvalidJobError, match=r"status\.currentRound: got 'three'"):
        read_status({"currentRound": "three"})


def test_terminal_conditions_and_phases_are_sednas():
    assert {"Complete", "Failed"} <= set(status.CONDITION_TYPES)
    assert status.PHASES == ("Pending", "Running", "Succeeded", "Failed")
