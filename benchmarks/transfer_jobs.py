"""Whole jobs through `fedloom run`: example 09, with other words in `spec.transfer`.

The probe of each is compared with the same figures taken here, from the exact models: what the jobs
say of a source is what its model really does on the clients' data.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import transfer_case as case
from peers.digits import Images, Model
from transfer_markdown import Rows, Verdict, markdown

from fedloom.algorithms.transfer.answers import Probe
from fedloom.algorithms.transfer.decision import SCRATCH, choose
from fedloom.artifacts.arrays import load_arrays

EXAMPLE = Path(__file__).resolve().parents[1] / "examples/09-small-sample-transfer"
ROUNDS = 50
GOOD, BAD = "digits-clean", "digits-shifted"
_OF_BENCHMARK = {
    "hidden.weight": "w1",
    "hidden.bias": "b1",
    "output.weight": "w2",
    "output.bias": "b2",
}
_BAD_HEADS = f"{{mode: auto, probe: heads, from: [{{job: {BAD}}}]}}"
WAYS = (  # samples per class, words in spec.transfer
    (2, ""),
    (2, f"{{mode: warmStart, from: [{{job: {GOOD}}}]}}"),
    (2, f"{{mode: warmStart, from: [{{job: {BAD}}}]}}"),
    (2, f"{{mode: body, from: [{{job: {BAD}}}]}}"),
    (2, f"{{mode: auto, from: [{{job: {BAD}}}, {{job: {GOOD}}}]}}"),
    (2, f"{{mode: auto, from: [{{job: {BAD}}}]}}"),
    (2, _BAD_HEADS),
    (10, ""),
    (10, _BAD_HEADS),
)


def measure_jobs(seeds: int) -> Rows:
    """Run every way once: a job has the seed of its file, whatever `seeds` says."""
    with TemporaryDirectory() as temporary:
        folder = Path(temporary) / "example"
        made = shutil.ignore_patterns("data", "output", ".fedloom", "__pycache__", "compiled")
        shutil.copytree(EXAMPLE, folder, ignore=made)
        _prepare(folder, WAYS[0][0])
        models = {f"job/{name}": _source(folder, name) for name in (GOOD, BAD)}
        rows = []
        for number, (per_class, words) in enumerate(WAYS):
            _prepare(folder, per_class)
            exact = {SCRATCH, *(name for name in models if name[4:] in words)}
            here = case.probe_full(models, _clients(folder))
            losses = {name: here[name] for name in exact}
            kinds = {name: SCRATCH if name == SCRATCH else "full" for name in exact}
            row = _compared(
                _run(folder, _changed(folder, words, number), f"way-{number}"), losses, kinds
            )
            rows.append({"per_class": per_class, "transfer": words or "none", **row})
    return rows


def _compared(
    found: dict[str, Any], probes: Mapping[str, Mapping[str, Probe]], kinds: Mapping[str, str]
) -> dict[str, Any]:
    """Add what the exact models would have been chosen by, and how far the job's losses are from theirs."""
    here = choose(probes, kinds)
    losses = {score.candidate: score.loss for score in here.scores}
    told = {each["candidate"]: each["loss"] for each in found.pop("scores")}
    gaps = [abs(losses[name] - told[name]) for name in losses.keys() & told.keys()]
    has_bodies = any("#body" in name for name in told)
    expected = here.candidate if told and not has_bodies else None
    return {**found, "gap": max(gaps, default=None), "expected": expected}


def _prepare(folder: Path, per_class: int) -> None:
    """Make the example's data with as many samples of each digit."""
    script = folder / "prepare.py"
    text, count = re.subn(r"(PER_CLASS = 900, 360,) \d+", rf"\1 {per_class}", script.read_text())
    if count != 1:
        raise SystemExit("prepare.py: got no PER_CLASS = 900, 360, ..., expected it once")
    script.write_text(text)
    subprocess.run([sys.executable, script.name], cwd=folder, check=True)


def _source(folder: Path, name: str) -> Model:
    """Run a source's job; give its final model under this benchmark's names."""
    _run(folder, folder / f"{name.removeprefix('digits-')}.yaml", name)
    file = next((folder / "data").glob(f"{name}.safetensors"))
    arrays, _ = load_arrays(file)
    return {_OF_BENCHMARK[each]: array for each, array in arrays.items()}


def _clients(folder: Path) -> list[Images]:
    files = sorted((folder / "data").glob("worn-[0-9]*.npz"))
    return [Images(data["x"], data["y"]) for data in map(np.load, files)]


def _changed(folder: Path, words: str, number: int) -> Path:
    """Write the example's job with other words in spec.transfer."""
    text = (folder / "job.yaml").read_text()
    text = re.sub(
        r"^  transfer:\n(?: {4}.*\n)+", f"  transfer: {words}\n" if words else "", text, flags=re.M
    )
    text = re.sub(r"rounds: \d+", f"rounds: {ROUNDS}", text)
    file = folder / f"way-{number}.yaml"
    file.write_text(text)
    return file


def _run(folder: Path, file: Path, state: str) -> dict[str, Any]:
    """Run a job; give what it told of its beginning and its end."""
    command = [sys.executable, "-m", "cli.main", "run", "-f", file.name, "-o", "json"]
    started = time.perf_counter()
    where = ["--state", f".fedloom/default/{state}"]
    done = subprocess.run(
        [*command, *where], cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{file.name}: {done.stderr or done.stdout}")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    begun = next((event for event in events if event["event"] == "transfer"), {})
    return {
        "choice": begun.get("choice", ""),
        "message": begun.get("message", ""),
        "scores": begun.get("scores", ()),
        "accuracy": events[-1]["metrics"]["accuracy"],
        "seconds": round(time.perf_counter() - started, 1),
    }


def render_jobs(rows: Rows) -> str:
    lines = [
        [
            str(row["per_class"]),
            f"`{row['transfer']}`" if row["transfer"] != "none" else "none",
            f"**{row['accuracy']:.3f}**",
            row["choice"],
            row["message"],
        ]
        for row in rows
    ]
    head = ["per class", "`transfer`", "accuracy", "begins with", "what the job says"]
    return markdown(head, lines)


def judge_jobs(rows: Rows) -> list[Verdict]:
    reached = {(row["per_class"], row["transfer"]): row["accuracy"] for row in rows}
    none, best, worst, auto, alone = (
        reached[WAYS[n][0], WAYS[n][1] or "none"] for n in (0, 1, 2, 4, 5)
    )
    probed = [row for row in rows if row["expected"] is not None]
    gap = max(row["gap"] for row in rows if row["gap"] is not None)
    many = reached[10, _BAD_HEADS] - reached[10, "none"]
    return [
        Verdict(
            all(row["choice"] == row["expected"] for row in probed),
            "jobs choose what the exact models' losses say",
        ),
        Verdict(gap <= 0.1, f"losses that jobs tell are within {gap:.3f} of the exact models'"),
        Verdict(auto >= max(none + 0.25, best - 0.02), f"auto lifts the job by {auto - none:+.3f}"),
        Verdict(
            alone >= none - 0.03,
            f"and leaves it at {alone - none:+.3f} where the only source does harm (warm start: "
            f"{worst - none:+.3f})",
        ),
        Verdict(many >= -0.03, f"with 10 per class heads tell what its body is worth: {many:+.3f}"),
    ]
