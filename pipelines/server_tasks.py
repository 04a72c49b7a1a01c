"""The tasks of the server: initialize, aggregate, evaluate, commit; one group in the cloud."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedloom.api.dataset import Dataset
from fedloom.api.job import FederatedLearningJob
from fedloom.api.model import Model
from fedloom.api.programs import evaluation_template
from fedloom.api.transfer import learns_from_others
from fedloom.artifacts import layout
from pipelines.drift import frozen_tensors, local_tensors, variate_output, variate_settings
from pipelines.placement import place_evaluation, place_server
from pipelines.plan import Task
from pipelines.privacy import privacy_settings
from pipelines.script_tasks import ScriptTasks, has_description, is_scripted
from pipelines.seeds import Seeds
from pipelines.shared_aggregation import shared
from pipelines.start import Start, reference
from pipelines.user_settings import command_of, pretrained_settings, user_seeds, user_settings


class ServerTasks:
    """Makes the server's tasks of any round of one job."""

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
        self._seeds = Seeds(job)
        self._placement = place_server(job.spec.aggregation_worker.template)
        self._script = ScriptTasks(job, models, self._seeds)

    def describe(self, start: Start) -> list[Task]:
        """Ask the aggregation worker's program about a job that comes from Sedna; else nothing."""
        return [self._script.describe(start)] if has_description(self._spec) else []

    def initialize(self) -> Task:
        """Make the first model: by the user's code, or from the pretrained model."""
        template = self._spec.training_workers[0].template
        settings: dict[str, Any] = {
            **user_settings(self._job, template, "initialize", models=self._models),
            **user_seeds(self._seeds, 0, "initialize"),
        }
        pretrained = self._spec.pretrained_model
        if pretrained is not None:
            settings |= pretrained_settings(self._models[pretrained.name])
        return Task(
            name="initialize",
            step="initialize",
            group="server",
            client=None,
            depends=(),
            may_fail=False,
            inputs={},
            outputs={"model": layout.model_key(0)},
            settings=settings,
            placement=self._placement,
            deadline_seconds=self._spec.participation.deadline_seconds,
            command=() if pretrained is None else command_of("initialize"),
            template=template.raw if pretrained is None else None,
        )

    def aggregate(self, start: Start, depends: tuple[str, ...]) -> list[Task]:
        """Combine the round's updates into the next model; the last task gives the model."""
        assert start.model is not None
        algorithm, uplink = self._spec.algorithm, self._spec.compression.uplink
        assert algorithm is not None
        privacy = privacy_settings(self._spec, start.round)
        task = Task(
            name="aggregate",
            step="aggregate",
            group="server",
            client=None,
            depends=depends,
            may_fail=False,
            inputs={
                "model": reference(start.model),
                **{name: reference(state) for name, state in start.states.items()},
            },
            outputs={
                "model": layout.model_key(start.round),
                "server-optimizer": layout.state_key("server-optimizer", start.round),
                **({"privacy": layout.state_key("privacy", start.round)} if privacy else {}),
                **variate_output(self._spec, start.round),
            },
            settings={
                "algorithm": algorithm.name,
                "parameters": dict(algorithm.parameters),
                "aggregation": self._aggregation(start),
                "codec": uplink.codec,
                "codec_parameters": dict(uplink.parameters),
                "min_clients": self._spec.participation.min_clients,
                **({"privacy": privacy} if privacy else {}),
                **variate_settings(self._spec),
                "reports": {
                    name: layout.report_key(start.round, name, start.attempt)
                    for name in start.cohort
                },
            },
            placement=self._placement,
            command=command_of("aggregate"),
        )
        return self._by_rule(task, start)

    def evaluate(self, start: Start) -> list[Task]:
        """Evaluate every `everyRounds`-th model, and always the last; else nothing."""
        evaluation = self._spec.evaluation
        if evaluation is None:
            return []
        if start.round % evaluation.every_rounds and start.round != self._spec.rounds:
            return []
        template = evaluation_template(self._spec)
        dataset = self._datasets[evaluation.dataset.name]
        task = Task(
            name="evaluate",
            step="evaluate",
            group="server",
            client=None,
            depends=("aggregate",),
            may_fail=False,
            inputs={},
            outputs={},
            settings={
                **user_settings(self._job, template, "evaluate", dataset, models=self._models),
                **user_seeds(self._seeds, start.round, "evaluation"),
            },
            placement=place_evaluation(self._job, self._datasets),
            deadline_seconds=self._spec.participation.deadline_seconds,
            template=template.raw,
        )
        return [task]

    def commit(self, start: Start, depends: tuple[str, ...]) -> Task:
        """Make the round done, or write down why the attempt failed."""
        is_described = start.round == 0 and has_description(self._spec)
        key = layout.description_key(start.attempt)
        return Task(
            name="commit",
            step="commit",
            group="server",
            client=None,
            depends=(*depends, "describe") if is_described else depends,
            may_fail=False,
            inputs={},
            outputs={
                "result": layout.result_key(start.round),
                "attempt": layout.attempt_key(start.round, start.attempt),
            },
            settings={
                "started": start.started,
                "min_clients": self._spec.participation.min_clients,
                **({"description": key} if is_described else {}),
                **({"transfer": True} if self._has_beginning(start) else {}),
                **_lineage(start),
            },
            placement=self._placement,
            command=command_of("commit"),
        )

    def _has_beginning(self, start: Start) -> bool:
        return start.round == 0 and learns_from_others(self._spec.transfer)

    def _by_rule(self, task: Task, start: Start) -> list[Task]:
        if is_scripted(self._spec):
            return self._script.around(task, start)
        return shared(task, self._spec.aggregation, start)

    def _aggregation(self, start: Start) -> dict[str, Any]:
        aggregation = self._spec.aggregation
        return {
            "rule": aggregation.rule,
            "parameters": dict(aggregation.parameters),
            "weights": aggregation.weights,
            "clip_norm": aggregation.clip_norm,
            "clip_quantile": aggregation.clip_quantile,
            "exclude": [*local_tensors(self._spec), *frozen_tensors(start)],
        }


def _lineage(start: Start) -> dict[str, Any]:
    """Where the job's first model came from, for every model that follows from it."""
    source = start.beginning["source"] if start.beginning is not None else None
    return {} if source is None else {"lineage": source}
