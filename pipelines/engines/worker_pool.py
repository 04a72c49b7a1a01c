"""Warm worker processes: started once, asked over a socket, replaced when they die.

No pickle: every message is one JSON object per line. A worker leads its own process group, so that killing
it takes the user's programs along, and a terminal's Ctrl-C reaches only the parent.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_RECEIVE_BYTES = 1 << 16
_GOODBYE_SECONDS = 2.0


@dataclass(frozen=True)
class Answer:
    """What came of one message: `name` as sent, `state` Succeeded or Failed, and why."""

    name: str
    state: str
    reason: str = ""
    message: str = ""


class WorkerPool:
    """`size` workers; each runs one message at a time.

    `settings` is the first line every worker reads: where the store, scratch and logs are.
    """

    def __init__(self, size: int, settings: Mapping[str, Any]) -> None:
        Path(settings["logs"]).mkdir(parents=True, exist_ok=True)
        self._settings = settings
        self._threads = str(max(1, available_cores() // size))
        self._selector = selectors.DefaultSelector()
        self._workers = [self._start() for _ in range(size)]

    def __len__(self) -> int:
        return len(self._workers)

    def is_idle(self, slot: int) -> bool:
        return self._workers[slot].name is None

    def send(
        self, slot: int, name: str, message: Mapping[str, Any], deadline_seconds: float | None
    ) -> None:
        """Give an idle worker its next message; a dead one is replaced first."""
        worker = self._workers[slot]
        if worker.process.poll() is not None:
            worker = self._replace(slot)
        worker.name = name
        worker.deadline_seconds = deadline_seconds
        worker.due = None if deadline_seconds is None else time.monotonic() + deadline_seconds
        worker.send({"id": name, **message})

    def receive(self, timeout_seconds: float) -> list[Answer]:
        """Give what has been answered, waiting at most `timeout_seconds` for something.

        A worker that died or passed its deadline answers too: Failed, with the reason.
        """
        now = time.monotonic()
        dues = [worker.due - now for worker in self._workers if worker.due is not None]
        ready = self._selector.select(max(0.0, min([timeout_seconds, *dues])))
        answers = [answer for key, _ in ready for answer in self._hear(key.data)]
        return answers + self._expire()

    def close(self) -> None:
        """End every worker: at once for idle ones, by force for the rest."""
        for worker in self._workers:
            if worker.name is not None:
                worker.kill()
            worker.channel.close()
        for worker in self._workers:
            try:
                worker.process.wait(_GOODBYE_SECONDS)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.process.wait()
        self._selector.close()
        self._workers = []

    def _start(self) -> _Worker:
        ours, theirs = socket.socketpair()
        environment = dict.fromkeys(_THREAD_VARIABLES, self._threads) | os.environ
        command = [sys.executable, "-I", "-m", "components.worker"]
        with Path(self._settings["logs"], "workers.log").open("ab") as log:
            process = subprocess.Popen(
                [*command, "--channel", str(theirs.fileno())],
                env=environment,
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        theirs.close()
        worker = _Worker(process, ours)
        worker.send(self._settings)
        self._selector.register(ours, selectors.EVENT_READ, worker)
        return worker

    def _replace(self, slot: int) -> _Worker:
        old = self._workers[slot]
        if old.channel in self._selector.get_map():
            self._selector.unregister(old.channel)
        old.channel.close()
        self._workers[slot] = self._start()
        return self._workers[slot]

    def _hear(self, worker: _Worker) -> list[Answer]:
        try:
            data = worker.channel.recv(_RECEIVE_BYTES)
        except ConnectionError:
            data = b""
        if not data:
            return self._bury(worker)
        worker.buffer += data
        if not worker.buffer.endswith(b"\n"):
            return []
        heard, worker.buffer = json.loads(worker.buffer), b""
        worker.rest()
        return [
            Answer(heard["id"], heard["state"], heard.get("reason", ""), heard.get("message", ""))
        ]

    def _bury(self, worker: _Worker) -> list[Answer]:
        """A worker's channel closed: it died. Say so for the message it had.

        The next message replaces it, not this: a worker that cannot start would be started for ever.
        """
        code = worker.process.wait()
        self._selector.unregister(worker.channel)
        name = worker.name
        worker.rest()
        if name is None:
            return []
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        hint = "; the kernel kills so when memory runs out" if code == -signal.SIGKILL else ""
        return [Answer(name, "Failed", "WorkerDied", f"its worker ended with {how}{hint}")]

    def _expire(self) -> list[Answer]:
        now, answers = time.monotonic(), []
        for worker in self._workers:
            if worker.name is not None and worker.due is not None and worker.due <= now:
                worker.kill()
                message = (
                    f"no answer within {worker.deadline_seconds:g} s "
                    "(spec.participation.deadlineSeconds)"
                )
                answers.append(Answer(worker.name, "Failed", "DeadlineExceeded", message))
                self._bury(worker)
        return answers


class _Worker:
    """One process, its channel, and what it is doing."""

    def __init__(self, process: subprocess.Popen[bytes], channel: socket.socket) -> None:
        self.process = process
        self.channel = channel
        self.buffer = b""
        self.rest()

    def rest(self) -> None:
        self.name: str | None = None
        self.due: float | None = None
        self.deadline_seconds: float | None = None

    def send(self, message: Mapping[str, Any]) -> None:
        try:
            self.channel.sendall(json.dumps(message).encode() + b"\n")
        except ConnectionError:
            return  # it is dead: the next receive() hears the end of its channel and says so

    def kill(self) -> None:
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return


def available_cores() -> int:
    """Cores this process may use: what `--parallel` is by default."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
