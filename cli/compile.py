"""`fedloom compile`: a round as an engine would get it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from controller.decide import start_of
from controller.observed import Observed
from fedloom.api.capabilities import MISTNET
from fedloom.api.documents import read_documents, render_documents
from fedloom.api.job import FederatedLearningJob
from fedloom.api.lookup import datasets_of, models_of
from fedloom.api.validation import job_to_run
from fedloom.artifacts import layout
from pipelines.plan import Plan
from pipelines.rounds import RoundPlanner
from pipelines.split_round import EXTRACTOR

ENGINES = ("local", "argo")
_UNKNOWN_DIGEST = "sha256:" + "0" * 64
_UNKNOWN_UID = "00000000-0000-0000-0000-000000000000"


def compile_round(files: Sequence[Path], engine: str, number: int) -> str:
    """Give round `number` as YAML: the plan for the local engine, the Workflow for Argo.

    What is known only when the job runs is zero here: its uid, digests and sizes of earlier rounds. A
    Workflow is that of the quickstart, without its Secrets; a round of very many clients is several.
    """
    documents = read_documents(files)
    job = job_to_run(documents)
    job = replace(job, metadata=replace(job.metadata, uid=job.metadata.uid or _UNKNOWN_UID))
    observed = Observed(last=_before(job, number - 1) if number > 0 else None)
    planner = RoundPlanner(job, datasets_of(documents, job), models_of(documents, job))
    plan = planner.plan(start_of(job, observed, now=0.0))
    return render_documents([plan.to_document()] if engine == "local" else _workflows(plan, job))


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
        store_uri=f"s3://fedloom/jobs/{prefix}",
        store_endpoint="http://minio.fedloom-system.svc:9000",
        edge_state_path=state.host_path if state is not None else "/var/lib/fedloom",
        dispatched=frozenset(plan.cohort if job.spec.edge.runtime == "dispatch" else ()),
        dispatcher_image="fedloom/controller:0.1.0",
        dispatcher_account="fedloom-dispatcher",
        server_template=job.spec.aggregation_worker.template.raw,
    )
    return [workflow for _, workflow in compile_round(plan, setting)]
