"""publish (cloud): tell MLflow about committed rounds, in a process of its own, off the critical path.

`python -I -m components.publish` lives as long as its job runs. It reads JSON lines from standard input:

    {"task": "begin", "description": JobDescription.as_json(), "tracking_uri": URI,
     "artifact_location": URI | null, "state": PATH}
    {"task": "round", "result": result.json of a committed round, "model_file": PATH | null}
    {"task": "finish", "status": "FINISHED" | "FAILED" | "KILLED"}

and writes JSON lines to standard output:

    {"event": "tracking", "experiment_id": .., "run_id": .., "url": .. | null, "recorded_through": n}
    {"event": "recorded", "round": n}                       n and every round before it
    {"event": "registered", "round": n, "version": "3"}
    {"event": "unavailable", "message": ..}                 once per outage
    {"event": "finished", "available": bool, "pending_rounds": n}    the last line

Rounds come ascending. All that wait are logged together; models follow one by one. `state` is a small
JSON file that remembers what was logged. A later run of the job passes its rounds again: all of them, or
those after `recorded_through` (-1: all); what is there already is not logged twice. `artifact_location`
counts where the URI is a database and the experiment is new: a server knows its own.

MLflow may be down: rounds are kept in memory and tried again with growing pauses. After `finish` it is
tried for 10 more seconds, then `available` is false and the next run logs the rest. The end of standard
input means `finish` with KILLED: the rounds at hand are logged, models are left to the next run.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO

from components.publication import Event, Progress, Publication
from fedloom.errors import FedloomError, TrackingUnavailableError
from fedloom.tracking.process import prepare_process, show_libraries
from fedloom.tracking.tracker import JobDescription, Status, Tracker, checked_status

Message = dict[str, Any]
Open = Callable[[str, str | None], Tracker]

_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 15.0
_PATIENCE_SECONDS = {"FINISHED": 10.0, "FAILED": 10.0, "KILLED": 1.0}  # without any success
_LIMIT_SECONDS = {"FINISHED": 75.0, "FAILED": 75.0, "KILLED": 4.0}  # in all; a call may hang


class Publisher:
    """Takes messages until there are no more, and does with them what the module says.

    `open_tracker(tracking_uri, artifact_location)` is called at `begin`.
    """

    def __init__(self, open_tracker: Open, tell: Callable[[Event], None]) -> None:
        self._open = open_tracker
        self._tell = tell
        self._messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._publication: Publication | None = None
        self._status: Status | None = None
        self._has_more = False
        self._pause_seconds = 0.0
        self._next_try = 0.0
        self._limit: threading.Timer | None = None
        self._is_done = threading.Lock()

    def read(self, lines: Iterable[bytes]) -> None:
        """Take messages from `lines` to their end; to be run on a thread of its own."""
        for line in lines:
            try:
                self._put(json.loads(line))
            except ValueError:
                print(f"publish: a line is not JSON: {line[:80]!r}", file=sys.stderr)
        self._put({"task": "finish", "status": "KILLED"})

    def run(self) -> None:
        """Work until the end."""
        self._take_waiting()
        while self._status is None:
            if self._publication is not None and time.monotonic() >= self._next_try:
                self._try(self._publication)
            self._take_waiting()
        self._end(self._status)
        if self._limit is not None:
            self._limit.cancel()

    def _put(self, message: Message) -> None:
        """Hand a message to `run`, which may be in a call that takes its time."""
        is_end = isinstance(message, dict) and message.get("task") == "finish"
        seconds = _LIMIT_SECONDS.get(str(message.get("status"))) if is_end else None
        if seconds is not None and self._limit is None:
            self._limit = threading.Timer(seconds, self._abandon)
            self._limit.daemon = True
            self._limit.start()
        self._messages.put(message)

    def _take_waiting(self) -> None:
        """Take every waiting message; where there is nothing to do, wait for one."""
        wait: float | None = None
        if self._has_more:
            wait = max(0.0, self._next_try - time.monotonic())
        with contextlib.suppress(queue.Empty):
            self._take(self._messages.get(block=wait != 0.0, timeout=wait))
            while self._status is None:
                self._take(self._messages.get_nowait())

    def _take(self, message: Message) -> None:
        try:
            task = message["task"]
            if task == "begin":
                self._begin(message)
            elif task == "round" and self._publication is not None:
                file = message.get("model_file")
                self._publication.take(message["result"], None if file is None else Path(file))
            elif task == "finish":
                self._status = checked_status(message["status"])
            self._has_more = self._publication is not None
        except (FedloomError, KeyError, TypeError) as error:
            self._tell({"event": "unavailable", "message": f"publish: {error!r}"})

    def _begin(self, message: Message) -> None:
        description = JobDescription.from_json(message["description"])
        uri, location = message["tracking_uri"], message.get("artifact_location")
        progress = Progress(Path(message["state"]), description.uid, uri)
        self._publication = Publication(
            description, lambda: self._open(uri, location), progress, self._tell
        )

    def _try(self, publication: Publication) -> None:
        try:
            self._has_more = publication.advance()
            self._pause_seconds = 0.0
        except TrackingUnavailableError as error:
            self._pause(error)

    def _pause(self, error: TrackingUnavailableError) -> None:
        if self._pause_seconds == 0.0:
            self._tell({"event": "unavailable", "message": str(error)})
        doubled = max(_FIRST_PAUSE_SECONDS, 2 * self._pause_seconds)
        self._pause_seconds = min(_LONGEST_PAUSE_SECONDS, doubled)
        self._next_try = time.monotonic() + self._pause_seconds

    def _end(self, status: Status) -> None:
        publication, patience = self._publication, _PATIENCE_SECONDS[status]
        give_up = time.monotonic() + patience
        while publication is not None:
            try:
                while publication.advance(with_models=status != "KILLED"):
                    give_up = time.monotonic() + patience
                publication.finish(status)
                self._finished(available=True)
                return
            except TrackingUnavailableError as error:
                self._pause_seconds = min(self._pause_seconds, patience / 8)
                self._pause(error)
                if self._next_try > give_up:
                    break
                time.sleep(self._pause_seconds)
        self._finished(available=False)

    def _finished(self, *, available: bool) -> None:
        if self._is_done.acquire(blocking=False):  # the watchdog may want to say it too
            pending = self._publication.pending_rounds if self._publication else 0
            self._tell({"event": "finished", "available": available, "pending_rounds": pending})

    def _abandon(self) -> None:
        """End the process though a call to MLflow has not come back; nothing that counts is lost."""
        self._finished(available=False)
        os._exit(0)


def open_mlflow(tracking_uri: str, artifact_location: str | None) -> Tracker:
    """The tracker for this URI. Raises TrackingUnavailableError where there is no MLflow."""
    try:
        tracker = _mlflow_tracker()
    except ImportError:
        show_libraries()
        try:
            tracker = _mlflow_tracker()
        except ImportError as error:
            raise TrackingUnavailableError(f"MLflow cannot be imported: {error}") from error
    return tracker(tracking_uri, artifact_location)


def _mlflow_tracker() -> Open:
    gc.disable()  # a tenth of the import's time would go into looking at what stays
    try:
        from fedloom.tracking.mlflow_tracker import MlflowTracker
    finally:
        gc.enable()
        gc.freeze()
    return MlflowTracker


def claim_output() -> BinaryIO:
    """Keep standard output for events: what anything else prints goes to standard error."""
    channel = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    return channel


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then tells us
    channel = claim_output()

    def tell(event: Event) -> None:
        with contextlib.suppress(BrokenPipeError):  # nobody listens any more; finish all the same
            channel.write(json.dumps(event).encode() + b"\n")

    prepare_process()
    publisher = Publisher(open_mlflow, tell)
    threading.Thread(target=publisher.read, args=(sys.stdin.buffer,), daemon=True).start()
    publisher.run()
    os._exit(
        0
    )  # the reading thread may hold standard input's lock, and no library need be unloaded


if __name__ == "__main__":
    main()
