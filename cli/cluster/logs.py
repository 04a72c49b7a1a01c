"""`fedloom logs`: what the containers of a round have printed, each line with its client and step."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from cli.cluster.jobs import find_job, has_ended, title_of
from cli.cluster.kfp_rounds import is_on_kfp, pods_of_runs
from cli.cluster.picture import STEP_ORDER
from cli.cluster.server import Server
from controller.cluster import pods as reading
from controller.cluster.answers import RefusedError
from controller.cluster.kubernetes import Document
from controller.cluster.pods import Pod
from controller.cluster.resources import LABEL_ATTEMPT, LABEL_ROUND, LABEL_UID, PODS
from fedloom.errors import FedloomError, JobError
from pipelines.engines.argo_names import label_value

_ARGOS_OWN = ("init", "wait")
_ARGOS_LINE = re.compile(rb'time="[^"]*" level=\w+ msg=.* argo=true( error=.*)?$')
"""What Argo's own process says in the containers that it runs."""
_LOOK_SECONDS = 1.0


@dataclass(frozen=True)
class Wanted:
    """Which logs: of a round (None: the newest), of a client or of the cloud's side only."""

    round: int | None = None
    client: str | None = None
    only_server: bool = False
    is_followed: bool = False


@dataclass(frozen=True)
class Source:
    """One container; `prefix` is put before each of its lines."""

    namespace: str
    pod: str
    container: str
    prefix: str
    has_begun: bool
    is_over: bool


def print_logs(server: Server, namespace: str, name: str, wanted: Wanted) -> int:
    """Print them; give the exit code. Raises JobError where there is nothing left to print."""
    job = find_job(server, namespace, name)
    attempt = newest_attempt(_pods(server, job), wanted.round)
    if attempt is None and not wanted.is_followed:
        raise JobError("NoPods", no_pods(job, wanted))
    if wanted.is_followed:
        return _follow(server, job, wanted)
    assert attempt is not None
    sources = list(sources_of(_pods(server, job), attempt, wanted))
    if not sources:
        raise JobError("NoPods", _nobody(attempt, wanted))
    for source in sources:
        _print(server, source, is_followed=False)
    return 0


def newest_attempt(pods: list[Pod], number: int | None) -> tuple[int, int] | None:
    """Find the newest round and attempt, or the newest attempt at a round, that has pods."""
    labels = [pod["metadata"].get("labels") or {} for pod in pods]
    found = [(int(each[LABEL_ROUND]), int(each[LABEL_ATTEMPT])) for each in labels]
    return max((each for each in found if number in (None, each[0])), default=None)


def sources_of(pods: list[Pod], attempt: tuple[int, int], wanted: Wanted) -> Iterator[Source]:
    """Give the containers of an attempt: clients by name, then the cloud; each pod's in their order."""
    mine = [pod for pod in pods if reading.is_of(pod, *attempt) and _is_wanted(pod, wanted)]
    mine.sort(key=lambda pod: (reading.client_of(pod) is None, reading.client_of(pod) or ""))
    for pod in mine:
        who = reading.client_of(pod) or "server"
        status = pod["status"]
        main = sorted(status["containerStatuses"], key=lambda c: STEP_ORDER.get(c["name"], 99))
        for container in (*status["initContainerStatuses"], *main):
            if container["name"] not in _ARGOS_OWN:
                state = container["state"]
                yield Source(
                    namespace=pod["metadata"]["namespace"],
                    pod=pod["metadata"]["name"],
                    container=container["name"],
                    prefix=f"{who}/{_step(pod, container['name'])}",
                    has_begun="running" in state or "terminated" in state,
                    is_over="terminated" in state or reading.has_ended(pod),
                )


def no_pods(job: Document, wanted: Wanted) -> str:
    """Say why there is nothing to print."""
    of_round = "" if wanted.round is None else f" of round {wanted.round}"
    why = (
        "pods go ten minutes after a round that went well, or with their workflow; "
        "`fedloom get` and the store keep what came out of it"
    )
    if not has_ended(job):
        why += ". If the round has not begun, --follow waits for it"
    return f"{title_of(job)}: there are no pods{of_round}: {why}"


def _nobody(attempt: tuple[int, int], wanted: Wanted) -> str:
    who = f"client {wanted.client!r}" if wanted.client else "the server"
    return f"round {attempt[0]}, attempt {attempt[1]}: there is no pod of {who}"


def _pods(server: Server, job: Document) -> list[Pod]:
    if is_on_kfp(job):
        return pods_of_runs(server, job)
    meta = job["metadata"]
    found, _ = server.list(PODS, meta["namespace"], f"{LABEL_UID}={meta['uid']}")
    return [kept for kept in map(reading.kept_of_pod, found) if _is_numbered(kept)]


def _is_numbered(pod: Pod) -> bool:
    labels = pod["metadata"].get("labels") or {}
    return all(str(labels.get(key, "")).isdigit() for key in (LABEL_ROUND, LABEL_ATTEMPT))


def _is_wanted(pod: Pod, wanted: Wanted) -> bool:
    client = reading.client_of(pod)
    if wanted.only_server:
        return client is None
    return wanted.client is None or client == label_value(wanted.client)


def _step(pod: Pod, container: str) -> str:
    """A container that Argo calls `main` is the only one of its task."""
    if container != "main":
        return container
    return reading.node_name_of(pod).partition(".")[2].partition("(")[0] or container


def _print(server: Server, source: Source, *, is_followed: bool) -> None:
    """Print one container's log; a line says so where it has none."""
    try:
        where = (source.namespace, source.pod, source.container)
        lines = server.log(*where, is_followed=is_followed)
        if lines is None:
            _say(source.prefix, "(the pod is gone)")
            return
        for line in lines:
            if not _ARGOS_LINE.match(line):
                _say(source.prefix, line.decode(errors="replace"))
    except RefusedError:
        _say(source.prefix, "(not begun yet)")
    except FedloomError as error:
        _say(source.prefix, f"(cannot be read: {error})")


_lock = threading.Lock()


def _say(prefix: str, line: str) -> None:
    with _lock:
        sys.stdout.write(f"{prefix} | {line}\n")
        sys.stdout.flush()


def _follow(server: Server, job: Document, wanted: Wanted) -> int:
    """Print while the round runs; without --round until the job has ended."""
    namespace, known = job["metadata"]["namespace"], dict[tuple[str, str], threading.Thread]()
    waiting = threading.Event()
    while True:
        pods = _pods(server, job)
        attempt = newest_attempt(pods, wanted.round)
        open_sources = False
        for source in sources_of(pods, attempt, wanted) if attempt is not None else ():
            key = (source.pod, source.container)
            open_sources = open_sources or not source.is_over
            if key not in known and source.has_begun:
                known[key] = threading.Thread(
                    target=_print,
                    args=(server, source),
                    kwargs={"is_followed": True},
                    daemon=True,
                )
                known[key].start()
        job = find_job(server, namespace, job["metadata"]["name"])
        is_reading = any(thread.is_alive() for thread in known.values())
        is_over = has_ended(job) or (wanted.round is not None and _is_past(job, wanted.round))
        if is_over and not is_reading and not open_sources:
            return 0
        waiting.wait(_LOOK_SECONDS)


def _is_past(job: Document, number: int) -> bool:
    status = job.get("status") or {}
    model = status.get("model") or {}
    return int(model.get("round", -1)) >= number
