"""From a plan to the documents that are submitted: its Workflows and the Secrets that they need. Pure.

Secrets hold what no Workflow may show: presigned URLs for the edges, the store's keys for the cloud.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from controller.cluster.nodes import Node, runtime_of
from controller.cluster.resources import JOBS
from controller.cluster.settings import Settings
from controller.cluster.signing import signed_downloads
from controller.cluster.stores import StoreAccess
from controller.credentials import endpoint_of, external_endpoint_of
from fedloom.api.job import FederatedLearningJob
from fedloom.api.secret import ACCESS_KEY, SECRET_KEY, Secret
from fedloom.artifacts.presigning import LONGEST_SECONDS
from pipelines.engines import argo, argo_secrets
from pipelines.engines.argo_service import service_of
from pipelines.engines.argo_setting import Owner, Setting
from pipelines.plan import Plan, Task

Urls = dict[str, dict[str, str]]


@dataclass(frozen=True)
class Submission:
    """What one attempt of a round is made of on a cluster, or a part of it."""

    workflow: Mapping[str, Any]
    secrets: Sequence[Mapping[str, Any]]
    service: Mapping[str, Any] | None = None


def compile_submissions(
    plan: Plan,
    job: FederatedLearningJob,
    access: StoreAccess,
    settings: Settings,
    nodes: Sequence[Node],
) -> Iterator[Submission]:
    """Compile a plan, one Workflow after another: of a round of several the server's comes first.

    Raises JobError where the plan cannot be run like this.
    """
    setting = setting_of(plan, job, access, settings, nodes)
    urls = url_signer(access, settings.deadline_grace_seconds)
    for part, workflow in argo.compile_round(plan, setting):
        secrets = argo_secrets.client_secrets(part, setting, urls)
        if not part.part:
            signed = server_downloads(part, access)
            secrets.append(argo_secrets.server_secret(part, setting, store_keys(access), signed))
        secrets += argo_secrets.dispatch_secrets(part, setting)
        yield Submission(workflow, secrets, service_of(part, setting))


def url_signer(access: StoreAccess, grace_seconds: float) -> Callable[[Task], Urls]:
    """Give what signs the URLs of all that an edge's task reads and writes.

    They hold for four times the deadline and its grace: the tasks of an edge wait for one another
    and for a free node; without a deadline as long as S3 allows.
    """
    presigner = access.presigner()

    def sign(task: Task) -> Urls:
        seconds: float = LONGEST_SECONDS
        if task.deadline_seconds is not None:
            seconds = min(seconds, 4 * (task.deadline_seconds + grace_seconds))
        gets = sorted({str(each["key"]) for each in task.inputs.values()})
        puts = sorted(task.outputs.values())
        urls = {
            "get": {key: presigner.get_url(key, seconds) for key in gets},
            "put": {key: presigner.put_url(key, seconds) for key in puts},
        }
        if "downloads" in task.settings:
            urls["signed"] = signed_downloads(
                task.settings, access.secrets, access.secret, seconds, is_edge=True
            )
        return urls

    return sign


def server_downloads(plan: Plan, access: StoreAccess) -> dict[str, str]:
    """Sign what the cloud's tasks download."""
    found: dict[str, str] = {}
    for task in plan.tasks:
        if task.client is None and "downloads" in task.settings:
            found |= signed_downloads(
                task.settings, access.secrets, access.secret, LONGEST_SECONDS, is_edge=False
            )
    return found


def setting_of(
    plan: Plan,
    job: FederatedLearningJob,
    access: StoreAccess,
    settings: Settings,
    nodes: Sequence[Node],
) -> Setting:
    meta, edge = job.metadata, job.spec.edge
    path = edge.state.host_path if edge.state is not None else None
    runtime = edge.runtime if edge.runtime != "auto" else settings.edge_runtime
    return Setting(
        namespace=meta.namespace,
        owner=Owner(JOBS.api_version, JOBS.kind, meta.name, meta.uid),
        service_account=settings.service_account,
        steps_image=settings.steps_image,
        image_pull_policy=settings.image_pull_policy,
        store_uri=access.uri,
        store_endpoint=access.endpoint,
        store_region=access.region,
        edge_state_path=path or settings.edge_state_path,
        deadline_grace_seconds=settings.deadline_grace_seconds,
        pending_timeout=settings.has_pending_timeout,
        clients_per_workflow=settings.clients_per_workflow,
        dispatched=_dispatched(plan, runtime, nodes),
        dispatcher_image=settings.dispatcher_image,
        dispatcher_account=settings.dispatcher_account,
        server_template=job.spec.aggregation_worker.template.raw,
        has_local_controller=settings.has_local_controller,
        **_transmitter(access.secret),
    )


def _transmitter(secret: Secret | None) -> dict[str, Any]:
    """What containers are told of the S3 that a job names itself; its keys only by their names."""
    if secret is None:
        return {}
    return {
        "transmitter_endpoint": endpoint_of(secret),
        "transmitter_edge_endpoint": external_endpoint_of(secret),
        "transmitter_keys": (secret.entry_of(ACCESS_KEY), secret.entry_of(SECRET_KEY)),
    }


def _dispatched(plan: Plan, wanted: str, nodes: Sequence[Node]) -> frozenset[str]:
    """The clients of the plan whose node cannot run a pod of the Workflow."""
    return frozenset(
        task.client
        for task in plan.tasks
        if task.client is not None and runtime_of(wanted, task.placement, nodes) == "dispatch"
    )


def store_keys(access: StoreAccess) -> dict[str, str]:
    credentials = access.credentials
    keys = {
        "AWS_ACCESS_KEY_ID": credentials.access_key,
        "AWS_SECRET_ACCESS_KEY": credentials.secret_key,
    }
    if credentials.session_token:
        keys["AWS_SESSION_TOKEN"] = credentials.session_token
    return keys
