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
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
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


@dataclass(frozen=True)
class Order:
    """A message for a worker.

    Attributes:
        name: what its answer is known by.
        message: a JSON object with `name` as its `id`.
        deadline_seconds: how long it may take once it is begun; None for as long as it likes.
    """

    name: str
    message: bytes
    deadline_seconds: float | None


class WorkerPool:
    """`size` workers; each runs one message at a time and holds the rest of its own.

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

    def send(self, slot: int, orders: Sequence[Order]) -> None:
        """Give a worker orders to run now or next; a dead worker is replaced first."""
        if self._workers[slot].process.poll() is not None and not self._workers[slot].orders:
            self._replace(slot)
        self._workers[slot].take(orders)

    def receive(self, timeout_seconds: float) -> list[Answer]:
        """Give what has been answered, waiting at most `timeout_seconds` for something.

        A worker that died or passed its deadline answers too: Failed, with the reason.
        """
        now = time.monotonic()
        dues = [worker.due - now for worker in self._workers if worker.due is not None]
        ready = self._selector.select(max(0.0, min([timeout_seconds, *dues])))
        answers = [answer for key, _ in ready for answer in self._hear(key.data)]
        return [answer for answer in answers + self._expire() if answer.name]

    def close(self) -> None:
        """End every worker: at once for idle ones, by force for the rest."""
        for worker in self._workers:
            if worker.orders:
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
        worker.send(json.dumps(self._settings).encode() + b"\n")
        self._selector.register(ours, selectors.EVENT_READ, worker)
        return worker

    def _replace(self, slot: int) -> None:
        """Start a new worker in the place of a dead one, with what it had not begun."""
        old = self._workers[slot]
        if old.channel in self._selector.get_map():
            self._selector.unregister(old.channel)
        old.channel.close()
        self._workers[slot] = self._start()
        self._workers[slot].take(old.orders)

    def _hear(self, worker: _Worker) -> list[Answer]:
        try:
            data = worker.channel.recv(_RECEIVE_BYTES)
        except ConnectionError:
            data = b""
        if not data:
            return [self._bury(worker, "WorkerDied")]
        *lines, worker.buffer = (worker.buffer + data).split(b"\n")
        answers = []
        for line in lines:
            heard = json.loads(line)
            worker.finish_order()
            reason, message = heard.get("reason", ""), heard.get("message", "")
            answers.append(Answer(heard["id"], heard["state"], reason, message))
        return answers

    def _bury(self, worker: _Worker, reason: str, message: str = "") -> Answer:
        """A worker is dead: say so for the order it was at; another takes over what it held besides.

        An idle one is replaced by the next order, not here: a worker that cannot start would be
        started for ever.
        """
        code = worker.process.wait()
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        hint = "; the kernel kills so when memory runs out" if code == -signal.SIGKILL else ""
        if not worker.orders:
            self._selector.unregister(worker.channel)
            return Answer("", "Failed", reason, how)
        order = worker.finish_order()
        self._replace(self._workers.index(worker))
        return Answer(order.name, "Failed", reason, message or f"its worker ended with {how}{hint}")

    def _expire(self) -> list[Answer]:
        now, answers = time.monotonic(), []
        for worker in list(self._workers):
            if worker.due is not None and worker.due <= now:
                worker.kill()
                message = (
                    f"no answer within {worker.orders[0].deadline_seconds:g} s "
                    "(spec.participation.deadlineSeconds)"
                )
                answers.append(self._bury(worker, "DeadlineExceeded", message))
        return answers


class _Worker:
    """One process, its channel, and its orders: the first is being run, the rest wait."""

    def __init__(self, process: subprocess.Popen[bytes], channel: socket.socket) -> None:
        self.process = process
        self.channel = channel
        self.buffer = b""
        self.orders: deque[Order] = deque()
        self.due: float | None = None

    def take(self, orders: Iterable[Order]) -> None:
        is_idle = not self.orders
        new = list(orders)
        self.orders.extend(new)
        if is_idle:
            self._begin()
        self.send(b"".join(order.message + b"\n" for order in new))

    def finish_order(self) -> Order:
        order = self.orders.popleft()
        self._begin()
        return order

    def send(self, line: bytes) -> None:
        try:
            self.channel.sendall(line)
        except OSError:
            return  # it is dead: the next receive() hears the end of its channel and says so

    def kill(self) -> None:
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return

    def _begin(self) -> None:
        """The clock of the first order starts now."""
        self.due = None
        if self.orders and self.orders[0].deadline_seconds is not None:
            self.due = time.monotonic() + self.orders[0].deadline_seconds


def available_cores() -> int:
    """Cores this process may use: what `--parallel` is by default."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
