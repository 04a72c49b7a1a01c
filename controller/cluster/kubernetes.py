"""The one door to a Kubernetes API: dicts in, dicts out, errors of our own tree.

Works with the official client from version 30 on: nothing of it is used but its configuration and its
transport, because its models changed their nature between 30 and 37. The client is imported when a
cluster is connected to: it costs half a second.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Protocol, Self

from controller.cluster.answers import (
    ApiUnavailableError,
    ConflictError,
    ExpiredError,
    ForbiddenError,
    RefusedError,
)
from controller.cluster.resources import Resource

Document = dict[str, Any]

_CALL_SECONDS = 30.0
_CONNECT_SECONDS = 10.0
_LATE_SECONDS = 10.0  # how much later than asked for a watch may end before it counts as dead
_PAGE = 500
_CONNECTIONS = 40  # a watch keeps one for itself
_MERGE = "application/merge-patch+json"


class Cluster(Protocol):
    """What the controller needs of a Kubernetes API; see `ApiServer` for the meaning."""

    def get(self, resource: Resource, namespace: str | None, name: str) -> Document | None: ...
    def list(
        self, resource: Resource, namespace: str | None, selector: str = ""
    ) -> tuple[list[Document], str]: ...
    def create(self, resource: Resource, document: Mapping[str, Any]) -> Document: ...
    def patch(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        change: Mapping[str, Any],
        subresource: str | None = None,
    ) -> Document | None: ...
    def replace(
        self, resource: Resource, document: Mapping[str, Any], subresource: str | None = None
    ) -> Document | None: ...
    def delete(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        grace_seconds: int | None = None,
    ) -> bool: ...
    def watch(
        self, resource: Resource, namespace: str | None, selector: str, since: str, seconds: float
    ) -> Iterator[tuple[str, Document]]: ...


class ApiServer:
    """A Kubernetes API server.

    Every call raises ApiUnavailableError where the server cannot be reached or answers 429 or 5xx,
    ForbiddenError on 401 and 403, RefusedError where it does not take what it was given.
    """

    def __init__(self, client: Any) -> None:
        self._client = client

    @classmethod
    def connect(cls, kubeconfig: str | None = None, context: str | None = None) -> Self:
        """Connect as a pod does where this is one, else by KUBECONFIG or ~/.kube/config.

        Whoever names a kubeconfig or a context of it is no pod. Raises ApiUnavailableError where
        there is nothing to connect by.
        """
        import kubernetes

        library: Any = kubernetes  # typed in one version and not in another
        client, config, dynamic = library.client, library.config, library.dynamic
        settings = client.Configuration()
        try:
            if kubeconfig or context:
                raise config.ConfigException("a user's")
            config.load_incluster_config(client_configuration=settings)
        except config.ConfigException:
            try:
                config.load_kube_config(kubeconfig, context, client_configuration=settings)
            except (config.ConfigException, OSError) as error:
                raise ApiUnavailableError(
                    f"no cluster: this is no pod and there is no usable kubeconfig ({error})"
                ) from error
        settings.connection_pool_maxsize = _CONNECTIONS
        # Discovery is left out: the controller knows the paths of all it asks for.
        api = dynamic.DynamicClient(client.ApiClient(settings), discoverer=lambda *_: None)
        return cls(api)

    def get(self, resource: Resource, namespace: str | None, name: str) -> Document | None:
        """Read one object; None where there is none."""
        return self._call("get", resource.path(namespace, name))

    def list(
        self, resource: Resource, namespace: str | None, selector: str = ""
    ) -> tuple[list[Document], str]:
        """Read all objects (namespace None: of all namespaces) and the version to watch from.

        Raises ApiUnavailableError too where the kind itself is unknown to the server.
        """
        items: list[Document] = []
        query = {"limit": str(_PAGE)} | ({"labelSelector": selector} if selector else {})
        while True:
            page = self._call("get", resource.path(namespace, query=query))
            if page is None:
                raise ApiUnavailableError(
                    f"the API server knows no {resource.plural} of {resource.api_version}", 10.0
                )
            for item in page["items"]:  # lists leave these two out
                items.append({"apiVersion": resource.api_version, "kind": resource.kind} | item)
            more = page["metadata"].get("continue")
            if not more:
                return items, page["metadata"]["resourceVersion"]
            query["continue"] = more

    def create(self, resource: Resource, document: Mapping[str, Any]) -> Document:
        """Create an object; raises ConflictError where one of this name exists."""
        path = resource.path(document["metadata"].get("namespace"))
        made = self._call("post", path, document)
        if made is None:
            meta = document["metadata"]
            raise ApiUnavailableError(
                f"{resource.kind} {meta['name']}: its kind or its namespace "
                f"{meta.get('namespace')!r} does not exist"
            )
        return made

    def patch(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        change: Mapping[str, Any],
        subresource: str | None = None,
    ) -> Document | None:
        """Merge a change into an object; None where there is none. A list is replaced as a whole.

        Raises ConflictError where the change names a resourceVersion that is not the object's.
        """
        return self._call("patch", resource.path(namespace, name, subresource), change)

    def replace(
        self, resource: Resource, document: Mapping[str, Any], subresource: str | None = None
    ) -> Document | None:
        """Put a document in the place of the object of its name; None where there is none.

        Raises ConflictError where that has changed since the document's resourceVersion.
        """
        meta = document["metadata"]
        path = resource.path(meta.get("namespace"), meta["name"], subresource)
        return self._call("put", path, document)

    def delete(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        grace_seconds: int | None = None,
    ) -> bool:
        """Delete an object and, in the background, what it owns; False where there is none."""
        options: Document = {"propagationPolicy": "Background"}
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        return self._call("delete", resource.path(namespace, name), options) is not None

    def watch(
        self, resource: Resource, namespace: str | None, selector: str, since: str, seconds: float
    ) -> Iterator[tuple[str, Document]]:
        """Give (ADDED | MODIFIED | DELETED | BOOKMARK, object) as it happens, for so many seconds.

        Raises ExpiredError where the server no longer knows what happened after `since`.
        """
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": since,
            "timeoutSeconds": str(int(seconds)),
        }
        if selector:
            query["labelSelector"] = selector
        response = self._request("get", resource.path(namespace, query=query), None, seconds)
        try:
            for line in _lines(response):
                event = json.loads(line)
                if event["type"] == "ERROR":
                    status = event["object"]
                    raise _error_of(int(status.get("code", 500)), status, resource.plural)
                yield event["type"], event["object"]
        finally:
            response.close()
            response.release_conn()

    def _call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | str | None = None,
        content_type: str = "",
    ) -> Document | None:
        try:
            response = self._request(method, path, body, content_type=content_type)
        except LookupError:
            return None
        answer: Document = json.loads(response.data)
        return answer

    def _request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | str | None,
        seconds: float | None = None,
        content_type: str = "",
    ) -> Any:
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        read = _CALL_SECONDS if seconds is None else seconds + _LATE_SECONDS
        try:
            return self._client.request(
                method,
                path,
                body=body,
                serialize=False,
                content_type=content_type or (_MERGE if method == "patch" else "application/json"),
                _request_timeout=(_CONNECT_SECONDS, read),
            )
        except ApiException as error:
            raise _error_of(int(error.status or 500), _status_of(error.body), path) from error
        except (HTTPError, OSError) as error:
            raise ApiUnavailableError(f"{method} {path}: {type(error).__name__}") from error


def namespace_of(kubeconfig: str | None, context: str | None) -> str:
    """Give the namespace that a context of a kubeconfig is for: `default` where it names none."""
    import kubernetes

    library: Any = kubernetes
    contexts, chosen = library.config.list_kube_config_contexts(kubeconfig)
    if context is not None:
        chosen = next((each for each in contexts if each["name"] == context), chosen)
    return str((chosen.get("context") or {}).get("namespace") or "default")


def _lines(response: Any) -> Iterator[bytes]:
    """Cut a stream into lines. A connection that broke ends them: the watch is begun again."""
    from urllib3.exceptions import HTTPError

    rest = b""
    try:
        for chunk in response.stream(65536, decode_content=False):
            *lines, rest = (rest + chunk).split(b"\n")
            yield from (line for line in lines if line)
    except (HTTPError, OSError) as error:
        raise ApiUnavailableError(f"watch: {type(error).__name__}") from error


def _status_of(body: Any) -> Mapping[str, Any]:
    try:
        found = json.loads(body)
    except (TypeError, ValueError):
        found = None
    return found if isinstance(found, dict) else {"message": str(body)[:300]}


def _error_of(code: int, status: Mapping[str, Any], where: str) -> Exception:
    """Translate an answer; LookupError, which never leaves this module, where there is no object."""
    path, _, _ = where.partition("?")
    message = f"{path}: {status.get('message') or status.get('reason')} (HTTP {code})"
    details = status.get("details") or {}
    wait = float(details.get("retryAfterSeconds") or 1.0) if isinstance(details, dict) else 1.0
    if code == 404:
        return LookupError(message)
    if code == 409:
        return ConflictError(message)
    if code == 410:
        return ExpiredError(message)
    if code in (401, 403):
        return ForbiddenError(message, 10.0)
    if code in (400, 405, 413, 415, 422):
        return RefusedError("Refused", message)
    return ApiUnavailableError(message, wait)
