"""Which store an embedded job uses: a folder of its state, or the S3 that its transmitter names."""

from __future__ import annotations

from typing import Any

from components.connection import connect
from controller.credentials import credentials_of, endpoint_of
from controller.embedded.scratch import scratch_of
from controller.embedded.state import StateFolder
from fedloom.api.documents import Documents
from fedloom.api.job import FederatedLearningJob
from fedloom.api.lookup import secret_of
from fedloom.artifacts import layout
from fedloom.artifacts.store import Store


def open_job_store(documents: Documents, state: StateFolder) -> tuple[Store, dict[str, Any]]:
    """Open the job's store; also give what a worker needs to open the same one."""
    meta = state.job.metadata
    settings = _s3_settings(documents, state.job)
    if settings is None:
        settings = {"store": state.artifacts.as_uri(), "scratch": scratch_of(state)}
    else:
        settings["store"] += f"/{layout.job_prefix(meta.namespace, meta.name, meta.uid)}"
    return connect(settings), settings


def probe_store(documents: Documents, job: FederatedLearningJob) -> None:
    """Knock at the job's S3, if it names one, before anything is written.

    Raises JobError or StoreUnavailableError saying what is wrong with it.
    """
    settings = _s3_settings(documents, job)
    if settings is not None:
        connect(settings).exists("probe")


def _s3_settings(documents: Documents, job: FederatedLearningJob) -> dict[str, Any] | None:
    transmitter = job.spec.transmitter
    if transmitter is None or transmitter.s3 is None:
        return None
    settings: dict[str, Any] = {"store": transmitter.s3.agg_data_path.rstrip("/")}
    if transmitter.s3.credential_name:
        secret = secret_of(documents, job, transmitter.s3.credential_name)
        settings |= {"endpoint": endpoint_of(secret), "credentials": credentials_of(secret)}
    return settings
