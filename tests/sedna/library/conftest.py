"""Run scripts as Fedloom runs them: child processes with FEDLOOM_* set and `compat` first on the path."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedloom.artifacts.arrays import dump_arrays, load_arrays

SCRIPTS = Path(__file__).parent.parent / "scripts"
COMPAT = Path(importlib.util.find_spec("compat").origin).parent
TIMEOUT_SECONDS = 60


@dataclass
class Finished:
    """What a child process left behind."""

    code: int
    output: str
    folder: Path

    @property
    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        return load_arrays(self.folder / "update.safetensors")[0]

    @property
    def result(self) -> Any:
        return json.loads((self.folder / "result.json").read_bytes())

    @property
    def left(self) -> list[str]:
        return sorted(p.name for p in self.folder.iterdir() if p.name not in GIVEN)

    @property
    def last_line(self) -> str:
        return self.output.strip().splitlines()[-1]


# Command, environment, folder -> exit code and output.
Execute = Callable[[list[str], Mapping[str, str], Path], tuple[int, str]]
GIVEN = ("model.safetensors", "updates", "script.py")


class Runner:
    """Runs scripts, each task in a new folder."""

    def __init__(self, folder: Path, execute: Execute | None = None) -> None:
        self.folder = folder
        self.python = sys.executable
        self.execute = execute or self._execute
        self.runs = 0

    def __call__(
        self,
        script: Path | str,
        task: str | None,
        *arguments: str,
        model: Mapping[str, np.ndarray[Any, Any]] | None = None,
        updates: list[tuple[str, int, Mapping[str, np.ndarray[Any, Any]]]] | None = None,
        **variables: str,
    ) -> Finished:
        self.runs += 1
        folder = self.folder / f"run-{self.runs}"
        folder.mkdir()
        if isinstance(script, str):
            (folder / "script.py").write_text(script)
            script = folder / "script.py"
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{COMPAT}{os.pathsep}{SCRIPTS}"}
        environment |= {"FEDLOOM_RESULT": str(folder / "result.json"), "OMP_NUM_THREADS": "1"}
        environment |= {"FEDLOOM_UPDATE": str(folder / "update.safetensors")}
        environment |= {"FEDLOOM_ROUND": "1", "FEDLOOM_ROUNDS": "3", "FEDLOOM_SEED": "7"}
        if task is not None:
            environment["FEDLOOM_TASK"] = task
        if model is not None:
            (folder / "model.safetensors").write_bytes(dump_arrays(model))
            environment["FEDLOOM_MODEL"] = str(folder / "model.safetensors")
        if updates is not None:
            environment["FEDLOOM_UPDATES"] = str(_write_updates(folder / "updates", updates))
        code, output = self.execute([str(script), *arguments], environment | variables, folder)
        return Finished(code, output, folder)

    def _execute(
        self, command: list[str], environment: Mapping[str, str], folder: Path
    ) -> tuple[int, str]:
        done = subprocess.run(
            [self.python, *command],
            env=environment,
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
        return done.returncode, done.stdout


def _write_updates(folder: Path, updates: list[tuple[str, int, Any]]) -> Path:
    folder.mkdir()
    entries = []
    for name, examples, arrays in updates:
        (folder / f"{name}.safetensors").write_bytes(dump_arrays(arrays))
        entries.append({"name": name, "num_examples": examples, "path": f"{name}.safetensors"})
    (folder / "clients.json").write_text(json.dumps(entries))
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Runner:
    return Runner(tmp_path)


@pytest.fixture(scope="session")
def warm_torch(tmp_path_factory) -> Iterator[Execute]:
    """Run scripts that begin by loading torch, where it is loaded already; see `warm`."""
    folder = tmp_path_factory.mktemp("warm")
    process = subprocess.Popen(
        [sys.executable, "-c", "import warm; warm.serve()"],
        env={"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None

    def execute(command: list[str], environment: Mapping[str, str], place: Path) -> tuple[int, str]:
        output = folder / "output"
        request = {"command": command, "environment": dict(environment), "folder": str(place)}
        request |= {"output": str(output), "seconds": TIMEOUT_SECONDS}
        process.stdin.write(f"{json.dumps(request)}\n")
        process.stdin.flush()
        return int(process.stdout.readline()), output.read_text()

    yield execute
    process.stdin.close()
    process.wait(TIMEOUT_SECONDS)
    process.stdout.close()


@pytest.fixture(scope="session")
def new_runner(tmp_path_factory):
    """Make runners for fixtures that live longer than a test."""
    return lambda execute=None: Runner(tmp_path_factory.mktemp("runs"), execute)


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> tuple[list[str], str]:
    """Index files: of two clients, and of the test."""
    spec = importlib.util.spec_from_file_location("make_data", SCRIPTS / "make_data.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.write_clients(tmp_path_factory.mktemp("data"))
