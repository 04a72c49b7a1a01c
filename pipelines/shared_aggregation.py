"""Aggregations that several tasks share: a tree of sums, or shards of the model, and then `aggregate`.

    tree:     [combine-1-0000] [combine-1-0001] ... -> [combine-2-0000] ... -> [aggregate -> ...]
    shards:   [shard-0000] [shard-0001] ... -> [aggregate -> ...]

Every bracket is a group of its own: it runs where there is room, beside the others. The last task is the
one that would have done it alone, with the same outputs and, bit for bit, the same model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from fedloom.api.learning import Aggregation
from fedloom.artifacts import layout
from pipelines.plan import Task
from pipelines.start import Start
from pipelines.user_settings import command_of

_Member = TypeVar("_Member")


def shared(task: Task, aggregation: Aggregation, start: Start) -> list[Task]:
    """Give the tasks that share the work of `task`, which itself comes last.

    `task` depends on one task per client of the cohort, in its order.
    """
    fan_in = aggregation.fan_in
    if fan_in is not None and len(start.cohort) > fan_in:
        return _tree(task, start, fan_in)
    if aggregation.shards is not None and aggregation.shards > 1:
        return _shards(task, start, aggregation.shards)
    return [task]


def _tree(task: Task, start: Start, fan_in: int) -> list[Task]:
    """Groups of `fan_in` neighbours, level by level, until at most as many sums are left."""
    senders = dict(zip(start.cohort, task.depends, strict=True))
    reports = task.settings["reports"]
    common = {name: value for name, value in task.settings.items() if name != "reports"}
    tasks: list[Task] = []
    level = [
        _part(
            task,
            start,
            f"combine-1-{index:04d}",
            tuple(senders[client] for client in group),
            {**common, "reports": {client: reports[client] for client in group}},
        )
        for index, group in enumerate(_groups(start.cohort, fan_in))
    ]
    number = 1
    while len(level) > fan_in:
        tasks += level
        number += 1
        level = [
            _part(
                task,
                start,
                f"combine-{number}-{index:04d}",
                tuple(each.name for each in group),
                {**common, "parts": [each.outputs["found"] for each in group]},
            )
            for index, group in enumerate(_groups(level, fan_in))
        ]
    settings = {**common, "parts": [each.outputs["found"] for each in level]}
    last = replace(task, depends=tuple(each.name for each in level), settings=settings)
    return [*tasks, *level, last]


def _shards(task: Task, start: Start, shards: int) -> list[Task]:
    """As many stretches of the model, each from all updates."""
    # The whole cohort's reports: their keys follow from it, and a plan need not repeat them.
    common = {name: value for name, value in task.settings.items() if name != "reports"}
    tasks = []
    for index in range(shards):
        settings = {**common, "shard": index, "shards": shards}
        name = f"shard-{index:04d}"
        tasks.append(_part(task, start, name, task.depends, settings))
    parts = [each.outputs["found"] for each in tasks]
    settings = {**task.settings, "parts": parts, "shards": shards}
    last = replace(task, depends=tuple(each.name for each in tasks), settings=settings)
    return [*tasks, last]


def _part(
    task: Task, start: Start, name: str, depends: tuple[str, ...], settings: Mapping[str, Any]
) -> Task:
    """Make a task that does a part of `task`."""
    step = name.partition("-")[0]
    files = {"found": "found.json", "model": "model.safetensors"}
    if step == "shard":
        files["server-optimizer"] = "server-optimizer.safetensors"
    keys = {
        output: layout.part_key(start.round, start.attempt, name, file)
        for output, file in files.items()
    }
    attempt = layout.attempt_key(start.round, start.attempt)
    return replace(
        task,
        name=name,
        step=step,
        group=name,
        depends=depends,
        outputs=keys,
        settings={**settings, "attempt": attempt},
        command=(*command_of(step), "--task", name),
    )


def _groups(members: Sequence[_Member], size: int) -> list[Sequence[_Member]]:
    return [members[first : first + size] for first in range(0, len(members), size)]
