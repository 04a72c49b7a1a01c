"""Run the user's side of initialize, train and evaluate: a warm class or any program, same outcome.

Which of the two a template is, is decided by looking at it: `python script.py` whose script calls
`fedloom.main` is a class and stays warm in this process; everything else is a program and runs as a
child process with the FEDLOOM_* variables.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components import program
from components.outcome import Arrays, Outcome, checked_outcome, read_outcome
from components.request import Place, Request
from components.trainers import Environment, Trainers
from fedloom.artifacts.arrays import dump_arrays, load_arrays
from fedloom.errors import FedloomError, UpdateError
from fedloom.training import script
from fedloom.training.context import Evaluation
from fedloom.training.environment import AGGREGATION_TASKS, WITH_MODEL, WITH_UPDATE, TaskEnvironment

if TYPE_CHECKING:
    from fedloom.algorithms.drift.correction import DriftCorrection
    from fedloom.training.correction import WatchedCorrection

CLIENTS = "clients"
"""The folder in a work folder where clients' weights lie for a program that combines them."""

# `key` and `digest` of a global model in the store, perhaps its `path` here.
Model = Mapping[str, Any]


@dataclass(frozen=True)
class Given:
    """What the user's code starts from.

    Attributes:
        reference: `key` and `digest` of the global model.
        arrays: the client's model, not to be changed, where that is not the very global one.
        correction: of the gradients; None where the job corrects nothing.
    """

    reference: Model
    arrays: Arrays | None = None
    correction: DriftCorrection | None = None


class UserCode:
    """The user's code of one process: warm classes and child programs."""

    def __init__(self) -> None:
        self._trainers = Trainers()
        self._environment = Environment()
        self._loaded: dict[str, tuple[str, Arrays]] = {}

    def perform(self, request: Request, place: Place, state: Path, given: Given | None) -> Outcome:
        """Do the request's task.

        `state` is the client's state folder; `given` is None for initialize.
        Raises UpdateError("ScriptFailed" | "NoUpdate" | "MalformedUpdate") with what
        the code did wrong.
        """
        settings = request.settings
        command = [*settings["command"], *settings["args"]]
        found = class_script(tuple(command), place.base)
        environment = task_environment(request, place, state)
        if found is None:
            return self._run_program(command, environment, request, place, given)
        path, arguments = found
        weights = {} if given is None else self.weights(place, given)
        correction = None if given is None else given.correction
        # A class is told its task by arguments; only a program reads the FEDLOOM_* variables.
        self._environment.become(
            {**settings["environment"], "TRAIN_DATASET_URL": environment.dataset}
        )
        try:
            instance = self._made(environment, path, arguments)
            return _called(instance, environment, weights, correction)
        except FedloomError:
            raise
        except (Exception, SystemExit) as error:
            raise UpdateError("ScriptFailed", _describe(error, path)) from error

    def perform_split(self, environment: TaskEnvironment, request: Request, place: Place) -> None:
        """Do a task of a mistnet job, from files to files. Raises as `perform`, and JobError."""
        command = [*request.settings["command"], *request.settings["args"]]
        found = class_script(tuple(command), place.base)
        if found is None:
            self._run(command, environment, request, place, None)
            return
        from fedloom.training import split_tasks  # of no concern to other jobs

        variables = {**request.settings["environment"], "TRAIN_DATASET_URL": environment.dataset}
        self._environment.become(variables)
        try:
            split_tasks.perform(self._made(environment, *found), environment)
        except FedloomError:
            raise
        except (Exception, SystemExit) as error:
            raise UpdateError("ScriptFailed", _describe(error, found[0])) from error

    def weights(self, place: Place, given: Given) -> Arrays:
        """Give the model that the client starts from. Not to be changed."""
        return self.model(place, given.reference) if given.arrays is None else given.arrays

    def model(self, place: Place, model: Model) -> Arrays:
        """Load a global model, verified, once for all clients of this process. Not to be changed."""
        return self.load(place, model, "model")

    def holds(self, kind: str, digest: str) -> bool:
        """Say whether this artifact is loaded."""
        return self._loaded.get(kind, ("", {}))[0] == digest

    def load(self, place: Place, artifact: Model, kind: str) -> Arrays:
        """Load an artifact likewise; of each kind the last one is remembered."""
        digest, arrays = self._loaded.get(kind, ("", {}))
        if digest != artifact["digest"]:
            arrays = load_arrays(fetch(place, artifact))[0]
            self._loaded[kind] = (artifact["digest"], arrays)
        return arrays

    def _made(self, environment: TaskEnvironment, path: Path, arguments: tuple[str, ...]) -> Any:
        """Give the client's instance of the class; the class itself for initialize."""
        if environment.task == "initialize":
            return self._trainers.class_of(environment.client, path, arguments)
        return self._trainers.instance_of(script.client_of(environment), path, arguments)

    def _run_program(
        self,
        command: list[str],
        environment: TaskEnvironment,
        request: Request,
        place: Place,
        given: Given | None,
    ) -> Outcome:
        environment = self._run(command, environment, request, place, given)
        return read_outcome(environment.update, environment.result)

    def run(
        self, request: Request, place: Place, state: Path, given: Given | None
    ) -> TaskEnvironment:
        """Run the request's command as a program, whatever it is; give where it left what it made.

        Raises UpdateError("ScriptFailed").
        """
        command = [*request.settings["command"], *request.settings["args"]]
        environment = task_environment(request, place, state)
        return self._run(command, environment, request, place, given)

    def _run(
        self,
        command: list[str],
        environment: TaskEnvironment,
        request: Request,
        place: Place,
        given: Given | None,
    ) -> TaskEnvironment:
        for path in (environment.update, environment.result):
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.unlink(missing_ok=True)
        if given is not None:
            environment = _handed_over(given, environment, place)
        variables = {**os.environ, **request.settings["environment"], **environment.variables()}
        if request.settings.get("sedna", {}).get("secret"):
            variables |= place.keys
        variables["PATH"] = program.search_path(variables)
        variables["PYTHONPATH"] = program.module_path(variables)
        log = place.logs / f"{request.client or 'server'}.log"
        program.run_program(command, variables, place.base, log)
        return environment


