"""What happened since the last look at a job, as the events of `fedloom run -o json`.

A round's event is made of the job's status right after its commit: of all its clients the status shows the
first hundred, and metrics to six digits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cli.cluster.jobs import has_ended, rounds_in_all, status_of, verdict_of
from cli.cluster.picture import Attempt, Picture
from cli.screens import Event
from fedloom.api import status as words
from fedloom.api.status import ClientStatus, Condition, JobStatus, Traffic
from pipelines.engines.argo_clients import FAILED, PENDING, RUNNING, SUCCEEDED

_MOST_TOLD_ONE_BY_ONE = 20
_SEEN_FROM_AFAR = "NoUpdate"
"""All that the cloud knows of a client that sent nothing: its pod tells more."""
_ENDS = {RUNNING: "ClientRunning", SUCCEEDED: "ClientSucceeded", FAILED: "ClientFailed"}


class News:
    """Tells of one job; each thing once. `end` is the last event, None before it."""

    def __init__(self) -> None:
        self.end: Event | None = None
        self._done: int | None = None
        self._traffic = Traffic()
        self._metrics: dict[str, float] = {}
        self._said: dict[str, tuple[str, ...]] = {}
        self._attempt = (-1, -1)

    def take(self, picture: Picture, now: float) -> list[Event]:
        """Give what is new."""
        if self.end is not None:
            return []
        status = status_of(picture.job)
        events = [*self._rounds(picture, status, now)]
        ended = has_ended(picture.job)
        if not ended:
            events += [*self._conditions(status), *self._work(picture, now)]
        else:
            self.end = self._finished(status)
            events.append(self.end)
        return events

    def _rounds(self, picture: Picture, status: JobStatus, now: float) -> Iterator[Event]:
        """The round that was committed since; of those before it only that they were."""
        done = status.model.round if status.model is not None else 0
        known, self._done = self._done, done
        if done <= (known or 0):
            self._traffic = status.traffic or Traffic()
            return
        first = (known or 0) + 1
        if done > first:
            many = (
                f"rounds {first} to {done - 1} were" if done - 1 > first else f"round {first} was"
            )
            yield _notice("Committed", f"{many} committed before", is_detail=False)
        event = self._round(picture, status, picture.newest(done, now), done - first == 0)
        self._traffic = status.traffic or Traffic()
        self._metrics |= event["metrics"]
        yield event

    def _round(
        self, picture: Picture, status: JobStatus, attempt: Attempt | None, is_next: bool
    ) -> dict[str, Any]:
        assert status.model is not None
        number = status.model.round
        clients = dict(_clients(status, attempt, number))
        total = status.traffic or Traffic()
        up = total.uplink_bytes - self._traffic.uplink_bytes
        down = total.downlink_bytes - self._traffic.downlink_bytes
        if not is_next:
            up = sum(client["uplink_bytes"] for client in clients.values())
            down = sum(client["downlink_bytes"] for client in clients.values())
        return {
            "event": "round",
            "round": number,
            "rounds": rounds_in_all(picture.job),
            "seconds": attempt.seconds if attempt is not None else None,
            "metrics": numbers(status.metrics),
            "clients": clients,
            "traffic": {"uplink_bytes": up, "downlink_bytes": down},
            "model": {"uri": status.model.uri, "digest": status.model.digest},
        }

    def _finished(self, status: JobStatus) -> Event:
        verdict = verdict_of(status) or Condition(words.CONDITION_FAILED, words.TRUE)
        model = status.model
        return {
            "event": "finished",
            "phase": status.phase,
            "reason": verdict.reason,
            "message": verdict.message,
            "rounds": model.round if model is not None else 0,
            "metrics": self._metrics | numbers(status.metrics),
            "model": {"uri": model.uri, "digest": model.digest} if model is not None else None,
            "tracking": _tracking(status),
        }

    def _conditions(self, status: JobStatus) -> Iterator[Event]:
        """Say what keeps the job from going on, and when it does no more."""
        for each in status.conditions:
            wrong = _is_worth_telling(each)
            said = (each.reason, each.message)
            if wrong and self._said.get(each.type) != said:
                self._said[each.type] = said
                yield _notice(each.reason, each.message, is_detail=False)
            elif not wrong and self._said.pop(each.type, None) is not None:
                yield _notice(each.reason or each.type, each.message, is_detail=False)

    def _work(self, picture: Picture, now: float) -> Iterator[Event]:
        """Say which attempt runs and how its clients stand."""
        attempt = picture.newest(now=now)
        if attempt is None or attempt.finished is not None or attempt.round > (self._done or 0) + 1:
            return  # the status does not yet tell of the round before: that comes first
        if (attempt.round, attempt.attempt) != self._attempt:
            self._attempt = (attempt.round, attempt.attempt)
            tried = f", attempt {attempt.attempt}" if attempt.attempt > 1 else ""
            message = f"round {attempt.round}{tried}: workflow {attempt.workflow}"
            yield _notice("RoundStarted", message)
            for key in [key for key in self._said if key.startswith("client/")]:
                del self._said[key]
        clients = list(attempt.clients)
        for worker in clients:
            status, key = worker.status, f"client/{worker.name}"
            is_told = status.state == FAILED or len(clients) <= _MOST_TOLD_ONE_BY_ONE
            if is_told and self._is_news(key, status.state, status.reason):
                where = f" on {status.node}" if status.node else ""
                took = (
                    f", {status.seconds:.0f} s"
                    if status.seconds and status.state != RUNNING
                    else ""
                )
                why = f": {status.reason}: {in_short(status.message)}" if status.reason else ""
                message = f"round {attempt.round}, {worker.name}{where}{took}{why}"
                yield _notice(_ENDS.get(status.state, "ClientWaiting"), message)

    def _is_news(self, key: str, state: str, reason: str) -> bool:
        """Whether this was not said of a client before; reasons of waiting come and go."""
        said = self._said.get(key, ())
        mark = state if state != PENDING else reason
        if not mark or mark in said or FAILED in said:
            return False
        self._said[key] = (*said, mark)
        return True


def numbers(texts: Mapping[str, str]) -> dict[str, float]:
    """Metrics as numbers; what is none is left out."""
    found = {}
    for name, text in texts.items():
        try:
            value = float(text)
        except ValueError:
            continue
        if value - value == 0.0:  # JSON has neither NaN nor infinity
            found[name] = value
    return found


def _clients(
    status: JobStatus, attempt: Attempt | None, number: int
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The clients of a committed round: the next round may have begun to overwrite the status."""
    said = {worker.name: worker.status for worker in attempt.clients} if attempt else {}
    for client in status.clients:
        run = said.get(client.name)
        if client.last_round == number and client.state in (SUCCEEDED, FAILED):
            facts = _facts(client, client.state, client.reason, client.seconds)
        elif run is not None and run.state in (SUCCEEDED, FAILED):
            facts = _facts(client, run.state, run.reason or None, run.seconds)
        else:
            continue
        if facts["state"] == FAILED and run is not None and run.reason:
            if facts["reason"] in (None, _SEEN_FROM_AFAR):
                facts["reason"] = run.reason
            facts["message"] = in_short(run.message)
        yield client.name, facts


