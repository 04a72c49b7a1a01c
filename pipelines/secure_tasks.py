"""The tasks that secure aggregation puts around those of a round.

    advertise -> [roster] -> share -> [exchange]
      -> train -> compress -> [survivors] -> reveal -> [aggregate -> ...]

What is in brackets runs in the cloud, the rest on each client's edge. Every task of an edge reads and
writes a handful of keys, all named in it, whatever the number of clients: what goes from each client to
each other one passes through the cloud, where it is laid together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from fedloom.algorithms.privacy.masks import threshold_of
from fedloom.api.job import JobSpec
from fedloom.artifacts import layout
from pipelines.drift import frozen_tensors, local_tensors
from pipelines.plan import Placement, Task
from pipelines.start import Start, reference
from pipelines.user_settings import command_of

_VIEWS = {
    "roster": "roster.json",
    "exchange": "exchange.json",
    "survivors": "survivors.json",
    "masked-sum": "masked-sum.safetensors",
}


def is_secure(spec: JobSpec) -> bool:
    """Say whether the server of a job sees nothing but the sum of the updates."""
    return spec.privacy is not None and spec.privacy.secure_aggregation


class SecureTasks:
    """Makes them for any round of one job with `privacy.secureAggregation`."""

    def __init__(self, spec: JobSpec) -> None:
        privacy = spec.privacy
        assert privacy is not None
        self._spec = spec
        self._grid = {
            "codec": spec.compression.uplink.codec,
            "max_value": privacy.max_value or privacy.clip_norm,
            "clip_norm": privacy.clip_norm,
            "is_bounded": bool(privacy.noise_multiplier),
        }

    def around(self, start: Start, tasks: Sequence[Task]) -> list[Task]:
        """Put the tasks of secure aggregation before, in and behind a round's train to aggregate."""
        edges = {task.client: task.placement for task in tasks if task.client is not None}
        cloud = next(task.placement for task in tasks if task.client is None)
        keys = _Keys(start, self._masking(start))
        before = [keys.advertise(name, edges[name]) for name in start.cohort]
        before.append(keys.gather("roster", "adverts", "advert", cloud, before))
        shares = [keys.share(name, edges[name]) for name in start.cohort]
        exchange = keys.gather("exchange", "shares", "shares", cloud, shares)
        learning = [self._masked(task, keys) for task in tasks if task.client is not None]
        survivors = self._survivors(start, keys, cloud, learning)
        reveals = [keys.reveal(name, edges[name]) for name in start.cohort]
        rest = [
            self._unmasked(task, keys, reveals) if task.step == "aggregate" else task
            for task in tasks
            if task.client is None
        ]
        return [
            replace(task, deadline_seconds=self._spec.participation.deadline_seconds)
            if task.client is not None and task not in learning
            else task
            for task in [*before, *shares, exchange, *learning, survivors, *reveals, *rest]
        ]

    def _masking(self, start: Start) -> dict[str, Any]:
        clients = len(start.cohort)
        return {**self._grid, "clients": clients, "threshold": threshold_of(clients)}

    def _masked(self, task: Task, keys: _Keys) -> Task:
        if task.step == "train":
            return replace(task, depends=(*task.depends, "exchange"))
        if task.step != "compress":
            return task
        inputs = {**task.inputs, **keys.views("roster", "exchange")}
        return replace(task, inputs=inputs, settings={**task.settings, "masking": keys.masking})

    def _survivors(
        self, start: Start, keys: _Keys, cloud: Placement, learning: Iterable[Task]
    ) -> Task:
        assert start.model is not None
        sent = [task for task in learning if task.step == "compress"]
        task = keys.cloud("survivors", cloud, tuple(task.name for task in sent))
        settings = {
            "reports": {task.client: task.outputs["report"] for task in sent},
            "min_clients": self._spec.participation.min_clients,
            "aggregation": {"exclude": [*local_tensors(self._spec), *frozen_tensors(start)]},
        }
        return replace(
            task,
            inputs={"model": reference(start.model), **keys.views("exchange")},
            outputs={name: keys.view(name) for name in ("survivors", "masked-sum")},
            settings={**task.settings, **settings},
        )

    def _unmasked(self, task: Task, keys: _Keys, reveals: Sequence[Task]) -> Task:
        return replace(
            task,
            depends=tuple(reveal.name for reveal in reveals),
            inputs={**task.inputs, **keys.views("roster", "exchange", "survivors")},
            settings={
                **task.settings,
                "masking": keys.masking,
                "reveals": {reveal.client: reveal.outputs["reveal"] for reveal in reveals},
            },
        )


class _Keys:
    """The tasks of one attempt, and the keys through which they speak."""

    def __init__(self, start: Start, masking: Mapping[str, Any]) -> None:
        self.masking = masking
        self._start = start

    def view(self, name: str) -> str:
        return layout.view_key(self._start.round, self._start.attempt, _VIEWS[name])

    def views(self, *names: str) -> dict[str, dict[str, Any]]:
        return {name: {"key": self.view(name), "digest": None} for name in names}

    def advertise(self, client: str, edge: Placement) -> Task:
        return self._edge("advertise", client, edge, {}, "advert", ())

    def share(self, client: str, edge: Placement) -> Task:
        return self._edge("share", client, edge, self.views("roster"), "shares", ("roster",))

    def reveal(self, client: str, edge: Placement) -> Task:
        inputs = self.views("roster", "exchange", "survivors")
        inputs["mailbox"] = {"key": self._message(client, "mailbox"), "digest": None}
        return self._edge("reveal", client, edge, inputs, "reveal", ("survivors",))

    def gather(
        self, step: str, setting: str, output: str, cloud: Placement, tasks: Sequence[Task]
    ) -> Task:
        """A task that freezes what the clients' tasks have sent."""
        task = self.cloud(step, cloud, tuple(task.name for task in tasks))
        outputs = {step: self.view(step)}
        if step == "exchange":
            outputs |= {f"mailbox-{t.client}": self._message(t.client, "mailbox") for t in tasks}
        return replace(
            task,
            inputs=self.views("roster") if step == "exchange" else {},
            outputs=outputs,
            settings={**task.settings, setting: {t.client: t.outputs[output] for t in tasks}},
        )

    def cloud(self, step: str, cloud: Placement, depends: tuple[str, ...]) -> Task:
        attempt = layout.attempt_key(self._start.round, self._start.attempt)
        return Task(
            name=step,
            step=step,
            group=step,
            client=None,
            depends=depends,
            may_fail=False,
            inputs={},
            outputs={},
            settings={"masking": self.masking, "attempt": attempt},
            placement=cloud,
            command=command_of(step),
        )

    def _edge(
        self,
        step: str,
        client: str,
        edge: Placement,
        inputs: Mapping[str, Mapping[str, Any]],
        output: str,
        depends: tuple[str, ...],
    ) -> Task:
        return Task(
            name=f"{step}-{client}",
            step=step,
            group=f"{step}-{client}",
            client=client,
            depends=depends,
            may_fail=True,
            inputs=inputs,
            outputs={output: self._message(client, output)},
            settings={"masking": self.masking},
            placement=edge,
            command=command_of(step, client),
        )

    def _message(self, client: str | None, kind: str) -> str:
        assert client is not None
        ending = "safetensors" if kind in ("shares", "mailbox") else "json"
        start = self._start
        return layout.message_key(start.round, client, start.attempt, f"{kind}.{ending}")
