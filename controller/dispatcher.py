"""`python -m controller.dispatcher`: starts the Jobs of clients whose nodes reach no API server.

One process in the cloud per stage of a round, whatever the number of its clients: it makes each Job once (by
its name), follows all of them with one watch, and ends when they have. A client that fails is the round's
business, not its own: it fails only where a group that must succeed did not. Ended and begun again it goes
on: the Jobs are there.

    python -I -m controller.dispatcher --plan FOLDER --workflow NAME --uid UID --namespace NAMESPACE

FOLDER holds the orders (see `pipelines.engines.argo_dispatch`). One JSON line is printed per Job.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controller.cluster.answers import ConflictError, ExpiredError
from controller.cluster.kubernetes import ApiServer, Cluster
from controller.cluster.resources import BATCH_JOBS, LABEL_ATTEMPT, LABEL_ROUND, LABEL_UID
from fedloom.errors import FedloomError, JobError, TransientError
from pipelines.engines.argo_dispatch import client_job

_WATCH_SECONDS = 60.0
_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 15.0
_OUTAGE_SECONDS = 600.0
"""How long the API server may be away before this process gives up and is begun again."""


@dataclass(frozen=True)
class Order:
    """One Job to make; `may_fail`: whether the round goes on without it."""

    group: str
    client: str | None
    may_fail: bool
    job: Mapping[str, Any]

    @property
    def name(self) -> str:
        return str(self.job["metadata"]["name"])


class Dispatcher:
    """Makes the Jobs of some orders and follows them to their ends."""

    def __init__(self, cluster: Cluster, namespace: str, orders: Sequence[Order]) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._orders = {order.name: order for order in orders}
        self._open = dict(self._orders)
        self._made: set[str] = set()
        self._succeeded: dict[str, bool] = {}

    def run(self) -> bool:
        """Return when every Job has ended: whether all that must succeed did."""
        pause, since = _PAUSE_SECONDS, time.monotonic()
        while self._open:
            try:
                self._make()
                self._follow()
                pause, since = _PAUSE_SECONDS, time.monotonic()
            except ExpiredError:
                continue
            except TransientError as error:
                if time.monotonic() - since > _OUTAGE_SECONDS:
                    raise
                _say(event="waiting", message=str(error))
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
        return all(
            self._succeeded.get(name, False) or order.may_fail
            for name, order in self._orders.items()
        )

    def _make(self) -> None:
        for name, order in self._orders.items():
            if name in self._made:
                continue
            try:
                self._cluster.create(BATCH_JOBS, order.job)
            except ConflictError:
                pass  # made by an earlier try of this process
            except JobError as error:
                self._end(name, has_succeeded=False, reason=error.reason, message=str(error))
            self._made.add(name)

    def _follow(self) -> None:
        """List, then watch; returns when all have ended or it is time to list again."""
        selector = self._selector()
        jobs, version = self._cluster.list(BATCH_JOBS, self._namespace, selector)
        found = {job["metadata"]["name"]: job for job in jobs}
        for name in list(self._open):
            self._look(name, found.get(name))
        if not self._open:
            return
        for kind, job in self._cluster.watch(
            BATCH_JOBS, self._namespace, selector, version, _WATCH_SECONDS
        ):
            if kind != "BOOKMARK":
                self._look(job["metadata"]["name"], None if kind == "DELETED" else job)
            if not self._open:
                return

    def _look(self, name: str, job: Mapping[str, Any] | None) -> None:
        if name not in self._open:
            return
        if job is None:
            message = "its Job was deleted: by the controller, which says why, or by hand"
            self._end(name, has_succeeded=False, reason="JobDeleted", message=message)
            return
        ended = end_of(job)
        if ended is not None:
            has_succeeded, reason, message = ended
            self._end(name, has_succeeded=has_succeeded, reason=reason, message=message)

    def _end(self, name: str, *, has_succeeded: bool, reason: str, message: str) -> None:
        order = self._open.pop(name, None)
        if order is None:
            return
        self._succeeded[name] = has_succeeded
        state = "Succeeded" if has_succeeded else "Failed"
        _say(
            event="ended",
            group=order.group,
            client=order.client,
            state=state,
            reason=reason,
            message=message,
        )

    def _selector(self) -> str:
        """What all these Jobs have in common: the job, the round and the attempt."""
        labels = next(iter(self._orders.values())).job["metadata"]["labels"]
        return ",".join(f"{key}={labels[key]}" for key in (LABEL_UID, LABEL_ROUND, LABEL_ATTEMPT))


def end_of(job: Mapping[str, Any]) -> tuple[bool, str, str] | None:
    """Say how a Job has ended: (success, reason, message); None while it has not.

    `FailureTarget` is enough: `Failed` waits for the pods to be gone, which those of a lost node
    never are.
    """
    conditions = {
        each["type"]: each
        for each in (job.get("status") or {}).get("conditions") or ()
        if each.get("status") == "True"
    }
    for kind in ("Complete", "SuccessCriteriaMet"):
        if kind in conditions:
            return True, "", ""
    for kind in ("Failed", "FailureTarget"):
        if kind in conditions:
            found = conditions[kind]
            return False, str(found.get("reason", "")), str(found.get("message", ""))
    return None


def read_orders(folder: Path, workflow: str, uid: str) -> Iterator[Order]:
    """Read the orders of every file of a folder."""
    for path in sorted(folder.glob("*.json")):
        orders = json.loads(path.read_bytes())
        shapes = [json.dumps(shape) for shape in orders["shapes"]]
        for order in orders["orders"]:
            job = client_job(shapes[order["shape"]], order, workflow, uid)
            yield Order(order["group"], order["client"], bool(order["may_fail"]), job)


def main() -> int:
    """Dispatch what the arguments name; 0 where the round can go on."""
    parser = argparse.ArgumentParser(prog="controller.dispatcher")
    parser.add_argument("--plan", required=True, type=Path, help="folder with the orders")
    parser.add_argument("--workflow", required=True, help="the Workflow that owns the Jobs")
    parser.add_argument("--uid", required=True, help="its uid")
    parser.add_argument("--namespace", required=True)
    given = parser.parse_args()
    try:
        orders = list(read_orders(given.plan, given.workflow, given.uid))
        is_well = not orders or Dispatcher(ApiServer.connect(), given.namespace, orders).run()
    except (FedloomError, OSError, ValueError, KeyError) as error:
        reason = error.reason if isinstance(error, JobError) else type(error).__name__
        _say(state="Failed", reason=reason, message=str(error))
        return 1
    if not is_well:
        _say(state="Failed", reason="DispatchFailed", message="a group that must succeed did not")
    return 0 if is_well else 1


def _say(**line: Any) -> None:
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    sys.exit(main())
