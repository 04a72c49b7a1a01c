"""The endpoint for the workers of this node: Sedna's `POST /sedna/workers/<name>/info`, and /healthz.

Sedna's contract has no token: so only the node itself and its pods' networks are listened to, and what is
posted must come under the name of a worker of a job that this node holds. A 200 says that the message is on
disk; the cloud has it later.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from controller.edge.holding import Holding
from controller.edge.settings import Network
from controller.edge.storage import Storage
from controller.link.bodies import JOBS, read_worker_info
from controller.link.serving import Answer, Refusal, Request

log = logging.getLogger("fedloom.controller")

MOST_BYTES = 1024 * 1024


class Workers:
    """Takes what workers post. `addresses` are the node's own, `health` says what /healthz shows."""

    def __init__(
        self,
        storage: Storage,
        holding: Holding,
        networks: tuple[Network, ...],
        addresses: tuple[str, ...],
        health: Callable[[], Mapping[str, Any]],
    ) -> None:
        self._storage = storage
        self._holding = holding
        self._networks = networks
        self._own = frozenset(addresses)
        self._health = health

    def respond(self, request: Request) -> Answer:
        """Answer one request."""
        if not self._is_near(request.address):
            message = f"{request.address} is neither this node nor in FEDLOOM_LC_WORKER_NETWORKS"
            log.warning("refused: %s", message)
            raise Refusal(403, message)
        if request.path == ("healthz",) and request.method == "GET":
            return Answer(self._health())
        if len(request.path) != 4 or request.path[:2] + request.path[3:] != (
            "sedna",
            "workers",
            "info",
        ):
            raise Refusal(404, "expected /sedna/workers/<name>/info or /healthz")
        if request.method != "POST":
            raise Refusal(405, f"got {request.method}, expected POST")
        return self._take(request.path[2], request.json(MOST_BYTES))

    def _take(self, name: str, body: Any) -> Answer:
        info = read_worker_info(body, name)
        job = self._storage.get(JOBS, info.namespace, info.job)
        if job is None:
            raise Refusal(404, f"no job {info.namespace}/{info.job} on this node")
        if name not in self._holding.workers_of(job):
            log.warning("refused: %r is no worker of %s/%s here", name, info.namespace, info.job)
            raise Refusal(403, f"{name!r} is no worker of {info.namespace}/{info.job} on this node")
        uid = str(job["metadata"].get("uid", ""))
        path = f"/{quote(info.namespace, safe='')}/{JOBS}/{quote(info.job, safe='')}/status"
        subject = f"{JOBS}/{info.namespace}/{info.job}/{uid}/{name}"
        self._storage.say(subject, path, {**info.message, "jobUid": uid})
        return Answer()

    def _is_near(self, address: str) -> bool:
        try:
            asked = ipaddress.ip_address(address)
        except ValueError:
            return False
        asked = getattr(asked, "ipv4_mapped", None) or asked
        return (
            asked.is_loopback
            or str(asked) in self._own
            or any(asked in network for network in self._networks)
        )
