"""The rounds of a job that Kubeflow Pipelines runs: its records and pods, which are in another namespace.

Records have a Workflow's labels, and pods are given those of a round's, so that whoever shows rounds need
not know which engine they are of.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from controller.cluster.kfp_pods import executor_of, labelled_pods
from controller.cluster.kfp_record import Record, read_records
from controller.cluster.kfp_runs import RUN_LABEL
from controller.cluster.kfp_settings import OF_THE_JOB
from controller.cluster.kubernetes import Cluster, Document
from controller.cluster.pods import NODE_NAME, Pod, kept_of_pod
from controller.cluster.resources import CONFIG_MAPS, LABEL_UID, PODS

LAUNCHERS_OWN = ("kfp-launcher",)


def is_on_kfp(job: Mapping[str, Any]) -> bool:
    """Whether Kubeflow Pipelines runs a job, as far as the job says."""
    workflow = (job.get("status") or {}).get("workflow") or {}
    named = ((job.get("spec") or {}).get("engine") or {}).get("name")
    return (workflow.get("engine") or named) == "kfp"


def runs_namespace(job: Mapping[str, Any]) -> str:
    """Give the namespace of a job's runs: as the controller has it, $FEDLOOM_KFP_NAMESPACE or kubeflow."""
    named = os.environ.get("FEDLOOM_KFP_NAMESPACE") or "kubeflow"
    return str(job["metadata"]["namespace"]) if named == OF_THE_JOB else named


def pods_of_runs(server: Cluster, job: Document) -> list[Pod]:
    """Give the pods of a job's runs that do its work, as those of rounds."""
    meta, namespace = job["metadata"], runs_namespace(job)
    found, _ = server.list(CONFIG_MAPS, namespace, f"{LABEL_UID}={meta['uid']}")
    pods: list[Pod] = []
    for record in read_records(found, meta["uid"]):
        if record.run:
            listed, _ = server.list(PODS, namespace, f"{RUN_LABEL}={record.run}")
            pods += work_pods(map(kept_of_pod, listed), record)
    return pods


def work_pods(pods: Iterable[Pod], record: Record) -> list[Pod]:
    """Give the pods that do a run's work, not those that prepare it; named as the tasks are."""
    return [_named(pod) for pod in labelled_pods(pods, record) if executor_of(pod)]


def _named(pod: Pod) -> Pod:
    meta, status = pod["metadata"], pod["status"]
    annotations = {**meta["annotations"], NODE_NAME: f"run.{executor_of(pod)}"}
    own = [c for c in status["initContainerStatuses"] if c["name"] not in LAUNCHERS_OWN]
    return {
        **pod,
        "metadata": {**meta, "annotations": annotations},
        "status": {**status, "initContainerStatuses": own},
    }
