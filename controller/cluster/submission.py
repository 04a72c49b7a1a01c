"""From a plan to the documents that are submitted: its Workflow and the Secrets that it needs. Pure.

Secrets hold what no Workflow may show: presigned URLs for the edges, the store's keys for the cloud.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from controller.cluster.nodes import Node, runtime_of
from controller.cluster.resources import JOBS
from controller.cluster.settings import Settings
from controller.cluster.stores import StoreAccess
from fedloom.api.job import FederatedLearningJob
from fedloom.artifacts.presigning import LONGEST_SECONDS
from pipelines.engines import argo, argo_secrets
from pipelines.engines.argo_setting import Owner, Setting
from pipelines.plan import Plan, Task

Urls = dict[str, dict[str, str]]


@dataclass(frozen=True)
class Submission:
    """What one attempt of a round is made of on a cluster."""

    workflow: Mapping[str, Any]
    secrets: Sequence[Mapping[str, Any]]


def compile_submission(
    plan: Plan,
    job: FederatedLearningJob,
    access: StoreAccess,
    settings: Settings,
    nodes: Sequence[Node],
) -> Submission:
    """Compile a plan. Raises JobError where it cannot be run like this."""
    setting = _setting(plan, job, access, settings, nodes)
    workflow = argo.compile_plan(plan, setting)
    urls = url_signer(access, settings.deadline_grace_seconds)
    secrets = [
        *argo_secrets.client_secrets(plan, setting, urls),
        argo_secrets.server_secret(plan, setting, _keys(access)),
        *argo_secrets.dispatch_secrets(plan, setting),
    ]
    return Submission(workflow, secrets)


def url_signer(access: StoreAccess, grace_seconds: float) -> Callable[[Task], Urls]:
    """Give what signs the URLs of all that an edge's task reads and writes.

    They hold for four times the deadline and its grace: the tasks of an edge wait for one another
    and for a free node; without a deadline as long as S3 allows.
    """
    presigner = access.presigner()

    def sign(task: Task) -> Urls:
        seconds: float = LONGEST_SECONDS
        if task.deadline_seconds is not None:
            seconds = 4 * (task.deadline_seconds + grace_seconds)
        gets = sorted({str(each["key"]) for each in task.inputs.values()})
        puts = sorted(task.outputs.values())
        return {
            "get": {key: presigner.get_url(key, seconds) for key in gets},
            "put": {key: presigner.put_url(key, seconds) for key in puts},
        }

    return sign


def _setting(
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
        dispatched=_dispatched(plan, runtime, nodes),
        dispatcher_image=settings.dispatcher_image,
        dispatcher_account=settings.dispatcher_account,
        server_template=job.spec.aggregation_worker.template.raw,
    )


def _dispatched(plan: Plan, wanted: str, nodes: Sequence[Node]) -> frozenset[str]:
    """The clients of the plan whose node cannot run a pod of the Workflow."""
    return frozenset(
        task.client
        for task in plan.tasks
        if task.client is not None and runtime_of(wanted, task.placement, nodes) == "dispatch"
    )


def _keys(access: StoreAccess) -> dict[str, str]:
    credentials = access.credentials
    keys = {
        "AWS_ACCESS_KEY_ID": credentials.access_key,
        "AWS_SECRET_ACCESS_KEY": credentials.secret_key,
    }
    if credentials.session_token:
        keys["AWS_SESSION_TOKEN"] = credentials.session_token
    return keys
