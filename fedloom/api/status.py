"""The status of a job: what was observed, never what is wanted.

Sedna's fields stay (phase, conditions, startTime, completionTime, active, succeeded, failed); the
three counts are of the clients of the round at hand: training now, update accepted, dropped.
Metrics are texts, as Kubernetes wants numbers of unknown precision.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from fedloom.api.declaration import RFC_3339, Bounds, Declared, declared_fields

PENDING = "Pending"
RUNNING = "Running"
SUCCEEDED = "Succeeded"
FAILED = "Failed"
PHASES = (PENDING, RUNNING, SUCCEEDED, FAILED)

# Condition types. Complete and Failed are terminal.
ACCEPTED = "Accepted"
RESOLVED_REFS = "ResolvedRefs"
WORKFLOW_SUBMITTED = "WorkflowSubmitted"
PROGRESSING = "Progressing"
TRACKING_AVAILABLE = "TrackingAvailable"
SUSPENDED = "Suspended"
TRAINING = "Training"  # Sedna's; there where workers report through a local controller
COMPLETE = "Complete"
CONDITION_FAILED = "Failed"
MODEL_DELIVERED = "ModelDelivered"
PRIVACY_REPORTED = "PrivacyReported"  # of a mistnet job: what its releases disclosed
WAITING_FOR_SOURCE = "WaitingForSource"  # of a job that learns from others
CONDITION_TYPES = (
    ACCEPTED,
    RESOLVED_REFS,
    WORKFLOW_SUBMITTED,
    PROGRESSING,
    TRACKING_AVAILABLE,
    SUSPENDED,
    WAITING_FOR_SOURCE,
    TRAINING,
    COMPLETE,
    CONDITION_FAILED,
    MODEL_DELIVERED,
    PRIVACY_REPORTED,
)

# Condition statuses.
TRUE = "True"
FALSE = "False"
UNKNOWN = "Unknown"

# Reasons of conditions.
REASON_VALID = "Valid"
REASON_INVALID = "Invalid"
REASON_RESOLVED = "Resolved"
REASON_MODEL_NOT_FOUND = "ModelNotFound"
REASON_DATASET_NOT_FOUND = "DatasetNotFound"
REASON_SECRET_NOT_FOUND = "SecretNotFound"  # noqa: S105 -- the name of a reason
REASON_NODE_NOT_FOUND = "NodeNotFound"
REASON_NODE_MISMATCH = "NodeMismatch"
REASON_SOURCE_FOUND = "SourceFound"
REASON_SUBMITTED = "Submitted"
REASON_ROUND_RUNNING = "RoundRunning"
REASON_ROUND_RETRIED = "RoundRetried"
REASON_AVAILABLE = "Available"
REASON_UNAVAILABLE = "Unavailable"
REASON_SUSPENDED_BY_USER = "SuspendedByUser"
REASON_RESUMED = "Resumed"
REASON_REPORTED = "Reported"
REASON_DO_TRAINING = "DoTraining"
REASON_ROUNDS_DONE = "RoundsDone"
REASON_THRESHOLD_REACHED = "ThresholdReached"
REASON_PATIENCE_EXHAUSTED = "PatienceExhausted"
REASON_TOO_FEW_UPDATES = "TooFewUpdates"

MOST_CLIENTS_SHOWN = 100
"""`status.clients` holds the first so many; all of them are in the round's result."""


@dataclass(frozen=True)
class Condition:
    """One aspect of the job, in the shape of metav1.Condition; the last two fields are Sedna's."""

    type: Annotated[str, Declared("Which aspect.", Bounds(max_length=316))]
    status: Annotated[str, Declared("Whether it holds.", Bounds(choices=(TRUE, FALSE, UNKNOWN)))]
    reason: Annotated[str, Declared("Why, as one CamelCase word.")] = ""
    message: Annotated[str, Declared("Why, in words.", Bounds(max_length=32768))] = ""
    last_transition_time: Annotated[
        str | None, Declared("When the status changed last, RFC 3339.", RFC_3339)
    ] = None
    observed_generation: Annotated[
        int | None, Declared("The generation of the spec that was looked at.")
    ] = None
    last_heartbeat_time: Annotated[
        str | None, Declared("Sedna's name for the time of the last change.", RFC_3339)
    ] = None
    last_probe_time: Annotated[str | None, Declared("When it was last looked at.", RFC_3339)] = None


