"""Round 0 of a job that learns from others; see `components.transfer_sequence` for what the tasks do.

    mode warmStart, body    [initialize -> adopt-source -> commit]
    mode auto               [initialize -> stage]  ->  per client [probe-0 ... probe-<n> -> score]
                            ->  [choose -> commit]

initialize and probe-<n> are the user's program, the latter its evaluate on the client's own data, once per
candidate. What the clients compare goes down as one set, an answer of a few numbers comes up. `head_tasks`
says what is added where bodies are probed, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fedloom.api.clients import clients_of
from fedloom.api.dataset import Dataset
from fedloom.api.job import FederatedLearningJob
from fedloom.api.model import Model
from fedloom.api.transfer import MOST_CANDIDATES, learns_from_others
from fedloom.artifacts import layout
from pipelines.head_tasks import HeadTasks
from pipelines.placement import place_client, place_server
from pipelines.plan import Task
from pipelines.privacy import probe_settings
from pipelines.seeds import Seeds
from pipelines.start import Start
from pipelines.user_settings import command_of, user_seeds, user_settings

SCRATCH = "scratch"


class TransferTasks:
    """Makes the tasks of round 0 of one job."""

    def __init__(
        self,
        job: FederatedLearningJob,
        datasets: Mapping[str, Dataset],
        models: Mapping[str, Model],
    ) -> None:
        self._job, self._datasets, self._models = job, datasets, models
        self._spec = job.spec
        self._seeds = Seeds(job)
        self._clients = {client.name: client for client in clients_of(job)}
        self._placement = place_server(job.spec.aggregation_worker.template)

    @property
    def is_needed(self) -> bool:
        """Whether the job learns from others at all."""
        return learns_from_others(self._spec.transfer)

    def around(self, initialize: Task, start: Start) -> list[Task]:
        """Give what comes before the commit of round 0; the last task makes the first model."""
        transfer = self._spec.transfer
        assert transfer is not None
        outputs = {"model": layout.state_key(SCRATCH, 0)}
        initialize = replace(initialize, outputs=outputs)
        if transfer.mode != "auto":
            adopt = self._ours("adopt-source", initialize, self._settings(start))
            return [initialize, replace(adopt, outputs={"model": layout.model_key(0)})]
        initialize = replace(initialize, group="prepare")
        slots = min(len(start.sources or ()), MOST_CANDIDATES) + 1
        stage = self._stage(initialize, start, slots)
        heads = HeadTasks(self._job, self._models, start, slots) if self._has_heads else None
        clients: list[Task] = []
        for name in start.cohort:
            tasks = self._client(start, name, stage, slots)
            clients += tasks if heads is None else heads.tuned(tasks, self._clients[name])
        choose = self._choose(start, stage)
        if heads is None:
            return [initialize, stage, *clients, choose]
        return [initialize, stage, *clients, *heads.judged(stage, clients, choose)]

    @property
    def _has_heads(self) -> bool:
        transfer = self._spec.transfer
        return transfer is not None and transfer.probe == "heads"

    def _settings(self, start: Start) -> dict[str, Any]:
        transfer = self._spec.transfer
        assert transfer is not None
        sources = [dict(source) for source in start.sources or ()]
        downloads = {
            source["url"]: source.pop("credential") or ""
            for source in sources
            if "credential" in source
        }
        return {
            "mode": transfer.mode,
            "fallback": transfer.fallback,
            "head": list(transfer.head),
            "freeze": transfer.freeze,
            "sources": sources,
            "unusable": [dict(each) for each in start.unusable],
            **({"heads": True} if self._has_heads else {}),
            **({"downloads": downloads} if downloads else {}),
        }

    def _stage(self, initialize: Task, start: Start, slots: int) -> Task:
        number, attempt = start.round, start.attempt
        stage = self._ours("stage", initialize, self._settings(start))
        outputs = {
            "roster": layout.view_key(number, attempt, "roster.json"),
            "staged": layout.view_key(number, attempt, "staged.json"),
            **{
                f"slot-{slot}": layout.part_key(
                    number, attempt, f"slot-{slot}", "model.safetensors"
                )
                for slot in range(slots + self._has_heads)
            },
        }
        seed = self._seeds.of("candidates", 0, "server")
        record = {"seed": seed, "attempt": layout.attempt_key(number, attempt)}
        return replace(stage, outputs=outputs, settings={**stage.settings, **record})

    def _client(self, start: Start, name: str, stage: Task, slots: int) -> list[Task]:
        """Give one client's tasks: its program's evaluate per candidate, then what tells of it."""
        client = self._clients[name]
        dataset = self._datasets[client.dataset]
        template = client.worker.template
        told = user_settings(self._job, template, "evaluate", dataset, client, self._models)
        first = Task(
            name=f"probe-0-{name}",
            step="probe-0",
            group=f"client-{name}",
            client=name,
            depends=(stage.name,),
            may_fail=True,
            inputs={},
            outputs={},
            settings={**told, **user_seeds(self._seeds, start.round, name), "folder": "slot-0"},
            placement=place_client(template, dataset.spec.node_name),
            deadline_seconds=self._spec.participation.deadline_seconds,
            template=template.raw,
        )
        others = (
            replace(
                first,
                name=f"probe-{slot}-{name}",
                step=f"probe-{slot}",
                depends=(f"probe-{slot - 1}-{name}",),
                settings={**first.settings, "folder": f"slot-{slot}"},
            )
            for slot in range(1, slots)
        )
        probes = [first, *others]
        return [*probes, self._score(start, name, stage, probes)]

    def _score(self, start: Start, name: str, stage: Task, probes: list[Task]) -> Task:
        transfer = self._spec.transfer
        assert transfer is not None
        seen = {output: {"key": key} for output, key in stage.outputs.items() if output != "staged"}
        return replace(
            probes[-1],
            name=f"score-{name}",
            step="score",
            depends=(probes[-1].name,),
            inputs=seen,
            outputs={"report": layout.report_key(start.round, name, start.attempt)},
            settings={
                "metric": transfer.metric,
                "goal": transfer.goal,
                "slots": len(probes),
                "folders": "slot",
            },
            command=command_of("probe", name),
            deadline_seconds=None,
            template=None,
        )

    def _choose(self, start: Start, stage: Task) -> Task:
        from fedloom.algorithms.transfer.decision import LEAST_SAMPLES  # not for every job

        transfer = self._spec.transfer
        assert transfer is not None
        privacy = probe_settings(self._spec)
        settings = {
            "mode": transfer.mode,
            "fallback": transfer.fallback,
            "min_samples": transfer.min_samples or LEAST_SAMPLES,
            "reports": {
                name: layout.report_key(start.round, name, start.attempt) for name in start.cohort
            },
            **({"privacy": privacy} if privacy else {}),
        }
        return Task(
            name="choose",
            step="choose",
            group="server",
            client=None,
            depends=(stage.name, *(f"score-{name}" for name in start.cohort)),
            may_fail=False,
            inputs={name: {"key": stage.outputs[name]} for name in ("roster", "staged")},
            outputs={"model": layout.model_key(start.round)},
            settings=settings,
            placement=self._placement,
            command=command_of("choose"),
        )

    def _ours(self, step: str, after: Task, settings: Mapping[str, Any]) -> Task:
        return Task(
            name=step,
            step=step,
            group=after.group,
            client=None,
            depends=(after.name,),
            may_fail=False,
            inputs={},
            outputs={},
            settings=settings,
            placement=self._placement,
            command=command_of(step.replace("-", "_")),
        )
