"""How each system is started: what it is called, and the command for a number of rounds."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from peers import fedloom_job, flower_environment
from peers.measurement import Command

NUMPY_LOOP = "numpy loop"
FEDLOOM = "fedloom"
FLOWER = "flower"

# Settings of the caller that would make a system run, report or start otherwise.
_FOREIGN = ("FEDLOOM_", "FLWR_", "MLFLOW_", "PYTHON", "RAY_")
_ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}


@dataclass(frozen=True)
class System:
    """A system by name; `command(rounds, scratch)` starts it with an empty folder of its own.

    `memory_rounds`: how long the run is whose memory is looked at.
    """

    name: str
    command: Callable[[int, Path], Command]
    memory_rounds: int = 20


def prepare_data(folder: Path) -> None:
    """Write the clients' files; in a process of its own, for the reason that `data_files` gives."""
    command = [sys.executable, "-m", "peers.digits", str(folder)]
    subprocess.run(command, env=_environment({}), check=True)


def numpy_loop(data: Path) -> System:
    def command(rounds: int, scratch: Path) -> Command:
        arguments = _module(sys.executable, "peers.numpy_loop", data, rounds, scratch)
        return Command(arguments, _environment({}), scratch / "log")

    return System(NUMPY_LOOP, command, memory_rounds=600)


def fedloom(data: Path) -> System:
    """Make the Fedloom of the environment that runs this, with MLflow on SQLite as it comes."""
    program = Path(sys.executable).with_name("fedloom")

    def command(rounds: int, scratch: Path) -> Command:
        job = scratch / "job.yaml"
        fedloom_job.write_job(job, data, rounds)
        state = str(scratch / "state")
        arguments = [str(program), "run", "-f", str(job), "--state", state, "-o", "json"]
        quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
        return Command(arguments, _environment(quiet), scratch / "log")

    return System(FEDLOOM, command)


def flower(data: Path, python: Path) -> System:
    """Make the Flower of the environment whose interpreter is `python`."""

    def command(rounds: int, scratch: Path) -> Command:
        arguments = _module(str(python), "peers.flower_server", data, rounds, scratch)
        home = {"FLWR_HOME": str(scratch / "home")}
        own = flower_environment.QUIET | flower_environment.LOOPBACK_ONLY | home
        return Command(arguments, _environment(own), scratch / "log")

    return System(FLOWER, command)


def _module(python: str, name: str, data: Path, rounds: int, scratch: Path) -> list[str]:
    options = ["--data", str(data), "--rounds", str(rounds), "--scratch", str(scratch)]
    return [python, "-m", name, *options]


def _environment(own: Mapping[str, str]) -> dict[str, str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(_FOREIGN)}
    path = {"PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    return inherited | _ONE_THREAD | path | dict(own)