@dataclass(frozen=True)
class ClientStatus:
    """One client as of the last round it took part in."""

    name: Annotated[str, Declared("The client's id.")]
    node_name: Annotated[str | None, Declared("The node it trains on.")] = None
    samples: Annotated[int | None, Declared("How many samples it trained on.")] = None
    state: Annotated[str, Declared("Pending, Running, Succeeded or Failed.")] = PENDING
    reason: Annotated[str | None, Declared("Why it was dropped, where it was.")] = None
    last_round: Annotated[int | None, Declared("The last round it took part in.")] = None
    seconds: Annotated[float | None, Declared("How long that took it.")] = None
    uplink_bytes: Annotated[int, Declared("What it sent in that round.")] = 0
    downlink_bytes: Annotated[int, Declared("What it received in that round.")] = 0
    metrics: Annotated[Mapping[str, str], Declared("What it measured, as text.")] = field(
        default_factory=dict
    )


@dataclass(frozen=True)
class Traffic:
    """Bytes over the edge boundary since the job began."""

    uplink_bytes: Annotated[int, Declared("From the clients.")] = 0
    downlink_bytes: Annotated[int, Declared("To the clients.")] = 0


@dataclass(frozen=True)
class ModelStatus:
    """The last aggregated model."""

    uri: Annotated[str, Declared("Where it lies.")]
    round: Annotated[int, Declared("The round that made it.")]
    digest: Annotated[str, Declared("sha256: and the digest of its safetensors file.")]
    registered_model: Annotated[str | None, Declared("Its name in MLflow's registry.")] = None
    version: Annotated[str | None, Declared("Its version there.")] = None
    saved: Annotated[
        tuple[str, ...],
        Declared(
            "Where else the final model is: urls, and <node>:<path>.", Bounds(max_items=1_000)
        ),
    ] = ()


@dataclass(frozen=True)
class TransferScore:
    """How good one model is on the clients' own data, before any training."""

    candidate: Annotated[str, Declared("The source, or scratch.")]
    kind: Annotated[str, Declared("full, body or scratch.")]
    loss: Annotated[str | None, Declared("The mean over all samples, as text.")] = None
    standard_error: Annotated[str | None, Declared("Of its difference to scratch, as text.")] = None
    samples: Annotated[int, Declared("Of how many samples.")] = 0


@dataclass(frozen=True)
class UnusableSource:
    """A source that could not be used, and why."""

    name: Annotated[str, Declared("The source.")]
    reason: Annotated[str, Declared("Why, as one CamelCase word.")]
    message: Annotated[str, Declared("Why, in words.")]


@dataclass(frozen=True)
class TransferStatus:
    """What a job that learns from others began with."""

    mode: Annotated[str, Declared("warmStart, body or auto.")]
    choice: Annotated[str, Declared("The source that was taken, or scratch.")]
    kind: Annotated[str, Declared("full, body or scratch.")]
    reason: Annotated[str, Declared("Why, as one CamelCase word.")]
    message: Annotated[str, Declared("Why, in words.")]
    is_sure: Annotated[bool, Declared("Whether the probe could tell.")] = True
    uri: Annotated[str | None, Declared("Where the source's model was.")] = None
    digest: Annotated[str | None, Declared("The digest of its file.")] = None
    job: Annotated[str | None, Declared("The job that made it, with its namespace.")] = None
    run_id: Annotated[str | None, Declared("That job's run in MLflow.")] = None
    registered_model: Annotated[str | None, Declared("Its name in MLflow's registry.")] = None
    version: Annotated[str | None, Declared("Its version there.")] = None
    epsilon: Annotated[
        str | None, Declared("What the probe revealed, where that is accounted for, as text.")
    ] = None
    scores: Annotated[
        tuple[TransferScore, ...], Declared("Of a probe, best first.", Bounds(max_items=16))
    ] = ()
    unusable: Annotated[
        tuple[UnusableSource, ...],
        Declared("Sources that could not be used.", Bounds(max_items=16)),
    ] = ()


