"""From a job and a cohort to the plan of one round. Pure: the same arguments give the same plan.

    round 0:   initialize -> commit
    round r:   per client [train -> compress]  ->  [aggregate -> evaluate -> commit]

Brackets are groups: what is inside shares one node and one work folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fedloom.algorithms.sampling import derive_seed
from fedloom.api.clients import ClientSpec, clients_of
from fedloom.api.dataset import Dataset
from fedloom.api.job import FederatedLearningJob
from fedloom.api.model import Model
from fedloom.api.pod import PodTemplate
from fedloom.artifacts import layout
from pipelines.environment import hyperparameters_of, variables_of
from pipelines.placement import place_client, place_server
from pipelines.plan import Placement, Plan, Task

_SEED_MASK = 2**31 - 1  # any language's integer holds it


@dataclass(frozen=True)
class Start:
    """What a round starts from.

    Attributes:
        round: from 1; 0 makes the first model.
        attempt: which try, from 1.
        cohort: the clients, sorted by name.
        started: unix seconds.
        model: {`key`, `digest`, `size_bytes`} of the last committed model; None for round 0.
        states: name -> {`key`, `digest`} of the server's state after the last committed round.
        accepted: client -> digest of its last update that a round accepted.
    """

    round: int
    attempt: int
    cohort: tuple[str, ...]
    started: float
    model: Mapping[str, Any] | None = None
    states: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    accepted: Mapping[str, str] = field(default_factory=dict)


class RoundPlanner:
    """Plans the rounds of one job; what does not change from round to round is worked out once."""

    def __init__(
        self,
        job: FederatedLearningJob,
        datasets: Mapping[str, Dataset],
        models: Mapping[str, Model],
    ) -> None:
        self._job = job
        self._spec = job.spec
        self._datasets = datasets
        self._models = models
        self._clients = {client.name: client for client in clients_of(job)}
        self._client_seeds = {
            name: self._seed("client", 0, name)
            for name in (*self._clients, "evaluation", "initialize")
        }
        self._user_settings = {
            name: self._settings_of(client.worker.template, client, client.dataset, "train")
            for name, client in self._clients.items()
        }

    def plan(self, start: Start) -> Plan:
        """Give the plan of one attempt of one round."""
        tasks = self._initial(start) if start.round == 0 else self._round(start)
        meta = self._job.metadata
        return Plan(
            job={"namespace": meta.namespace, "name": meta.name, "uid": meta.uid},
            round=start.round,
            rounds=self._spec.rounds or 1,
            attempt=start.attempt,
            cohort=start.cohort,
            tasks=tuple(tasks),
        )

    def _initial(self, start: Start) -> list[Task]:
        template = self._spec.training_workers[0].template
        settings = self._settings_of(template, None, None, "initialize")
        settings |= self._seeds(start, "initialize")
        if self._spec.pretrained_model is not None:
            settings["pretrained"] = self._models[self._spec.pretrained_model.name].spec.url
        initialize = Task(
            name="initialize",
            step="initialize",
            group="server",
            client=None,
            depends=(),
            may_fail=False,
            inputs={},
            outputs={"model": layout.model_key(0)},
            settings=settings,
            placement=place_server(self._spec.aggregation_worker.template),
            deadline_seconds=self._spec.participation.deadline_seconds,
            template=template.raw,
        )
        return [initialize, self._commit(start, depends=("initialize",))]

    def _round(self, start: Start) -> list[Task]:
        tasks: list[Task] = []
        for name in start.cohort:
            tasks += self._client(start, self._clients[name])
        aggregate = self._aggregate(start, tuple(t.name for t in tasks if t.step == "compress"))
        tasks.append(aggregate)
        if self._is_evaluated(start.round):
            tasks.append(self._evaluate(start))
        tasks.append(self._commit(start, depends=(tasks[-1].name,)))
        return tasks

    def _client(self, start: Start, client: ClientSpec) -> list[Task]:
        node = self._datasets[client.dataset].spec.node_name
        placement = place_client(client.worker.template, node)
        return [
            self._train(start, client, placement),
            self._compress(start, client.name, placement),
        ]

    def _train(self, start: Start, client: ClientSpec, placement: Placement) -> Task:
        assert start.model is not None
        name = client.name
        return Task(
            name=f"train-{name}",
            step="train",
            group=f"client-{name}",
            client=name,
            depends=(),
            may_fail=True,
            inputs={"model": _reference(start.model)},
            outputs={},
            settings={
                **self._user_settings[name],
                **self._seeds(start, name),
                "accepted": start.accepted.get(name),
            },
            placement=placement,
            deadline_seconds=self._spec.participation.deadline_seconds,
            template=client.worker.template.raw,
        )

    def _compress(self, start: Start, name: str, placement: Placement) -> Task:
        assert start.model is not None
        uplink = self._spec.compression.uplink
        return Task(
            name=f"compress-{name}",
            step="compress",
            group=f"client-{name}",
            client=name,
            depends=(f"train-{name}",),
            may_fail=True,
            inputs={"model": _reference(start.model)},
            outputs={
                "update": layout.update_key(start.round, name, start.attempt),
                "report": layout.report_key(start.round, name, start.attempt),
            },
            settings={
                "codec": uplink.codec,
                "parameters": dict(uplink.parameters),
                "seed": self._seed("compress", start.round, name),
                "downlink_bytes": start.model["size_bytes"],
            },
            placement=placement,
            command=_command("compress", name),
        )

    def _aggregate(self, start: Start, depends: tuple[str, ...]) -> Task:
        assert start.model is not None
        algorithm, uplink = self._spec.algorithm, self._spec.compression.uplink
        assert algorithm is not None
        return Task(
            name="aggregate",
            step="aggregate",
            group="server",
            client=None,
            depends=depends,
            may_fail=False,
            inputs={
                "model": _reference(start.model),
                **{name: _reference(state) for name, state in start.states.items()},
            },
            outputs={
                "model": layout.model_key(start.round),
                "server-optimizer": layout.state_key("server-optimizer", start.round),
            },
            settings={
                "algorithm": algorithm.name,
                "parameters": dict(algorithm.parameters),
                "codec": uplink.codec,
                "codec_parameters": dict(uplink.parameters),
                "min_clients": self._spec.participation.min_clients,
                "reports": {
                    name: layout.report_key(start.round, name, start.attempt)
                    for name in start.cohort
                },
            },
            placement=place_server(self._spec.aggregation_worker.template),
            command=_command("aggregate"),
        )

    def _evaluate(self, start: Start) -> Task:
        evaluation = self._spec.evaluation
        assert evaluation is not None
        template = evaluation.template or self._spec.training_workers[0].template
        return Task(
            name="evaluate",
            step="evaluate",
            group="server",
            client=None,
            depends=("aggregate",),
            may_fail=False,
            inputs={},
            outputs={},
            settings={
                **self._settings_of(template, None, evaluation.dataset.name, "evaluate"),
                **self._seeds(start, "evaluation"),
            },
            placement=place_server(self._spec.aggregation_worker.template),
            deadline_seconds=self._spec.participation.deadline_seconds,
            template=template.raw,
        )

    def _commit(self, start: Start, depends: tuple[str, ...]) -> Task:
        return Task(
            name="commit",
            step="commit",
            group="server",
            client=None,
            depends=depends,
            may_fail=False,
            inputs={},
            outputs={
                "result": layout.result_key(start.round),
                "attempt": layout.attempt_key(start.round, start.attempt),
            },
            settings={
                "started": start.started,
                "min_clients": self._spec.participation.min_clients,
            },
            placement=place_server(self._spec.aggregation_worker.template),
            command=_command("commit"),
        )

    def _is_evaluated(self, number: int) -> bool:
        """Every `everyRounds`-th round, and always the last."""
        evaluation = self._spec.evaluation
        if evaluation is None:
            return False
        return number % evaluation.every_rounds == 0 or number == self._spec.rounds

    def _settings_of(
        self, template: PodTemplate, client: ClientSpec | None, dataset: str | None, task: str
    ) -> dict[str, Any]:
        return {
            "task": task,
            "command": list(template.command),
            "args": list(template.args),
            "environment": variables_of(self._job, template, client),
            "hyperparameters": hyperparameters_of(self._job, template),
            "dataset": self._datasets[dataset].spec.url if dataset is not None else "",
        }

    def _seeds(self, start: Start, client: str) -> dict[str, int]:
        return {
            "seed": self._seed("round", start.round, client),
            "client_seed": self._client_seeds[client],
        }

    def _seed(self, purpose: str, number: int, client: str) -> int:
        seed = self._spec.participation.seed
        parts = (purpose, self._job.metadata.name, seed, number, client)
        return derive_seed(*parts) & _SEED_MASK


def _reference(artifact: Mapping[str, Any]) -> dict[str, Any]:
    return {"key": artifact["key"], "digest": artifact["digest"]}


def _command(step: str, client: str | None = None) -> tuple[str, ...]:
    """How a container runs one of our steps; the engine adds `--store` and `--workdir`."""
    whose = ("--client", client) if client else ()
    return ("python", "-I", "-m", f"components.{step}", "--plan", "plan.json", *whose)
