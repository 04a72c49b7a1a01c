"""The controller's settings for Kubeflow Pipelines; without an endpoint there is no such engine.

FEDLOOM_KFP_ENDPOINT         its API: http://ml-pipeline.kubeflow:8888
FEDLOOM_KFP_NAMESPACE        where it runs its pods; kubeflow if unset; "*" for each job's own namespace,
                             as with several users
FEDLOOM_KFP_TOKEN_FILE       a projected token of audience pipelines.kubeflow.org, read anew for every call;
                             none is sent if unset
FEDLOOM_KFP_CA_FILE          the certificates that signed the endpoint's; the public ones if unset
FEDLOOM_KFP_UI               its pages as a browser reaches them, for links; the endpoint if unset
FEDLOOM_KFP_PIPELINE_ROOT    minio://bucket/prefix or s3://bucket/prefix: what the UI shows of a run is below
                             it, in the job's own folder; the backend's own root if unset
FEDLOOM_KFP_SERVER_NODES     label=value,...: the nodes for pods that hold the store's keys; needed where
                             edges take any pod, for KFP keeps none away from them
FEDLOOM_KFP_SERVICE_ACCOUNT  of the pods of a run; the backend's own if unset
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from controller.cluster.kfp_api import KfpConnection
from fedloom.errors import Problem

OF_THE_JOB = "*"


@dataclass(frozen=True)
class KfpSettings:
    """See the module.

    Attributes:
        namespace: where runs are; empty for each job's own, and then runs belong to users.
        server_nodes: labels of the nodes for the server's pods.
    """

    connection: KfpConnection
    namespace: str = "kubeflow"
    ui: str = ""
    pipeline_root: str = ""
    service_account: str = ""
    server_nodes: Mapping[str, str] = field(default_factory=dict)

    def namespace_of(self, job_namespace: str) -> str:
        """Give the namespace of a job's runs."""
        return self.namespace or job_namespace

    def api_namespace(self, job_namespace: str) -> str:
        """Give what the API wants to hear of namespaces: nothing where it has one user only."""
        return "" if self.namespace else job_namespace

    def page_of(self, run: str) -> str:
        """Give the run's page."""
        return f"{self.ui or self.connection.endpoint}/#/runs/details/{run}"


def read_kfp_settings(environ: Mapping[str, str], problems: list[Problem]) -> KfpSettings | None:
    """Read them; what is wrong is added to `problems`. None where there is no endpoint."""
    endpoint = environ.get("FEDLOOM_KFP_ENDPOINT", "").rstrip("/")
    if not endpoint:
        return None
    for name, text in (
        ("FEDLOOM_KFP_ENDPOINT", endpoint),
        ("FEDLOOM_KFP_UI", environ.get("FEDLOOM_KFP_UI", "")),
    ):
        if text and not text.startswith(("http://", "https://")):
            problems.append(Problem(name, f"got {text!r}, expected http://... or https://..."))
    root = environ.get("FEDLOOM_KFP_PIPELINE_ROOT", "").rstrip("/")
    if root and "://" not in root:
        message = f"got {root!r}, expected minio://bucket/prefix or s3://bucket/prefix"
        problems.append(Problem("FEDLOOM_KFP_PIPELINE_ROOT", message))
    namespace = environ.get("FEDLOOM_KFP_NAMESPACE") or "kubeflow"
    return KfpSettings(
        connection=KfpConnection(
            endpoint=endpoint,
            token_path=_path(environ, "FEDLOOM_KFP_TOKEN_FILE"),
            ca_path=_path(environ, "FEDLOOM_KFP_CA_FILE"),
        ),
        namespace="" if namespace == OF_THE_JOB else namespace,
        ui=environ.get("FEDLOOM_KFP_UI", "").rstrip("/"),
        pipeline_root=root,
        service_account=environ.get("FEDLOOM_KFP_SERVICE_ACCOUNT", ""),
        server_nodes=_labels(environ, "FEDLOOM_KFP_SERVER_NODES", problems),
    )


def _path(environ: Mapping[str, str], name: str) -> Path | None:
    text = environ.get(name, "")
    return Path(text) if text else None


def _labels(environ: Mapping[str, str], name: str, problems: list[Problem]) -> dict[str, str]:
    found = {}
    for part in filter(None, map(str.strip, environ.get(name, "").split(","))):
        label, mark, value = part.partition("=")
        if not label or not mark:
            problems.append(Problem(name, f"got {part!r}, expected label=value"))
        found[label] = value
    return found