def _called(
    instance: Any,
    environment: TaskEnvironment,
    weights: Arrays,
    correction: DriftCorrection | None,
) -> Outcome:
    """Do the environment's task with a class that is at hand."""
    if environment.task == "initialize":
        return Outcome(arrays=script.arrays_of(script.initialize(instance, environment.seed)))
    watched = None if correction is None else _watched(correction)
    model = {name: array.copy() for name, array in weights.items()}
    done = script.call(instance, environment.task, model, script.round_of(environment, watched))
    if isinstance(done, Evaluation):
        return checked_outcome(None, done.num_examples, None, done.metrics)
    arrays = script.arrays_of(done.model)
    outcome = checked_outcome(arrays, done.num_examples, done.num_steps, done.metrics)
    is_corrected = watched is not None and watched.was_used
    return replace(outcome, is_corrected=True) if is_corrected else outcome


def _watched(correction: DriftCorrection) -> WatchedCorrection:
    from fedloom.training.correction import WatchedCorrection  # most jobs need not wait for it

    return WatchedCorrection(correction)


def _handed_over(given: Given, environment: TaskEnvironment, place: Place) -> TaskEnvironment:
    """Lay the model, and the correction where there is one, where a program finds them."""
    assert environment.model is not None
    if given.arrays is None:
        shutil.copyfile(fetch(place, given.reference), environment.model)
    else:
        environment.model.write_bytes(dump_arrays(given.arrays))
    if given.correction is None:
        return environment
    from fedloom.training.correction import write_correction

    path = environment.model.with_name("correction.safetensors")
    write_correction(path, given.correction)
    return replace(environment, correction=path)


def fetch(place: Place, model: Model) -> Path:
    """Give a local file with the verified model: the one that the client holds, where it holds one."""
    if "path" in model:
        return Path(model["path"])
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
        client=request.client or ("aggregation" if task in AGGREGATION_TASKS else "evaluation"),
        seed=settings["seed"],
        client_seed=settings["client_seed"],
        model=model if task in WITH_MODEL else None,
        update=update if task in WITH_UPDATE else None,
        result=result if task != "initialize" else None,
        hyperparameters=settings["hyperparameters"],
        state=state,
        dataset=settings["dataset"],
        updates=place.work / CLIENTS if task == "aggregate" else None,
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


def _describe(error: BaseException, path: Path) -> str:
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
    if isinstance(error, SyntaxError):
        return f"{path.name} line {error.lineno}: {error.msg}"
    where = f"{path.name} line {frames[-1].lineno}: " if frames else f"{path.name}: "
    return f"{where}{type(error).__name__}: {error}"


def clear(folder: Path) -> None:
    """Remove a scratch folder and what is in it."""
    shutil.rmtree(folder, ignore_errors=True)
