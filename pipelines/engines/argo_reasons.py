"""Why a pod does not run or has failed, in words that a person can act on. Pure.

Argo has one line of text per node, `train: OOMKilled (exit code 137): ...`; Kubernetes has a status per
container. Both come to the same: `Cause`s.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

_WAITING = {
    "ErrImagePull": "ImagePullBackOff",  # the two take turns
    "ImagePullBackOff": "ImagePullBackOff",
    "ErrImageNeverPull": "ImagePullBackOff",
    "InvalidImageName": "InvalidImageName",
    "CreateContainerConfigError": "CreateContainerConfigError",
    "CreateContainerError": "CreateContainerError",
    "RunContainerError": "CreateContainerError",
    "Unschedulable": "Unschedulable",
}
_STEPS = {
    "fetch": "FetchFailed",
    "compress": "CompressFailed",
    "send": "SendFailed",
    "aggregate": "AggregateFailed",
    "collect": "AggregateFailed",
    "adopt-tail": "AggregateFailed",
    "store-extractor": "AggregateFailed",
    "unpack": "AggregateFailed",
    "script": "AggregationFailed",
    "library": "FetchFailed",
    "commit": "CommitFailed",
    "server": "ServerFailed",
    "wait": "EngineFailed",
    "init": "EngineFailed",
}
_WHOLE_POD = (
    ("Pod was active on the node longer than the specified deadline", "DeadlineExceeded"),
    ("exceeded its deadline", "DeadlineExceeded"),
    ("timeout", "DeadlineExceeded"),
    ("pod deleted", "PodDeleted"),
    ("low on resource", "Evicted"),
    ("Evicted", "Evicted"),
    ("didn't have enough resource", "NodeFull"),
    ("Preempt", "Preempted"),
)
_ENDED = re.compile(
    r"(?P<name>[\w.-]+): (?P<what>\w+) \(exit code (?P<code>\d+)\)(: (?P<tail>.*))?", re.S
)
_OF_ARGO = re.compile(r'time="[^"]+" level=\w+ msg=.* argo=true|Error: exit status \d+$')
_CONSEQUENCES = frozenset((143, 64))
"""A container that was ended because another had, and one that Argo did not start for that."""
_MOST_CHARACTERS = 1_000


@dataclass(frozen=True)
class Cause:
    """Why something did not succeed: a CamelCase word and a sentence."""

    reason: str
    message: str


@dataclass(frozen=True)
class Ended:
    """How a container ended: `what` is Kubernetes' word (OOMKilled, Error), `tail` what it said last."""

    name: str
    what: str
    code: int
    tail: str


def cause_of_waiting(message: str) -> Cause | None:
    """Say why a pod does not start; None where it just has not yet. `message`: `Reason: details`."""
    word, _, details = message.partition(":")
    reason = _WAITING.get(word.strip())
    return None if reason is None else Cause(reason, shortened(details.strip() or word))


def cause_of_failure(message: str, containers: Iterable[Ended]) -> Cause:
    """Say why a pod failed: by the first container that ended badly by itself, else by the pod's message."""
    for fragment, reason in _WHOLE_POD:
        if fragment in message and not _ENDED.match(message):
            return Cause(reason, _of_pod(reason, message))
    ended = [*containers, *read_ended(message)]
    for container in ended:
        if container.code not in _CONSEQUENCES:
            return cause_of_end(container)
    return (
        cause_of_end(ended[0])
        if ended
        else Cause("PodFailed", shortened(message or "no reason given"))
    )


def cause_of_end(ended: Ended) -> Cause:
    """Say why one container failed."""
    if ended.what == "OOMKilled":
        message = (
            f"{ended.name} was killed: it used more memory than its container may (limits.memory)"
        )
        return Cause("OOMKilled", message)
    told = _told(ended.tail)
    if told is not None:
        return told
    reason = _STEPS.get(ended.name, "ScriptFailed")
    said = "\n".join(line for line in ended.tail.splitlines() if not _OF_ARGO.match(line)).strip()
    tail = f": {said}" if said else ""
    return Cause(reason, shortened(f"{ended.name} ended with exit code {ended.code}{tail}"))


def read_ended(message: str) -> list[Ended]:
    """Read Argo's line about a container; nothing where it is another line."""
    found = _ENDED.match(message)
    if found is None:
        return []
    return [Ended(found["name"], found["what"], int(found["code"]), found["tail"] or "")]


def shortened(text: str) -> str:
    """Keep the end of a long text: there an error says what it is."""
    return text if len(text) <= _MOST_CHARACTERS else f"...{text[-_MOST_CHARACTERS:]}"


def _told(tail: str) -> Cause | None:
    """Read what one of our steps printed at its end: a JSON object with reason and message."""
    for line in reversed(tail.splitlines()):
        if line.startswith("{") and '"reason"' in line:
            try:
                said = json.loads(line)
                return Cause(
                    str(said["reason"]).removesuffix("Error"), shortened(str(said["message"]))
                )
            except (ValueError, KeyError, TypeError):
                continue
    return None


def _of_pod(reason: str, message: str) -> str:
    if reason == "DeadlineExceeded":
        is_pending = message == "timeout"
        done = "start" if is_pending else "finish"
        return f"it did not {done} before its deadline (spec.participation.deadlineSeconds)"
    if reason == "PodDeleted":
        return "its pod was deleted, or its node was lost"
    return shortened(message)
