"""Run the user's side of initialize, train and evaluate: a warm class or any program, same outcome.

Which of the two a template is, is decided by looking at it: `python script.py` whose script calls
`fedloom.main` is a class and stays warm in this process; everything else is a program and runs as a
child process with the FEDLOOM_* variables.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from components import program
from components.request import Place, Request
from components.trainers import Environment, Trainers
from fedloom.artifacts.arrays import load_arrays
from fedloom.errors import ArtifactError, FedloomError, UpdateError
from fedloom.training import script
from fedloom.training.context import Evaluation
from fedloom.training.environment import TaskEnvironment

Arrays = dict[str, np.ndarray[Any, Any]]
Model = Mapping[str, Any]  # `key` and `digest` of a global model in the store


@dataclass(frozen=True)
class Outcome:
    """What the user's code gave back: `arrays` of initialize and train, counts of train and evaluate."""

    arrays: Arrays | None
    num_examples: int = 0
    num_steps: int | None = None
    metrics: Mapping[str, float] | None = None


class UserCode:
    """The user's code of one process: warm classes and child programs."""

    def __init__(self) -> None:
        self._trainers = Trainers()
        self._environment = Environment()
        self._models: dict[str, Arrays] = {}

    def perform(self, request: Request, place: Place, state: Path, model: Model | None) -> Outcome:
        """Do the request's task.

        `state` is the client's state folder; `model` names the global model, None for initialize.
        Raises UpdateError("ScriptFailed" | "NoUpdate" | "MalformedUpdate") with what
        the code did wrong.
        """
        settings = request.settings
        command = [*settings["command"], *settings["args"]]
        found = class_script(tuple(command), place.base)
        environment = task_environment(request, place, state)
        if found is None:
            return self._run_program(command, environment, request, place, model)
        path, arguments = found
        weights = {} if model is None else self.model(place, model)
        # A class is told its task by arguments; only a program reads the FEDLOOM_* variables.
        self._environment.become(
            {**settings["environment"], "TRAIN_DATASET_URL": environment.dataset}
        )
        try:
            return self._call(environment, path, arguments, weights)
        except FedloomError:
            raise
        except (Exception, SystemExit) as error:
            raise UpdateError("ScriptFailed", _describe(error, path)) from error

    def _call(
        self, environment: TaskEnvironment, path: Path, arguments: tuple[str, ...], weights: Arrays
    ) -> Outcome:
        if environment.task == "initialize":
            trainer = self._trainers.class_of(environment.client, path, arguments)
            return Outcome(arrays=script.arrays_of(script.initialize(trainer, environment.seed)))
        client = script.client_of(environment)
        instance = self._trainers.instance_of(client, path, arguments)
        model = {name: array.copy() for name, array in weights.items()}
        given = script.call(instance, environment.task, model, script.round_of(environment))
        if isinstance(given, Evaluation):
            return checked_outcome(None, given.num_examples, None, given.metrics)
        arrays = script.arrays_of(given.model)
        return checked_outcome(arrays, given.num_examples, given.num_steps, given.metrics)

    def model(self, place: Place, model: Model) -> Arrays:
        """Load a global model, verified, once for all clients of this process. Not to be changed."""
        if model["digest"] not in self._models:
            self._models = {model["digest"]: load_arrays(fetch(place, model))[0]}
        return self._models[model["digest"]]

    def _run_program(
        self,
        command: list[str],
        environment: TaskEnvironment,
        request: Request,
        place: Place,
        model: Model | None,
    ) -> Outcome:
        variables = {**os.environ, **request.settings["environment"], **environment.variables()}
        variables["PATH"] = program.search_path(variables)
        log = place.logs / f"{request.client or 'server'}.log"
        for path in (environment.update, environment.result):
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.unlink(missing_ok=True)
        if model is not None and environment.model is not None:
            shutil.copyfile(fetch(place, model), environment.model)
        program.run_program(command, variables, place.base, log)
        return read_outcome(environment.update, environment.result)


def fetch(place: Place, model: Model) -> Path:
    """Give a local file with the verified model."""
    return place.store.materialize(model["key"], place.work / "models", digest=model["digest"])


def task_environment(request: Request, place: Place, state: Path) -> TaskEnvironment:
    """Describe the request's task to a program: every path is its own, whatever it does to it."""
    settings = request.settings
    task = settings["task"]
    model, update, result = _exchange(place.work, task, request.client or "server")
    return TaskEnvironment(
        task=task,
        round=request.round,
        rounds=request.rounds,
        client=request.client or "evaluation",
        seed=settings["seed"],
        client_seed=settings["client_seed"],
        model=model if task != "initialize" else None,
        update=update if task != "evaluate" else None,
        result=result if task != "initialize" else None,
        hyperparameters=settings["hyperparameters"],
        state=state,
        dataset=settings["dataset"],
    )


