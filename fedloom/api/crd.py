"""The CustomResourceDefinitions of the three kinds, made from their types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fedloom.api.dataset import DatasetObservation, DatasetSpec
from fedloom.api.job import JobSpec
from fedloom.api.model import ModelObservation, ModelSpec
from fedloom.api.schema import schema_of
from fedloom.api.status import JobStatus

GROUP = "sedna.io"
VERSION = "v1alpha1"

Column = tuple[str, str, str, str, int]
"""Name, type, JSON path, description, priority (1 = only with `-o wide`)."""

_AGE: Column = ("Age", "date", ".metadata.creationTimestamp", "Time since it was made.", 0)


@dataclass(frozen=True)
class _Kind:
    name: str
    plural: str
    description: str
    spec: type[Any]
    status: type[Any]
    columns: tuple[Column, ...]
    short_names: tuple[str, ...] = ()


_KINDS = (
    _Kind(
        "FederatedLearningJob",
        "federatedlearningjobs",
        "A federated learning job: clients train on data that stays with them, round by round.",
        JobSpec,
        JobStatus,
        (
            ("Phase", "string", ".status.phase", "Pending, Running, Succeeded or Failed.", 0),
            ("Round", "integer", ".status.currentRound", "The round at hand.", 0),
            ("Clients", "integer", ".status.succeeded", "Clients whose update was accepted.", 0),
            ("Metric", "string", ".status.metric", "The metric to look at.", 0),
            ("Workflow", "string", ".status.workflow.name", "What runs the round.", 1),
            ("Run", "string", ".status.tracking.runId", "MLflow's run.", 1),
            _AGE,
        ),
        ("fl",),
    ),
    _Kind(
        "Dataset",
        "datasets",
        "Data that lies on one node and stays there.",
        DatasetSpec,
        DatasetObservation,
        (
            ("Node", "string", ".spec.nodeName", "The node that holds the data.", 0),
            ("Format", "string", ".spec.format", "How the data is written.", 0),
            ("Samples", "integer", ".status.numberOfSamples", "How many samples it has.", 0),
            _AGE,
        ),
    ),
    _Kind(
        "Model",
        "models",
        "A file of weights, to start from or to write to.",
        ModelSpec,
        ModelObservation,
        (
            ("Format", "string", ".spec.format", "How the weights are written.", 0),
            ("Updated", "date", ".status.updateTime", "When they were last written.", 0),
            _AGE,
        ),
    ),
)


def crds() -> dict[str, dict[str, Any]]:
    """Give file name -> CRD for the job, the dataset and the model."""
    return {f"{GROUP}_{kind.plural}.yaml": _crd(kind) for kind in _KINDS}


def _crd(kind: _Kind) -> dict[str, Any]:
    singular = kind.name.lower()
    names: dict[str, Any] = {
        "kind": kind.name,
        "listKind": f"{kind.name}List",
        "plural": kind.plural,
        "singular": singular,
        "categories": ["sedna"],
    }
    if kind.short_names:
        names["shortNames"] = list(kind.short_names)
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": [_column(column) for column in kind.columns],
        "schema": {"openAPIV3Schema": _root(kind)},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": names,
            "versions": [version],
        },
    }


def _root(kind: _Kind) -> Mapping[str, Any]:
    return {
        "type": "object",
        "description": kind.description,
        "properties": {
            "apiVersion": {"type": "string", "description": f"{GROUP}/{VERSION}."},
            "kind": {"type": "string", "description": f"{kind.name}."},
            "metadata": {"type": "object"},
            "spec": schema_of(kind.spec, "What is wanted."),
            "status": schema_of(kind.status, "What was observed.", has_defaults=False),
        },
        "required": ["spec"],
    }


def _column(column: Column) -> dict[str, Any]:
    name, kind, path, description, priority = column
    written = {"name": name, "type": kind, "jsonPath": path, "description": description}
    return {**written, "priority": priority} if priority else written
