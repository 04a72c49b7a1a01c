"""The downstream end: what the cloud says this node holds. One way in, whoever brings it.

    POST   /<namespace>/federatedlearningjobs/<name>     body: the CR; inserted, or replaced
    DELETE /<namespace>/federatedlearningjobs/<name>     forgotten; so for /datasets/
    GET    /identity                                     which node this is, and how much it holds

The server for the cloud and the loop that asks the cloud both come here.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

from controller.edge.storage import Storage
from controller.link.bodies import DATASETS, RESOURCES, WORKERS_ANNOTATION
from controller.link.bodies import JOBS as JOB_RESOURCE
from controller.link.serving import Answer, Refusal, Request
from fedloom.errors import InvalidJobError, Problem
from fedloom.keys.certificates import CLOUD

log = logging.getLogger("fedloom.controller")

MOST_BYTES = 4 * 1024 * 1024
_SPEC_TEXTS = {DATASETS: ("url", "format")}


class Holding:
    """The objects of this node."""

    def __init__(self, storage: Storage, node: str) -> None:
        self._storage = storage
        self._node = node

    def respond(self, request: Request) -> Answer:
        """Answer the cloud; nobody else is answered."""
        if request.peer is None or request.peer.role != CLOUD:
            raise Refusal(403, "only the cloud's certificate is taken here")
        if request.method == "GET" and request.path == ("identity",):
            return Answer({"node": self._node, "held": len(self._storage.held())})
        namespace, resource, name = place_of(request.path)
        if request.method == "DELETE":
            self.apply("delete", (namespace, resource, name), None)
        elif request.method == "POST":
            self.apply("update", (namespace, resource, name), request.json(MOST_BYTES))
        else:
            raise Refusal(405, f"got {request.method}, expected POST or DELETE")
        return Answer()

    def apply(
        self, operation: str, place: tuple[str, str, str], document: Any, version: str = ""
    ) -> None:
        """Take one object in or forget it; `version` is the cloud's word for what it says.

        Raises InvalidJobError, and Refusal 400 for another operation.
        """
        namespace, resource, name = place
        if operation == "delete":
            self._storage.remove(resource, namespace, name)
        elif operation in ("insert", "update"):
            self._storage.put(resource, _checked(document, place), version)
        else:
            raise Refusal(400, f"got operation {operation!r}, expected insert, update or delete")
        log.info("%s of %s %s/%s", operation, resource, namespace, name)

    def workers_of(self, job: Mapping[str, Any]) -> frozenset[str]:
        """Names of the workers of a held job that may run on this node."""
        written = (job["metadata"].get("annotations") or {}).get(WORKERS_ANNOTATION)
        try:
            found = json.loads(written or "[]")
        except ValueError:
            found = []
        return frozenset(each for each in found if isinstance(each, str))


def place_of(path: tuple[str, ...]) -> tuple[str, str, str]:
    """Read /<namespace>/<resource>/<name>. Raises Refusal 404 for any other path."""
    if len(path) != 3 or path[1] not in RESOURCES or not all(path):
        known = " or ".join(RESOURCES)
        raise Refusal(404, f"expected /<namespace>/<resource>/<name>, resource {known}")
    return path[0], path[1], path[2]


def _checked(document: Any, place: tuple[str, str, str]) -> dict[str, Any]:
    """What this node uses of an object must be there; the rest is the cloud's affair."""
    namespace, resource, name = place
    if not isinstance(document, dict):
        got = type(document).__name__
        raise InvalidJobError([Problem("", f"got {got}, expected a {RESOURCES[resource]}")])
    meta, spec = document.get("metadata"), document.get("spec")
    if not isinstance(meta, dict) or not isinstance(spec, dict):
        raise InvalidJobError([Problem("", "metadata and spec: expected mappings")])
    wanted = {"namespace": namespace, "name": name}
    problems = [
        Problem(f"metadata.{key}", f"got {meta.get(key)!r}, expected {value!r}, as in the path")
        for key, value in wanted.items()
        if meta.get(key) != value
    ]
    if document.get("kind") != RESOURCES[resource]:
        kind = document.get("kind")
        problems.append(Problem("kind", f"got {kind!r}, expected {RESOURCES[resource]!r}"))
    if resource == JOB_RESOURCE and not isinstance(spec.get("trainingWorkers"), list):
        problems.append(Problem("spec.trainingWorkers", "expected a list"))
    if not isinstance(meta.get("annotations") or {}, dict):
        problems.append(Problem("metadata.annotations", "expected a mapping"))
    problems += [
        Problem(f"spec.{key}", f"got {spec.get(key)!r}, expected a text")
        for key in _SPEC_TEXTS.get(resource, ())
        if not isinstance(spec.get(key), str)
    ]
    if problems:
        raise InvalidJobError(problems)
    return document
