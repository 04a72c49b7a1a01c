"""Run one step as a command, as a container does:

    python -I -m components.compress --plan plan.json --store URI --workdir DIR --client NAME
    python -I -m components.aggregate --plan plan.json --store URI --workdir DIR
    python -I -m components.commit --plan plan.json --store URI --workdir DIR

The user's container writes `update.safetensors` and `result.json` (train) or `evaluation.json` (evaluate)
into the work folder; `aggregated.json` there is how aggregate and commit hand over. `--edge` names the
folder of what clients keep on this node, `edge` in the work folder if left out. Credentials of an S3 store
come from the AWS_* variables. One JSON object is printed: the step, its state, and what it made; the exit
code is 0 only if the step succeeded.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from components.connection import connect
from components.request import Place, Request
from fedloom.errors import FedloomError, JobError

_PATIENCE_SECONDS = 180.0
"""Of a pod: what it cannot store is lost with it, and so is what the clients did."""

Steps = Mapping[str, Request]
"""The requests of a group's steps, by step."""


def run_command(step: str, run: Callable[[Request, Place], dict[str, Any]]) -> NoReturn:
    """Parse the arguments, run the step, print its one JSON object, exit."""
    arguments = _parse(step)

    def with_request() -> dict[str, Any]:
        plan = _read_plan(arguments.plan)
        return run(_request(plan, step, arguments), _place(arguments))

    _run(step, arguments.client, with_request)


def run_group_command(step: str, run: Callable[[Steps, Place], dict[str, Any]]) -> NoReturn:
    """The same for what works on several steps at once: those of `--group`, or of `--client`'s first."""
    arguments = _parse(step)

    def with_steps() -> dict[str, Any]:
        plan = _read_plan(arguments.plan)
        return run(_steps(plan, arguments), _place(arguments))

    if arguments.library is not None:
        from components import library

        library.deliver(arguments.library)
    _run(step, arguments.client, with_steps)


def _run(step: str, client: str | None, work: Callable[[], dict[str, Any]]) -> NoReturn:
    try:
        printed = {"state": "Succeeded", **work()}
    except (FedloomError, OSError, ValueError) as error:
        reason = error.reason if isinstance(error, JobError) else type(error).__name__
        printed = {"state": "Failed", "reason": reason, "message": str(error)}
    print(json.dumps({"step": step, "client": client, **printed}), flush=True)
    sys.exit(0 if printed["state"] == "Succeeded" else 1)


def _read_plan(path: str) -> dict[str, Any]:
    """Read a plan; one of very many clients is packed by gzip."""
    data = Path(path).read_bytes()
    if data.startswith(b"\x1f\x8b"):
        data = gzip.decompress(data)
    plan: dict[str, Any] = json.loads(data)
    return plan


def _steps(plan: dict[str, Any], arguments: argparse.Namespace) -> Steps:
    """Give the requests of a group by their steps."""
    group = arguments.group
    if group is None:
        firsts = [task for task in plan["tasks"] if task["step"] in ("train", "release", "score")]
        group = next((t["group"] for t in firsts if t["client"] == arguments.client), None)
    tasks = [task for task in plan["tasks"] if task["group"] == group]
    if not tasks:
        groups = sorted({task["group"] for task in plan["tasks"]})
        got = arguments.group or arguments.client
        raise JobError("NoSuchTask", f"got {got!r}, the plan has the groups {', '.join(groups)}")
    return {task["step"]: Request.of(plan, task) for task in tasks}


def _parse(step: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=f"components.{step}")
    parser.add_argument("--plan", required=True, help="the plan of the round, a JSON file")
    parser.add_argument("--store", required=True, help="the job's store: file:///... or s3://...")
    parser.add_argument("--workdir", required=True, type=Path, help="where steps hand over")
    parser.add_argument(
        "--edge", type=Path, help="what clients keep on this node from round to round"
    )
    parser.add_argument("--node", type=Path, help="what outlives the job on this node")
    parser.add_argument("--client", help="id of the client, for steps of a client")
    parser.add_argument("--group", help="name of the group, for what runs all steps of one")
    parser.add_argument("--task", help="name of the task, for steps that a plan has several of")
    parser.add_argument("--library", type=Path, help="where to lay out what lets scripts run")
    return parser.parse_args()


def _request(plan: dict[str, Any], step: str, arguments: argparse.Namespace) -> Request:
    of_step = [task for task in plan["tasks"] if task["step"] == step]
    if arguments.task is not None:
        tasks, key = [task for task in of_step if task["name"] == arguments.task], "name"
    else:
        tasks, key = [task for task in of_step if task["client"] == arguments.client], "client"
        if len(tasks) > 1:
            tasks, key = [], "name"
    if not tasks:
        option, got = (
            ("--task", arguments.task) if key == "name" else ("--client", arguments.client)
        )
        names = sorted(str(task[key]) for task in of_step)
        raise JobError(
            "NoSuchTask",
            f"{option}: got {got!r}, the plan has {step} for: {', '.join(names) or 'nobody'}",
        )
    return Request.of(plan, tasks[0])


def _place(arguments: argparse.Namespace) -> Place:
    work = arguments.workdir.absolute()
    edge = arguments.edge.absolute() if arguments.edge else work / "edge"
    settings = {"store": arguments.store, "patience_seconds": _PATIENCE_SECONDS}
    return Place(connect(settings), work, work, edge, work, work / "logs", node=arguments.node)
