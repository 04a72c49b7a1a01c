"""`fedloom.main(Trainer)`: the last line of a training script.

Run by a warm worker, it hands the class over and returns: the worker makes an instance per client and
calls it round by round. Run as a program (in a pod, or by hand with the FEDLOOM_* variables set), it
does the one task of the environment and writes the files. Both ways call the same methods.
"""

from __future__ import annotations

import ast
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fedloom.errors import JobError
from fedloom.training.context import Client, Evaluation, Round, Update
from fedloom.training.environment import TaskEnvironment

_receivers: list[Callable[[type[Any]], None]] = []


def main(trainer: type[Any]) -> None:
    """Register or run `trainer`; see the module's docstring.

    Raises JobError if the environment's task cannot be done by this class.
    """
    if _receivers:
        _receivers[-1](trainer)
        return
    run_as_program(trainer, TaskEnvironment.read(os.environ))


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
        return "import fedloom" in source
    names = {"fedloom"}
    functions: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {a.asname for a in node.names if a.name == "fedloom" and a.asname}
        elif isinstance(node, ast.ImportFrom) and node.module == "fedloom":
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


def round_of(environment: TaskEnvironment) -> Round:
    return Round(number=environment.round, total=environment.rounds, seed=environment.seed)


def initialize(trainer: type[Any], seed: int) -> dict[str, Any]:
    """Make the first model with the class's static `initialize(seed)`.

    Raises JobError("NoInitialModel") where the class has none, or gives something else than arrays.
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
    """Do the environment's task and write its files; the arrays last, so that a file is a whole file."""
    from fedloom.artifacts.arrays import dump_arrays, load_arrays

    if environment.task == "initialize":
        assert environment.update is not None
        _write(environment.update, dump_arrays(initialize(trainer, environment.seed)))
        return
    assert environment.model is not None
    assert environment.result is not None
    model, _ = load_arrays(environment.model)
    instance = trainer(client_of(environment))
    outcome = call(instance, environment.task, model, round_of(environment))
    result: dict[str, Any] = {
        "num_examples": outcome.num_examples,
        "metrics": dict(outcome.metrics),
    }
    if isinstance(outcome, Update):
        assert environment.update is not None
        result["num_steps"] = outcome.num_steps
        _write(environment.update, dump_arrays(outcome.model))
    _write(environment.result, json.dumps(result, default=float).encode())


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


def _write(path: Path, data: bytes) -> None:
    temporary = path.with_name(path.name + ".part")
    temporary.write_bytes(data)
    temporary.replace(path)
