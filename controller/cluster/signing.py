"""URLs for what a round downloads from elsewhere: permission for one object and a while, no credentials."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from controller.cluster.settings import region_of
from controller.credentials import endpoint_of, external_endpoint_of, presigner_of
from fedloom.api.secret import Secret


def signed_downloads(
    settings: Mapping[str, Any],
    secrets: Mapping[str, Secret],
    own: Secret | None,
    seconds: float,
    *,
    is_edge: bool,
) -> dict[str, str]:
    """Sign what a task downloads (`downloads` of its settings) for those who see it from there.

    An `s3://` url that names no Secret is opened by the job's `own` one, that of spec.transmitter.s3, if
    it has one; else it stays as it is, for anybody to read. Never by the controller's own store.
    """
    found = {}
    for url, name in settings.get("downloads", {}).items():
        secret = secrets.get(name) if name else own
        if url.startswith("s3://") and secret is not None:
            endpoint = (external_endpoint_of(secret) if is_edge else "") or endpoint_of(secret)
            presigner, key = presigner_of(secret, url, endpoint, region_of())
            found[url] = presigner.get_url(key, seconds)
    return found
