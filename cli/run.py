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
from fedloom.api.documents import read_documents
from fedloom.api.validation import job_to_run
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
    """Run the job; give the exit code: 0 only when it is complete."""
    documents = on_this_machine(read_documents(files), options.root, _images())
    job = job_to_run(documents)
    order = Order(
        documents=documents,
        job=job,
        state=options.state or default_state(job),
        parallel=options.parallel or available_cores(),
        tracking_uri=tracking_uri_of(),
    )
    with open_screen(options.output, job) as screen:
        decision = run_embedded(order, screen.show)
    return 0 if decision.phase == "Succeeded" else 1


def _images() -> Images:
    variable = "FEDLOOM_IMAGES"
    try:
        return read_images(os.environ.get(variable, ""))
    except ValueError as error:
        raise InvalidJobError([Problem(variable, str(error))]) from None
