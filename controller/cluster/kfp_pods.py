"""The pods of a run of Kubeflow Pipelines, read as those of a round. Pure.

Every release calls a task's own pod `<workflow>.root. ... .<task>.executor` in Argo's annotation, and what
comes before it `<task>-driver`. Labels of ours they have only on newer ones: the record knows the tasks.
"""

from __future__ import annotations

from collections.abc import Iterable

from controller.cluster.kfp_record import Record
from controller.cluster.pods import Pod, node_name_of
from controller.cluster.resources import LABEL_ATTEMPT, LABEL_CLIENT, LABEL_ROUND
from pipelines.engines.argo_names import label_value

_EXECUTOR = ".executor"


def executor_of(pod: Pod) -> str:
    """The task whose work a pod does; empty for a driver's."""
    name = node_name_of(pod).partition("(")[0]
    return name.removesuffix(_EXECUTOR).rpartition(".")[2] if name.endswith(_EXECUTOR) else ""


def task_of(pod: Pod) -> str:
    """The task that a pod is for, as the record calls it."""
    task = executor_of(pod) or node_name_of(pod).rpartition(".")[2].partition("(")[0]
    return task.removesuffix("-driver")


def labelled_pods(pods: Iterable[Pod], record: Record) -> list[Pod]:
    """Give the pods of a run with round, attempt and client as their labels."""
    return [_labelled(pod, record) for pod in pods]


def _labelled(pod: Pod, record: Record) -> Pod:
    meta = pod["metadata"]
    labels = dict(meta.get("labels") or {})
    labels |= {LABEL_ROUND: str(record.round), LABEL_ATTEMPT: str(record.attempt)}
    client = record.clients.get(task_of(pod))
    if client is not None and executor_of(pod):
        labels[LABEL_CLIENT] = label_value(client)
    return {**pod, "metadata": {**meta, "labels": labels}}
