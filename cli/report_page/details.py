"""Fold what the clients of each round say into figures, from the last round backwards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cli.report_page.facts import (
    ClientFigures,
    Details,
    FailureFigures,
    RoundSteps,
    Span,
    Turnout,
)
from cli.report_page.values import count, mapping, number, words

STEP_ROUNDS = 5
_MOST_STEPS = 12  # of one lane in one round
_SUCCEEDED = "Succeeded"


def add_result(details: Details, number_: int, result: Mapping[str, Any]) -> None:
    """Add a committed round. Rounds come descending."""
    clients = mapping(result.get("clients"))
    details.rounds += 1
    for name, value in clients.items():
        client = mapping(value)
        if client.get("state") == _SUCCEEDED:
            _add_success(details, name, client)
        else:
            _add_failure(details, name, client, number_)
    if number_ > 0:
        details.turnout.appendleft(_turnout(number_, clients))
    if len(details.steps) < STEP_ROUNDS and (number_ > 0 or not details.steps):
        steps = _steps(number_, result, clients)
        if steps is not None:
            details.steps.insert(0, steps)


def add_attempt(details: Details, document: Mapping[str, Any]) -> None:
    """Add the clients that failed in an attempt that gave no model."""
    round_ = count(document.get("round")) or 0
    for name, value in mapping(document.get("clients")).items():
        client = mapping(value)
        if client.get("state") != _SUCCEEDED:
            _add_failure(details, name, client, round_)


def _figures(details: Details, name: str, client: Mapping[str, Any]) -> ClientFigures:
    figures = details.clients.get(name)
    if figures is None:
        figures = details.clients[name] = ClientFigures(name)
    if figures.node is None:
        figures.node = words(client.get("node")) or None
    if figures.examples is None:
        figures.examples = count(client.get("num_examples"))
    return figures


def _add_success(details: Details, name: str, client: Mapping[str, Any]) -> None:
    figures = _figures(details, name, client)
    figures.succeeded += 1
    figures.uplink_bytes += count(client.get("uplink_bytes")) or 0
    seconds = number(client.get("seconds"))
    if seconds is not None and seconds >= 0:
        figures.timed += 1
        figures.seconds += seconds


def _add_failure(details: Details, name: str, client: Mapping[str, Any], round_: int) -> None:
    reason = words(client.get("reason")) or "Unknown"
    _figures(details, name, client).failures[reason] += 1
    failure = details.failures.get(reason)
    if failure is None:
        failure = details.failures[reason] = FailureFigures(reason)
    failure.count += 1
    failure.clients.add(name)
    if not failure.example[1] or round_ > failure.example[0]:
        failure.example = (round_, name, words(client.get("message")))


def _turnout(number_: int, clients: Mapping[str, Any]) -> Turnout:
    succeeded = updates = uplink = downlinks = downlink = 0
    for value in clients.values():
        client = mapping(value)
        succeeded += client.get("state") == _SUCCEEDED
        up, down = count(client.get("uplink_bytes")), count(client.get("downlink_bytes"))
        updates, uplink = updates + (up is not None), uplink + (up or 0)
        downlinks, downlink = downlinks + (down is not None), downlink + (down or 0)
    failed = len(clients) - succeeded
    return Turnout(number_, succeeded, failed, updates, uplink, downlinks, downlink)


def _steps(
    number_: int, result: Mapping[str, Any], clients: Mapping[str, Any]
) -> RoundSteps | None:
    started, finished = number(result.get("started")), number(result.get("finished"))
    if started is None or finished is None or finished <= started:
        return None
    lanes = [(name, mapping(value).get("steps")) for name, value in clients.items()]
    spans = [
        span
        for lane, steps in (*lanes, (None, mapping(result.get("server")).get("steps")))
        for step, ends in list(mapping(steps).items())[:_MOST_STEPS]
        if (span := _span(lane, step, ends)) is not None
    ]
    return RoundSteps(number_, started, finished, tuple(spans))


def _span(lane: str | None, step: str, ends: Any) -> Span | None:
    if not isinstance(ends, list) or len(ends) != 2:
        return None
    start, end = number(ends[0]), number(ends[1])
    if start is None or end is None or end < start:
        return None
    return Span(lane, step, start, end)
