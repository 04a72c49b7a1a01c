"""`fedloom run`: from files to a finished job, with a screen that fits what it is written to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cli.screens import open_screen
from controller.embedded.run import Order, run_embedded
from controller.embedded.state import default_state
from controller.embedded.tracking import tracking_uri_of
from fedloom.api.documents import read_documents
from fedloom.api.validation import job_to_run
from pipelines.engines.worker_pool import available_cores


def run_job(files: Sequence[Path], state: Path | None, parallel: int | None, output: str) -> int:
    """Run the job; give the exit code: 0 only when it is complete."""
    documents = read_documents(files)
    job = job_to_run(documents)
    order = Order(
        documents=documents,
        job=job,
        state=state or default_state(job),
        parallel=parallel or available_cores(),
        tracking_uri=tracking_uri_of(),
    )
    with open_screen(output, job) as screen:
        decision = run_embedded(order, screen.show)
    return 0 if decision.phase == "Succeeded" else 1
