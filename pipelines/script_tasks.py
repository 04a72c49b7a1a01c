"""The tasks of the aggregation worker's own program: describe in round 0, the rule `script` in every round.

    round 0:   [describe]  ->  [initialize -> commit]
    round r:   [unpack -> script -> aggregate -> ...]

The first and the second of these are the program. How describe ends does not matter to who waits for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from fedloom.api.capabilities import MISTNET, SCRIPT_RULE
from fedloom.api.compatibility import SEDNA, compatibility_of
from fedloom.api.job import FederatedLearningJob, JobSpec
from fedloom.api.model import Model
from fedloom.artifacts import layout
from pipelines.placement import place_server
from pipelines.plan import Task
from pipelines.seeds import Seeds
from pipelines.start import Start
from pipelines.user_settings import command_of, user_seeds, user_settings

_DESCRIBE_SECONDS = 300.0
"""An image that does not find our library may wait for clients that never come."""

NAME = "aggregation"


def has_description(spec: JobSpec) -> bool:
    """Say whether the job's aggregation program is asked what the job is to be.

    A mistnet job's is not: it has one round, and all that there is to say is in its environment.
    """
    is_split = spec.algorithm is not None and spec.algorithm.name == MISTNET
    return compatibility_of(spec) == SEDNA and not is_split


def is_scripted(spec: JobSpec) -> bool:
    """Say whether the aggregation worker's program combines the updates."""
    return spec.aggregation.rule == SCRIPT_RULE


class ScriptTasks:
    """Makes the tasks that run the aggregation worker's program."""

    def __init__(
        self, job: FederatedLearningJob, models: Mapping[str, Model], seeds: Seeds
    ) -> None:
        self._job = job
        self._models = models
        self._seeds = seeds
        self._template = job.spec.aggregation_worker.template

    def describe(self, start: Start) -> Task:
        """Ask the program about the job; a group by itself, whose end is data whatever it is."""
        deadline = self._job.spec.participation.deadline_seconds or _DESCRIBE_SECONDS
        key = layout.description_key(start.attempt)
        return replace(
            self._program("describe", "describe", start),
            group="describe",
            may_fail=True,
            outputs={"description": key},
            deadline_seconds=min(deadline, _DESCRIBE_SECONDS),
        )

    def around(self, task: Task, start: Start) -> list[Task]:
        """Let the program do the work of `task`, which then only checks and takes over what it made."""
        assert start.model is not None
        unpack = replace(
            task, name="unpack", step="unpack", outputs={}, command=command_of("unpack")
        )
        script = replace(self._program("script", "aggregate", start), depends=("unpack",))
        settings = {name: value for name, value in task.settings.items() if name != "reports"}
        return [unpack, script, replace(task, depends=("script",), settings=settings)]

    def _program(self, step: str, kind: str, start: Start) -> Task:
        return Task(
            name=step,
            step=step,
            group="server",
            client=None,
            depends=(),
            may_fail=False,
            inputs={},
            outputs={},
            settings={
                **user_settings(self._job, self._template, kind, models=self._models),
                **user_seeds(self._seeds, start.round, NAME),
            },
            placement=place_server(self._template),
            deadline_seconds=self._job.spec.participation.deadline_seconds,
            template=self._template.raw,
        )
