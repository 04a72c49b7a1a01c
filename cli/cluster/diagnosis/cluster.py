"""Checks of the cluster itself: CRDs, Argo Workflows, nodes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from cli.cluster.diagnosis.finding import OK, PROBLEM, UNKNOWN, Finding, Scope, listed
from controller.cluster.kubernetes import Cluster, Document
from controller.cluster.nodes import is_ready, runtime_of
from controller.cluster.resources import DATASETS, NODES, Resource
from fedloom.api.crd import crds
from pipelines.plan import Placement

CRDS = Resource(
    "apiextensions.k8s.io/v1", "customresourcedefinitions", "CustomResourceDefinition", False
)
DEPLOYMENTS = Resource("apps/v1", "deployments", "Deployment")
EDGE_LABEL = "node-role.kubernetes.io/edge"

_ARGO_KINDS = ("workflows.argoproj.io", "workflowtaskresults.argoproj.io")
_ARGO_IMAGE = re.compile(r"workflow-controller:v?(\d+)\.(\d+)\S*")
_OLDEST_ARGO = (3, 7)


def crd_findings(server: Cluster) -> Iterator[Finding]:
    """Whether our three kinds are there, as this version has them."""
    for wanted in crds().values():
        name, kind = wanted["metadata"]["name"], wanted["spec"]["names"]["kind"]
        found = server.get(CRDS, None, name)
        if found is None:
            advice = "fedloom crds | kubectl apply --server-side -f -"
            yield Finding("crds", PROBLEM, f"{kind} is not installed", advice)
            continue
        lacking = list(_lacking(_schema(wanted), _schema(found), ""))
        if lacking:
            message = f"{kind} is of another version: it lacks {listed(lacking)}"
            advice = "fedloom crds | kubectl apply --server-side -f -"
            yield Finding("crds", PROBLEM, message, advice)
        else:
            yield Finding("crds", OK, f"{kind} is installed, of this version")


def argo_findings(server: Cluster) -> Iterator[Finding]:
    """Whether Argo Workflows is there, works, and is of a version that is supported."""
    lacking = [name for name in _ARGO_KINDS if server.get(CRDS, None, name) is None]
    if lacking:
        message = f"Argo Workflows is not installed: no {listed(lacking)}"
        yield Finding("argo", PROBLEM, message, "install Argo Workflows 3.7 or newer")
        return
    for deployment in server.list(DEPLOYMENTS, None)[0]:
        for image in images_of(deployment):
            version = _ARGO_IMAGE.search(image)
            if version is not None:
                yield _argo_finding(deployment, version)
                return
    message = "no Deployment of Argo's workflow-controller is to be seen"
    yield Finding("argo", UNKNOWN, message, "kubectl get pods -A | grep workflow-controller")


def node_findings(server: Cluster, scope: Scope) -> Iterator[Finding]:
    """Which nodes are edges, whether they are ready, and how clients get there."""
    nodes = {node["metadata"]["name"]: node for node in server.list(NODES, None)[0]}
    named = datasets_by_node(server, scope.namespace)
    for name, datasets in sorted(named.items()):
        if name not in nodes:
            message = f"there is no node {name!r}, which Dataset {listed(datasets)} names"
            yield Finding(
                "nodes", PROBLEM, message, "kubectl get nodes; spec.nodeName of the Dataset"
            )
    edges = edges_of(nodes, named)
    for name in edges:
        runtime = runtime_of("auto", Placement("edge", node_name=name), [nodes[name]])
        how = {"direct": "pods of the workflow", "dispatch": "Jobs, without the API server"}[
            runtime
        ]
        message = f"{name}: {runtime} ({how})"
        if is_ready(nodes[name]):
            yield Finding("nodes", OK, message)
        else:
            yield Finding(
                "nodes", PROBLEM, f"{message}, not Ready", f"kubectl describe node {name}"
            )
    if not edges:
        message = f"no node has the label {EDGE_LABEL}, no Dataset of {scope.namespace} names one"
        yield Finding("nodes", UNKNOWN, message, "a client trains on its Dataset's spec.nodeName")


def datasets_by_node(server: Cluster, namespace: str) -> dict[str, list[str]]:
    """The nodes that Datasets of a namespace name, and their names."""
    found: dict[str, list[str]] = {}
    for dataset in server.list(DATASETS, namespace)[0]:
        node = (dataset.get("spec") or {}).get("nodeName")
        if node:
            found.setdefault(str(node), []).append(str(dataset["metadata"]["name"]))
    return found


def edges_of(nodes: Mapping[str, Document], named: Mapping[str, Any]) -> list[str]:
    """The nodes that have the label of edges; where none has, those that Datasets name."""
    labelled = [
        name for name, node in nodes.items() if EDGE_LABEL in (node["metadata"].get("labels") or {})
    ]
    return sorted(labelled or [name for name in named if name in nodes])


def images_of(deployment: Mapping[str, Any]) -> list[str]:
    """The images of a Deployment's containers."""
    containers = deployment["spec"]["template"]["spec"]["containers"]
    return [str(container.get("image", "")) for container in containers]


def _argo_finding(deployment: Document, version: re.Match[str]) -> Finding:
    meta, status = deployment["metadata"], deployment.get("status") or {}
    where = f"{version[0].partition(':')[2]} in namespace {meta['namespace']}"
    if (int(version[1]), int(version[2])) < _OLDEST_ARGO:
        return Finding(
            "argo", PROBLEM, f"Argo Workflows {where}: too old", "3.7 or newer is needed"
        )
    if not status.get("readyReplicas"):
        advice = f"kubectl -n {meta['namespace']} describe deployment {meta['name']}"
        return Finding(
            "argo", PROBLEM, f"Argo Workflows {where}: its controller is not ready", advice
        )
    return Finding("argo", OK, f"Argo Workflows {where}")


def _schema(crd: Mapping[str, Any]) -> Mapping[str, Any]:
    versions = crd["spec"]["versions"]
    chosen = next((each for each in versions if each["name"] == "v1alpha1"), versions[0])
    schema: Mapping[str, Any] = (chosen.get("schema") or {}).get("openAPIV3Schema") or {}
    return schema


def _lacking(wanted: Mapping[str, Any], found: Mapping[str, Any], path: str) -> Iterator[str]:
    """Name the fields of one schema that another does not have."""
    known = found.get("properties") or {}
    for name, inner in (wanted.get("properties") or {}).items():
        place = f"{path}.{name}".lstrip(".")
        if name not in known:
            yield place
        else:
            yield from _lacking(inner, known[name], place)
    if isinstance(wanted.get("items"), Mapping):
        yield from _lacking(wanted["items"], found.get("items") or {}, f"{path}[]")
