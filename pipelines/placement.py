"""Where each part of a round runs: the client's node as its template says, the server in the cloud."""

from __future__ import annotations

from fedloom.api.pod import PodTemplate
from pipelines.plan import Placement

CLOUD = Placement(side="cloud")


def place_client(template: PodTemplate, dataset_node: str | None) -> Placement:
    """Pin a client: the template's node first, then its selector, then the dataset's node."""
    node = template.node_name
    if node is None and not template.node_selector:
        node = dataset_node or None
    return Placement("edge", node, dict(template.node_selector), tuple(template.tolerations))


def place_server(template: PodTemplate | None) -> Placement:
    """Pin the server's steps as the aggregation worker's template says; else anywhere in the cloud."""
    if template is None:
        return CLOUD
    return Placement(
        "cloud", template.node_name, dict(template.node_selector), tuple(template.tolerations)
    )
