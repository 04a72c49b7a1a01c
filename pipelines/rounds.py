"""From a job and a cohort to the plan of one round. Pure: the same arguments give the same plan.

    round 0:   [initialize -> commit]
    round r:   per client [train -> compress]  ->  [aggregate -> evaluate -> commit]

Brackets are groups: what is inside shares one node and one work folder. `script_tasks` says what a job adds
whose aggregation worker has a program of its own, `websocket_round` what old images of Sedna get instead,
`split_round` what mistnet does, `transfer_tasks` how a job begins that learns from others.
"""

from __future__ import annotations

from collections.abc import Mapping

from fedloom.api.capabilities import MISTNET
from fedloom.api.compatibility import WEBSOCKET, compatibility_of, planned_rounds
from fedloom.api.dataset import Dataset
from fedloom.api.job import FederatedLearningJob
from fedloom.api.model import Model
from pipelines.client_tasks import ClientTasks
from pipelines.downlink import Downlink
from pipelines.plan import Plan, Task
from pipelines.secure_tasks import SecureTasks, is_secure
from pipelines.server_tasks import ServerTasks
from pipelines.split_round import SplitRound
from pipelines.start import Start
from pipelines.transfer_tasks import TransferTasks
from pipelines.websocket_round import WebsocketRound


class RoundPlanner:
    """Plans the rounds of one job; what does not change from round to round is worked out once."""

    def __init__(
        self,
        job: FederatedLearningJob,
        datasets: Mapping[str, Dataset],
        models: Mapping[str, Model],
    ) -> None:
        self._job = job
        self._clients = ClientTasks(job, datasets, models)
        self._server = ServerTasks(job, datasets, models)
        self._secure = SecureTasks(job.spec) if is_secure(job.spec) else None
        self._downlink = Downlink(job)
        transfer = TransferTasks(job, datasets, models)
        self._transfer = transfer if transfer.is_needed else None
        self._other: WebsocketRound | SplitRound | None = None
        if compatibility_of(job.spec) == WEBSOCKET:
            self._other = WebsocketRound(job, datasets, models)
        elif job.spec.algorithm is not None and job.spec.algorithm.name == MISTNET:
            self._other = SplitRound(job, datasets, models)

    def plan(self, start: Start) -> Plan:
        """Give the plan of one attempt of one round."""
        tasks = self._initial(start) if start.round == 0 else self._round(start)
        meta = self._job.metadata
        return Plan(
            job={"namespace": meta.namespace, "name": meta.name, "uid": meta.uid},
            round=start.round,
            rounds=planned_rounds(self._job.spec),
            attempt=start.attempt,
            cohort=start.cohort,
            tasks=tuple(tasks),
            reserves=start.reserves,
        )

    def _initial(self, start: Start) -> list[Task]:
        if self._other is not None:
            return self._other.initial(start)
        tasks = [*self._server.describe(start), self._server.initialize()]
        if self._transfer is not None:
            tasks[-1:] = self._transfer.around(tasks[-1], start)
        tasks += self._downlink.broadcast(start, after=tasks[-1])
        return [*tasks, self._server.commit(start, depends=(tasks[-1].name,))]

    def _round(self, start: Start) -> list[Task]:
        if self._other is not None:
            return self._other.round(start)
        tasks = [task for name in start.cohort for task in self._clients.of(start, name)]
        sent = tuple(task.name for task in tasks if task.step == "compress")
        tasks += self._server.aggregate(start, sent)
        tasks += self._server.evaluate(start)
        tasks += self._downlink.broadcast(start, after=tasks[-1])
        tasks.append(self._server.commit(start, depends=(tasks[-1].name,)))
        return tasks if self._secure is None else self._secure.around(start, tasks)
