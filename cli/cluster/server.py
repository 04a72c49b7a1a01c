"""The API server as a user reaches it: by a kubeconfig, in a namespace."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controller.cluster.answers import ApiUnavailableError
from controller.cluster.kubernetes import ApiServer, Document, namespace_of
from controller.cluster.resources import PODS, Resource
from fedloom.errors import JobError

_MANAGER = "fedloom"
_APPLY = "application/apply-patch+yaml"
_OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_QUIET_SECONDS = 3600.0


@dataclass(frozen=True)
class Target:
    """Which cluster and which namespace of it; what is None is as kubectl would have it."""

    namespace: str | None = None
    context: str | None = None
    kubeconfig: str | None = None


class Server(ApiServer):
    """What users do beyond what the controller does."""

    def apply(
        self,
        resource: Resource,
        document: Mapping[str, Any],
        *,
        is_dry: bool = False,
        is_forced: bool = False,
    ) -> Document:
        """Apply a document on the server's side; give the object as it is then.

        Raises ConflictError where others own fields of it and `is_forced` is not set, RefusedError
        where the server does not take it.
        """
        meta = document["metadata"]
        query = {"fieldManager": _MANAGER, "fieldValidation": "Strict"}
        query |= {"dryRun": "All"} if is_dry else {}
        query |= {"force": "true"} if is_forced else {}
        path = resource.path(meta.get("namespace"), meta["name"], query=query)
        made = self._call("patch", path, json.dumps(document), _APPLY)
        if made is None:
            raise JobError(
                "NotFound",
                f"{resource.kind} {meta['name']}: got no such kind or no namespace "
                f"{meta.get('namespace')!r} in the cluster, expected both; `fedloom doctor` looks further",
            )
        return made

    def version(self) -> str:
        """Give the version of Kubernetes, `v1.34.2`."""
        return str((self._call("get", "/version") or {}).get("gitVersion", "unknown"))

    def log(
        self, namespace: str, pod: str, container: str, *, is_followed: bool = False
    ) -> Iterator[bytes] | None:
        """Give the lines of a container's log, while they come if followed; None where it is gone."""
        query = {"container": container} | ({"follow": "true"} if is_followed else {})
        path = PODS.path(namespace, pod, "log", query)
        try:
            return _lines(self._request("get", path, None, _QUIET_SECONDS))
        except LookupError:
            return None


def open_server(target: Target) -> tuple[Server, str]:
    """Connect as kubectl does: by a kubeconfig where there is one, else as a pod; give the namespace too."""
    kubeconfig = target.kubeconfig or os.environ.get("KUBECONFIG")
    has_default = Path("~/.kube/config").expanduser().exists()
    try:
        if kubeconfig is None and target.context is None and not has_default:
            server = Server.connect()
            return server, target.namespace or _own_namespace()
        server = Server.connect(
            kubeconfig or str(Path("~/.kube/config").expanduser()), target.context
        )
        return server, target.namespace or namespace_of(kubeconfig, target.context)
    except ModuleNotFoundError as error:
        if error.name != "kubernetes":
            raise
        raise JobError(
            "LibraryMissing",
            "got no Python package `kubernetes`, expected it: pip install 'fedloom[cluster]'",
        ) from error


def _own_namespace() -> str:
    try:
        return _OWN_NAMESPACE.read_text().strip() or "default"
    except OSError:
        return "default"


def _lines(response: Any) -> Iterator[bytes]:
    """Cut a log into lines; the last one need not have ended."""
    from urllib3.exceptions import HTTPError

    rest = b""
    try:
        for chunk in response.stream(65536, decode_content=False):
            *lines, rest = (rest + chunk).split(b"\n")
            yield from lines
    except (HTTPError, OSError) as error:
        raise ApiUnavailableError(f"log: {type(error).__name__}") from error
    finally:
        response.close()
        response.release_conn()
    if rest:
        yield rest
