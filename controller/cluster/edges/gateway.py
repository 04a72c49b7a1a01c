"""The edge link's server: who is asking, and what for.

    POST /edges/enrolment      a service-account token and a certificate request: a certificate for the node
    POST /edges/downstream     what the node holds: what to do about it, as soon as there is something to do
    POST /<namespace>/<resource>/<name>/status     what the node reports

All but the first want the certificate of a node that the cluster still has.
"""

from __future__ import annotations

import ssl
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

from controller.cluster.edges.authority import authority_of, publish
from controller.cluster.edges.enrolment import Enrolment
from controller.cluster.edges.reports import Reports
from controller.cluster.edges.upstream import Upstream
from controller.cluster.edges.wanted import Key, Wanted
from controller.cluster.kubernetes import Cluster
from controller.cluster.logs import log
from controller.cluster.settings import LinkSettings
from controller.cluster.watches import Watches
from controller.link.bodies import MESSAGE_HEADER, RESOURCES
from controller.link.serving import Answer, Refusal, Request, Server
from controller.link.tls import server_context
from fedloom.errors import FedloomError, InvalidJobError, Problem
from fedloom.keys.certificates import CLOUD, EDGE, Authority, Identity, new_key, request_of

_MOST_HELD_BYTES = 16 * 1024 * 1024
_MOST_MESSAGE_BYTES = 2 * 1024 * 1024
_LONGEST_WAIT_SECONDS = 30.0
_LOOK_SECONDS = 60.0
_RETRY_SECONDS = 2.0
_OWN_LIFETIME_SECONDS = 30 * 86400.0


class Gateway:
    """Listens once `start` is called; everything happens on threads of its own."""

    def __init__(
        self,
        cluster: Cluster,
        settings: LinkSettings,
        own_namespace: str,
        watches: Watches,
        reports: Reports,
        enqueue: Callable[[Key], None],
    ) -> None:
        self._cluster = cluster
        self._settings = settings
        self._namespace = own_namespace
        self._watches = watches
        self._wanted = Wanted(watches.jobs, watches.datasets, watches.nodes)
        self._upstream = Upstream(
            cluster, (watches.jobs, watches.datasets), self._wanted, reports, enqueue
        )
        self._enrolment = Enrolment(cluster, settings, self._signer)
        self._epoch = uuid.uuid4().hex  # by which nodes see that this is another process
        self._authority: Authority | None = None
        self._context: ssl.SSLContext | None = None
        self._renew_at = 0.0
        self._server: Server | None = None
        self._stopping = threading.Event()

    def start(self) -> None:
        """Begin to listen as soon as there is an authority."""
        threading.Thread(target=self._loop, name="edge-link", daemon=True).start()

    def close(self) -> None:
        self._stopping.set()
        if self._server is not None:
            self._server.close()

    @property
    def port(self) -> int:
        """Where it listens; 0 while it does not."""
        return self._server.port if self._server is not None else 0

    def look(self) -> None:
        """Have authority, certificate and server; make or renew what is not as it should be."""
        authority = authority_of(self._cluster, self._namespace)
        publish(self._cluster, self._settings.namespace, authority)
        if authority != self._authority or time.time() > self._renew_at:
            key, now = new_key(), time.time()
            identity = Identity(CLOUD, "controller")
            signed = authority.sign(request_of(key), identity, now, _OWN_LIFETIME_SECONDS)
            self._context = server_context(signed, key, authority.certificate)
            self._renew_at = now + _OWN_LIFETIME_SECONDS / 2
            self._authority = authority
        if self._server is None:
            self._server = Server(self._settings.listen, self.respond, self._own_context)
            log.info("the edge link listens at port %d", self._server.port)

    def respond(self, request: Request) -> Answer:
        """Answer one request."""
        if request.method != "POST":
            raise Refusal(405, f"got {request.method}, expected POST")
        if request.path == ("edges", "enrolment"):
            return self._enrolment.respond(request)
        node = self._node_of(request)
        if request.path == ("edges", "downstream"):
            return self._downstream(node, request.json(_MOST_HELD_BYTES))
        parts = request.path
        if len(parts) != 4 or parts[1] not in RESOURCES or parts[3] != "status":
            raise Refusal(404, "expected /<namespace>/<resource>/<name>/status")
        body = request.json(_MOST_MESSAGE_BYTES)
        message = request.headers.get(MESSAGE_HEADER, "")
        return self._upstream.take(node, (parts[0], parts[1], parts[2]), body, message)

    def _node_of(self, request: Request) -> str:
        if request.peer is None:
            raise Refusal(401, "expected a node's certificate: enrol first")
        if request.peer.role != EDGE:
            raise Refusal(403, f"got the certificate of {request.peer.uri}, expected a node's")
        if self._watches.nodes.get("", request.peer.name) is None:
            # It may be back soon: what it has to say is to be said again, not thrown away.
            raise Refusal(401, f"there is no node {request.peer.name!r} now")
        return request.peer.name

    def _downstream(self, node: str, body: Any) -> Answer:
        held = body.get("held") if isinstance(body, dict) else None
        if not isinstance(held, dict):
            raise InvalidJobError([Problem("held", "expected a mapping of names to versions")])
        wait = body.get("waitSeconds", 0)
        if isinstance(wait, bool) or not isinstance(wait, int | float) or not wait >= 0:
            raise InvalidJobError([Problem("waitSeconds", "expected a number from 0")])
        is_known = body.get("epoch", self._epoch) == self._epoch
        seconds = min(float(wait), _LONGEST_WAIT_SECONDS) if is_known else 0.0
        operations = self._wanted.wait_for_difference(node, held, seconds)
        return Answer({"operations": operations, "epoch": self._epoch})

    def _signer(self) -> Authority:
        assert self._authority is not None
        return self._authority

    def _own_context(self) -> ssl.SSLContext:
        assert self._context is not None
        return self._context

    def _loop(self) -> None:
        pause = 0.0
        while not self._stopping.wait(pause):
            try:
                self.look()
                pause = _LOOK_SECONDS
            except (FedloomError, OSError) as error:
                log.warning("the edge link is not ready: %s", error)
                pause = _RETRY_SECONDS
            except Exception:
                log.exception("the edge link is not ready")
                pause = _RETRY_SECONDS
