"""Committed rounds on their way into MLflow: a publish process per job, a few at a time.

Nothing waits for it. Rounds are handed over as they are committed; a job whose process is not running yet,
or has died, has them read again from its store when there is one. A process that has said all there is to
say is ended when others want its place: the run in MLflow stays open and is found again.
"""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from controller.cluster.conditions import TrackingFacts
from controller.cluster.resolve import Finding
from fedloom.artifacts import layout
from fedloom.artifacts.store import Store
from fedloom.errors import FedloomError
from fedloom.tracking.tracker import JobDescription

Result = Mapping[str, Any]

_END_SECONDS = 90.0
_KILLED_END_SECONDS = 10.0
_MOST_IN_MEMORY = 16
_FIRST_RETRY_SECONDS = 30.0
_LONGEST_RETRY_SECONDS = 600.0


class PublishProcess(Protocol):
    """A running publish process; see `controller.publisher.Publisher`."""

    def publish(self, result: Result, find_model: Callable[[], Path | None]) -> None: ...
    def finish(self, status: str, timeout_seconds: float) -> bool: ...
    def abandon(self) -> None: ...
    @property
    def is_running(self) -> bool: ...


Launch = Callable[[Mapping[str, Any], Path, Callable[[dict[str, Any]], None]], PublishProcess]


@dataclass
class _Channel:
    """One job's way into MLflow."""

    description: JobDescription
    store: Store
    on_change: Callable[[], None]
    facts: TrackingFacts = field(default_factory=TrackingFacts)
    through: int = -1  # the last committed round
    sent: int = -1  # the last round that the process was told
    recorded: int = -1
    fresh: dict[int, Result] = field(default_factory=dict)  # not told yet; others are in the store
    process: PublishProcess | None = None
    status: str = ""  # how the job ended
    is_ending: bool = False
    is_done: bool = False
    used: float = 0.0
    retry_at: float = 0.0
    retries: int = 0

    @property
    def has_news(self) -> bool:
        return not (self.is_done or self.is_ending) and (
            self.sent < self.through or bool(self.status)
        )

    @property
    def is_idle(self) -> bool:
        return self.recorded >= self.through and not self.status and not self.is_ending


