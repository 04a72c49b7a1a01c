"""One attempt of one round, as its Workflow and its pods show it at one moment. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from controller.cluster.nodes import seconds_of
from controller.cluster.pods import Pod, client_of, is_of, node_name_of
from controller.cluster.workflows import attempt_of, newest_of, parts_of
from fedloom.errors import JobError
from pipelines.engines.argo_clients import (
    FAILED,
    PENDING,
    RUNNING,
    SUCCEEDED,
    ClientStatus,
    pod_status,
    remembered,
    seconds_between,
)
from pipelines.engines.argo_names import label_value
from pipelines.engines.argo_nodes import nodes_of, parameter_of, pod_name, steps_of
from pipelines.engines.argo_status import run_status

Workflow = Mapping[str, Any]

_ARGOS_OWN = ("init", "wait")
_STEPS = (
    "fetch",
    "library",
    "describe",
    "tell",
    "initialize",
    "adopt",
    "receive",
    "train",
    "compress",
    "unpack",
    "script",
    "aggregate",
    "prepare-extractor",
    "store-extractor",
    "release",
    "send",
    "collect",
    "train-tail",
    "adopt-tail",
    "evaluate",
    "leakage-report",
    "commit",
)
STEP_ORDER = {name: place for place, name in enumerate(_STEPS)}
"""Kubernetes sorts the containers of a pod's status by name; this is how they work."""

_PHASES = {"Succeeded": SUCCEEDED, "Failed": FAILED, "Error": FAILED, "Running": RUNNING}


@dataclass(frozen=True)
class Step:
    """One container of a pod: its state, and for how long it has worked."""

    name: str
    state: str
    seconds: float | None = None


@dataclass(frozen=True)
class Worker:
    """A client, or a pod of the cloud's side under its task's name."""

    name: str
    is_client: bool
    status: ClientStatus
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True)
class Attempt:
    """One attempt of one round; `finished` is None while it runs, times are unix seconds."""

    round: int
    attempt: int
    workflow: str
    started: float | None = None
    finished: float | None = None
    workers: tuple[Worker, ...] = ()

    @property
    def seconds(self) -> float | None:
        """How long it took; None before its end."""
        if self.started is None or self.finished is None:
            return None
        return self.finished - self.started

    @property
    def clients(self) -> Iterator[Worker]:
        return (worker for worker in self.workers if worker.is_client)


@dataclass(frozen=True)
class Picture:
    """All there is to see of one job at one moment."""

    job: Mapping[str, Any]
    workflows: Sequence[Workflow] = ()
    pods: Sequence[Pod] = ()
    names: tuple[str, ...] = field(default=())
    """The job's clients: labels of pods hold shortened names."""

    def newest(self, number: int | None = None, now: float = 0.0) -> Attempt | None:
        """The newest attempt, or the newest one at a round; None where nothing is left of it."""
        found = [w for w in self.workflows if number is None or attempt_of(w)[0] == number]
        newest = newest_of(found)
        return None if newest is None else self._attempt(newest, now)

    def _attempt(self, workflow: Workflow, now: float) -> Attempt:
        number, attempt = attempt_of(workflow)
        pods = [pod for pod in self.pods if is_of(pod, number, attempt)]
        every = (*parts_of(self.workflows, workflow), workflow)
        workers = {worker.name: worker for each in every for worker in _said(each)}
        for worker in _seen(pods, {label_value(name): name for name in self.names}, now):
            workers[worker.name] = _joined(workers.get(worker.name), worker)
        clients = sorted((w for w in workers.values() if w.is_client), key=lambda w: w.name)
        cloud = [w for w in workers.values() if not w.is_client]
        status = workflow.get("status") or {}
        started = seconds_of(workflow["metadata"].get("creationTimestamp"))
        return Attempt(
            number,
            attempt,
            workflow["metadata"]["name"],
            started,
            seconds_of(status.get("finishedAt")),
            (*clients, *cloud),
        )


