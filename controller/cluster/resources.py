"""The kinds of objects that the controller deals with, and where the API has them."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote, urlencode


@dataclass(frozen=True)
class Resource:
    """One kind: `api_version` as documents have it (`v1`, `batch/v1`), `plural` as paths do."""

    api_version: str
    plural: str
    kind: str
    is_namespaced: bool = True

    def path(
        self,
        namespace: str | None = None,
        name: str | None = None,
        subresource: str | None = None,
        query: dict[str, str] | None = None,
    ) -> str:
        """Give the path of one object, or of all in a namespace, or of all (namespace None)."""
        root = "/api/" if "/" not in self.api_version else "/apis/"
        path = root + self.api_version
        if self.is_namespaced and namespace is not None:
            path += f"/namespaces/{quote(namespace, safe='')}"
        path += f"/{self.plural}"
        if name is not None:
            path += f"/{quote(name, safe='')}"
        if subresource is not None:
            path += f"/{subresource}"
        return f"{path}?{urlencode(query)}" if query else path


_SEDNA = "sedna.io/v1alpha1"
_ARGO = "argoproj.io/v1alpha1"

JOBS = Resource(_SEDNA, "federatedlearningjobs", "FederatedLearningJob")
DATASETS = Resource(_SEDNA, "datasets", "Dataset")
MODELS = Resource(_SEDNA, "models", "Model")
WORKFLOWS = Resource(_ARGO, "workflows", "Workflow")
TASK_RESULTS = Resource(_ARGO, "workflowtaskresults", "WorkflowTaskResult")
PODS = Resource("v1", "pods", "Pod")
SECRETS = Resource("v1", "secrets", "Secret")
SERVICES = Resource("v1", "services", "Service")
CONFIG_MAPS = Resource("v1", "configmaps", "ConfigMap")
NODES = Resource("v1", "nodes", "Node", is_namespaced=False)
EVENTS = Resource("v1", "events", "Event")
BATCH_JOBS = Resource("batch/v1", "jobs", "Job")
TOKEN_REVIEWS = Resource(
    "authentication.k8s.io/v1", "tokenreviews", "TokenReview", is_namespaced=False
)
LEASES = Resource("coordination.k8s.io/v1", "leases", "Lease")

LABEL_NAME = "federatedlearningjob.sedna.io/name"
LABEL_UID = "federatedlearningjob.sedna.io/uid"
LABEL_WORKER_TYPE = "federatedlearningjob.sedna.io/worker-type"
LABEL_ROUND = "fedloom.io/round"
LABEL_ATTEMPT = "fedloom.io/attempt"
LABEL_CLIENT = "fedloom.io/client"