class Publishing:
    """All jobs' ways into MLflow. `turn` is for one thread, the rest for any.

    Args:
        tracking_uri: of MLflow.
        work: a folder for logs, progress and models on their way.
        most: how many processes at once.
        launch: starts a process.
    """

    def __init__(self, tracking_uri: str, work: Path, most: int, launch: Launch) -> None:
        self._uri = tracking_uri
        self._work = work
        self._most = most
        self._launch = launch
        self._lock = threading.RLock()
        self._channels: dict[str, _Channel] = {}

    def open(
        self, description: JobDescription, store: Store, on_change: Callable[[], None]
    ) -> None:
        """Make a job known; `on_change` is called when there is something new to say about it."""
        with self._lock:
            if description.uid not in self._channels:
                self._channels[description.uid] = _Channel(description, store, on_change)

    def knows(self, uid: str) -> bool:
        with self._lock:
            return uid in self._channels

    def reopen(self, uid: str) -> None:
        """The job goes on after it had ended."""
        with self._lock:
            channel = self._channels.get(uid)
            if channel is not None and channel.status and not channel.is_ending:
                channel.status, channel.is_done = "", False

    def publish(self, uid: str, results: list[Result]) -> None:
        """Hand over committed rounds, ascending; returns at once."""
        with self._lock:
            channel = self._channels[uid]
            for result in results:
                channel.fresh[result["round"]] = result
                channel.through = max(channel.through, result["round"])
            for number in sorted(channel.fresh)[:-_MOST_IN_MEMORY]:
                del channel.fresh[number]

    def finish(self, uid: str, status: str) -> None:
        """The job ended with FINISHED or FAILED; returns at once."""
        with self._lock:
            channel = self._channels.get(uid)
            if channel is not None and not channel.status:
                channel.status = status

    def forget(self, uid: str) -> None:
        """The job is gone: end its process and its run, keep nothing."""
        with self._lock:
            channel = self._channels.pop(uid, None)
        if channel is not None and channel.process is not None and not channel.is_ending:
            arguments = ("KILLED", _KILLED_END_SECONDS)
            threading.Thread(target=channel.process.finish, args=arguments, daemon=True).start()

    def facts(self, uid: str) -> TrackingFacts:
        with self._lock:
            channel = self._channels.get(uid)
            return TrackingFacts() if channel is None else channel.facts

    def is_done(self, uid: str) -> bool:
        """Whether all of an ended job is in MLflow."""
        with self._lock:
            channel = self._channels.get(uid)
            return channel is not None and channel.is_done

    def turn(self) -> None:
        """Start what is due and hand over what is new; to be called every second or so."""
        now = time.monotonic()
        with self._lock:
            channels = list(self._channels.values())
        for channel in channels:
            process = channel.process
            if process is not None and not process.is_running and not channel.is_ending:
                self._drop(channel, now)
        waiting = [each for each in channels if each.has_news and now >= each.retry_at]
        for channel in sorted(waiting, key=lambda each: each.used):
            if channel.process is not None or self._make_room(channels):
                self._hand_over(channel, now)

    def close(self) -> None:
        """End every process; what was not said is said by the next controller."""
        with self._lock:
            channels = list(self._channels.values())
            self._channels = {}
        for channel in channels:
            if channel.process is not None:
                channel.process.abandon()

    def _make_room(self, channels: list[_Channel]) -> bool:
        running = [each for each in channels if each.process is not None]
        if len(running) < self._most:
            return True
        idle = min(
            (each for each in running if each.is_idle), key=lambda each: each.used, default=None
        )
        if idle is None or idle.process is None:
            return False
        idle.process.abandon()
        idle.process, idle.sent = None, idle.through  # it waits for the next round
        return True

    def _hand_over(self, channel: _Channel, now: float) -> None:
        try:
            if channel.process is None:
                channel.process = self._start(channel)
                channel.sent = -1
            while channel.sent < channel.through:
                result = self._result(channel, channel.sent + 1)
                channel.process.publish(result, self._model_finder(channel, result))
                channel.sent += 1
        except (FedloomError, OSError) as error:
            self._note(channel, str(error))
            channel.retry_at = now + _FIRST_RETRY_SECONDS
            return
        channel.used = now
        if channel.status:
            channel.is_ending = True
            threading.Thread(target=self._end, args=(channel, channel.process), daemon=True).start()

    def _start(self, channel: _Channel) -> PublishProcess:
        folder = self._folder(channel)
        begin = {
            "description": channel.description.as_json(),
            "tracking_uri": self._uri,
            "artifact_location": None,
            "state": str(folder / "progress.json"),
        }
        return self._launch(begin, folder / "publish.log", lambda event: self._take(channel, event))

    def _result(self, channel: _Channel, number: int) -> Result:
        with self._lock:
            result = channel.fresh.pop(number, None)
        if result is None:
            result = json.loads(channel.store.get(layout.result_key(number)))
        return result

    def _end(self, channel: _Channel, process: PublishProcess) -> None:
        """Wait for a process to end; what it could not say is tried again later, all of it."""
        process.finish(channel.status, _END_SECONDS)
        with self._lock:
            self._drop(channel, time.monotonic())
            channel.is_ending = False
        shutil.rmtree(self._folder(channel) / "models", ignore_errors=True)
        channel.on_change()

    def _drop(self, channel: _Channel, now: float) -> None:
        """The process has ended; unless all is done, another says everything again."""
        channel.process, channel.sent = None, -1
        if not channel.is_done:
            pause = min(_LONGEST_RETRY_SECONDS, _FIRST_RETRY_SECONDS * 2.0**channel.retries)
            channel.retries += 1
            channel.retry_at = now + pause

    def _take(self, channel: _Channel, event: Mapping[str, Any]) -> None:
        """Take in what a process says; called on its own thread."""
        with self._lock:
            before, facts = channel.facts, replace(channel.facts, is_known=True)
            match event["event"]:
                case "tracking":
                    found = {key: event[key] for key in ("experiment_id", "run_id", "url")}
                    channel.recorded = max(channel.recorded, event["recorded_through"])
                    channel.facts = replace(facts, finding=None, **found)
                case "recorded":
                    channel.recorded = int(event["round"])
                    channel.facts = replace(facts, finding=None)
                case "registered":
                    versions = {**facts.versions, int(event["round"]): str(event["version"])}
                    channel.facts = replace(facts, versions=versions, finding=None)
                case "unavailable":
                    self._note(channel, str(event["message"]))
                case "finished":
                    channel.is_done = bool(event["available"])
            has_changed = channel.facts != before
        if has_changed:
            channel.on_change()

    def _note(self, channel: _Channel, message: str) -> None:
        with self._lock:
            finding = Finding("Unavailable", f"{message}; the job goes on")
            channel.facts = replace(channel.facts, is_known=True, finding=finding)

    def _model_finder(self, channel: _Channel, result: Result) -> Callable[[], Path | None]:
        folder, store, model = self._folder(channel) / "models", channel.store, result["model"]

        def find() -> Path | None:
            if channel.description.registered_model is None:
                return None
            try:
                return store.materialize(model["key"], folder, digest=model["digest"])
            except FedloomError:
                return None  # passed again with the next process

        return find

    def _folder(self, channel: _Channel) -> Path:
        return self._work / "tracking" / channel.description.uid
