"""What comes out of a job: evaluation, when to stop, where the model goes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from fedloom.api.declaration import Bounds, Declared, Rule
from fedloom.api.metadata import Reference
from fedloom.api.pod import PodTemplate

# MLflow's own rules: what its registry would refuse at the end of a job is refused at its start.
_REGISTERED_MODEL = Bounds(
    pattern=r"[^/:]*[^/:.\s][^/:]*", pattern_meaning="a name without '/' and ':'", max_length=255
)
_ALIAS = Bounds(
    pattern=r"[A-Za-z0-9_-]+", pattern_meaning="letters, digits, '_' and '-'", max_length=255
)


@dataclass(frozen=True)
class Evaluation:
    """Where and how often the aggregated model is evaluated."""

    dataset: Annotated[Reference, Declared("The Dataset to evaluate on.")]
    every_rounds: Annotated[
        int, Declared("Evaluate after every so many rounds, and after the last.", Bounds(minimum=1))
    ] = 1
    template: Annotated[
        PodTemplate | None,
        Declared("The pod that evaluates; the first training worker's if left out."),
    ] = None


@dataclass(frozen=True)
class StopCondition:
    """When the job is done before its last round; it also says which model is the best."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule("has(self.threshold) || has(self.patience)", "give threshold, patience or both"),
    )

    metric: Annotated[
        str,
        Declared(
            "A metric of the evaluation, or train/<name> for the clients' mean.",
            Bounds(pattern=r"[^\s]+", pattern_meaning="the name of a metric", max_length=250),
        ),
    ]
    goal: Annotated[
        str, Declared("Whether more or less is better.", Bounds(choices=("maximize", "minimize")))
    ] = "maximize"
    threshold: Annotated[float | None, Declared("Stop once the metric is as good as this.")] = None
    patience: Annotated[
        int | None,
        Declared("Stop after so many evaluations without a better value.", Bounds(minimum=1)),
    ] = None


@dataclass(frozen=True)
class Output:
    """Where the aggregated models go."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule("!has(self.alias) || has(self.registeredModel)", "alias needs registeredModel"),
    )

    model: Annotated[
        Reference | None,
        Declared("The Model whose url receives the result; aggregationWorker.model if left out."),
    ] = None
    registered_model: Annotated[
        str | None, Declared("The name under which MLflow registers the models.", _REGISTERED_MODEL)
    ] = None
    alias: Annotated[
        str | None, Declared("The alias that points at the version to use.", _ALIAS)
    ] = None
    save_policy: Annotated[
        str,
        Declared(
            "Which rounds' models are kept and registered: the last, the best or every one.",
            Bounds(choices=("last", "best", "every")),
        ),
    ] = "last"
