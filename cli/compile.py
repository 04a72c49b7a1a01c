"""`fedloom compile`: a round as an engine would get it, or a whole job as one pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from controller.decide import start_of
from controller.observed import Observed
from controller.sources import Sources
from fedloom.api.capabilities import MISTNET
from fedloom.api.compatibility import planned_rounds
from fedloom.api.documents import Documents, read_documents, render_documents
from fedloom.api.job import FederatedLearningJob
from fedloom.api.lookup import datasets_of, models_of
from fedloom.api.transfer import learns_from_others, source_name
from fedloom.api.validation import job_to_run
from fedloom.artifacts import layout
from fedloom.errors import JobError
from pipelines.plan import Plan
from pipelines.rounds import RoundPlanner
from pipelines.split_round import EXTRACTOR

if TYPE_CHECKING:
    from pipelines.engines.kfp import KfpSetting

ENGINES = ("local", "argo", "kfp")
_UNKNOWN_DIGEST = "sha256:" + "0" * 64
_UNKNOWN_UID = "00000000-0000-0000-0000-000000000000"
_STORE, _ENDPOINT = "s3://fedloom/jobs", "http://minio.fedloom-system.svc:9000"


def compile_round(files: Sequence[Path], engine: str, number: int) -> str:
    """Give round `number` as YAML: the plan for the local engine, the Workflow for Argo, a package for KFP.

    What is known only when the job runs is zero here: its uid, digests and sizes of earlier rounds. A
    Workflow is that of the quickstart, without its Secrets; a round of very many clients is several.
    """
    job, planner, _ = _job_of(files)
    last = _before(job, number - 1) if number > 0 else None
    observed = Observed(last=last, sources=_sources_of(job))
    plan = planner.plan(start_of(job, observed, now=0.0))
    if engine == "kfp":
        from pipelines.engines.kfp import compile_plan

        return compile_plan(plan, _kfp_setting(job)).to_yaml()
    return render_documents([plan.to_document()] if engine == "local" else _workflows(plan, job))


def compile_job(files: Sequence[Path]) -> str:
    """Give a whole job as one pipeline of Kubeflow Pipelines, ready to be uploaded."""
    from pipelines.engines.kfp import JobSetting
    from pipelines.engines.kfp import compile_job as compile_pipeline

    job, planner, documents = _job_of(files)
    if job.spec.transfer is not None and job.spec.transfer.sources:
        raise JobError(
            "NotInOnePipeline",
            "spec.transfer.from: got other jobs to learn from, expected none: in a pipeline of a whole job "
            "nobody waits for them. Let the controller run it (spec.engine.name: kfp)",
        )
    everybody = replace(
        job.spec.participation, clients_per_round=None, over_selection=1.0, sampling="fixed"
    )
    shape = replace(job, spec=replace(job.spec, participation=everybody))
    plans = [
        planner.plan(start_of(shape, Observed(last=_before(job, n - 1) if n else None), now=0.0))
        for n in range(planned_rounds(job.spec) + 1)
    ]
    given = JobSetting(_plain_documents(documents), f"{_STORE}/kfp", _ENDPOINT)
    return compile_pipeline(plans, given, _kfp_setting(job)).to_yaml()


def _sources_of(job: FederatedLearningJob) -> Sources | None:
    """Stand in for what a job that learns from others will find: every source, its url not yet known."""
    transfer = job.spec.transfer
    if transfer is None or not learns_from_others(transfer):
        return None
    names = [source_name(source) for source in transfer.sources] or ["registry"]
    return Sources(tuple({"name": name, "url": f"s3://unknown/{name}"} for name in names))


def _job_of(files: Sequence[Path]) -> tuple[FederatedLearningJob, RoundPlanner, Documents]:
    documents = read_documents(files)
    job = job_to_run(documents)
    job = replace(job, metadata=replace(job.metadata, uid=job.metadata.uid or _UNKNOWN_UID))
    planner = RoundPlanner(job, datasets_of(documents, job), models_of(documents, job))
    return job, planner, documents


def _plain_documents(documents: Documents) -> list[dict[str, Any]]:
    """Give what a pipeline is told of the job: no Secrets, and no store but the pipeline's own."""
    found = [dict(each) for (kind, *_), each in documents.originals.items() if kind != "Secret"]
    for each in found:
        if each["kind"] == "FederatedLearningJob":
            spec = each["spec"]
            each["spec"] = {name: spec[name] for name in spec if name != "transmitter"}
    return found


def _before(job: FederatedLearningJob, number: int) -> dict[str, Any]:
    """Give the result of round `number` as far as the next one's plan looks at it."""
    unknown = {"digest": _UNKNOWN_DIGEST, "size_bytes": 0}
    downlink = job.spec.compression.downlink
    state = {}
    if (downlink.codec, downlink.lossless) != ("none", "none"):
        state = {
            "broadcast": {"key": layout.state_key("broadcast", number), **unknown},
            "model-delta": {"key": layout.model_delta_key(number), **unknown},
        }
    if job.spec.algorithm is not None and job.spec.algorithm.name == MISTNET:
        state[EXTRACTOR] = {"key": layout.state_key(EXTRACTOR, number), **unknown}
    model = {"key": layout.model_key(number), **unknown}
    return {"round": number, "model": model, "state": state}


def _workflows(plan: Plan, job: FederatedLearningJob) -> list[dict[str, Any]]:
    from pipelines.engines.argo import Owner, Setting, compile_round

    meta = job.metadata
    prefix = layout.job_prefix(meta.namespace, meta.name, meta.uid)
    state = job.spec.edge.state
    setting = Setting(
        namespace=meta.namespace,
        owner=Owner("sedna.io/v1alpha1", "FederatedLearningJob", meta.name, meta.uid),
        service_account="fedloom-worker",
        steps_image="fedloom/steps:0.1.0",
        store_uri=f"{_STORE}/{prefix}",
        store_endpoint=_ENDPOINT,
        edge_state_path=state.host_path if state is not None else "/var/lib/fedloom",
        dispatched=frozenset(plan.cohort if job.spec.edge.runtime == "dispatch" else ()),
        dispatcher_image="fedloom/controller:0.1.0",
        dispatcher_account="fedloom-dispatcher",
        server_template=job.spec.aggregation_worker.template.raw,
    )
    return [workflow for _, workflow in compile_round(plan, setting)]


def _kfp_setting(job: FederatedLearningJob) -> KfpSetting:
    """Give the setting of the quickstart, in the namespace of a single-user Kubeflow Pipelines."""
    from pipelines.engines.argo import Owner
    from pipelines.engines.kfp import KfpSetting

    meta, state = job.metadata, job.spec.edge.state
    prefix = layout.job_prefix(meta.namespace, meta.name, meta.uid)
    return KfpSetting(
        namespace="kubeflow",
        owner=Owner("sedna.io/v1alpha1", "FederatedLearningJob", meta.name, meta.uid),
        service_account="pipeline-runner",
        steps_image="fedloom/steps:0.1.0",
        store_uri=f"{_STORE}/{prefix}",
        store_endpoint=_ENDPOINT,
        edge_state_path=state.host_path if state is not None else None,
        edge_state_claim=(state.claim if state is not None else None) or "",
        dispatcher_image="fedloom/controller:0.1.0",
        server_template=job.spec.aggregation_worker.template.raw,
    )
