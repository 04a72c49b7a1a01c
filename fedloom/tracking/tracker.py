"""What a tracker is told of a job, and what it must do with it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, Protocol, cast

from fedloom.errors import JobError

SavePolicy = Literal["last", "best", "every"]
Goal = Literal["maximize", "minimize"]
Status = Literal["FINISHED", "FAILED", "KILLED"]
Result = Mapping[str, Any]


@dataclass(frozen=True)
class Run:
    """Where a job is tracked; `url` is None where there is no server whose page could be opened."""

    experiment_id: str
    run_id: str
    url: str | None


@dataclass(frozen=True)
class DatasetDescription:
    """One source of data; `digest` is its content's where it is known, `client` whose it is."""

    name: str
    source: str
    digest: str | None = None
    context: Literal["training", "evaluation"] = "training"
    client: str | None = None


@dataclass(frozen=True)
class JobDescription:
    """What tracking knows of a job beside its rounds.

    Attributes:
        namespace: of the job; with `name` the experiment.
        name: of the job.
        uid: tells two jobs of one name apart; one uid is one run.
        rounds: as planned.
        parameters: the settings, by name; no credentials.
        datasets: of all clients and of the evaluation.
        registered_model: registry's name for the models; None registers nothing.
        alias: registry's word for the version to use, like `champion`; None sets none.
        save_policy: which rounds' models are registered.
        best_metric: which of a round's metrics says what the best model is.
        best_goal: whether more of it is better.
        script: path of the training script, where it is a Python class's; its `predict` is served.
        requirements: what the model needs to be loaded, as pip would read it.
    """

    namespace: str
    name: str
    uid: str
    rounds: int
    parameters: Mapping[str, str]
    datasets: tuple[DatasetDescription, ...] = ()
    registered_model: str | None = None
    alias: str | None = None
    save_policy: SavePolicy = "last"
    best_metric: str | None = None
    best_goal: Goal = "maximize"
    script: str | None = None
    requirements: tuple[str, ...] = ("numpy", "safetensors")

    def as_json(self) -> dict[str, Any]:
        """A value for `json.dumps`; `from_json` reads it back."""
        return asdict(self) | {"parameters": dict(self.parameters)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> JobDescription:
        """Read what `as_json` gave. Raises JobError("BadDescription") naming what is wrong."""
        known = {field.name for field in fields(cls)}
        try:
            if unknown := value.keys() - known:
                raise KeyError(f"unknown {', '.join(sorted(unknown))}")
            datasets = tuple(DatasetDescription(**each) for each in value.get("datasets", ()))
            requirements = tuple(value.get("requirements", cls.requirements))
            rest = dict(value) | {"datasets": datasets, "requirements": requirements}
            return cls(**rest)
        except (KeyError, TypeError, AttributeError) as error:
            raise JobError(
                "BadDescription", f"description: got {error}, expected {', '.join(sorted(known))}"
            ) from error

    def champion(self, results: Sequence[Result]) -> Result | None:
        """The round among `results` (ascending) whose model is the job's.

        The last one, or with `best` the first of those with the best value of `best_metric`, rounds
        without a finite value left out. Round 0, the model nobody has trained, is never it.
        """
        rounds = [result for result in results if result["round"] > 0]
        if self.save_policy == "best" and self.best_metric is not None:
            measured = [result for result in rounds if self._score(result) > -math.inf]
            return max(measured, key=self._score, default=rounds[-1] if rounds else None)
        return rounds[-1] if rounds else None

    def _score(self, result: Result) -> float:
        value = result["metrics"].get(self.best_metric)
        if value is None or not math.isfinite(value):
            return -math.inf
        return -value if self.best_goal == "minimize" else float(value)


class Tracker(Protocol):
    """Where runs are kept. Every method raises TrackingUnavailableError and can then be tried again."""

    def begin(self, description: JobDescription) -> Run:
        """Find the job's run, or create it; a run that had ended goes on."""
        ...

    def record(self, results: Sequence[Result]) -> None:
        """Log committed rounds, ascending; what is logged already is not logged again."""
        ...

    def register(self, result: Result, model_file: Path) -> str:
        """Register a round's model and give its version; the same round gives the same version.

        With `save_policy` `every` the alias moves along, unless it is on another job's model.
        """
        ...

    def finish(self, status: Status, champion_round: int | None) -> None:
        """End the run; put the alias on that round's version, if one is registered."""
        ...


def checked_status(value: Any) -> Status:
    """The status, or JobError("BadStatus")."""
    if value not in ("FINISHED", "FAILED", "KILLED"):
        raise JobError("BadStatus", f"status: got {value!r}, expected FINISHED, FAILED or KILLED")
    return cast("Status", value)
