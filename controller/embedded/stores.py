"""Which store an embedded job uses: a folder of its state, or the S3 that its transmitter names."""

from __future__ import annotations

from typing import Any

from components.connection import connect
from controller.embedded.scratch import scratch_of
from controller.embedded.state import StateFolder
from fedloom.api.documents import Documents
from fedloom.api.job import FederatedLearningJob
from fedloom.api.lookup import secret_of
from fedloom.api.secret import Secret
from fedloom.artifacts import layout
from fedloom.artifacts.store import Store
from fedloom.errors import JobError

_DEFAULT_ENDPOINT = "s3.amazonaws.com"


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
        settings |= {"endpoint": _endpoint(secret), "credentials": _credentials(secret)}
    return settings


def _endpoint(secret: Secret) -> str:
    """Sedna's annotations: `s3-endpoint` is a host, `s3-usehttps` "0" means http."""
    annotations = secret.metadata.annotations
    host = annotations.get("s3-endpoint", _DEFAULT_ENDPOINT)
    if "://" in host:
        return host
    scheme = "http" if annotations.get("s3-usehttps") == "0" else "https"
    return f"{scheme}://{host}"


def _credentials(secret: Secret) -> dict[str, str]:
    try:
        return {
            "access_key": secret.data["ACCESS_KEY_ID"],
            "secret_key": secret.data["SECRET_ACCESS_KEY"],
        }
    except KeyError as error:
        raise JobError(
            "SecretIncomplete",
            f"Secret {secret.metadata.name!r} has no key {error.args[0]}",
            "spec.transmitter.s3.credentialName",
        ) from None
