"""The environment contract of a training program: the FEDLOOM_* variables, written and read.

Whoever runs a program (a worker, a pod) writes them with `TaskEnvironment.variables`; a Python script
reads them back with `TaskEnvironment.read`. Programs in other languages read the variables themselves.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedloom.errors import JobError

if TYPE_CHECKING:
    from fedloom.training.split_environment import SplitEnvironment

TASKS = ("initialize", "train", "evaluate")
SPLIT_TASKS = ("prepare-extractor", "release", "train-tail", "leakage-report")
"""Of a mistnet job's program, beside `evaluate`; see `split_environment`."""
AGGREGATION_TASKS = ("describe", "aggregate")
"""Of the aggregation worker's program, not of a training script."""

WITH_MODEL = ("train", "evaluate", "aggregate", "release", "train-tail", "leakage-report")
WITH_UPDATE = ("initialize", "train", "aggregate", "prepare-extractor", "release", "train-tail")
_MISTNET = "FEDLOOM_MISTNET"


@dataclass(frozen=True)
class TaskEnvironment:
    """One task of a training program.

    Attributes:
        task: `initialize`, `train` or `evaluate`; of the aggregation worker's program `describe` or
            `aggregate`.
        round: from 1; 0 for initialize and describe.
        rounds: of the job.
        client: id of the client; `evaluation` in the evaluate step, `aggregation` where the aggregation
            worker's program runs.
        seed: differs per job, round and client; the same on a retry.
        client_seed: differs per job and client; the same in every round.
        model: the global model, a safetensors file; None for initialize and describe.
        update: where the new full weights go (initialize, train and aggregate).
        result: where the JSON with num_examples, num_steps and metrics goes (train and evaluate), that
            with metrics (aggregate), or what the job is to be (describe).
        hyperparameters: of the job, after the worker's own variables won.
        state: the client's folder that lives from round to round.
        dataset: path of the client's data; empty for initialize.
        correction: the drift correction of train, a file as `correction.write_correction` makes it;
            None where the job corrects nothing.
        updates: the folder with what the clients sent, for aggregate, and for tasks of a mistnet job.
        split: what only a mistnet job's program is told; None for all others.
    """

    task: str
    round: int
    rounds: int
    client: str
    seed: int
    client_seed: int
    model: Path | None
    update: Path | None
    result: Path | None
    hyperparameters: Mapping[str, Any]
    state: Path
    dataset: str
    correction: Path | None = None
    updates: Path | None = None
    split: SplitEnvironment | None = None

    def variables(self) -> dict[str, str]:
        """Write the task as environment variables; absent paths give no variable."""
        paths = {
            "FEDLOOM_MODEL": self.model,
            "FEDLOOM_UPDATE": self.update,
            "FEDLOOM_RESULT": self.result,
            "FEDLOOM_CORRECTION": self.correction,
            "FEDLOOM_UPDATES": self.updates,
        }
        return {
            "FEDLOOM_TASK": self.task,
            "FEDLOOM_ROUND": str(self.round),
            "FEDLOOM_ROUNDS": str(self.rounds),
            "FEDLOOM_CLIENT": self.client,
            "FEDLOOM_SEED": str(self.seed),
            "FEDLOOM_CLIENT_SEED": str(self.client_seed),
            "FEDLOOM_HYPERPARAMETERS": json.dumps(dict(self.hyperparameters), sort_keys=True),
            "FEDLOOM_STATE": str(self.state),
            "TRAIN_DATASET_URL": self.dataset,
            **{name: str(path) for name, path in paths.items() if path is not None},
            **(self.split.variables() if self.split is not None else {}),
        }

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> TaskEnvironment:
        """Read the task back. Raises JobError naming the variable that is missing or wrong."""
        task = _required(environ, "FEDLOOM_TASK")
        split = _split_of(environ)
        known = TASKS if split is None else (*SPLIT_TASKS, "evaluate")
        if task not in known:
            raise _wrong("FEDLOOM_TASK", task, f"one of {', '.join(known)}")
        needs_model, needs_update = task in WITH_MODEL, task in WITH_UPDATE
        updates = environ.get("FEDLOOM_UPDATES", "") if split is not None else ""
        correction = environ.get("FEDLOOM_CORRECTION", "") if task == "train" else ""
        return cls(
            task=task,
            round=_integer(environ, "FEDLOOM_ROUND"),
            rounds=_integer(environ, "FEDLOOM_ROUNDS"),
            client=_required(environ, "FEDLOOM_CLIENT"),
            seed=_integer(environ, "FEDLOOM_SEED"),
            client_seed=_integer(
                environ,
                "FEDLOOM_CLIENT_SEED" if environ.get("FEDLOOM_CLIENT_SEED") else "FEDLOOM_SEED",
            ),
            model=Path(_required(environ, "FEDLOOM_MODEL")) if needs_model else None,
            update=Path(_required(environ, "FEDLOOM_UPDATE")) if needs_update else None,
            result=Path(_required(environ, "FEDLOOM_RESULT")) if needs_model else None,
            hyperparameters=_hyperparameters(environ.get("FEDLOOM_HYPERPARAMETERS", "{}")),
            state=Path(_required(environ, "FEDLOOM_STATE")),
            dataset=environ.get("TRAIN_DATASET_URL", ""),
            correction=Path(correction) if correction else None,
            updates=Path(updates) if updates else None,
            split=split,
        )


def _split_of(environ: Mapping[str, str]) -> SplitEnvironment | None:
    if not environ.get(_MISTNET):
        return None
    from fedloom.training.split_environment import SplitEnvironment

    return SplitEnvironment.read(environ)


def _required(environ: Mapping[str, str], name: str) -> str:
    value = environ.get(name, "")
    if not value:
        raise JobError(
            "BadEnvironment",
            f"{name}: got nothing, expected a value. Is the script run by Fedloom? "
            "Try `fedloom run -f job.yaml`.",
        )
    return value


def _integer(environ: Mapping[str, str], name: str) -> int:
    value = _required(environ, name)
    try:
        return int(value)
    except ValueError:
        raise _wrong(name, value, "an integer") from None


def _hyperparameters(text: str) -> Mapping[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise _wrong("FEDLOOM_HYPERPARAMETERS", text, "a JSON object")
    return value


def _wrong(name: str, got: str, expected: str) -> JobError:
    return JobError("BadEnvironment", f"{name}: got {got!r}, expected {expected}")
