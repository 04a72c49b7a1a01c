"""The task of this run, read from FEDLOOM_*, and the two ways to end it: finish and fail."""

import json
import os
import sys
from typing import Any, Mapping, NamedTuple, NoReturn, Tuple

__all__ = ("Task", "current", "fail", "finish", "report_end", "write_json")

_NEEDS = {
    "initialize": ("FEDLOOM_UPDATE",),
    "train": ("FEDLOOM_MODEL", "FEDLOOM_UPDATE", "FEDLOOM_RESULT"),
    "evaluate": ("FEDLOOM_MODEL", "FEDLOOM_RESULT"),
    "describe": ("FEDLOOM_RESULT",),
    "aggregate": ("FEDLOOM_MODEL", "FEDLOOM_UPDATES", "FEDLOOM_UPDATE", "FEDLOOM_RESULT"),
}
_BY_HAND = (
    "FEDLOOM_TASK is not set: this script is started by Fedloom, once for every round. Put it into the "
    "template of a FederatedLearningJob and run it with `fedloom run -f job.yaml`, or apply the job to a "
    "cluster."
)


class Task(NamedTuple):
    """One task.

    `model`, `update`, `updates` and `result` are paths, empty where the task has none; `round` counts from
    1, and is 0 in the tasks that come before the first round; `seed` is the same on a retry.
    """

    name: str
    round: int
    rounds: int
    client: str
    seed: int
    model: str
    update: str
    updates: str
    result: str


class _Ended:
    """Whether this run has said how it ended."""

    said = False


def current(expected: Tuple[str, ...], what: str) -> Task:
    """Read the task; `what` stands in the script, and does one of the tasks `expected`.

    Ends the run where there is no task, or another one.
    """
    name = os.environ.get("FEDLOOM_TASK", "")
    if not name:
        fail(_BY_HAND)
    if name not in expected:
        if name in ("describe", "aggregate"):
            wanted = "a script with AggregationServer(...).start() in aggregationWorker"
        else:
            wanted = "a script with FederatedLearning(...).train() in trainingWorkers"
        fail("{}: the task is {!r}, which expects {}".format(what, name, wanted))
    for variable in _NEEDS[name]:
        if not os.environ.get(variable):
            fail("{}: got nothing, expected a path for the task {!r}".format(variable, name))
    path = os.environ.get
    return Task(
        name=name,
        round=_whole("FEDLOOM_ROUND"),
        rounds=_whole("FEDLOOM_ROUNDS"),
        client=path("FEDLOOM_CLIENT", ""),
        seed=_whole("FEDLOOM_SEED"),
        model=path("FEDLOOM_MODEL", ""),
        update=path("FEDLOOM_UPDATE", ""),
        updates=path("FEDLOOM_UPDATES", ""),
        result=path("FEDLOOM_RESULT", ""),
    )


def finish() -> NoReturn:
    """End the run: everything that the task asked for is handed over."""
    _Ended.said = True
    raise SystemExit(0)


def fail(message: str) -> NoReturn:
    """End the run with exit code 1 and one line on stderr that says why."""
    _Ended.said = True
    sys.stdout.flush()
    sys.stderr.write("sedna: {}\n".format(" ".join(message.split())))
    sys.stderr.flush()
    raise SystemExit(1)


def report_end(message: str) -> None:
    """As the interpreter ends without having handed anything over: say why, and with exit code 1.

    A run that ended by `finish`, `fail` or an exception has said why already.
    """
    if _Ended.said or hasattr(sys, "last_type") or not _is_main_process():
        return
    sys.stdout.flush()
    sys.stderr.write("sedna: {}\n".format(" ".join(message.split())))
    sys.stderr.flush()
    os._exit(1)  # an exit code can no longer be given any other way


def write_json(path: str, document: Mapping[str, Any]) -> None:
    """Write a JSON object, which is there as a whole or not at all."""
    temporary = "{}.{}.part".format(path, os.getpid())
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(document, file, sort_keys=True, allow_nan=False)
    os.replace(temporary, path)


def _is_main_process() -> bool:
    """Say whether this is the script, not a data loader that it started."""
    module = sys.modules.get("multiprocessing.process")
    return module is None or module.current_process().name == "MainProcess"


def _whole(variable: str) -> int:
    text = os.environ.get(variable, "") or "0"
    try:
        return int(text)
    except ValueError:
        fail("{}: got {!r}, expected a whole number".format(variable, text))
