"""A warm worker of the embedded engine: `python -I -m components.worker --channel FD`.

It reads one JSON object per line from the channel, runs the group of steps that it names, and answers
with one line. Scripts stay loaded between rounds. Whatever a script prints goes to its client's log,
never into the channel. The worker ends with its parent.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import socket
import sys
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.connection import connect, key_variables
from components.program import die_with_parent, tail_of
from components.request import Place, Request
from components.sequence import run_group
from components.user_code import UserCode
from fedloom.errors import FedloomError, JobError

_RECEIVE_BYTES = 1 << 18
_ANSWER_SECONDS = 0.02


def main() -> None:
    parser = argparse.ArgumentParser(prog="components.worker", description=__doc__)
    parser.add_argument("--channel", type=int, required=True, help="file descriptor of the socket")
    channel = socket.socket(fileno=parser.parse_args().channel)
    die_with_parent()
    sys.path.extend(
        filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    )  # -I left it out
    serve(channel)


def serve(channel: socket.socket) -> None:
    """Answer requests until the other end closes.

    Answers wait while requests do, for a moment at most: every one that is sent wakes the other end, and
    on a machine whose cores are all at work that takes time from a worker.
    """
    requests = _Lines(channel)
    place = _place(json.loads(next(requests)))
    os.chdir(place.base)
    code, output = UserCode(), _Output(place.logs)
    answers: list[bytes] = []
    sent = time.monotonic()
    for line in requests:
        answer = _answer(json.loads(line), place, code, output)
        answers.append(json.dumps(answer).encode() + b"\n")
        if not requests.is_waiting() or time.monotonic() - sent > _ANSWER_SECONDS:
            channel.sendall(b"".join(answers))
            answers.clear()
            sent = time.monotonic()


class _Lines:
    """The lines that come from a socket."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._lines: deque[bytes] = deque()
        self._rest = b""

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> bytes:
        while not self._lines:
            if not self._receive():
                raise StopIteration
        return self._lines.popleft()

    def is_waiting(self) -> bool:
        """Say whether a whole line is there already."""
        while not self._lines and select.select([self._channel], [], [], 0)[0]:
            if not self._receive():
                return False
        return bool(self._lines)

    def _receive(self) -> bool:
        data = self._channel.recv(_RECEIVE_BYTES)
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._lines.extend(lines)
        return bool(data)


def _place(settings: Mapping[str, Any]) -> Place:
    names = ("work", "memory", "edge", "base", "logs")
    work, memory, edge, base, logs = (Path(settings[name]) for name in names)
    node = Path(settings["node"]) if "node" in settings else None
    keys = key_variables(settings)
    return Place(connect(settings), work, memory, edge, base, logs, keys, node)


def _answer(
    message: Mapping[str, Any], place: Place, code: UserCode, output: _Output
) -> dict[str, Any]:
    tasks = message["tasks"]
    requests = {task["step"]: Request.of(message["plan"], task) for task in tasks}
    log, start = output.redirect(tasks[0]["client"] or "server")
    answer: dict[str, Any] = {"id": message["id"], "state": "Succeeded"}
    try:
        run_group(requests, place, code, message["failures"])
    except FedloomError as error:
        reason = error.reason if isinstance(error, JobError) else type(error).__name__
        text = error.message if isinstance(error, JobError) else str(error)
        answer |= {"state": "Failed", "reason": reason.removesuffix("Error"), "message": text}
    except MemoryError:
        answer |= {
            "state": "Failed",
            "reason": "OutOfMemory",
            "message": f"no memory left{tail_of(log, start)}",
        }
    sys.stdout.flush()
    return answer


class _Output:
    """Where standard output and error of this process go: the log of the client at hand."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._open: dict[str, tuple[Path, int]] = {}

    def redirect(self, client: str) -> tuple[Path, int]:
        if client not in self._open:
            path = self._folder / f"{client}.log"
            self._open[client] = path, os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        path, descriptor = self._open[client]
        for standard in (1, 2):
            os.dup2(descriptor, standard)
        return path, os.fstat(1).st_size


if __name__ == "__main__":
    main()
