"""The tasks of one client in one round: train -> compress, a group that shares a node and a folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedloom.algorithms.compression.feedback import feedback_of
from fedloom.api.clients import ClientSpec, clients_of
from fedloom.api.dataset import Dataset
from fedloom.api.job import FederatedLearningJob
from fedloom.api.model import Model
from fedloom.artifacts import layout
from pipelines.downlink import Downlink
from pipelines.drift import ClientDrift
from pipelines.placement import place_client
from pipelines.plan import Placement, Task
from pipelines.privacy import local_settings
from pipelines.seeds import Seeds
from pipelines.start import Start, reference
from pipelines.user_settings import command_of, user_settings


class ClientTasks:
    """Makes the tasks of any client; what does not change from round to round is worked out once."""

    def __init__(
        self,
        job: FederatedLearningJob,
        datasets: Mapping[str, Dataset],
        models: Mapping[str, Model],
    ) -> None:
        self._spec = job.spec
        self._datasets = datasets
        self._seeds = Seeds(job)
        self._drift = ClientDrift(job.spec)
        self._downlink = Downlink(job)
        uplink = job.spec.compression.uplink
        self._encoding: dict[str, Any] = {
            "codec": uplink.codec,
            "parameters": dict(uplink.parameters),
        }
        feedback = bool(uplink.error_feedback)
        self._remembers = feedback_of(uplink.codec, uplink.parameters, feedback) is not None
        if self._remembers:
            self._encoding["error_feedback"] = feedback
        if uplink.lossless != "none":
            self._encoding["lossless"] = uplink.lossless
        local = local_settings(job.spec)
        if local is not None:
            self._encoding["local"] = local
        self._clients = {client.name: client for client in clients_of(job)}
        self._settings = {
            name: user_settings(
                job, client.worker.template, "train", datasets[client.dataset], client, models
            )
            | {"client_seed": self._seeds.of("client", 0, name)}
            for name, client in self._clients.items()
        }

    def of(self, start: Start, name: str) -> list[Task]:
        """Give the tasks of the client `name`, in order."""
        client = self._clients[name]
        node = self._datasets[client.dataset].spec.node_name
        placement = place_client(client.worker.template, node)
        start = self._downlink.seen_by_clients(start)
        train = self._train(start, client, placement)
        tasks = self._drift.added_to(train, self._compress(start, name, placement), start)
        return self._downlink.around(tasks, start)

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
            inputs={"model": reference(start.model)},
            outputs={},
            settings={
                **self._settings[name],
                "seed": self._seeds.of("round", start.round, name),
                "accepted": start.accepted.get(name),
            },
            placement=placement,
            deadline_seconds=self._spec.participation.deadline_seconds,
            template=client.worker.template.raw,
        )

    def _compress(self, start: Start, name: str, placement: Placement) -> Task:
        assert start.model is not None
        return Task(
            name=f"compress-{name}",
            step="compress",
            group=f"client-{name}",
            client=name,
            depends=(f"train-{name}",),
            may_fail=True,
            inputs={"model": reference(start.model)},
            outputs={
                "update": layout.update_key(start.round, name, start.attempt),
                "report": layout.report_key(start.round, name, start.attempt),
            },
            settings={
                **self._encoding,
                **({"accepted": start.accepted.get(name)} if self._remembers else {}),
                "seed": self._seeds.of("compress", start.round, name),
                "downlink_bytes": start.model["size_bytes"],
            },
            placement=placement,
            command=command_of("compress", name),
        )
