"""Where each part of a round runs: the client's node as its template says, the server in the cloud.

An evaluation runs with the server, and takes it to the node of its data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from fedloom.api.dataset import Dataset
from fedloom.api.job import FederatedLearningJob
from fedloom.api.places import folder_to_mount
from fedloom.api.pod import PodTemplate
from fedloom.api.programs import evaluation_template
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


def place_evaluation(job: FederatedLearningJob, datasets: Mapping[str, Dataset]) -> Placement:
    """Pin an evaluation where the server is, or to the node of its data, if their folder is to be mounted."""
    server, evaluation = place_server(job.spec.aggregation_worker.template), job.spec.evaluation
    dataset = None if evaluation is None else datasets.get(evaluation.dataset.name)
    if dataset is None or server.node_name or server.node_selector:
        return server
    if folder_to_mount(dataset.spec.url, evaluation_template(job.spec).container) is None:
        return server
    return replace(server, node_name=dataset.spec.node_name or None)
