"""How a step's process gets to the job's store: from the settings its engine hands it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedloom.artifacts.credentials import S3Credentials
from fedloom.artifacts.local import LocalStore
from fedloom.artifacts.opening import open_store
from fedloom.artifacts.store import Store
from fedloom.artifacts.transient import Scratch, TransientUpdates

if TYPE_CHECKING:
    from fedloom.artifacts.retry import RetryPolicy


def connect(settings: Mapping[str, Any]) -> Store:
    """Open the store that `settings` describe; plain JSON values, so that they fit in a message.

    `store` is its address, `endpoint` and `credentials` belong to S3. With `scratch` (`memory` and
    `disk` folders, `memory_limit_bytes`) updates are kept there instead. `patience_seconds` is for how
    long an S3 store that does not answer is tried.
    """
    patience, address = settings.get("patience_seconds"), settings["store"]
    retry = None if patience is None or not address.startswith("s3:") else _patient(patience)
    keys = settings.get("credentials")
    credentials = S3Credentials(**keys) if keys else None
    store = open_store(address, credentials, settings.get("endpoint"), retry)
    scratch = settings.get("scratch")
    if scratch is None:
        return store
    memory, disk = (LocalStore(Path(scratch[name])) for name in ("memory", "disk"))
    return TransientUpdates(store, Scratch(memory, disk, scratch["memory_limit_bytes"]))


def key_variables(settings: Mapping[str, Any]) -> dict[str, str]:
    """Give Sedna's variables for the S3 store that `settings` describe; nothing for any other store."""
    keys = settings.get("credentials")
    if not keys:
        return {}
    return {
        "S3_ENDPOINT_URL": str(settings.get("endpoint") or ""),
        "ACCESS_KEY_ID": keys["access_key"],
        "SECRET_ACCESS_KEY": keys["secret_key"],
    }


def _patient(seconds: float) -> RetryPolicy:
    from fedloom.artifacts.retry import RetryPolicy  # no concern of a store in a folder

    return RetryPolicy(attempts=1_000, base_seconds=0.5, cap_seconds=10.0, total_seconds=seconds)
