"""`fedloom report`: one self-contained HTML page about the run in a state folder."""

from __future__ import annotations

import time
from pathlib import Path

from cli.report_page.headline import rounds_done
from cli.report_page.page import page
from cli.report_page.reading import read_run
from cli.report_page.wording import plural
from fedloom.artifacts.files import NewFile
from fedloom.errors import JobError


def write_report(state: Path, output: Path) -> str:
    """Write the page, whole or not at all; give a line for the terminal.

    Raises StateError where `state` is not the state folder of a run, JobError where its artifacts
    cannot be read or the page cannot be written.
    """
    run = read_run(state)
    output = output.absolute()
    if output.is_dir():
        raise JobError("OutputUnwritable", f"{output} is a folder, expected the name of a file")
    if not output.parent.is_dir():
        raise JobError(
            "OutputUnwritable", f"{output}: there is no folder {output.parent}; make it first"
        )
    data = page(run, time.time()).encode()
    with NewFile(str(output), len(data)) as file:
        file.write(data)
        file.publish(replace=True)
    found = f"{output}: {rounds_done(run)} of {plural(run.job.rounds, 'round')}"
    return "\n".join([found, *(f"warning: {words}" for words in run.damage)])
