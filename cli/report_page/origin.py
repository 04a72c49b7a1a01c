"""Where a run's facts come from: the record of its job, the store of its artifacts, its tracking."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from cli.report_page.facts import FailedAttempt, Job, Round, Tracking
from cli.report_page.promise import budget_of
from cli.report_page.values import count, mapping, number, words
from components.publication import Progress
from controller.decide import Decision, decide
from controller.embedded.state import read_record
from controller.observed import Observed
from fedloom.api.job import (
    AggregationWorker,
    FederatedLearningJob,
    JobSpec,
    Participation,
    StopCondition,
    TrainingWorker,
)
from fedloom.api.metadata import ObjectMeta, Reference
from fedloom.api.pod import PodTemplate
from fedloom.artifacts import layout
from fedloom.artifacts.local import LocalStore
from fedloom.artifacts.opening import open_store
from fedloom.artifacts.store import Store
from fedloom.errors import JobError, StateError

Record = Mapping[str, Any]


def record_of(state: Path) -> Record:
    """The record of the job that a state folder belongs to. Raises StateError."""
    record = read_record(state)
    if record is None:
        raise StateError(
            "StateMissing",
            f"{state}: got {'a folder' if state.is_dir() else 'no folder'} without job.json, "
            "expected the --state folder of `fedloom run`",
        )
    wrong = [name for name in ("namespace", "name", "uid") if not words(record[name])]
    if not isinstance(record["spec"], dict):
        wrong.append("spec")
    if wrong:
        raise StateError(
            "StateDamaged",
            f"{state / 'job.json'}: {', '.join(wrong)}: expected the record of a job",
        )
    return record


def job_of(record: Record) -> Job:
    spec = record["spec"]
    workers = spec.get("training_workers")
    participation = mapping(spec.get("participation"))
    compression = mapping(spec.get("compression"))
    return Job(
        namespace=record["namespace"],
        name=record["name"],
        uid=record["uid"],
        created=number(record.get("created")),
        rounds=count(spec.get("rounds")) or 1,
        clients=len(workers) if isinstance(workers, list) else 0,
        algorithm=_choice(spec.get("algorithm"), "name", "fedavg"),
        uplink=_choice(compression.get("uplink"), "codec", "none"),
        downlink=_choice(compression.get("downlink"), "codec", "none"),
        clients_per_round=count(participation.get("clients_per_round")),
        min_clients=count(participation.get("min_clients")),
    )


def artifacts_of(state: Path, record: Record) -> Store:
    """Open the job's store: a folder of its state, or the S3 that its transmitter names."""
    prefix = layout.job_prefix(record["namespace"], record["name"], record["uid"])
    s3 = mapping(mapping(record["spec"].get("transmitter")).get("s3"))
    if not s3:
        return LocalStore(state / "artifacts" / prefix)
    uri = f"{words(s3.get('agg_data_path')).rstrip('/')}/{prefix}"
    try:
        return open_store(uri)
    except JobError as error:
        secret = words(s3.get("credential_name"))
        raise JobError(
            error.reason,
            f"this job keeps its artifacts in {uri} and {state} holds no credentials for it: "
            "set AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            f"{f' to those of Secret {secret!r}' if secret else ''} ({error})",
        ) from error


def standing_of(
    record: Record,
    job: Job,
    rounds: Sequence[Round],
    failures: Sequence[FailedAttempt],
    privacy: Mapping[str, Any],
) -> Decision:
    """Ask the controller how the job stands.

    `failures` are the attempts at the next round, `privacy` what the last result says of it.
    """
    last = failures[-1] if failures else None
    observed = Observed(
        last={"round": rounds[-1].number} if rounds else None,
        metrics=[
            {name: value for name, value in one.metrics.items() if value is not None}
            for one in rounds
        ],
        failed_attempts=len(failures),
        failure=(last.reason, last.message) if last else ("", ""),
    )
    spec = JobSpec(
        aggregation_worker=AggregationWorker(Reference(""), PodTemplate({})),
        training_workers=(TrainingWorker(Reference(""), PodTemplate({})),) * max(job.clients, 1),
        rounds=job.rounds,
        participation=Participation(
            clients_per_round=job.clients_per_round or None,
            retries=retries_of(record),
            sampling=words(mapping(record["spec"].get("participation")).get("sampling")) or "fixed",
        ),
        privacy=budget_of(record["spec"], privacy),
        stop_condition=_stop_condition(mapping(record["spec"].get("stop_condition"))),
        suspend=True,  # nothing is to be started, so no cohort need be drawn
    )
    return decide(FederatedLearningJob(ObjectMeta(job.name), spec), observed, 0.0)


def retries_of(record: Record) -> int:
    return count(mapping(record["spec"].get("participation")).get("retries")) or 0


def tracking_of(state: Path, uid: str) -> Tracking | None:
    """Where the run is in MLflow; None where it was not logged.

    The folder keeps no address, since an address may hold a password: the two places where a run
    can be are tried, the folder's own database and MLFLOW_TRACKING_URI.
    """
    path = state / "tracking.json"
    if not path.is_file():
        return None
    database = f"sqlite:///{state.absolute() / 'mlflow.db'}"
    for uri in (database, os.environ.get("MLFLOW_TRACKING_URI", "")):
        progress = Progress(path, uid, uri)
        if progress.run_id:
            return Tracking(progress.run_id, _without_credentials(uri), progress.recorded_through)
    return Tracking(None, None, -1)


def _without_credentials(uri: str) -> str:
    parts = urlsplit(uri)
    if "@" not in parts.netloc:
        return uri
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query=""))


def _choice(part: Any, key: str, default: str) -> str:
    """`int8 (blockSize 256)`: the name of an algorithm or codec with its parameters."""
    part = mapping(part)
    name = words(part.get(key)) or default
    settings = [f"{k} {v}" for k, v in sorted(mapping(part.get("parameters")).items())]
    if part.get("error_feedback") is True:
        settings.append("error feedback")
    return f"{name} ({', '.join(settings)})" if settings else name


def _stop_condition(part: Mapping[str, Any]) -> StopCondition | None:
    if not words(part.get("metric")):
        return None
    return StopCondition(
        metric=part["metric"],
        goal=words(part.get("goal")) or "maximize",
        threshold=number(part.get("threshold")),
        patience=count(part.get("patience")) or None,
    )
