"""How the runs of all jobs stand, asked for together.

Kubeflow Pipelines tells nobody of anything: it must be asked. One call asks for many runs, a run that has
been going for long is asked for seldom, and a backend that does not answer is left alone for a while,
whichever job would like to know.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from controller.cluster.answers import EngineUnavailableError
from controller.cluster.kfp_api import MOST_IDS, KfpApi

GONE = "GONE"
"""The state of a run that is not there any more; the others are those of the API."""
ENDED = frozenset({"SUCCEEDED", "SKIPPED", "FAILED", "CANCELED", GONE})

_BETWEEN_SECONDS = 1.0  # two calls, whoever asks
_FIRST_SECONDS = 1.5
_LONGEST_SECONDS = 10.0
_SHARE = 0.1  # of how long it has been followed
_LONGEST_PAUSE_SECONDS = 60.0


@dataclass(frozen=True)
class RunState:
    """A run as the backend describes it.

    Attributes:
        state: PENDING, RUNNING, SUCCEEDED, SKIPPED, FAILED, CANCELING, CANCELED, PAUSED or `GONE`.
        message: what the backend says of a failure.
        failed: names of the tasks that failed.
        is_cancelled: whether somebody asked for its end.
    """

    state: str
    message: str = ""
    failed: tuple[str, ...] = ()
    is_cancelled: bool = False

    @property
    def has_ended(self) -> bool:
        return self.state in ENDED


@dataclass
class _Followed:
    namespace: str
    since: float
    due: float
    state: RunState | None = None


@dataclass
class _Outage:
    until: float = 0.0
    pause: float = 0.0
    error: EngineUnavailableError | None = None


class RunPoll:
    """Follows runs from when they are first asked for until they have ended.

    Args:
        api: of the backend.
        clock: seconds that only grow.
    """

    def __init__(self, api: KfpApi, clock: Callable[[], float] = time.monotonic) -> None:
        self._api = api
        self._clock = clock
        self._runs: dict[str, _Followed] = {}
        self._outage = _Outage()
        self._next = clock()
        self._lock = threading.Lock()
        self._asking = threading.Lock()

    def state_of(self, run: str, namespace: str) -> RunState | None:
        """Say how a run stands, asking where it is time to; None where that is not known yet.

        Raises EngineUnavailableError where the backend does not answer, for a while without asking.
        """
        now = self._clock()
        with self._lock:
            followed = self._runs.setdefault(run, _Followed(namespace, now, now))
        if followed.state is not None and followed.state.has_ended:
            return followed.state
        self.check()
        if max(followed.due, self._next) > now:
            return followed.state
        if self._asking.acquire(blocking=False):  # else somebody is asking for it
            try:
                self._next = now + _BETWEEN_SECONDS
                self._ask(namespace)
            finally:
                self._asking.release()
        return followed.state

    def check(self) -> None:
        """Raise again what the backend last failed with, as long as it is to be left alone."""
        with self._lock:
            outage = self._outage
            left = outage.until - self._clock()
        if outage.error is not None and left > 0:
            error = outage.error
            raise EngineUnavailableError(error.reason, str(error), left)

    def failed(self, error: EngineUnavailableError) -> None:
        """Take in that a call has failed: leave the backend alone, longer each time.

        Where it answered that it failed, it is there: that is about what was asked for.
        """
        if error.reason == "KfpFailed":
            return
        with self._lock:
            pause = min(_LONGEST_PAUSE_SECONDS, max(2.0, 2 * self._outage.pause))
            self._outage = _Outage(self._clock() + pause, pause, error)

    def worked(self) -> None:
        """Take in that a call has worked."""
        with self._lock:
            self._outage = _Outage()

    def wait_seconds(self, run: str) -> float:
        """In how many seconds it is time to ask for a run again."""
        with self._lock:
            followed = self._runs.get(run)
        if followed is None:
            return _FIRST_SECONDS
        return max(0.1, max(followed.due, self._next) - self._clock())

    def hasten(self, run: str) -> None:
        """Have a run asked for at the next occasion."""
        with self._lock:
            if run in self._runs:
                self._runs[run].due = self._clock()

    def forget(self, run: str) -> None:
        with self._lock:
            self._runs.pop(run, None)

    def _ask(self, namespace: str) -> None:
        """Ask for all runs of a namespace whose time has come, or soon comes."""
        horizon = self._clock() + _FIRST_SECONDS
        with self._lock:
            due = [
                (each.due, run)
                for run, each in self._runs.items()
                if each.namespace == namespace and each.due <= horizon
                if each.state is None or not each.state.has_ended
            ]
        runs = [run for _, run in sorted(due)[: 4 * MOST_IDS]]
        for first in range(0, len(runs), MOST_IDS):
            part = runs[first : first + MOST_IDS]
            try:
                found = self._api.get_runs(part, namespace)
            except EngineUnavailableError as error:
                self.failed(error)
                raise
            self.worked()
            self._take(part, found)

    def _take(self, runs: list[str], found: Mapping[str, Mapping[str, Any]]) -> None:
        now = self._clock()
        with self._lock:
            for run in runs:
                followed = self._runs.get(run)
                if followed is None:
                    continue
                followed.state = state_in(found.get(run), followed.state)
                share = _SHARE * (now - followed.since)
                followed.due = now + min(_LONGEST_SECONDS, max(_FIRST_SECONDS, share))


def state_in(run: Mapping[str, Any] | None, before: RunState | None = None) -> RunState:
    """Read a run as the API gives it; None is a run that is gone.

    A release of 2023 says FAILED of a run that was cancelled: what was seen before tells.
    """
    was_cancelled = before is not None and before.is_cancelled
    if run is None:
        return RunState(GONE, is_cancelled=was_cancelled)
    state = str(run.get("state") or "PENDING")
    history = [str(each.get("state")) for each in run.get("state_history") or ()]
    details = (run.get("run_details") or {}).get("task_details") or ()
    failed = [str(each.get("display_name")) for each in details if each.get("state") == "FAILED"]
    error = run.get("error") or {}
    return RunState(
        state=state,
        message=str(error.get("message") or ""),
        failed=tuple(name for name in dict.fromkeys(failed) if name not in _NO_TASKS),
        is_cancelled=was_cancelled or any(each in _CANCELS for each in (state, *history)),
    )


_CANCELS = ("CANCELING", "CANCELED")
_NO_TASKS = ("executor", "root")