def steps_of_pod(pod: Pod, now: float) -> tuple[Step, ...]:
    """The containers of a pod in the order in which they work.

    Argo starts all containers of a set at once and lets each wait for the one before it: what runs is
    the first that has not ended.
    """
    status = pod["status"]
    own = [c for c in status["initContainerStatuses"] or () if c["name"] not in _ARGOS_OWN]
    main = [c for c in status["containerStatuses"] or () if c["name"] not in _ARGOS_OWN]
    main.sort(key=lambda c: STEP_ORDER.get(c["name"], len(STEP_ORDER)))
    steps, before, is_open = [], 0.0, True
    for container in (*own, *main):
        ended, running = (container["state"].get(key) or {} for key in ("terminated", "running"))
        began = max(seconds_of((ended or running).get("startedAt")) or 0.0, before)
        end = seconds_of(ended.get("finishedAt"))
        if ended:
            state = FAILED if ended.get("exitCode") else SUCCEEDED
            steps.append(Step(container["name"], state, max(0.0, (end or began) - began)))
            before = end or before
        elif running and is_open:
            steps.append(Step(container["name"], RUNNING, max(0.0, now - began)))
            is_open = False
        else:
            steps.append(Step(container["name"], PENDING))
            is_open = False
    return tuple(steps)


def _said(workflow: Workflow) -> Iterator[Worker]:
    """What the Workflow says of its pods; nothing where Argo keeps that elsewhere."""
    try:
        nodes = nodes_of(workflow.get("status") or {})
        clients = run_status(workflow).clients
    except JobError:
        return
    steps = steps_of(nodes)
    pods = [node for node in nodes.values() if node.get("type") == "Pod"]
    pods.sort(key=lambda node: str(node.get("startedAt")))
    by_name = {pod_name(workflow["metadata"]["name"], node): node for node in pods}
    for name, status in clients.items():
        node = by_name.get(status.pod)
        yield Worker(name, True, status, _steps(steps.get(node["id"], ()) if node else ()))
    for node in pods:
        if parameter_of(node, "client") is None:
            status = ClientStatus(
                state=_PHASES.get(str(node.get("phase")), PENDING),
                message=str(node.get("message") or ""),
                node=str(node.get("hostNodeName") or ""),
                seconds=seconds_between(node.get("startedAt"), node.get("finishedAt")),
            )
            name = _task(str(node.get("name")))
            yield Worker(name, False, status, _steps(steps.get(node["id"], ())))


def _steps(nodes: Iterable[Mapping[str, Any]]) -> tuple[Step, ...]:
    steps, before = [], None
    for node in nodes:
        name, end = str(node.get("displayName") or ""), node.get("finishedAt")
        began = max(filter(None, (before, node.get("startedAt"))), default=None)
        state = _PHASES.get(str(node.get("phase")), PENDING)
        steps.append(Step(name, state, seconds_between(began, end)))
        before = end or before
    return tuple(steps)


def _seen(pods: Iterable[Pod], clients: Mapping[str, str], now: float) -> Iterator[Worker]:
    """What the pods say; of several of one worker the newest comes last."""
    for pod in sorted(pods, key=lambda each: str(each["metadata"].get("creationTimestamp"))):
        label = client_of(pod)
        status, steps = pod_status(pod), steps_of_pod(pod, now)
        if status.seconds is None and status.state == RUNNING:
            began = seconds_of(pod["status"].get("startTime"))
            status = replace(status, seconds=None if began is None else max(0.0, now - began))
        if label is not None:
            yield Worker(clients.get(label, label), True, status, steps)
        else:
            name = _task(node_name_of(pod)) or pod["metadata"]["name"]
            yield Worker(name, False, status, steps)


def _joined(said: Worker | None, seen: Worker) -> Worker:
    """The pod is ahead of the Workflow, until that says that it has ended."""
    if said is None or said.status.state not in (SUCCEEDED, FAILED):
        return seen
    status = remembered(seen.status, said.status)
    status = replace(status, node=status.node or seen.status.node)
    return replace(said, status=status, steps=seen.steps or said.steps)


def _task(node_name: str) -> str:
    """`workflow.server(0)` is a try of the task `server`; workflows have no dot in their names."""
    return node_name.partition(".")[2].partition("(")[0]
