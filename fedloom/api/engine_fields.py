"""What a job may ask of the cluster together with the engine that it asks for."""

from __future__ import annotations

from collections.abc import Iterator

from fedloom.api.job import JobSpec
from fedloom.errors import Problem


def engine_fields(spec: JobSpec) -> Iterator[Problem]:
    """Find what the job's engine has not. Where the job names none the controller's own says so."""
    engine, edge = spec.engine.name, spec.edge
    path = edge.state.host_path if edge.state is not None else None
    claim = edge.state.claim if edge.state is not None else None
    if path is not None and claim is not None:
        yield Problem("spec.edge.state.claim", "got it beside hostPath, expected one of the two")
    elif engine == "kfp" and path is not None:
        message = (
            f"got {path!r} with engine kfp: Kubeflow Pipelines has no folders of nodes; expected "
            "spec.edge.state.claim, a PersistentVolumeClaim such as fedloom-{node}"
        )
        yield Problem("spec.edge.state.hostPath", message)
    elif engine == "argo" and claim is not None:
        message = f"got {claim!r} with engine argo, expected hostPath: claims are for engine kfp"
        yield Problem("spec.edge.state.claim", message)
    if engine == "kfp" and edge.runtime == "dispatch":
        message = (
            "got dispatch with engine kfp, expected direct: every pod of Kubeflow Pipelines talks "
            "to the API server"
        )
        yield Problem("spec.edge.runtime", message)
