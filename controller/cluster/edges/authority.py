"""The authority of an installation: made once, kept in a Secret, told to the edges through a ConfigMap."""

from __future__ import annotations

import base64
import time
from typing import Any

from controller.cluster.answers import ConflictError
from controller.cluster.kubernetes import Cluster
from controller.cluster.logs import log
from controller.cluster.resources import CONFIG_MAPS, SECRETS
from fedloom.errors import JobError
from fedloom.keys.certificates import Authority, end_of, is_signed_by

NAME = "fedloom-edge-authority"
CERTIFICATE, KEY = "ca.crt", "ca.key"

_LIFETIME_SECONDS = 10 * 365 * 86400.0
_LEAST_LEFT_SECONDS = 90 * 86400.0


def authority_of(cluster: Cluster, namespace: str) -> Authority:
    """Read the authority; make it where there is none, or where the one there is ends soon.

    Two processes that make it at once end with the same one. A Secret that holds no authority is left
    alone: somebody has to look. Raises JobError `InvalidCertificate` then, TransientError where the API
    server does not answer.
    """
    secret = cluster.get(SECRETS, namespace, NAME)
    if secret is not None:
        found = _read(secret)
        if end_of(found.certificate) - time.time() > _LEAST_LEFT_SECONDS:
            return found
        log.warning("the authority of the edge link ends soon: a new one takes its place")
    made = Authority.generate(time.time(), _LIFETIME_SECONDS)
    try:
        if secret is None:
            cluster.create(SECRETS, _document(namespace, made, {}))
        else:
            cluster.replace(SECRETS, _document(namespace, made, secret["metadata"]))
    except ConflictError:
        return authority_of(cluster, namespace)
    return made


def publish(cluster: Cluster, namespace: str, authority: Authority) -> None:
    """Put the certificate, not the key, where the local controllers mount it from."""
    data = {CERTIFICATE: authority.certificate.decode()}
    known = cluster.get(CONFIG_MAPS, namespace, NAME)
    if known is None:
        meta = {"name": NAME, "namespace": namespace}
        try:
            cluster.create(
                CONFIG_MAPS,
                {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data},
            )
        except ConflictError:
            cluster.patch(CONFIG_MAPS, namespace, NAME, {"data": data})
    elif known.get("data") != data:
        cluster.patch(CONFIG_MAPS, namespace, NAME, {"data": data})


def _read(secret: dict[str, Any]) -> Authority:
    data = secret.get("data") or {}
    try:
        found = Authority(base64.b64decode(data[CERTIFICATE]), base64.b64decode(data[KEY]))
    except (KeyError, ValueError) as error:
        message = f"Secret {NAME}: got no usable {CERTIFICATE} and {KEY}, expected both"
        raise JobError("InvalidCertificate", message) from error
    if not is_signed_by(found.certificate, found.certificate):
        message = f"Secret {NAME}: {CERTIFICATE} is no authority's own certificate"
        raise JobError("InvalidCertificate", message)
    return found


def _document(namespace: str, made: Authority, meta: dict[str, Any]) -> dict[str, Any]:
    kept = {"resourceVersion": meta["resourceVersion"]} if "resourceVersion" in meta else {}
    data = {CERTIFICATE: made.certificate, KEY: made.key}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": {"name": NAME, "namespace": namespace, **kept},
        "data": {name: base64.b64encode(text).decode() for name, text in data.items()},
    }
