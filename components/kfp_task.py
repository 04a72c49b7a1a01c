"""A group of tasks of a round as one container of a Kubeflow pipeline:

    python -I -m components.kfp_task --plan /fedloom/plan/NAME.json --group client-NAME --client NAME
        --executor-input '{{$}}'

A pod of KFP has one container, so this does what several do elsewhere: it fetches, runs the user's program,
compresses and sends; or it aggregates, lets the user's program evaluate, and commits. It runs in the user's
image, which therefore holds the fedloom library (`FROM fedloom/steps`).

A client's container ends with exit code 0 whatever became of the client: KFP would stop the whole round. Why
a client failed stands in its report, which the server reads, in the task's metrics and in its log.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from components.kfp_output import ExecutorOutput
from components.kfp_told import Told, add_arguments, told
from components.kfp_work import Ended, do, failed, in_process, record_failure
from fedloom.errors import FedloomError, JobError

_TRACKING = {"run_id": "FEDLOOM_TRACKING_RUN_ID", "url": "FEDLOOM_TRACKING_URL"}
"""Names of our own: KFP sets MLFLOW_RUN_ID to a run of the task, which is not the job's."""


def main(given: Sequence[str] | None = None) -> NoReturn:
    """Do the tasks, tell the pipeline, exit."""
    arguments = _parse(given)
    try:
        outputs = ExecutorOutput(arguments.executor_input)
        what = told(arguments)
    except (FedloomError, OSError) as error:
        reason = error.reason if isinstance(error, JobError) else type(error).__name__
        _print(arguments.client, failed(reason, str(error)))
        sys.exit(1)
    if not what.tasks:
        _print(what.client, {"state": "NotAsked"})
        outputs.describe("metrics", {"succeeded": 0, "reason": "NotAsked"})
        outputs.write()
        sys.exit(0)
    with tempfile.TemporaryDirectory(prefix="fedloom-", ignore_cleanup_errors=True) as folder:
        ended = _done(what, arguments, Path(folder))
        _print(what.client, ended)
        if ended["state"] == "Succeeded" or what.may_fail:
            _show(what, ended, outputs)
    sys.exit(0 if ended["state"] == "Succeeded" or what.may_fail else 1)


def _done(what: Told, arguments: argparse.Namespace, folder: Path) -> Ended:
    edge = arguments.edge or folder / "edge"
    base = arguments.base or Path.cwd()
    own = frozenset(arguments.own)
    log = folder / "logs" / f"{what.client or 'server'}.log"

    def work() -> Ended:
        return do(what, folder, edge, base, own)

    return in_process(work, folder, log, what.deadline_seconds)


def _show(what: Told, ended: Ended, outputs: ExecutorOutput) -> None:
    """Fill in what people will see; trouble with that undoes no round."""
    try:
        _tell(what, ended, outputs)
        outputs.write()
    except (FedloomError, OSError) as error:
        print(f"fedloom: the outputs of this task could not be told: {error}", flush=True)


def _tell(what: Told, ended: Ended, outputs: ExecutorOutput) -> None:
    """Fill in what people will see of this task."""
    from components import kfp_page

    if what.client is not None:
        report = ended.get("report")
        if ended["state"] == "Failed":
            report = record_failure(what, ended)
        outputs.describe("metrics", kfp_page.client_metrics(report) if report else {"succeeded": 1})
        return
    key = next((task["outputs"].get("result") for task in what.tasks[-1:]), None)
    if key is not None and ended["state"] == "Succeeded":
        _tell_of_round(what, json.loads(what.store.get(key)), outputs)


def _tell_of_round(what: Told, result: Mapping[str, Any], outputs: ExecutorOutput) -> None:
    from components import kfp_page

    told = {"round": result["round"], "metrics": result["metrics"], "model": result["model"]}
    print(json.dumps(told), flush=True)
    tracking = {key: os.environ.get(name, "") for key, name in _TRACKING.items()}
    outputs.describe("metrics", kfp_page.round_metrics(result))
    page = outputs.path_of("summary")
    if page is not None:
        page.write_text(kfp_page.round_page(result, tracking), encoding="utf-8")
    outputs.describe("model", kfp_page.model_metadata(result, tracking))
    model = outputs.path_of("model")
    if model is not None:
        # KFP takes no artifact of another place than its own: it gets the model's bytes, and its metadata
        # says where the job has them.
        reference = result["model"]
        with tempfile.TemporaryDirectory() as folder:
            found = what.store.materialize(
                reference["key"], Path(folder), digest=reference["digest"]
            )
            shutil.copyfile(found, model)  # a store in a folder gives its very own file


def _parse(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="components.kfp_task")
    add_arguments(parser)
    parser.add_argument("--edge", type=Path, help="what clients keep from round to round")
    parser.add_argument("--base", type=Path, help="the folder where the user's program starts")
    parser.add_argument("--own", action="append", default=[], help="a variable that stays as it is")
    parser.add_argument("--executor-input", default="", help="{{$}}")
    return parser.parse_args(given)


def _print(client: str | None, ended: Mapping[str, Any]) -> None:
    shown = {name: value for name, value in ended.items() if name != "report"}
    print(json.dumps({"client": client, **shown}), flush=True)


if __name__ == "__main__":
    main()
