"""The loop over rounds as two tasks of a Kubeflow pipeline, for a job that is one pipeline from end to end:

    python -I -m controller.kfp_steps start --job YAML --store URI ...   its place, the plan of round 0
    python -I -m controller.kfp_steps plan --run RUN --store URI ...     what `decide` says is next

`plan` gives the parameter `Output`: `yes` where there is another round, whose plan then lies in the
store, `no` where the job is done. It is the controller's own decision, made from the store alone.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from components.kfp_output import ExecutorOutput
from components.kfp_told import JOB_FILE, add_arguments, open_keyed, open_run
from controller.decide import Decision, decide
from controller.observer import Observer
from fedloom.api.documents import Documents, read_documents
from fedloom.api.job import FederatedLearningJob
from fedloom.api.lookup import datasets_of, models_of
from fedloom.api.validation import job_to_run
from fedloom.artifacts import layout
from fedloom.artifacts.store import Store
from fedloom.errors import FedloomError, JobError
from pipelines.rounds import RoundPlanner

GO_ON, RUN = "Output", "run"


class _NoEngine:
    """Between two rounds nothing runs: the store says all there is to know."""

    def status(self) -> None:
        return None


def start(arguments: argparse.Namespace) -> tuple[dict[str, str], str]:
    """Give a job a place of its own in the store, and plan its round 0; the parameter `run`."""
    uid = str(uuid.uuid4())
    meta = job_to_run(_read(arguments.job)).metadata
    prefix = layout.job_prefix(meta.namespace, meta.name, uid)
    above = str(arguments.store).rstrip("/")
    store = open_keyed(f"{above}/{prefix}", arguments.endpoint, arguments.keys)
    kept = {"uid": uid, "documents": arguments.job}
    store.put(JOB_FILE, json.dumps(kept).encode(), replace=True)
    decision = _planned(store)
    return {RUN: prefix}, decision.message


def plan(arguments: argparse.Namespace) -> tuple[dict[str, str], str]:
    """Plan the next round, where there is one; the parameter `Output`. Raises JobError where it failed."""
    decision = _planned(open_run(arguments))
    if decision.phase == "Failed":
        raise JobError(decision.reason, decision.message)
    return {GO_ON: "no" if decision.is_final else "yes"}, decision.message


def _planned(store: Store) -> Decision:
    """Decide, and store the plan of the attempt that is to start."""
    job, documents = _job_in(store)
    observer = Observer(store, _NoEngine())  # type: ignore[arg-type]
    observer.recover()
    decision = decide(job, observer.observe(), time.time())
    if decision.start is not None:
        planner = RoundPlanner(job, datasets_of(documents, job), models_of(documents, job))
        made = planner.plan(decision.start)
        store.put(layout.plan_key(made.round, made.attempt), made.to_json(), replace=True)
    return decision


def _job_in(store: Store) -> tuple[FederatedLearningJob, Documents]:
    kept: dict[str, str] = json.loads(store.get(JOB_FILE))
    documents = _read(kept["documents"])
    job = job_to_run(documents)
    return replace(job, metadata=replace(job.metadata, uid=kept["uid"])), documents


def _read(text: str) -> Documents:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "job.yaml")
        path.write_text(text, encoding="utf-8")
        return read_documents([path])


def main(given: Sequence[str] | None = None) -> NoReturn:
    """Do one of the two, tell the pipeline, exit."""
    parser = argparse.ArgumentParser(prog="controller.kfp_steps")
    parser.add_argument("step", choices=("start", "plan"))
    parser.add_argument("--job", default="", help="the job and what it refers to, YAML or JSON")
    parser.add_argument("--executor-input", default="", help="{{$}}")
    add_arguments(parser)
    arguments = parser.parse_args(given)
    try:
        outputs = ExecutorOutput(arguments.executor_input)
        values, message = start(arguments) if arguments.step == "start" else plan(arguments)
    except (FedloomError, OSError, ValueError) as error:
        reason = error.reason if isinstance(error, JobError) else type(error).__name__
        print(json.dumps({"state": "Failed", "reason": reason, "message": str(error)}), flush=True)
        sys.exit(1)
    for name, value in values.items():
        outputs.give(name, value)
    outputs.write()
    print(json.dumps({"state": "Succeeded", **values, "message": message}), flush=True)
    sys.exit(0)


if __name__ == "__main__":
    main()
