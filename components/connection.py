"""How a step's process gets to the job's store: from the settings its engine hands it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedloom.artifacts.credentials import S3Credentials
from fedloom.artifacts.opening import open_store
from fedloom.artifacts.store import Store


def connect(settings: Mapping[str, Any]) -> Store:
    """Open the store `settings["store"]`, with its `endpoint` and `credentials` where they are given."""
    keys = settings.get("credentials")
    credentials = S3Credentials(**keys) if keys else None
    return open_store(settings["store"], credentials, settings.get("endpoint"))