def _facts(
    client: ClientStatus, state: str, reason: str | None, seconds: float | None
) -> dict[str, Any]:
    return {
        "state": state,
        "reason": reason,
        "num_examples": client.samples,
        "seconds": seconds,
        "uplink_bytes": client.uplink_bytes,
        "downlink_bytes": client.downlink_bytes,
        "metrics": numbers(client.metrics),
    }


def _tracking(status: JobStatus) -> dict[str, Any]:
    condition = next((c for c in status.conditions if c.type == words.TRACKING_AVAILABLE), None)
    if condition is None or condition.reason == "NotConfigured":
        return {"available": True}
    found: dict[str, Any] = {"available": condition.status == words.TRUE}
    tracking = status.tracking
    if tracking is not None:
        found |= {
            "experiment_id": tracking.experiment_id,
            "run_id": tracking.run_id,
            "url": tracking.url,
        }
    return found


def _is_worth_telling(condition: Condition) -> bool:
    if condition.type in (words.ACCEPTED, words.RESOLVED_REFS):
        return condition.status == words.FALSE
    if condition.type == words.TRACKING_AVAILABLE:
        return condition.status == words.FALSE and condition.reason != "NotConfigured"
    if condition.type == words.SUSPENDED:
        return condition.status == words.TRUE
    if condition.type == words.PROGRESSING:
        told_elsewhere = ("Suspended", "RoundRunning", "RoundStarted", "Starting")
        return condition.reason not in told_elsewhere
    return False


def in_short(message: str) -> str:
    """The first and the last line: where it ended, and with which words."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return " ... ".join(dict.fromkeys((*lines[:1], *lines[-1:])))


def _notice(reason: str, message: str, *, is_detail: bool = True) -> Event:
    return {"event": "notice", "reason": reason, "message": message, "is_detail": is_detail}