@cache
def _exchange(work: Path, task: str, client: str) -> tuple[Path, Path, Path]:
    """The files through which a client's program and Fedloom exchange model, update and result."""
    folder = work / f"{task}-{client}"
    return folder / "model.safetensors", folder / "update.safetensors", folder / "result.json"


@cache
def class_script(command: tuple[str, ...], base: Path) -> tuple[Path, tuple[str, ...]] | None:
    """Give (script, arguments) if the command is `python [-flags] script.py` with a training class."""
    if not command or not Path(command[0]).name.startswith("python"):
        return None
    rest = list(command[1:])
    while rest and rest[0].startswith("-"):
        if rest[0] in ("-c", "-m"):
            return None
        rest.pop(0)
    if not rest or not rest[0].endswith(".py"):
        return None
    path = base / rest[0]
    try:
        source = path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None
    return (path, tuple(rest[1:])) if script.calls_main(source) else None


def fresh_folder(parent: Path) -> Path:
    """Make an empty scratch folder that vanishes with the work folder."""
    parent.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(dir=parent))


def checked_outcome(arrays: Arrays | None, examples: Any, steps: Any, metrics: Any) -> Outcome:
    """Check the counts and metrics that user code gave. Raises UpdateError("BadResult")."""
    if isinstance(examples, bool) or not isinstance(
        examples, (int, float, np.integer, np.floating)
    ):
        raise _bad("num_examples", examples, "a positive integer")
    if not math.isfinite(examples) or examples <= 0 or examples != int(examples):
        raise _bad("num_examples", examples, "a positive integer")
    if steps is not None and (
        isinstance(steps, bool) or not isinstance(steps, (int, np.integer)) or steps < 0
    ):
        raise _bad("num_steps", steps, "an integer >= 0 or nothing")
    if not isinstance(metrics, Mapping):
        raise _bad("metrics", metrics, "an object of numbers by name")
    numbers: dict[str, float] = {}
    for name, value in metrics.items():
        try:
            numbers[str(name)] = float(value)
        except (TypeError, ValueError):
            raise _bad(f"metrics.{name}", value, "a number") from None
    return Outcome(arrays, int(examples), None if steps is None else int(steps), numbers)


def _bad(field: str, got: object, expected: str) -> UpdateError:
    return UpdateError("BadResult", f"{field}: got {got!r}, expected {expected}")


def read_outcome(update: Path | None, result_file: Path | None) -> Outcome:
    """Read what a program left: its update (None for evaluate) and its result (None for initialize).

    Raises UpdateError("NoUpdate" | "MalformedUpdate" | "BadResult").
    """
    arrays = None
    if update is not None:
        if not update.exists():
            raise _nothing("FEDLOOM_UPDATE")
        try:
            arrays, _ = load_arrays(update)
        except ArtifactError as error:
            raise UpdateError("MalformedUpdate", f"FEDLOOM_UPDATE: {error.message}") from error
    if result_file is None:
        return Outcome(arrays)
    try:
        result = json.loads(result_file.read_bytes())
    except FileNotFoundError:
        raise _nothing("FEDLOOM_RESULT") from None
    except ValueError as error:
        raise UpdateError("BadResult", f"FEDLOOM_RESULT is not JSON: {error}") from error
    if not isinstance(result, dict) or "num_examples" not in result:
        raise _bad("FEDLOOM_RESULT", result, 'an object like {"num_examples": 120, "metrics": {}}')
    steps, metrics = result.get("num_steps"), result.get("metrics", {})
    return checked_outcome(arrays, result["num_examples"], steps, metrics)


def _nothing(variable: str) -> UpdateError:
    return UpdateError("NoUpdate", f"the program ended with exit code 0 but wrote no {variable}")


def _describe(error: BaseException, path: Path) -> str:
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
    if isinstance(error, SyntaxError):
        return f"{path.name} line {error.lineno}: {error.msg}"
    where = f"{path.name} line {frames[-1].lineno}: " if frames else f"{path.name}: "
    return f"{where}{type(error).__name__}: {error}"


def clear(folder: Path) -> None:
    """Remove a scratch folder and what is in it."""
    shutil.rmtree(folder, ignore_errors=True)
