"""Run a user's program as a child process: bounded, logged, and never trusted."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from components.library import compat_folder
from fedloom.errors import UpdateError

_LOG_TAIL_BYTES = 4096


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent dies (Linux; elsewhere nothing happens)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL)


def run_program(
    command: Sequence[str], environment: Mapping[str, str], folder: Path, log: Path
) -> None:
    """Run `command` in `folder` with exactly `environment` and wait for it.

    Output goes to `log`, whatever bytes it is. The deadline is the caller's: it kills the process
    group. Raises UpdateError("ScriptFailed") with the end of the log when the program cannot be
    started or ends with another exit code than 0.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        started_at = output.tell()
        try:
            process = subprocess.Popen(
                list(command),
                cwd=folder,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                preexec_fn=die_with_parent,  # noqa: PLW1509  the worker has one thread
            )
        except OSError as error:
            raise UpdateError(
                "ScriptFailed", f"{command[0]!r} cannot be started: {error.strerror or error}"
            ) from error
        code = process.wait()
    if code != 0:
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        raise UpdateError(
            "ScriptFailed", f"{command[0]} ended with {how}{tail_of(log, started_at)}"
        )


def tail_of(log: Path, start: int) -> str:
    """Give the last line that `log` got after `start`, for a message; binary output is named as such."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(start, size - _LOG_TAIL_BYTES))
            data = file.read()
    except OSError:
        return ""
    lines = [line for line in data.decode("utf-8", "replace").splitlines() if line.strip()]
    if not lines:
        return " and printed nothing"
    last = lines[-1].strip()[:300]
    if sum(not c.isprintable() or c == "\ufffd" for c in last) > len(last) // 4:
        return f" and printed {len(data)} bytes that are not text (see {log.name})"
    return f": {last}"


def module_path(environment: Mapping[str, str]) -> str:
    """PYTHONPATH for a user's program: what lets scripts of other frameworks run, then what was there."""
    folder = compat_folder()
    ours = "" if folder is None else str(folder)
    return os.pathsep.join(filter(None, (ours, environment.get("PYTHONPATH", ""))))


def search_path(environment: Mapping[str, str]) -> str:
    """PATH for a user's program: `python` is the interpreter that runs Fedloom, then what was there."""
    here = str(Path(sys.executable).parent)
    return os.pathsep.join(filter(None, (here, environment.get("PATH", os.defpath))))
