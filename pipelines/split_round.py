"""The one round of a mistnet job: edges release features, the cloud trains the rest of the model on them.

    round 0:   [prepare-extractor -> store-extractor -> commit]
    round 1:   per client [release -> send]
               ->  [collect -> train-tail -> adopt-tail -> evaluate -> leakage-report -> commit]

prepare-extractor, release, train-tail, evaluate and leakage-report are the user's program. Only the
extractor goes down and only releases go up: raw features are never a task's output.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fedloom.api.clients import ClientSpec, clients_of
from fedloom.api.dataset import Dataset
from fedloom.api.job import FederatedLearningJob
from fedloom.api.model import Model
from fedloom.api.places import is_remote
from fedloom.api.pod import PodTemplate
from fedloom.api.programs import evaluation_template, server_template
from fedloom.api.split_parameters import CUT_LAYER
from fedloom.artifacts import layout
from pipelines.placement import place_client, place_evaluation, place_server
from pipelines.plan import Task
from pipelines.seeds import Seeds
from pipelines.server_tasks import ServerTasks
from pipelines.start import Start, reference
from pipelines.user_settings import command_of, user_seeds, user_settings

EXTRACTOR = "extractor"
_CLOUD, _TRIAL = "aggregation", "evaluation"


class SplitRound:
    """Makes the tasks of such a job."""

    def __init__(
        self,
        job: FederatedLearningJob,
        datasets: Mapping[str, Dataset],
        models: Mapping[str, Model],
    ) -> None:
        algorithm = job.spec.algorithm
        assert algorithm is not None
        self._parameters = dict(algorithm.parameters)
        cut = self._parameters.pop(CUT_LAYER, None)
        told = {} if cut is None else {CUT_LAYER: cut}
        hyperparameters = {**job.spec.hyperparameters, **told}
        self._job = replace(job, spec=replace(job.spec, hyperparameters=hyperparameters))
        self._spec = self._job.spec
        if self._spec.evaluation is not None:  # nothing need be held out of what edges release
            self._parameters["holdOut"] = 0.0
        self._datasets, self._models = datasets, models
        self._seeds = Seeds(job)
        self._server = ServerTasks(self._job, datasets, models)
        self._placement = place_server(self._spec.aggregation_worker.template)
        self._clients = {client.name: client for client in clients_of(self._job)}

    def initial(self, start: Start) -> list[Task]:
        """Give round 0: the first model, and its extractor by itself."""
        prepare = self._program("prepare-extractor", start, _CLOUD)
        if self._spec.pretrained_model is not None:
            prepare = replace(prepare, settings={**prepare.settings, **self._pretrained()})
        outputs = {"model": layout.model_key(0), EXTRACTOR: layout.state_key(EXTRACTOR, 0)}
        store = self._ours("store-extractor", outputs=outputs, depends=(prepare.name,))
        return [prepare, store, self._server.commit(start, depends=(store.name,))]

    def _pretrained(self) -> dict[str, Any]:
        """What the program begins with: its container sees no store, so all that is remote is brought."""
        assert self._spec.pretrained_model is not None
        model = self._models[self._spec.pretrained_model.name]
        url = model.spec.url
        downloads = {url: model.spec.credential_name or ""} if is_remote(url) else {}
        return {"pretrained": url, **({"downloads": downloads} if downloads else {})}

    def round(self, start: Start) -> list[Task]:
        """Give round 1."""
        edges = [task for name in start.cohort for task in self._edge(start, name)]
        sent = tuple(task.name for task in edges if task.step == "send")
        cloud = [self._collect(start, sent), self._program("train-tail", start, _CLOUD)]
        cloud.append(
            self._ours(
                "adopt-tail",
                inputs=self._inputs(start),
                outputs={"model": layout.model_key(start.round)},
            )
        )
        if self._spec.evaluation is not None or self._parameters["holdOut"]:
            cloud.append(self._program("evaluate", start, _TRIAL))
        if self._spec.evaluation is not None and self._parameters["leakageImages"]:
            cloud.append(self._program("leakage-report", start, _TRIAL))
        cloud.append(self._commit(start))
        chained = [replace(t, depends=(b.name,)) for b, t in itertools.pairwise(cloud)]
        return [*edges, cloud[0], *chained]

    def _edge(self, start: Start, name: str) -> list[Task]:
        """Give the tasks of one client: its program releases, ours looks at the release and sends it."""
        client = self._clients[name]
        dataset = self._datasets[client.dataset]
        placement = place_client(client.worker.template, dataset.spec.node_name)
        release = replace(
            self._told("release", start, client, dataset),
            name=f"release-{name}",
            group=f"client-{name}",
            client=name,
            may_fail=True,
            inputs={"model": reference(start.states[EXTRACTOR])},
            placement=placement,
        )
        send = Task(
            name=f"send-{name}",
            step="send",
            group=f"client-{name}",
            client=name,
            depends=(release.name,),
            may_fail=True,
            inputs=release.inputs,
            outputs={
                "update": layout.update_key(start.round, name, start.attempt),
                "report": layout.report_key(start.round, name, start.attempt),
            },
            settings={
                "split": self._parameters,
                "downlink_bytes": start.states[EXTRACTOR]["size_bytes"],
            },
            placement=placement,
            command=command_of("send", name),
        )
        return [release, send]

    def _told(
        self, step: str, start: Start, client: ClientSpec | None, dataset: Dataset | None
    ) -> Task:
        """Give a task of the user's program, as if it ran in the cloud."""
        template = self._template(step) if client is None else client.worker.template
        settings: dict[str, Any] = {
            **user_settings(self._job, template, step, dataset, client, self._models),
            "split": self._parameters,
        }
        name = _CLOUD if client is None else client.name
        settings |= user_seeds(self._seeds, start.round, name)
        if client is not None:
            settings["accepted"] = start.accepted.get(client.name)
        deadline = self._spec.participation.deadline_seconds
        return Task(
            name=step,
            step=step,
            group="server",
            client=None,
            depends=(),
            may_fail=False,
            inputs={},
            outputs={},
            settings=settings,
            placement=self._placement,
            # Clients are waited for; how long the cloud trains is nobody else's concern.
            deadline_seconds=None if client is None else deadline,
            template=template.raw,
        )

    def _program(self, step: str, start: Start, name: str) -> Task:
        evaluation = self._spec.evaluation if name == _TRIAL else None
        dataset = None if evaluation is None else self._datasets[evaluation.dataset.name]
        task = self._told(step, start, None, dataset)
        settings = {**task.settings, **user_seeds(self._seeds, start.round, name)}
        if dataset is not None:
            task = replace(task, placement=place_evaluation(self._job, self._datasets))
        return replace(task, settings=settings)

    def _template(self, step: str) -> PodTemplate:
        is_trial = step in ("evaluate", "leakage-report")
        return evaluation_template(self._spec) if is_trial else server_template(self._spec)

    def _inputs(self, start: Start) -> dict[str, dict[str, Any]]:
        assert start.model is not None
        extractor = reference(start.states[EXTRACTOR])
        return {"model": reference(start.model), EXTRACTOR: extractor}

    def _collect(self, start: Start, depends: tuple[str, ...]) -> Task:
        settings = {
            "split": self._parameters,
            "min_clients": self._spec.participation.min_clients,
            "reports": {
                name: layout.report_key(start.round, name, start.attempt) for name in start.cohort
            },
        }
        return self._ours("collect", inputs=self._inputs(start), settings=settings, depends=depends)

    def _commit(self, start: Start) -> Task:
        commit = self._server.commit(start, depends=())
        pages = {
            "privacy-report": layout.privacy_report_key(start.round, "json"),
            "privacy-page": layout.privacy_report_key(start.round, "html"),
        }
        effective = {**self._spec.hyperparameters, **self._parameters}
        settings = {**commit.settings, "effective": effective}
        return replace(commit, outputs={**commit.outputs, **pages}, settings=settings)

    def _ours(
        self,
        step: str,
        *,
        inputs: Mapping[str, Mapping[str, Any]] | None = None,
        outputs: Mapping[str, str] | None = None,
        settings: Mapping[str, Any] | None = None,
        depends: tuple[str, ...] = (),
    ) -> Task:
        return Task(
            name=step,
            step=step,
            group="server",
            client=None,
            depends=depends,
            may_fail=False,
            inputs=inputs or {},
            outputs=outputs or {},
            settings=settings or {},
            placement=self._placement,
            command=command_of(step.replace("-", "_")),
        )
