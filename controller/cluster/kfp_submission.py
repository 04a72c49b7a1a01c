"""From a plan to the run that is asked for: its package, its names, its Secrets. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from controller.cluster.kfp_runs import Order
from controller.cluster.kfp_settings import KfpSettings
from controller.cluster.nodes import Node, open_edges
from controller.cluster.settings import Settings
from controller.cluster.stores import StoreAccess
from controller.cluster.submission import (
    server_downloads,
    setting_of,
    store_keys,
    url_signer,
)
from fedloom.api.job import FederatedLearningJob
from fedloom.artifacts import layout
from fedloom.errors import JobError
from pipelines.engines import kfp_names
from pipelines.engines.kfp_setting import KfpSetting
from pipelines.plan import Plan


@dataclass(frozen=True)
class Tracked:
    """The job in MLflow, as far as it is known: name of its experiment, its run and that's page."""

    experiment: str = ""
    run_id: str = ""
    url: str = ""


@dataclass(frozen=True)
class Compiled:
    """What one attempt of a round is made of: the run, its Secrets, and which tasks are whose."""

    order: Order
    secrets: Sequence[Mapping[str, Any]]
    clients: Mapping[str, str]


def compile_order(
    plan: Plan,
    job: FederatedLearningJob,
    access: StoreAccess,
    settings: tuple[Settings, KfpSettings],
    tracked: Tracked,
) -> Compiled:
    """Compile a plan. Raises JobError where it cannot be run like this."""
    from pipelines.engines import kfp, kfp_secrets  # a controller without the backend does without

    setting = _setting(plan, job, access, settings, tracked)
    package = kfp.compile_plan(plan, setting)
    urls = url_signer(access, settings[0].deadline_grace_seconds)
    secrets = kfp_secrets.secrets_of(
        plan, setting, urls, store_keys(access), server_downloads(plan, access)
    )
    source: dict[str, Any] = {"pipeline_spec": package.pipeline}
    if package.platform:
        source["platform_spec"] = package.platform
    order = Order(
        experiment=kfp_names.experiment_name(plan),
        title=kfp_names.run_name(plan),
        description=_description(plan, tracked),
        package=source,
        pipeline_root=setting.pipeline_root,
        plugins=_plugins(tracked),
    )
    return Compiled(order, secrets, kfp_names.clients_by_task(plan))


def check_nodes(settings: KfpSettings, nodes: Iterable[Node]) -> None:
    """Refuse to let a pod with the store's keys come to an edge: KFP itself keeps none away."""
    edges = [] if settings.server_nodes else open_edges(nodes)
    if edges:
        raise JobError(
            "NoServerNodes",
            f"got edges that take any pod ({', '.join(edges[:5])}), expected a taint on them, or "
            "FEDLOOM_KFP_SERVER_NODES of the controller: labels of the nodes for the server's pods",
        )


def _setting(
    plan: Plan,
    job: FederatedLearningJob,
    access: StoreAccess,
    settings: tuple[Settings, KfpSettings],
    tracked: Tracked,
) -> KfpSetting:
    """Give what the compiler must know beside the plan: what the one for Argo must, and more."""
    own, backend = settings
    meta, edge = job.metadata, job.spec.edge
    if edge.runtime == "dispatch":
        raise JobError(
            "NotOnKfp",
            "got dispatch, expected direct: every pod of Kubeflow Pipelines talks to the API server",
            "spec.edge.runtime",
        )
    given = setting_of(plan, job, access, own, ())
    prefix = layout.job_prefix(meta.namespace, meta.name, meta.uid)
    shared = {each.name: getattr(given, each.name) for each in fields(given)}
    shared |= {
        "namespace": backend.namespace_of(meta.namespace),
        "edge_state_path": edge.state.host_path if edge.state is not None else None,
        "dispatched": frozenset(),
    }
    return KfpSetting(
        **shared,
        pipeline_root=f"{backend.pipeline_root}/{prefix}" if backend.pipeline_root else "",
        edge_state_claim=(edge.state.claim if edge.state is not None else None) or "",
        server_selector=dict(backend.server_nodes),
        tracking={"run_id": tracked.run_id, "url": tracked.url} if tracked.run_id else {},
    )


def _description(plan: Plan, tracked: Tracked) -> str:
    """Say what the run is; the record's name, by which it is found again, comes after."""
    job = plan.job
    text = f"Round {plan.round} of {plan.rounds} of job {job['namespace']}/{job['name']}"
    text += f", attempt {plan.attempt}" if plan.attempt > 1 else ""
    text += f". MLflow: {tracked.url}" if tracked.url else ""
    return f"{text}. Made by Fedloom as"


def _plugins(tracked: Tracked) -> Mapping[str, Any] | None:
    """File what KFP's own MLflow plugin logs with the job; a backend without it reads over this."""
    if not tracked.experiment:
        return None
    return {"mlflow": {"experiment_name": tracked.experiment}}
