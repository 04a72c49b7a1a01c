"""docs/tutorial.md does what it says: its commands run with its files, and print what stands below them."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

TUTORIAL = Path(__file__).resolve().parents[1] / "docs/tutorial.md"
BLOCK = re.compile(
    r"(?:^`(?P<file>[\w.]+)`:\n\n)?^```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.M | re.S
)
PROGRAMS = {"python": [sys.executable], "fedloom": [sys.executable, "-m", "cli.main"]}
ROUNDING = 0.02
"""How far a measurement may be off on another processor."""


def test_its_files_and_commands_do_what_it_says(tmp_path):
    seen = {"files": 0, "edits": 0, "commands": 0, "outputs": 0}
    job, before, said, end = tmp_path / "job.yaml", "", "", 0
    page = TUTORIAL.read_text()
    for block in BLOCK.finditer(page):
        text, kind = block["text"], block["kind"]
        if "Take that line out again." in page[end : block.start()]:
            job.write_text(before)
        end = block.end()
        if block["file"]:
            (tmp_path / block["file"]).write_text(text)
            seen["files"] += 1
        elif kind == "yaml":
            before = job.read_text()
            job.write_text(with_lines_below_spec(before, text))
            seen["edits"] += 1
        elif kind == "sh":
            said = "".join(run(line, tmp_path) for line in text.splitlines())
            seen["commands"] += len(text.splitlines())
        elif kind == "":
            assert_printed(text, said)
            seen["outputs"] += 1
    assert seen == {"files": 5, "edits": 3, "commands": 12, "outputs": 7}
    assert yaml.safe_load(said)["kind"] == "Workflow"


def with_lines_below_spec(job: str, text: str) -> str:
    """Do by program what a reader does by hand."""
    head, added = text.split("\n", 1)
    assert head == "spec:"
    before, rest = job.split("\nspec:\n", 1)
    return f"{before}\nspec:\n{added}{rest}"


def run(line: str, folder: Path) -> str:
    program, *arguments = shlex.split(line)
    done = subprocess.run(
        [*PROGRAMS[program], *arguments],
        cwd=folder,
        env={k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    # What fails is what the page shows failing: its error is looked for below.
    assert done.returncode == 0 or done.stderr.startswith("error: "), done.stderr
    return done.stdout + done.stderr


def assert_printed(expected: str, said: str) -> None:
    """Every line is there, in this order; `...` is anything, and so are seconds."""
    rest = said.splitlines()
    for line in expected.splitlines():
        if line == "...":
            continue
        pattern = re.escape(re.sub(r"\d+\.\d+ s$", "... s", line)).replace(r"\.\.\.", ".*")
        pattern = re.sub(r"(accuracy|right:)\\ +[\d\\.]+", r"\1 +([0-9.]+)", pattern)
        while rest and not (found := re.fullmatch(pattern, rest[0])):
            rest.pop(0)
        assert rest, f"expected {line!r} in:\n{said}"
        rest.pop(0)
        if found.groups():
            wanted = re.search(r"(?:accuracy|right:) +([\d.]+)", line)
            assert float(found[1]) == pytest.approx(float(wanted[1]), abs=ROUNDING)


def test_a_line_that_is_not_printed_is_noticed():
    with pytest.raises(AssertionError, match="expected 'b'"):
        assert_printed("a\n...\nb\n", "a\nc\n")
    with pytest.raises(AssertionError):
        assert_printed("accuracy 0.9\n", "accuracy 0.8\n")
    assert_printed(
        "round  1/10  accuracy 0.8430  0.1 s\n", "x\nround  1/10  accuracy 0.8431  0.333 s\n"
    )
