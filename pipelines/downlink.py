"""The tasks of a compressed way down: the server broadcasts a change, clients receive what they lack.

    round 0:   initialize -> broadcast -> commit
    round r:   per client [receive -> train -> compress]  ->  [aggregate -> evaluate -> broadcast -> commit]

The first change is from nothing: the first model through the codec, or through int8 where the codec sends
but a few values or ranks of a tensor, which are no model. A job that sends the model as it is has neither
task and pays for neither.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fedloom.api.job import FederatedLearningJob
from fedloom.artifacts import layout
from pipelines.placement import place_server
from pipelines.plan import Task
from pipelines.seeds import Seeds
from pipelines.start import Start, reference
from pipelines.user_settings import command_of

_HELD, _CHANGE = "broadcast", "model-delta"
_SMALL = {"codec": "int8", "parameters": {}, "lossless": "zstd"}
_DENSE = (
    "none",
    "bf16",
    "int8",
    "int4",
)  # every value of a tensor comes down, more or less exactly


class Downlink:
    """Adds the tasks of the way down to a round of one job."""

    def __init__(self, job: FederatedLearningJob) -> None:
        downlink = job.spec.compression.downlink
        self._codec: dict[str, Any] = {
            "codec": downlink.codec,
            "parameters": dict(downlink.parameters),
        }
        self._codec["lossless"] = downlink.lossless
        is_dense = downlink.codec in _DENSE
        self._first = self._codec if is_dense else _SMALL
        self._is_plain = downlink.codec == "none" and downlink.lossless == "none"
        self._deadline = job.spec.participation.deadline_seconds
        self._placement = place_server(job.spec.aggregation_worker.template)
        self._seeds = Seeds(job)

    def seen_by_clients(self, start: Start) -> Start:
        """Give the start with the model that clients hold in place of the global one."""
        if self._is_plain:
            return start
        return replace(start, model=start.states[_HELD])

    def around(self, tasks: list[Task], start: Start) -> list[Task]:
        """Put receiving in front of a client's train and compress; `start` as clients see it."""
        if self._is_plain:
            return tasks
        receive = self._receive(tasks[0], start)
        return [
            receive,
            replace(tasks[0], depends=(receive.name, *tasks[0].depends)),
            *(_without_model_bytes(task, start) for task in tasks[1:]),
        ]

    def broadcast(self, start: Start, after: Task) -> list[Task]:
        """Encode what the new model has become for those who hold an older one."""
        if self._is_plain:
            return []
        held = start.states.get(_HELD)
        task = Task(
            name="broadcast",
            step="broadcast",
            group=after.group,
            client=None,
            depends=(after.name,),
            may_fail=False,
            inputs={} if held is None else {_HELD: reference(held)},
            outputs={
                _HELD: layout.state_key(_HELD, start.round),
                _CHANGE: layout.model_delta_key(start.round),
            },
            settings={
                **(self._codec if start.round > 0 else self._first),
                "seed": self._seeds.of("broadcast", start.round, "server"),
            },
            placement=self._placement,
            command=command_of("broadcast"),
        )
        return [task]

    def _receive(self, train: Task, start: Start) -> Task:
        """Name every object that the client may fetch: the model, and the changes since its last one."""
        assert start.model is not None
        assert train.client is not None
        known = start.given.get(train.client, -1)
        changes = [change for change in start.changes if change["round"] > known]
        objects = {"model": start.model} | {f"change-{c['round']:04d}": c for c in changes}
        return Task(
            name=f"receive-{train.client}",
            step="receive",
            group=train.group,
            client=train.client,
            depends=(),
            may_fail=True,
            inputs={name: reference(each) for name, each in objects.items()},
            outputs={},
            settings={
                **self._codec,
                "first": self._first,
                "model_round": start.round - 1,
                "changes": [change["round"] for change in changes],
                "sizes": {name: each["size_bytes"] for name, each in objects.items()},
            },
            placement=train.placement,
            deadline_seconds=self._deadline,
            command=command_of("receive", train.client),
        )


def _without_model_bytes(task: Task, start: Start) -> Task:
    """What goes down for the model is counted when it is received."""
    if "downlink_bytes" not in task.settings:
        return task
    assert start.model is not None
    beside = task.settings["downlink_bytes"] - start.model["size_bytes"]
    return replace(task, settings={**task.settings, "downlink_bytes": beside, "is_received": True})
