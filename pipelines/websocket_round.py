"""The one round of a job whose images speak Sedna's first protocol, as they are.

    round 0:   [initialize -> commit]                      an empty model: the clients bring their own
    round 1:   per client [train]   beside   [websocket -> evaluate -> commit]

Nobody waits for anybody: such a client connects once and stays for all rounds, so the job's rounds are the
inner rounds of `websocket`, and the round's model is that of the last of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fedloom.api.dataset import Dataset
from fedloom.api.job import FederatedLearningJob
from fedloom.api.model import Model
from fedloom.artifacts import layout
from pipelines.client_tasks import ClientTasks
from pipelines.deadlines import LEAVE_SECONDS, client_deadline_seconds
from pipelines.engines.argo_names import task_name
from pipelines.environment import AGGREGATION_PORT
from pipelines.placement import place_server
from pipelines.plan import Task
from pipelines.server_tasks import ServerTasks
from pipelines.start import Start
from pipelines.user_settings import command_of


class WebsocketRound:
    """Makes the tasks of such a job."""

    def __init__(
        self,
        job: FederatedLearningJob,
        datasets: Mapping[str, Dataset],
        models: Mapping[str, Model],
    ) -> None:
        self._job = job
        self._inner_rounds = job.spec.rounds or 1
        self._clients = ClientTasks(job, datasets, models)
        # For the evaluation the only round is the last.
        self._server = ServerTasks(replace(job, spec=replace(job.spec, rounds=1)), datasets, models)
        self._placement = place_server(job.spec.aggregation_worker.template)

    def initial(self, start: Start) -> list[Task]:
        """Give round 0: an empty model, from which no client starts."""
        first = Task(
            name="initialize",
            step="initialize",
            group="server",
            client=None,
            depends=(),
            may_fail=False,
            inputs={},
            outputs={"model": layout.model_key(0)},
            settings={"empty": True},
            placement=self._placement,
            command=command_of("initialize"),
        )
        return [first, self._server.commit(start, depends=("initialize",))]

    def round(self, start: Start) -> list[Task]:
        """Give round 1; the server comes last, and its end is the round's."""
        workers = [self._worker(start, name) for name in start.cohort]
        serving = self._serving(start, workers)
        rest = [replace(task, depends=("websocket",)) for task in self._server.evaluate(start)]
        before = rest[-1].name if rest else "websocket"
        return [*workers, serving, *rest, self._server.commit(start, depends=(before,))]

    def _worker(self, start: Start, name: str) -> Task:
        """Give the user's container as it is written: it is told where the aggregator is, no more."""
        train = next(task for task in self._clients.of(start, name) if task.step == "train")
        address = {
            "AGG_IP": f"{service_name(self._job)}.{self._job.metadata.namespace}",
            "AGG_PORT": AGGREGATION_PORT,
        }
        environment = {**train.settings["environment"], **address}
        return replace(
            train,
            inputs={},
            settings={**train.settings, "environment": environment},
            deadline_seconds=client_deadline_seconds(self._job),
        )

    def _serving(self, start: Start, workers: list[Task]) -> Task:
        participation, aggregation = self._job.spec.participation, self._job.spec.aggregation
        names = {str(task.client): task.settings["environment"]["WORKER_NAME"] for task in workers}
        settings: dict[str, Any] = {
            "workers": {worker: client for client, worker in names.items()},
            "nodes": {str(task.client): task.placement.node_name for task in workers},
            "min_clients": participation.min_clients,
            "deadline_seconds": participation.deadline_seconds,
            "inner_rounds": self._inner_rounds,
            "leave_seconds": LEAVE_SECONDS,
            "host": "0.0.0.0",  # noqa: S104 (of its pod; a Service leads here)
            "port": int(AGGREGATION_PORT),
            "service": service_name(self._job),
            "aggregation": {
                "rule": aggregation.rule,
                "parameters": dict(aggregation.parameters),
                "weights": aggregation.weights,
            },
        }
        return Task(
            name="websocket",
            step="websocket",
            group="server",
            client=None,
            depends=(),
            may_fail=False,
            inputs={},
            outputs={"model": layout.model_key(start.round)},
            settings=settings,
            placement=self._placement,
            deadline_seconds=client_deadline_seconds(self._job) + participation.deadline_seconds,
            command=command_of("websocket"),
        )


def service_name(job: FederatedLearningJob) -> str:
    """Name the Service that leads to the aggregator, as Sedna does: `<job>-aggregation`."""
    return task_name(f"{job.metadata.name}-aggregation".lower())
