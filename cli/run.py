"""`fedloom run`: from files to a finished job, with a screen that fits what it is written to."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cli.screens import open_screen
from controller.embedded.run import Order, run_embedded
from controller.embedded.stand_ins import on_this_machine
from controller.embedded.state import default_state
from controller.embedded.tracking import tracking_uri_of
from controller.images import Images, read_images
from fedloom.api.documents import Documents, read_documents
from fedloom.api.job import FederatedLearningJob
from fedloom.api.running_order import jobs_to_run
from fedloom.errors import InvalidJobError, Problem
from pipelines.engines.worker_pool import available_cores


@dataclass(frozen=True)
class Options:
    """Of the command; None is what its help calls the default."""

    state: Path | None = None
    root: Path | None = None
    parallel: int | None = None
    output: str = "table"


def run_job(files: Sequence[Path], options: Options) -> int:
    """Run the job, or jobs that learn from one another; give the exit code: 0 only when all are complete."""
    documents = on_this_machine(read_documents(files), options.root, _images())
    jobs = jobs_to_run(documents)
    phases = [_run(documents, job, options, is_one=len(jobs) == 1) for job in jobs]
    return 0 if all(phase == "Succeeded" for phase in phases) else 1


def _run(documents: Documents, job: FederatedLearningJob, options: Options, *, is_one: bool) -> str:
    """Run one of them: where there are several, each in a folder of its own, and its events name it."""
    name = job.metadata.name
    state = options.state if options.state is None or is_one else options.state / name
    order = Order(
        documents=documents,
        job=job,
        state=state or default_state(job),
        parallel=options.parallel or available_cores(),
        tracking_uri=tracking_uri_of(),
    )
    named = {} if is_one else {"job": name}
    with open_screen(options.output, job) as screen:
        decision = run_embedded(order, lambda event: screen.show({**event, **named}))
    return decision.phase


def _images() -> Images:
    variable = "FEDLOOM_IMAGES"
    try:
        return read_images(os.environ.get(variable, ""))
    except ValueError as error:
        raise InvalidJobError([Problem(variable, str(error))]) from None
