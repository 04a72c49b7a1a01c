"""`python -m controller`: the controller's process. Its settings are variables; see `settings`.

Standing by, it watches; holding the Lease, it works. Whoever loses the Lease ends its process: what it had
begun is found again by the next.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from controller.cluster.answers import ConflictError
from controller.cluster.edges.gateway import Gateway
from controller.cluster.edges.reports import Reports
from controller.cluster.events import Recorder
from controller.cluster.exposition import Labels, Metrics, resident_bytes, serve
from controller.cluster.kfp_api import KfpApi
from controller.cluster.kfp_poll import RunPoll
from controller.cluster.kfp_runs import KfpRuns
from controller.cluster.kubernetes import ApiServer, Cluster
from controller.cluster.leader import Leader
from controller.cluster.logs import log, log_as_lines
from controller.cluster.objects import CachedObjects
from controller.cluster.publishing import Publishing
from controller.cluster.reconcile import Key, Reconciler, Surroundings
from controller.cluster.settings import Settings, read_settings
from controller.cluster.shared import Shared
from controller.cluster.watches import RunWatches, Watches
from controller.cluster.work_queue import WorkQueue
from controller.publisher import Publisher
from fedloom.errors import FedloomError, InvalidJobError, TransientError

LEASE = "fedloom-controller"

_SYNC_SECONDS = 120.0
_HELP = {
    "fedloom_jobs": "Jobs by phase.",
    "fedloom_rounds_total": "Rounds committed since this process began.",
    "fedloom_round_seconds": "Wall time of committed rounds.",
    "fedloom_handover_seconds": "From a round's commit to the next round's workflow.",
    "fedloom_clients_dropped_total": "Clients without an accepted update, by reason.",
    "fedloom_uplink_bytes_total": "Bytes from the clients.",
    "fedloom_downlink_bytes_total": "Bytes to the clients.",
    "fedloom_reconcile_seconds": "Time of one look at one job, by how it ended.",
    "fedloom_queue_depth": "Jobs that wait to be looked at.",
    "fedloom_leader": "1 where this process holds the Lease.",
    "fedloom_watch_restarts": "How often each kind was listed anew.",
    "process_resident_memory_bytes": "Memory of this process.",
}


class Controller:
    """All parts of a controller, put together."""

    def __init__(self, settings: Settings, cluster: Cluster) -> None:
        self._settings = settings
        self.queue: WorkQueue[Key] = WorkQueue()
        self.watches = Watches(cluster, settings.namespaces, self.queue.add)
        self.run_watches, kfp = self._kfp(cluster)
        self.leader = Leader(cluster, settings.own_namespace, LEASE, settings.identity)
        self.metrics = Metrics(_HELP)
        self.publishing = _publishing(settings)
        reports = Reports()
        self.link = self._link(cluster, reports)
        watches = self.watches
        known = (watches.jobs, watches.datasets, watches.models)
        objects = CachedObjects(cluster, known, watches.nodes)
        self.reconciler = Reconciler(
            Surroundings(
                shared=Shared(
                    cluster, settings, watches.workflows, watches.pods, watches.nodes.all, kfp
                ),
                jobs=watches.jobs,
                objects=objects,
                recorder=Recorder(cluster, settings.identity),
                metrics=self.metrics,
                publishing=self.publishing,
                enqueue=self.queue.add,
                reports=reports,
            )
        )
        self._stopping = threading.Event()
        self._has_led = False
        self._gauges()

    def run(self) -> int:
        """Work until stopped (0) or until the Lease is lost (1)."""
        self.watches.start()
        if self.run_watches is not None:
            self.run_watches.start()
        self.leader.start()
        while not (self.watches.is_synced and self.leader.is_leader):
            if self._stopping.wait(0.05):
                return 0
        self._has_led = True
        log.info("this process leads", extra={"reason": self._settings.identity})
        workers = [
            threading.Thread(target=self._work, name=f"worker-{number}", daemon=True)
            for number in range(self._settings.workers)
        ]
        for worker in workers:
            worker.start()
        if self.link is not None:
            self.link.start()
        while not self._stopping.wait(1.0):
            if self.publishing is not None:
                self.publishing.turn()
            if not self.is_healthy:
                log.error("the Lease is lost: this process ends, another goes on")
                return 1
        self._close(workers)
        return 0

    def stop(self) -> None:
        self._stopping.set()

    @property
    def is_ready(self) -> bool:
        """Whether it could take over at once."""
        return self.watches.is_synced

    @property
    def is_healthy(self) -> bool:
        """Whether nothing but a new process would help: it led and leads no more."""
        return not self._has_led or self.leader.is_leader or self._stopping.is_set()

    def _work(self) -> None:
        while self.leader.is_leader and not self._stopping.is_set():
            key = self.queue.take(1.0)
            if key is None:
                continue
            try:
                self._look(key)
            finally:
                self.queue.done(key)

    def _look(self, key: Key) -> None:
        began, how = time.monotonic(), "done"
        try:
            again = self.reconciler.reconcile(key)
            self.queue.forget(key)
            if again is not None:
                self.queue.add_after(key, again)
        except ConflictError:
            how = "conflict"  # somebody else changed it; the watch brings what it is now
            self.queue.add_failed(key)
        except TransientError as error:
            how = "later"
            pause = self.queue.add_failed(key, error.retry_after_seconds)
            extra = {"job": "/".join(key), "seconds": round(pause, 1)}
            log.warning("again later: %s", error, extra=extra)
        except Exception:
            how = "error"
            self.queue.add_failed(key, 5.0)
            log.exception("a look at a job failed", extra={"job": "/".join(key)})
        self.metrics.observe("fedloom_reconcile_seconds", time.monotonic() - began, result=how)

    def _close(self, workers: list[threading.Thread]) -> None:
        if self.link is not None:
            self.link.close()
        self.queue.close()
        for worker in workers:
            worker.join(5.0)
        self.leader.stop()
        if self.publishing is not None:
            self.publishing.close()

    def _kfp(self, cluster: Cluster) -> tuple[RunWatches | None, KfpRuns | None]:
        settings = self._settings.kfp
        if settings is None:
            return None, None
        watches = RunWatches(cluster, settings, self._settings.namespaces, self.queue.add)
        api = KfpApi(settings.connection)
        runs = KfpRuns(cluster, settings, api, RunPoll(api), watches.records, watches.pods)
        return watches, runs

    def _link(self, cluster: Cluster, reports: Reports) -> Gateway | None:
        link, own = self._settings.link, self._settings.own_namespace
        if link is None:
            return None
        return Gateway(cluster, link, own, self.watches, reports, self.queue.add)

    def _gauges(self) -> None:
        gauge = self.metrics.gauge
        gauge("fedloom_jobs", self._phases)
        gauge("fedloom_queue_depth", lambda: {(): float(len(self.queue))})
        gauge("fedloom_leader", lambda: {(): float(self.leader.is_leader)})
        gauge("process_resident_memory_bytes", lambda: {(): resident_bytes()})
        gauge(
            "fedloom_watch_restarts",
            lambda: {
                (("kind", each.resource.plural),): float(each.restarts) for each in self.watches.all
            },
        )

    def _phases(self) -> dict[Labels, float]:
        documents = self.watches.jobs.all()
        phases = Counter((each.get("status") or {}).get("phase") or "Pending" for each in documents)
        return {(("phase", str(phase)),): float(count) for phase, count in phases.items()}


def _publishing(settings: Settings) -> Publishing | None:
    if settings.tracking_uri is None:
        return None

    def launch(begin: Mapping[str, Any], path: Path, on_event: Any) -> Publisher:
        return Publisher(begin, path, on_event)

    return Publishing(settings.tracking_uri, settings.work, settings.tracking_processes, launch)


def main() -> int:
    """Run a controller until a signal ends it; give the process's exit code."""
    log_as_lines()
    try:
        settings = read_settings()
        cluster = ApiServer.connect()
    except InvalidJobError as error:
        for problem in error.problems:
            log.error("%s", problem)
        return 2
    except FedloomError as error:
        log.error("%s", error)
        return 1
    controller = Controller(settings, cluster)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: controller.stop())
    server = serve(
        settings.listen,
        controller.metrics,
        lambda: controller.is_healthy,
        lambda: controller.is_ready,
    )
    try:
        return controller.run()
    finally:
        server.shutdown()
        sys.stderr.flush()
