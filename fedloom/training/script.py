"""`fedloom.main(Trainer)`: the last line of a training script.

Run by a warm worker, it hands the class over and returns: the worker makes an instance per client and
calls it round by round. Run as a program (in a pod, or by hand with the FEDLOOM_* variables set), it
does the one task of the environment and writes the files. Both ways call the same methods.
"""

from __future__ import annotations

import ast
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fedloom.errors import JobError, UpdateError
from fedloom.training.context import Client, Evaluation, Round, Update
from fedloom.training.environment import TaskEnvironment

if TYPE_CHECKING:
    from fedloom.training.context import Correction
    from fedloom.training.correction import WatchedCorrection

_receivers: list[Callable[[type[Any]], None]] = []


def main(trainer: type[Any]) -> None:
    """Register or run `trainer`; see the module's docstring.

    Ends the process with a message and exit code 1 if the FEDLOOM_* variables are missing or wrong.
    Raises JobError if the environment's task cannot be done by this class.
    """
    if _receivers:
        _receivers[-1](trainer)
        return
    try:
        environment = TaskEnvironment.read(os.environ)
    except JobError as error:
        sys.exit(f"error: {error}")
    run_as_program(trainer, environment)


@contextmanager
def received_by(receiver: Callable[[type[Any]], None]) -> Iterator[None]:
    """While inside, `main` hands the class to `receiver` and does nothing else."""
    _receivers.append(receiver)
    try:
        yield
    finally:
        _receivers.remove(receiver)


def calls_main(source: str) -> bool:
    """Say whether a script hands a class to `fedloom.main`, without running it.

    A script that does not parse counts if it imports fedloom: then its error is told with its line.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return re.search(r"^\s*(import|from)\s+fedloom\b", source, re.MULTILINE) is not None
    names = {"fedloom"}
    functions: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {a.asname for a in node.names if a.name == "fedloom" and a.asname}
        elif isinstance(node, ast.ImportFrom) and node.module in ("fedloom", __name__):
            functions |= {a.asname or a.name for a in node.names if a.name == "main"}
    return any(
        _is_main(node.func, names, functions)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
    )


def _is_main(function: ast.expr, names: set[str], functions: set[str]) -> bool:
    if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
        return function.attr == "main" and function.value.id in names
    return isinstance(function, ast.Name) and function.id in functions


def client_of(environment: TaskEnvironment) -> Client:
    return Client(
        name=environment.client,
        dataset=environment.dataset,
        hyperparameters=environment.hyperparameters,
        state=environment.state,
        seed=environment.client_seed,
    )


def round_of(environment: TaskEnvironment, correction: Correction | None = None) -> Round:
    return Round(environment.round, environment.rounds, environment.seed, correction)


def initialize(trainer: type[Any], seed: int) -> dict[str, Any]:
    """Make the first model with the class's static `initialize(seed)`.

    Raises JobError("NoInitialModel") where the class has none, or gives something else than a
    non-empty dict.
    """
    method = getattr(trainer, "initialize", None)
    if method is None:
        raise JobError(
            "NoInitialModel",
            f"{trainer.__name__} has no initialize(seed) and the job names no spec.pretrainedModel: "
            "one of them must give the first model",
        )
    arrays = method(seed)
    if not isinstance(arrays, dict) or not arrays:
        raise JobError(
            "NoInitialModel",
            f"{trainer.__name__}.initialize gave {type(arrays).__name__}, "
            "expected a non-empty dict of arrays",
        )
    return arrays


def run_as_program(trainer: type[Any], environment: TaskEnvironment) -> None:
    """Do the environment's task and write its files, each whole or not at all, the result last."""
    if environment.split is not None:
        _run_split(trainer, environment)
        return
    from fedloom.artifacts.arrays import dump_arrays, load_arrays

    if environment.task == "initialize":
        assert environment.update is not None
        model = initialize(trainer, environment.seed)
        write_whole(environment.update, dump_arrays(arrays_of(model)))
        return
    assert environment.model is not None
    assert environment.result is not None
    model, _ = load_arrays(environment.model)
    instance = trainer(client_of(environment))
    correction = _correction_of(environment)
    outcome = call(instance, environment.task, model, round_of(environment, correction))
    result: dict[str, Any] = {
        "num_examples": outcome.num_examples,
        "metrics": dict(outcome.metrics),
    }
    if isinstance(outcome, Update):
        assert environment.update is not None
        result["num_steps"] = outcome.num_steps
        if correction is not None:
            result["corrected"] = correction.was_used
        write_whole(environment.update, dump_arrays(arrays_of(outcome.model)))
    write_whole(environment.result, json.dumps(result, default=plain_number).encode())


def _run_split(trainer: type[Any], environment: TaskEnvironment) -> None:
    """Do a task of a mistnet job; what stands in its way is one line, the last of the log."""
    from fedloom.training import split_tasks  # of no concern to other jobs

    try:
        split_tasks.perform(trainer(client_of(environment)), environment)
    except (JobError, UpdateError) as error:
        told = {"step": environment.task, "state": "Failed", "reason": error.reason}
        sys.exit(json.dumps({**told, "message": error.message}))


def _correction_of(environment: TaskEnvironment) -> WatchedCorrection | None:
    if environment.correction is None:
        return None
    from fedloom.training.correction import WatchedCorrection, read_correction

    return WatchedCorrection(read_correction(environment.correction))


def call(instance: Any, task: str, model: dict[str, Any], context: Round) -> Update | Evaluation:
    """Call `train` or `evaluate` and check what kind of thing came back.

    Raises JobError("ScriptFailed") where the method is missing or gives another type.
    """
    method = getattr(instance, task, None)
    expected = Update if task == "train" else Evaluation
    name = f"{type(instance).__name__}.{task}"
    if method is None:
        raise JobError("ScriptFailed", f"{name} does not exist, the job needs it")
    outcome = method(model, context)
    if not isinstance(outcome, expected):
        raise JobError(
            "ScriptFailed",
            f"{name} gave {type(outcome).__name__}, expected fedloom.{expected.__name__}",
        )
    return outcome


def arrays_of(model: Any) -> dict[str, np.ndarray[Any, Any]]:
    """Give a script's model as numpy arrays by name; what numpy can look at, it looks at.

    Raises UpdateError("MalformedUpdate") for anything but a mapping of arrays.
    """
    if not isinstance(model, Mapping):
        raise UpdateError(
            "MalformedUpdate", f"model: got {type(model).__name__}, expected a dict of arrays"
        )
    arrays = {}
    for name, value in model.items():
        array = np.asarray(value)
        if array.dtype == object:
            raise UpdateError(
                "MalformedUpdate", f"tensor {name!r}: got {type(value).__name__}, expected an array"
            )
        arrays[str(name)] = array
    return arrays


def plain_number(number: Any) -> int | float:
    """Give a number of numpy or torch as JSON knows it."""
    return int(number) if isinstance(number, Integral) else float(number)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that is there whole or not at all."""
    temporary = path.with_name(path.name + ".part")
    temporary.write_bytes(data)
    temporary.replace(path)
