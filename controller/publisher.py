"""The link to the publish step: its own process, told of committed rounds, never waited for in a round.

Two threads keep the pipe moving, because the process needs seconds to load MLflow while rounds take
milliseconds: one writes what is queued, one reads what it says.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

_NICENESS = 10  # rounds come first
_KILL_SECONDS = 5.0


class Publisher:
    """A running publish process.

    `begin` is the first message (see `components.publish`); `on_event` gets each of its answers, on a
    thread of this object.
    """

    def __init__(
        self, begin: Mapping[str, Any], log: Path, on_event: Callable[[dict[str, Any]], None]
    ) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-m", "components.publish"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )
        with contextlib.suppress(ProcessLookupError):
            os.setpriority(os.PRIO_PROCESS, self._process.pid, _NICENESS)
        self._on_event = on_event
        self._outbox: queue.SimpleQueue[Callable[[], bytes] | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=target, daemon=True) for target in (self._write, self._read)
        ]
        for thread in self._threads:
            thread.start()
        self._send({"task": "begin", **begin})

    def publish(self, result: Mapping[str, Any], find_model: Callable[[], Path | None]) -> None:
        """Tell of a committed round; returns at once.

        `find_model` gives the file of its model, if that is wanted; it may take its time.
        """

        def line() -> bytes:
            path = find_model()
            file = None if path is None else str(path)
            return _line({"task": "round", "result": result, "model_file": file})

        self._outbox.put(line)

    def finish(self, status: str, timeout_seconds: float) -> bool:
        """End the run in tracking and wait for the process; False if it did not end in time."""
        self._send({"task": "finish", "status": status})
        self._outbox.put(None)
        try:
            self._process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            self._kill()
            return False
        for thread in self._threads:
            thread.join(_KILL_SECONDS)
        return self._process.returncode == 0

    def abandon(self) -> None:
        """End the process at once; the run in tracking stays open and is found again."""
        self._outbox.put(None)
        self._kill()

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def _send(self, message: Mapping[str, Any]) -> None:
        self._outbox.put(lambda: _line(message))

    def _write(self) -> None:
        assert self._process.stdin is not None
        try:
            while (line := self._outbox.get()) is not None:
                self._process.stdin.write(line())
                if self._outbox.empty():
                    self._process.stdin.flush()
            self._process.stdin.close()
        except OSError:
            return  # the process died; `finish` sees how

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._on_event(json.loads(line))

    def _kill(self) -> None:
        self._process.kill()
        self._process.wait()


def _line(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message).encode() + b"\n"
