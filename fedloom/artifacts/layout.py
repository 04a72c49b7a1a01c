"""Which key holds what: the layout of a job below its prefix in a store.

    <namespace>/<job>-<uid8>/          `job_prefix`: where the job's own store is opened
        round-0007/
            plan.json                  the plan of the first attempt; plan-2.json of the second
            attempt-1.json             what became of that attempt
            model.safetensors          the global model after the round
            model-delta.safetensors    the same as a compressed change, for the downlink
            updates/<client>/<attempt>/update.safetensors, report.json
            updates/_server/<attempt>/combine-1-0000-sum.safetensors and other parts of an aggregation
            inner/<attempt>/0003/model.safetensors, round.json: of rounds inside the round
            updates/_server/<attempt>/  what secure aggregation freezes: roster.json and the like
            description-1.json         of round 0: what the job's aggregation program said about it
            privacy-report.json, .html what a mistnet job's releases disclosed
            result.json                the commit point: it exists = the round is done
        state/server-optimizer-0007.safetensors
        state/scratch-0000.safetensors, candidate-<digest>-0000.safetensors    of a job that learns from
                                       others: its own first model, and those it may begin with

Rounds count from 1, round 0 holds the first model. Numbers have four digits or more: up to round
9999 the plain string order of `Store.list` is the order of the rounds; beyond it `round-10000`
comes before `round-9999`, so whoever needs the order asks `sort_by_round`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from fedloom.artifacts.store import check_key
from fedloom.errors import ArtifactError

_ROUND = re.compile(r"(?:^|/)round-(\d{4,})(?:/|$)|(?:^|/)state/[^/]+-(\d{4,})\.safetensors$")
_UPDATE = re.compile(r"round-\d{4,}/updates/")


def round_folder(number: int) -> str:
    """`round-0007`: the prefix of everything that belongs to round 7."""
    return f"round-{_digits(number)}"


def model_key(number: int) -> str:
    """The global model after this round, as safetensors."""
    return f"{round_folder(number)}/model.safetensors"


def model_delta_key(number: int) -> str:
    """The change of the global model in this round, compressed for the way down."""
    return f"{round_folder(number)}/model-delta.safetensors"


def plan_key(number: int, attempt: int) -> str:
    """The plan of one attempt at a round; attempts count from 1."""
    name = "plan" if _counted(attempt) == 1 else f"plan-{attempt}"
    return f"{round_folder(number)}/{name}.json"


def attempt_key(number: int, attempt: int) -> str:
    """The record of one attempt at a round."""
    return f"{round_folder(number)}/attempt-{_counted(attempt)}.json"


def description_key(attempt: int) -> str:
    """What the aggregation worker's program said about the job, in one attempt at round 0."""
    return f"{round_folder(0)}/description-{_counted(attempt)}.json"


def update_key(number: int, client: str, attempt: int) -> str:
    """A client's compressed update in one attempt."""
    return f"{_client_folder(number, client, attempt)}/update.safetensors"


def report_key(number: int, client: str, attempt: int) -> str:
    """What a client says of its update in one attempt: examples, metrics, seconds, digest."""
    return f"{_client_folder(number, client, attempt)}/report.json"


def message_key(number: int, client: str, attempt: int, name: str) -> str:
    """What a client tells the others in one attempt of secure aggregation: `advert.json`."""
    return f"{_client_folder(number, client, attempt)}/{_part(name)}"


def view_key(number: int, attempt: int, name: str) -> str:
    """What all clients of one attempt of secure aggregation must see alike: `roster.json`.

    No client is called `_server`: names of objects in Kubernetes have no underscore.
    """
    return f"{_client_folder(number, '_server', attempt)}/{_part(name)}"


def part_key(number: int, attempt: int, task: str, name: str) -> str:
    """What a task that shares the work of an aggregation hands on: its `sum.safetensors`, say."""
    return f"{_client_folder(number, '_server', attempt)}/{_part(f'{task}-{name}')}"


def inner_key(number: int, attempt: int, inner: int, name: str) -> str:
    """What one of the rounds inside a round leaves, in one attempt: its `model.safetensors`, say."""
    folder = f"{round_folder(number)}/inner/{_counted(attempt)}/{_digits(inner)}"
    return f"{folder}/{_part(name)}"


def privacy_report_key(number: int, form: str) -> str:
    """What the releases of a mistnet job disclosed; `form`: `json` or `html`."""
    return f"{round_folder(number)}/{_part(f'privacy-report.{form}')}"


def result_key(number: int) -> str:
    """The commit point of a round: it exists = the round is done."""
    return f"{round_folder(number)}/result.json"


def state_key(kind: str, number: int) -> str:
    """State that a server-side algorithm keeps after this round; `kind`: `server-optimizer`."""
    return f"state/{_part(kind)}-{_digits(number)}.safetensors"


def job_prefix(namespace: str, name: str, uid: str) -> str:
    """Where a job keeps everything: a job that was deleted and made again gets a new place."""
    if len(uid) < 8:
        raise ArtifactError("InvalidKey", f"uid: got {uid!r}, expected 8 characters or more")
    return check_key(f"{_part(namespace)}/{_part(name)}-{_part(uid[:8])}")


def updates_folder(number: int) -> str:
    """The prefix of all updates and reports of a round."""
    return f"{round_folder(number)}/updates"


def is_update(key: str) -> bool:
    """Say whether this is an update or a report of one: what a committed round needs no more."""
    return _UPDATE.match(key) is not None


def round_number(key: str) -> int | None:
    """The round that a key of this layout belongs to, None if it belongs to no round."""
    match = _ROUND.search(key)
    return int(match[1] or match[2]) if match else None


def sort_by_round(keys: Iterable[str]) -> list[str]:
    """Keys in the order of their rounds, within a round in string order; those of none first."""

    def order(key: str) -> tuple[int, str]:
        number = round_number(key)
        return (-1 if number is None else number, key)

    return sorted(keys, key=order)


def _client_folder(number: int, client: str, attempt: int) -> str:
    return f"{round_folder(number)}/updates/{_part(client)}/{_counted(attempt)}"


def _digits(number: int) -> str:
    if number < 0:
        raise ArtifactError("InvalidKey", f"round: got {number}, expected 0 or more")
    return f"{number:04d}"


def _counted(attempt: int) -> int:
    if attempt < 1:
        raise ArtifactError("InvalidKey", f"attempt: got {attempt}, expected 1 or more")
    return attempt


def _part(name: str) -> str:
    if "/" in name:
        raise ArtifactError("InvalidKey", f"got {name!r}, expected one part of a key without '/'")
    return check_key(name)
