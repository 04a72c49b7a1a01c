"""Certificates for nodes: the API server says whose token it is, its pod says on which node.

A service-account token that is bound to a pod says so itself; the pod's spec.nodeName, which only the
scheduler writes, is the node. Nothing that the asking side says of itself counts.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from controller.cluster.kubernetes import Cluster
from controller.cluster.logs import log
from controller.cluster.resources import PODS, TOKEN_REVIEWS
from controller.cluster.settings import LinkSettings
from controller.link.serving import Answer, Refusal, Request
from fedloom.errors import InvalidJobError, JobError, Problem
from fedloom.keys.certificates import EDGE, Authority, Identity

AUDIENCE = "fedloom"

_MOST_BYTES = 64 * 1024
_LONGEST_TOKEN = 16 * 1024
_AT_ONCE = 4
_POD = "authentication.kubernetes.io/pod-"


class Enrolment:
    """Signs for nodes. At most a few are asked about at once: strangers cannot keep the API server busy."""

    def __init__(
        self, cluster: Cluster, settings: LinkSettings, authority: Callable[[], Authority]
    ) -> None:
        self._cluster = cluster
        self._settings = settings
        self._authority = authority
        self._room = threading.BoundedSemaphore(_AT_ONCE)
        self._account = f"system:serviceaccount:{settings.namespace}:{settings.account}"

    def respond(self, request: Request) -> Answer:
        """Answer one request for a certificate: 401 for a token that is not taken, 400 for a bad request."""
        token = _token_of(request.headers)
        body = request.json(_MOST_BYTES)
        wanted = body.get("request") if isinstance(body, dict) else None
        if not isinstance(wanted, str):
            raise InvalidJobError([Problem("request", "expected a PEM certificate request")])
        if not self._room.acquire(blocking=False):
            raise Refusal(503, "others are being enrolled: come again")
        try:
            node = self._node_of(token)
        finally:
            self._room.release()
        seconds = self._settings.certificate_seconds
        try:
            signed = self._authority().sign(
                wanted.encode(), Identity(EDGE, node), time.time(), seconds
            )
        except JobError as error:
            raise InvalidJobError([Problem("request", error.message)]) from error
        log.info("node %s is enrolled", node)
        return Answer(
            {"node": node, "certificate": signed.decode(), "renewSeconds": round(seconds * 2 / 3)}
        )

    def _node_of(self, token: str) -> str:
        review = {
            "apiVersion": TOKEN_REVIEWS.api_version,
            "kind": TOKEN_REVIEWS.kind,
            "metadata": {"name": ""},
            "spec": {"token": token, "audiences": [AUDIENCE]},
        }
        status = self._cluster.create(TOKEN_REVIEWS, review).get("status") or {}
        user = status.get("user") or {}
        is_ours = status.get("authenticated") is True and AUDIENCE in (
            status.get("audiences") or ()
        )
        if not is_ours or user.get("username") != self._account:
            raise Refusal(401, f"the token is not one of {self._account} for {AUDIENCE!r}")
        name, uid = (_first(user, _POD + key) for key in ("name", "uid"))
        if not name or not uid:
            raise Refusal(401, "the token is bound to no pod: mount a projected one")
        pod = self._cluster.get(PODS, self._settings.namespace, name)
        if pod is None or pod["metadata"].get("uid") != uid:
            raise Refusal(401, f"the pod {name!r} of the token is gone")
        node = (pod.get("spec") or {}).get("nodeName")
        if not node:
            raise Refusal(401, f"the pod {name!r} of the token is on no node")
        return str(node)


def _token_of(headers: Mapping[str, str]) -> str:
    kind, _, token = headers.get("Authorization", "").partition(" ")
    if kind != "Bearer" or token.count(".") != 2 or len(token) > _LONGEST_TOKEN:
        raise Refusal(401, "expected Authorization: Bearer <service-account token>")
    return token


def _first(user: Mapping[str, Any], key: str) -> str:
    values = (user.get("extra") or {}).get(key) or ("",)
    return str(values[0])
