"""What a probe of bodies adds to round 0; see `components.heads` for what the tasks do.

    per client [probe-0 ... probe-<n> -> tune-1 ... tune-<n+1> -> score]  ->  [merge]
    ->  per client [judge-1 ... judge-<n+1> -> assess]  ->  [choose -> commit]

tune-<n> is the user's train, with many times its epochs, judge-<n> its evaluate; slot n + 1 is the body that
the job would begin with by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fedloom.api.clients import ClientSpec
from fedloom.api.job import FederatedLearningJob
from fedloom.api.model import Model
from fedloom.api.transfer_fields import EPOCHS
from fedloom.artifacts import layout
from pipelines.environment import hyperparameters_of, variables_of
from pipelines.placement import place_server
from pipelines.plan import Task
from pipelines.seeds import Seeds
from pipelines.start import Start
from pipelines.user_settings import command_of

PASSES = 20
"""So many times the epochs of a round: with fewer a last layer tells nothing of its body."""
_HEADS = "heads.safetensors"


class HeadTasks:
    """Adds to round 0 of one job; `slots` are those of the probe without bodies."""

    def __init__(
        self, job: FederatedLearningJob, models: Mapping[str, Model], start: Start, slots: int
    ) -> None:
        epochs = {
            name: value * PASSES
            for name, value in job.spec.hyperparameters.items()
            if name in EPOCHS and isinstance(value, int | float)
        }
        hyperparameters = {**job.spec.hyperparameters, **epochs}
        self._longer = replace(job, spec=replace(job.spec, hyperparameters=hyperparameters))
        self._job, self._start, self._slots = job, start, slots
        self._seeds = Seeds(job)

    def tuned(self, tasks: list[Task], client: ClientSpec) -> list[Task]:
        """Put the training of last layers before a client's score, which sends them."""
        *probes, score = tasks
        first = probes[-1]
        template = client.worker.template
        told = {
            **first.settings,
            "task": "train",
            "environment": variables_of(self._longer, template, client),
            "hyperparameters": hyperparameters_of(self._longer, template),
            "drift": {"frozen": []},  # which arrays, only the model that comes tells
        }
        tunes = [
            replace(
                first,
                name=f"tune-{slot}-{client.name}",
                step=f"tune-{slot}",
                depends=(first.name if slot == 1 else f"tune-{slot - 1}-{client.name}",),
                settings={**told, "folder": f"tune-{slot}"},
            )
            for slot in range(1, self._slots + 1)
        ]
        seed = self._seeds.of("heads", 0, client.name)
        score = replace(
            score,
            depends=(tunes[-1].name,),
            outputs={**score.outputs, "heads": self._key(client.name, _HEADS)},
            settings={**score.settings, "seed": seed},
        )
        return [*probes, *tunes, score]

    def judged(self, stage: Task, clients: list[Task], choose: Task) -> list[Task]:
        """Give what comes between the clients' first answers and the choice, and the choice."""
        scores = [task for task in clients if task.step == "score"]
        merge = self._merge(stage, scores)
        tasks = [merge]
        for score in scores:
            first = next(t for t in clients if t.client == score.client and t.step == "probe-0")
            tasks += self._judging(first, score, merge)
        ends = tuple(task.name for task in tasks if task.step == "assess")
        judged = {t.client: t.outputs["report"] for t in tasks if t.step == "assess"}
        settings: dict[str, Any] = {**choose.settings, "judged": judged}
        return [*tasks, replace(choose, depends=(*choose.depends, *ends), settings=settings)]

    def _merge(self, stage: Task, scores: list[Task]) -> Task:
        key = layout.part_key(0, self._start.attempt, "merge", _HEADS)
        return replace(
            stage,
            name="merge",
            step="merge",
            group="merge",
            depends=tuple(score.name for score in scores),
            may_fail=True,
            inputs={"roster": {"key": stage.outputs["roster"]}},
            outputs={"merged": key},
            settings={"heads": {score.client: score.outputs["heads"] for score in scores}},
            placement=place_server(self._job.spec.aggregation_worker.template),
            command=command_of("heads"),
        )

    def _judging(self, first: Task, score: Task, merge: Task) -> list[Task]:
        assert score.client is not None
        group, name = f"judge-{score.client}", score.client
        judges = [
            replace(
                first,
                name=f"judge-{slot}-{name}",
                step=f"judge-{slot}",
                group=group,
                depends=(merge.name if slot == 1 else f"judge-{slot - 1}-{name}",),
                settings={**first.settings, "folder": f"judge-{slot}"},
            )
            for slot in range(1, self._slots + 1)
        ]
        own = {"heads": {"key": score.outputs["heads"]}, "merged": {"key": merge.outputs["merged"]}}
        assess = replace(
            score,
            name=f"assess-{name}",
            step="assess",
            group=group,
            depends=(judges[-1].name,),
            inputs={**score.inputs, **own},
            outputs={"report": self._key(name, "judged.json")},
            settings={**score.settings, "folders": "judge"},
            command=command_of("assess", name),
        )
        return [*judges, assess]

    def _key(self, client: str, name: str) -> str:
        return layout.message_key(0, client, self._start.attempt, name)
