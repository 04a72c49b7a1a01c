"""The nodes of a Workflow's status: what Argo writes down of each pod and container. Pure."""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from collections.abc import Mapping
from typing import Any

from fedloom.errors import JobError

Node = Mapping[str, Any]


def nodes_of(status: Mapping[str, Any]) -> dict[str, Node]:
    """Give the nodes of a Workflow's status, unpacked where Argo has packed them."""
    if status.get("offloadNodeStatusVersion"):
        raise JobError(
            "UnreadableStatus",
            "status.offloadNodeStatusVersion: got the nodes in Argo's database, expected them in the "
            "Workflow. Turn nodeStatusOffLoad off",
        )
    packed = status.get("compressedNodes")
    if not packed:
        return dict(status.get("nodes") or {})
    try:
        text = zlib.decompress(base64.b64decode(packed), wbits=31)
        nodes: dict[str, Node] = json.loads(text)
    except (binascii.Error, zlib.error, ValueError) as error:
        raise JobError(
            "UnreadableStatus",
            f"status.compressedNodes: got {error}, expected gzip. Leave Argo's "
            "WORKFLOW_COMPRESSION_ALGORITHM at gzip",
        ) from None
    return nodes


def steps_of(nodes: Mapping[str, Node]) -> dict[str, list[Node]]:
    """Give the containers of each pod of several, in the order in which they run."""
    steps: dict[str, list[Node]] = {}
    for node in nodes.values():
        if node.get("type") == "Container":
            steps.setdefault(node.get("boundaryID", ""), []).append(node)
    return {pod: _ordered(nodes[pod], own) for pod, own in steps.items() if pod in nodes}


def _ordered(pod: Node, steps: list[Node]) -> list[Node]:
    by_id = {node["id"]: node for node in steps}
    ordered: list[Node] = []
    following = list(pod.get("children") or ())
    while following and len(ordered) < len(steps):
        node = by_id.get(following.pop(0))
        if node is not None:
            ordered.append(node)
            following += node.get("children") or ()
    return ordered


def pod_name(workflow: str, node: Node) -> str:
    """Name the pod of a node: Argo's second format, the default since 3.4."""
    template, number = node.get("templateName", ""), node["id"].rpartition("-")[2]
    return f"{workflow}-{template}-{number}"


def parameter_of(node: Node, name: str) -> str | None:
    given = (node.get("inputs") or {}).get("parameters") or ()
    return next((each.get("value") for each in given if each["name"] == name), None)
