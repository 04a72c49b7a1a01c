"""One run of one system, looked at from outside: wall time, time of each round, memory.

Linux only: memory is the proportional set size (PSS: private pages + each shared page divided by
those who share it) of every process the run started, summed, ten times a second. This process makes
itself the reaper of its orphans, so that a daemon which detaches from the run is still found,
counted and ended by its id.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_SAMPLE_SECONDS = 0.1
_DEADLINE_SECONDS = 900
_GRACE_SECONDS = 10
_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class Command:
    """What is started: arguments, the whole environment, and the file that takes its stderr."""

    arguments: Sequence[str]
    environment: Mapping[str, str]
    log: Path


@dataclass(frozen=True)
class Memory:
    """The largest sum of PSS seen, and the largest number of processes seen."""

    peak_bytes: int
    processes: int


@dataclass(frozen=True)
class Run:
    """What was seen of a run.

    Attributes:
        wall_seconds: from starting the process until it had ended.
        round_seconds: per round, from starting the process until the round's line was read.
        metrics: per round, as the system told them.
        finished: what the system told of its end; empty where it tells nothing.
        memory: None where it was not sampled.
    """

    wall_seconds: float
    round_seconds: tuple[float, ...]
    metrics: tuple[Mapping[str, float], ...]
    finished: Mapping[str, Any]
    memory: Memory | None


class RunFailedError(Exception):
    """A system ended with an error, hung, or told other rounds than it was asked for."""


def adopt_orphans() -> None:
    """Make this process the parent of whatever its descendants leave behind. Call once."""
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER) failed")


def run_system(command: Command, rounds: int, *, sample_memory: bool) -> Run:
    """Run a system to its end and leave no process of it behind.

    Raises RunFailedError with the end of the run's stderr.
    """
    with command.log.open("wb") as log:
        started = time.perf_counter()
        process = subprocess.Popen(
            command.arguments,
            env=dict(command.environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
        )
        # A run that hangs is ended whole, so that its output closes and the reader below returns.
        deadline = threading.Timer(_DEADLINE_SECONDS, _send_all, [signal.SIGKILL])
        deadline.start()
        try:
            with _memory_sampled(sample_memory) as samples:
                events = list(_timed_events(process, started))
                status = process.wait()
                wall_seconds = time.perf_counter() - started
        finally:
            deadline.cancel()
            process.kill()
            process.wait()
            end_descendants()
    told = [(seconds, event["metrics"]) for seconds, event in events if event["event"] == "round"]
    if status != 0 or len(told) != rounds:
        raise RunFailedError(_describe(command, status, len(told), rounds))
    memory = Memory(*(max(column) for column in zip(*samples, strict=True))) if samples else None
    finished = next((event for _, event in events if event["event"] == "finished"), {})
    times, metrics = zip(*told, strict=True)
    return Run(wall_seconds, tuple(times), tuple(metrics), finished, memory)


def _timed_events(
    process: subprocess.Popen[bytes], started: float
) -> Iterator[tuple[float, Mapping[str, Any]]]:
    assert process.stdout is not None
    for line in process.stdout:
        seconds = time.perf_counter() - started
        # Ray puts its actors' own output between the lines.
        if line.startswith(b"{"):
            yield seconds, json.loads(line)


def _describe(command: Command, status: int, seen: int, rounds: int) -> str:
    tail = command.log.read_text(errors="replace").splitlines()[-20:]
    headline = f"{' '.join(command.arguments[:4])}: exit status {status}, {seen} of {rounds} rounds"
    return "\n".join([headline, *tail])


@contextmanager
def _memory_sampled(wanted: bool) -> Iterator[list[tuple[int, int]]]:
    samples: list[tuple[int, int]] = []
    if not wanted:
        yield samples
        return
    stop = threading.Event()

    def sample() -> None:
        while not stop.wait(_SAMPLE_SECONDS):
            pids = descendants()
            samples.append((sum(pss_bytes(pid) for pid in pids), len(pids)))

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield samples
    finally:
        stop.set()
        thread.join()


def descendants() -> list[int]:
    """Give the ids of all living processes below this one. Zombies are not living."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        parent = _living_parent(entry) if entry.name.isdigit() else None
        if parent is not None:
            children.setdefault(parent, []).append(int(entry.name))
    found: list[int] = []
    waiting = [os.getpid()]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def _living_parent(entry: Path) -> int | None:
    try:
        text = (entry / "stat").read_text()
    except OSError:
        return None  # It ended between the listing and here.
    # The name stands in parentheses and may hold blanks; state and parent follow the last one.
    state, parent = text[text.rindex(")") + 2 :].split()[:2]
    return None if state in "ZX" else int(parent)


def pss_bytes(pid: int) -> int:
    """Give a process's proportional set size; 0 where it has just ended."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next(int(line.split()[1]) * 1024 for line in text.splitlines() if line[:4] == "Pss:")


def end_descendants() -> None:
    """Wait for what is still there to end, then ask it to, then end it; reap the orphans."""
    for step in (None, signal.SIGTERM, signal.SIGKILL):
        if step is not None:
            _send_all(step)
        until = time.monotonic() + _GRACE_SECONDS
        while descendants() and time.monotonic() < until:
            _reap()
            time.sleep(0.05)
        _reap()
        if not descendants():
            return
    raise RunFailedError(f"processes {descendants()} do not end")


def _send_all(step: signal.Signals) -> None:
    for pid in descendants():
        with suppress(ProcessLookupError):  # It ended by itself.
            os.kill(pid, step)


def _reap() -> None:
    with suppress(ChildProcessError):  # No child is left.
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass
