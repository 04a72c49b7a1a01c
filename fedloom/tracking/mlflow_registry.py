"""The registry of an MLflow server or database, as a search for models to begin with sees it."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fedloom.tracking import vocabulary
from fedloom.tracking.mlflow_tracker import download, open_client
from fedloom.tracking.model_folder import WEIGHTS
from fedloom.tracking.outages import outages
from fedloom.tracking.paging import pages
from fedloom.tracking.registry import MOST_LISTED, no_weights

_ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")


class MlflowRegistry:
    """See `fedloom.tracking.registry.Registry`."""

    def __init__(self, tracking_uri: str) -> None:
        self.address = vocabulary.without_credentials(tracking_uri)
        self._client = open_client(tracking_uri)

    @outages
    def get(self, name: str, version: str | None, alias: str | None) -> Any | None:
        """Give the version, else that of the alias, else the newest; None where there is none."""
        if alias is None and version is None:
            quoted = name.replace("'", "")
            order = ["version_number DESC"]
            found = self._client.search_model_versions(f"name = '{quoted}'", 1, order)
            return found[0] if found else None
        try:
            if alias is not None:
                return self._client.get_model_version_by_alias(name, alias)
            return self._client.get_model_version(name, str(version))
        except Exception as error:
            if getattr(error, "error_code", "") in _ABSENT:
                return None
            raise

    @outages
    def list(self, tags: Mapping[str, str], like: str | None) -> Iterator[Any]:
        """Versions with these tags, the newest first."""
        parts = [f"tags.`{name}` = '{value}'" for name, value in sorted(tags.items())]
        parts += [f"name LIKE '{like}'"] if like else []
        order = ["last_updated_timestamp DESC"]
        search = functools.partial(
            self._client.search_model_versions, max_results=MOST_LISTED, order_by=order
        )
        return pages(search, " AND ".join(parts))

    @outages
    def fetch(self, version: Any, folder: Path) -> Path:
        """Bring the weights of a version here. Raises JobError("NoWeights")."""
        folder.mkdir(parents=True, exist_ok=True)
        root = self._client.get_model_version_download_uri(version.name, version.version)
        found = download(f"{root.rstrip('/')}/{WEIGHTS}", folder)
        if found is None:
            raise no_weights(version)
        return found
