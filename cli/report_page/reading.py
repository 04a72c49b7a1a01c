"""Read a run: every committed round's own figures, and the clients' figures of the last ones.

Results of many clients over many rounds are gigabytes of JSON, nearly all of it about single clients. So
of each result only what stands beside the clients is parsed, and the clients of the last rounds up to
a limit; the page says which rounds those are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import count as count_up
from pathlib import Path
from typing import Any

from cli.report_page.details import add_attempt, add_result
from cli.report_page.facts import Details, FailedAttempt, GlobalModel, Round, Run
from cli.report_page.origin import (
    artifacts_of,
    job_of,
    record_of,
    retries_of,
    standing_of,
    tracking_of,
)
from cli.report_page.promise import privacy_of
from cli.report_page.values import count, mapping, number, parse, words
from fedloom.artifacts import layout
from fedloom.artifacts.array_header import LENGTH_BYTES, decode_header, header_length
from fedloom.artifacts.store import Store
from fedloom.errors import ArtifactError, ArtifactNotFoundError

DETAIL_BYTES = 48_000_000
_WHOLE_BYTES = 200_000  # a smaller result is parsed as a whole
_HEAD = {"attempt", "finished", "metrics", "model", "round", "rounds", "seconds", "traffic"}
_MOST_ATTEMPTS = 1000
_MOST_OPEN_ATTEMPTS = 20
_NOT_RECORDED = "NotRecorded"


@dataclass
class _Found:
    """What the results said, and the bytes of the last of them."""

    rounds: list[Round] = field(default_factory=list)
    last: Mapping[str, Any] = field(default_factory=dict)
    results: deque[tuple[int, bytes]] = field(default_factory=deque)
    damage: list[str] = field(default_factory=list)
    beginning: Mapping[str, Any] = field(default_factory=dict)


def read_run(state: Path) -> Run:
    """Read what the state folder of an embedded run tells, from its artifacts wherever they are.

    Raises StateError for a folder that is none, JobError where the store cannot be used. A damaged
    result ends the rounds before it, as it does for `fedloom run`, and is told in `damage`.
    """
    record = record_of(state)
    job = job_of(record)
    store = artifacts_of(state, record)
    found = _read_rounds(store)
    if found.last:
        job = replace(job, rounds=count(found.last["rounds"]) or job.rounds)
    attempts, documents = _read_attempts(store, found, retries_of(record))
    details = Details()
    for number_, data in reversed(found.results):
        try:
            add_result(details, number_, parse(data))
        except ValueError as error:
            found.damage.append(_damaged(store, layout.result_key(number_), error))
            break
    for document in documents:
        add_attempt(details, document)
    open_failures = [attempt for attempt in attempts if attempt.round == len(found.rounds)]
    promised = mapping(found.last.get("privacy"))
    decision = standing_of(record, job, found.rounds, open_failures, promised)
    return Run(
        job=job,
        phase=decision.phase,
        reason=decision.reason,
        message=decision.message,
        rounds=tuple(found.rounds),
        attempts=tuple(attempts),
        details=details,
        model=_read_model(store, found.last),
        tracking=tracking_of(state, job.uid),
        damage=tuple(found.damage),
        place=store.uri,
        privacy=privacy_of(found.last),
        beginning=found.beginning,
    )


def _read_rounds(store: Store) -> _Found:
    found, kept_bytes = _Found(), 0
    for expected in count_up():
        key = layout.result_key(expected)
        try:
            data = store.get(key)
            head = _head_of(data)
            found.rounds.append(_round_of(expected, head))
        except ArtifactNotFoundError:
            return found
        except ValueError as error:
            found.damage.append(_damaged(store, key, error))
            return found
        found.last = head
        if expected == 0:
            found.beginning = mapping(head.get("transfer"))
        found.results.append((expected, data))
        kept_bytes += len(data)
        while kept_bytes > DETAIL_BYTES and len(found.results) > 1:
            kept_bytes -= len(found.results.popleft()[1])
    raise AssertionError


def _head_of(data: bytes) -> Mapping[str, Any]:
    """A result without its clients, where they can be cut out, else all of it.

    Results are written with sorted keys: the clients stand between `attempt` and `finished`. What
    is cut elsewhere (a client may have a metric named so) is no JSON, or lacks a field.
    """
    begin, end = data.find(b', "clients": {'), data.rfind(b'"finished": ')
    if len(data) > _WHOLE_BYTES and 0 < begin < end:
        try:
            head = parse(data[:begin] + b", " + data[end:])
        except ValueError:
            return parse(data)
        if head.keys() >= _HEAD:
            return head
    return parse(data)


def _round_of(expected: int, head: Mapping[str, Any]) -> Round:
    missing = sorted(_HEAD - head.keys())
    if missing:
        raise ValueError(f"it lacks {', '.join(missing)}")
    if head["round"] != expected:
        raise ValueError(f"got round {head['round']!r}, expected {expected}")
    traffic = mapping(head["traffic"])
    return Round(
        number=expected,
        attempt=count(head["attempt"]) or 1,
        finished=number(head["finished"]),
        seconds=number(head["seconds"]),
        metrics={name: number(value) for name, value in mapping(head["metrics"]).items()},
        uplink_bytes=count(traffic.get("uplink_bytes")) or 0,
        downlink_bytes=count(traffic.get("downlink_bytes")) or 0,
    )


def _read_attempts(
    store: Store, found: _Found, retries: int
) -> tuple[list[FailedAttempt], list[Mapping[str, Any]]]:
    """The attempts that failed, of committed rounds and of the next one, ascending."""
    known = [
        (one.number, attempt)
        for one in found.rounds
        for attempt in range(max(1, one.attempt - _MOST_ATTEMPTS), one.attempt)
    ]
    open_ = [(len(found.rounds), attempt) for attempt in range(1, retries + 2)]
    attempts, documents = [], []
    for round_, attempt in (*known[-_MOST_ATTEMPTS:], *open_[:_MOST_OPEN_ATTEMPTS]):
        key = layout.attempt_key(round_, attempt)
        try:
            document = parse(store.get(key))
            documents.append(document)
        except ArtifactNotFoundError:
            if round_ == len(found.rounds):
                continue
            document = {"reason": _NOT_RECORDED, "message": "it ended without a record"}
        except ValueError as error:
            found.damage.append(_damaged(store, key, error))
            document = {}
        attempts.append(
            FailedAttempt(
                round_,
                attempt,
                number(document.get("finished")),
                words(document.get("reason")) or _NOT_RECORDED,
                words(document.get("message")),
            )
        )
    return attempts, documents


def _read_model(store: Store, head: Mapping[str, Any]) -> GlobalModel | None:
    model = mapping(head.get("model"))
    if not words(model.get("key")):
        return None
    size_bytes = count(model.get("size_bytes"))
    return GlobalModel(
        uri=words(model.get("uri")),
        digest=words(model.get("digest")),
        size_bytes=size_bytes,
        parameters=_parameters(store, model["key"], size_bytes or 0),
    )


def _parameters(store: Store, key: str, size_bytes: int) -> int | None:
    """How many numbers the model has, by the header of its file."""
    try:
        length = header_length(store.read(key, 0, LENGTH_BYTES), size_bytes, key)
        tensors, _ = decode_header(store.read(key, LENGTH_BYTES, length), size_bytes, key)
    except ArtifactError:
        return None  # the page then shows no ratio
    return sum(info.size for info in tensors.values())


def _damaged(store: Store, key: str, error: Exception) -> str:
    return f"{store.uri_of(key)} is damaged: {error}"
