"""Do a group of tasks in a process of its own, that may take too long, too much memory, or be killed.

It is forked before anything heavy is imported. What its programs print goes to the container's own output as
it comes, so that it is where people look for it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from components.kfp_told import Told
from fedloom.errors import FedloomError, JobError

_POLL_SECONDS = 0.02
_SLOWEST_POLL_SECONDS = 0.25
_BLOCK_BYTES = 1 << 16

Ended = dict[str, Any]
"""How it ended: `state` (Succeeded or Failed), `reason` and `message` of a failure, a client's `report`."""


def in_process(work: Callable[[], Ended], folder: Path, log: Path, seconds: float | None) -> Ended:
    """Call `work` in a child process and give what it returned, or why it did not.

    `log` is copied to standard output while it grows. Reasons: `DeadlineExceeded`, `Killed`.
    """
    answer = folder / "ended.json"
    answer.unlink(missing_ok=True)
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        _be_child(work, answer)
    with _Echo(log) as echo:
        ended = _await(child, echo, seconds)
    if ended is not None:
        return ended
    try:
        found: Ended = json.loads(answer.read_bytes())
    except (OSError, ValueError):
        return failed("Killed", "the process ended without a word; its log may say more")
    return found


def failed(reason: str, message: str) -> Ended:
    """Give the end of what failed."""
    return {"state": "Failed", "reason": reason, "message": message}


def _be_child(work: Callable[[], Ended], answer: Path) -> None:
    """Never return: whatever happens, this is not the process that called."""
    code = 1
    try:
        os.setsid()
        from components.program import die_with_parent

        die_with_parent()
        answer.write_text(json.dumps(_ended(work)), encoding="utf-8")
        code = 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _ended(work: Callable[[], Ended]) -> Ended:
    try:
        return work()
    except JobError as error:
        return failed(error.reason, error.message)
    except FedloomError as error:
        return failed(type(error).__name__.removesuffix("Error"), str(error))
    except MemoryError:
        return failed("OutOfMemory", "no memory left")
    except Exception as error:  # a fault of ours is told like any other, to whoever can see it
        return failed("InternalError", f"{type(error).__name__}: {error}")


def _await(child: int, echo: _Echo, seconds: float | None) -> Ended | None:
    """Wait for the child; give its end only where it could not tell that itself."""
    end = None if seconds is None else time.monotonic() + seconds
    pause = _POLL_SECONDS
    while True:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            break
        if end is not None and time.monotonic() >= end:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return failed("DeadlineExceeded", f"not done {seconds:g} s after it had started")
        pause = _POLL_SECONDS if echo.copy() else min(pause * 1.2, _SLOWEST_POLL_SECONDS)
        time.sleep(pause)
    if os.WIFSIGNALED(status):
        name = signal.Signals(os.WTERMSIG(status)).name
        hint = ": out of memory?" if name == "SIGKILL" else ""
        return failed("Killed", f"the process was ended by {name}{hint}")
    return None


class _Echo:
    """Copies a growing file to standard output."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def __enter__(self) -> _Echo:
        return self

    def __exit__(self, *_: object) -> None:
        self.copy()

    def copy(self) -> bool:
        """Copy what is new; say whether anything was."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                begun = self._offset
                while block := file.read(_BLOCK_BYTES):
                    sys.stdout.buffer.write(block)
                    self._offset += len(block)
        except FileNotFoundError:
            return False
        sys.stdout.flush()
        return self._offset > begun


class ReportKeeper:
    """A store that remembers the report that goes through it, and says in it on which node it was made."""

    def __init__(self, store: Any, key: str | None, node: str | None) -> None:
        self._store = store
        self._key = key
        self._node = node
        self.report: dict[str, Any] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def put(self, key: str, data: bytes, **options: bool) -> Any:
        if key == self._key:
            report: dict[str, Any] = json.loads(data)
            if self._node:
                report["node"] = self._node
            self.report = report
            data = json.dumps(report, sort_keys=True, allow_nan=False).encode()
        return self._store.put(key, data, **options)


def report_key(told: Told) -> str | None:
    """Give where the client's report goes; None for a group that makes none."""
    return next((t["outputs"]["report"] for t in told.tasks if "report" in t["outputs"]), None)


def record_failure(told: Told, ended: Mapping[str, Any]) -> Ended:
    """Tell the server why a client has no update, in the place of its report; give that report."""
    failure = {"reason": str(ended["reason"]), "message": str(ended["message"])}
    report = {"client": told.client, "failure": failure}
    key = report_key(told)
    if key is not None:
        try:
            told.store.put(key, json.dumps(report, sort_keys=True).encode(), replace=True)
        except FedloomError as error:
            print(f"fedloom: the failure could not be recorded: {error}", flush=True)
    return report


def do(told: Told, folder: Path, edge: Path, base: Path, own: frozenset[str]) -> Ended:
    """Do the tasks; `own` are variables of this container that win over those of the plan."""
    from components.kfp_programs import Programs, located
    from components.request import Place, Request
    from components.sequence import run_group

    store = ReportKeeper(told.store, report_key(told), told.tasks[0]["placement"]["node_name"])
    job = told.plan["job"]
    place = Place(
        store=store,
        work=folder,
        memory=folder,
        edge=edge / job["namespace"] / f"{job['name']}-{job['uid'][:8]}",
        base=base,
        logs=folder / "logs",
        node=edge / job["namespace"] / "_node",
    )
    place.logs.mkdir(parents=True, exist_ok=True)
    requests = {task["step"]: Request.of(told.plan, task) for task in told.tasks}
    requests = located(requests, place, own)
    run_group(requests, place, Programs(), {})
    return {"state": "Succeeded", "report": store.report}