@dataclass(frozen=True)
class TrackingStatus:
    """Where the metrics are."""

    experiment_id: Annotated[str | None, Declared("MLflow's experiment.")] = None
    run_id: Annotated[str | None, Declared("MLflow's run.")] = None
    url: Annotated[str | None, Declared("The run's page.")] = None


@dataclass(frozen=True)
class WorkflowStatus:
    """What runs the round at hand."""

    engine: Annotated[str | None, Declared("The workflow engine.")] = None
    name: Annotated[str | None, Declared("The workflow run's name.")] = None
    url: Annotated[str | None, Declared("The workflow run's page.")] = None


@dataclass(frozen=True)
class JobStatus:
    """The status of a FederatedLearningJob."""

    phase: Annotated[str | None, Declared("Pending, Running, Succeeded or Failed.")] = None
    conditions: Annotated[
        tuple[Condition, ...],
        Declared("The aspects of the job.", Bounds(max_items=64), list_key="type"),
    ] = ()
    start_time: Annotated[
        str | None, Declared("When the job was first seen, RFC 3339.", RFC_3339)
    ] = None
    completion_time: Annotated[str | None, Declared("When it ended, RFC 3339.", RFC_3339)] = None
    active: Annotated[int, Declared("Clients that train now.")] = 0
    succeeded: Annotated[int, Declared("Clients whose update the round accepted.")] = 0
    failed: Annotated[int, Declared("Clients that the round dropped.")] = 0
    observed_generation: Annotated[
        int | None, Declared("The generation of the spec that this status is about.")
    ] = None
    current_round: Annotated[int | None, Declared("The round at hand, from 1.")] = None
    aggregation_count: Annotated[int | None, Declared("How many rounds are committed.")] = None
    clients: Annotated[
        tuple[ClientStatus, ...],
        Declared(
            "The first clients of the job.", Bounds(max_items=MOST_CLIENTS_SHOWN), list_key="name"
        ),
    ] = ()
    traffic: Annotated[Traffic | None, Declared("Bytes over the edge boundary.")] = None
    metrics: Annotated[
        Mapping[str, str], Declared("The last committed round's metrics, as text.")
    ] = field(default_factory=dict)
    metric: Annotated[
        str | None, Declared("The one of them to look at: its name and its value.")
    ] = None
    model: Annotated[ModelStatus | None, Declared("The last aggregated model.")] = None
    transfer: Annotated[TransferStatus | None, Declared("What the job began with.")] = None
    tracking: Annotated[TrackingStatus | None, Declared("Where the metrics are.")] = None
    workflow: Annotated[WorkflowStatus | None, Declared("What runs the round at hand.")] = None


def main_metric(metrics: Mapping[str, str], wanted: str | None) -> tuple[str, str] | None:
    """Give name and value of the metric to show where there is place for one.

    `wanted` is that of the stop condition; else it is the accuracy, else the first of an evaluation,
    else the first of the clients'.
    """
    for name in (wanted, "accuracy"):
        if name is not None and name in metrics:
            return name, metrics[name]
    names = sorted(metrics, key=lambda name: ("/" in name, name))
    return (names[0], metrics[names[0]]) if names else None


def to_document(value: Any) -> Any:
    """Give a status (or any part of one) as YAML has it: camelCase names, absent where None."""
    if isinstance(value, Mapping):
        return {key: to_document(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [to_document(entry) for entry in value]
    if not hasattr(value, "__dataclass_fields__"):
        return value
    entries = ((each.name, getattr(value, each.attribute)) for each in declared_fields(type(value)))
    return {name: to_document(entry) for name, entry in entries if entry is not None}
