"""One job, once: observe -> decide -> act -> say how it stands. Whatever happened before, or did not.

Nothing here waits. What is not ready is looked at again when an event says so, or after the seconds that
`reconcile` gives. A TransientError passes to the caller, who comes back later and later; it is never a
failed attempt of the job.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from controller.cluster.answers import EngineUnavailableError
from controller.cluster.cache import Cache
from controller.cluster.cancelling import CANCELLED, ended_by_itself, is_cancelled
from controller.cluster.conditions import Known
from controller.cluster.delivering import Deliveries
from controller.cluster.edges.reports import Reports
from controller.cluster.engines import engine_name, has_open, stop_all, sweep, trouble_of
from controller.cluster.events import NORMAL, WARNING, Recorder
from controller.cluster.exposition import Metrics
from controller.cluster.feedback import rfc3339
from controller.cluster.job_run import JobRun, is_reopened
from controller.cluster.job_status import is_final, status_of
from controller.cluster.job_tracking import JobTracking
from controller.cluster.kubernetes import Document
from controller.cluster.logs import log
from controller.cluster.publishing import Publishing
from controller.cluster.resolve import Finding, Objects, Resolved, resolve
from controller.cluster.resources import JOBS
from controller.cluster.shared import Shared
from controller.cluster.stores import access_of
from controller.cluster.telling import Teller
from controller.decide import Decision, decide
from controller.observed import Observed
from fedloom.api.reading import read_status
from fedloom.api.status import JobStatus, to_document
from fedloom.errors import InvalidJobError, JobError, StoreUnavailableError

Key = tuple[str, str]

_LOOK_AGAIN_SECONDS = 20.0
"""How soon to look again for what no event tells of: Secrets, stores."""


@dataclass(frozen=True)
class Surroundings:
    """What the reconciler works with.

    Attributes:
        jobs: the cache of all jobs.
        objects: where references are looked up.
        publishing: None where nothing is tracked.
        enqueue: asks for another look at a job.
        reports: what workers said through local controllers.
    """

    shared: Shared
    jobs: Cache
    objects: Objects
    recorder: Recorder
    metrics: Metrics
    publishing: Publishing | None
    enqueue: Callable[[Key], None]
    reports: Reports = field(default_factory=Reports)


class Reconciler:
    """Takes care of all jobs; of each on one thread at a time."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._teller = Teller(
            around.shared.cluster, around.objects, around.recorder, around.metrics, around.reports
        )
        self._tracking = JobTracking(around.publishing)
        self._deliveries = Deliveries(around.shared.cluster, around.shared.settings)
        self._runs: dict[Key, JobRun] = {}
        self._uids: dict[Key, str] = {}

    def reconcile(self, key: Key) -> float | None:
        """Take care of one job; give the seconds after which to look again, None for at an event.

        Raises TransientError where something outside does not answer now.
        """
        document = self._around.jobs.get(*key)
        if document is None or document["metadata"].get("deletionTimestamp"):
            self._forget(key)
            sweep(self._around.shared, key, None)
            return None
        uid = document["metadata"]["uid"]
        sweep(self._around.shared, key, uid)
        if self._uids.setdefault(key, uid) != uid:
            self._forget(key)  # deleted and made again between two looks
            self._uids[key] = uid
        previous = self._previous(key, document)
        is_over = is_final(previous) and not is_reopened(document, previous)
        # Where a workflow is at work, somebody else wrote that the job is over.
        is_over &= not has_open(self._around.shared, key, uid)
        is_owed = self._tracking.is_owed(previous) or self._deliveries.is_owed(previous)
        if is_over and key not in self._runs and not is_owed:
            return None
        resolved = resolve(document, self._around.objects, self._around.shared.settings.images)
        if not resolved.is_complete:
            return self._stand_still(key, document, resolved)
        try:
            run = self._run_of(key, resolved)
        except JobError as error:
            missing = Finding(error.reason, str(error))
            return self._stand_still(key, document, replace(resolved, missing=missing))
        return self._go_on(key, document, run, resolved)

    def _go_on(self, key: Key, document: Document, run: JobRun, resolved: Resolved) -> float | None:
        known = self._known(document, run, resolved)
        try:
            observed, new = run.observe()
            self._tracking.take(run, new, lambda: self._around.enqueue(key))
            known = self._decided(run, known, observed, self._previous(key, document))
            if known.decision is not None and known.decision.start is not None:
                known = self._start(document, run, known)
        except (StoreUnavailableError, EngineUnavailableError) as error:
            log.warning("it does not answer: %s", error, extra={"job": "/".join(key)})
            known = replace(self._known(document, run, resolved), trouble=trouble_of(error))
            self._say(key, document, known)
            raise
        except JobError as error:
            return self._refused(key, document, replace(known, observed=run.observed), error)
        self._teller.tell(document, run.job, run.untold, is_old=run.has_old_news)
        run.untold, run.has_old_news = [], False
        self._say(key, document, known)
        for verdict in run.reap(observed):
            who = f"client {verdict.client}" if verdict.client else "the server's pod"
            self._note(document, WARNING, verdict.reason, f"{who}: {verdict.message}")
            self._around.enqueue(key)
        again = run.next_look_seconds(observed)
        if known.decision is not None and known.decision.is_final and again is None:
            again = self._deliveries.next_look_seconds(known.delivery)
            self._end(key, document, run, known.decision, is_kept=again is not None)
        return again

    def _known(self, document: Document, run: JobRun | None, resolved: Resolved) -> Known:
        """What is known before the job is looked at anew."""
        known = Known(
            document["metadata"].get("generation", 0), resolved, tracking=self._tracking.facts(run)
        )
        if run is None:
            return known
        return replace(known, observed=run.observed, clients=run.clients, **run.where)

    def _decided(self, run: JobRun, known: Known, observed: Observed, before: JobStatus) -> Known:
        decision = run.refusal or decide(run.job, observed, time.time())
        if not decision.is_final:
            self._tracking.go_on(run)
        stands = decision.is_final and (decision.phase == "Succeeded" or ended_by_itself(before))
        if not stands and is_cancelled(run.job.metadata.annotations):
            run.engine.close()
            decision = CANCELLED
        return replace(
            known,
            decision=decision,
            observed=observed,
            trouble=run.engine.trouble,
            **run.where,
            run=run.client_runs(observed, is_final=decision.is_final),
            clients=run.clients,
            tracking=self._tracking.facts(run),
            delivery=self._deliveries.advance(run, decision),
        )

    def _start(self, document: Document, run: JobRun, known: Known) -> Known:
        decision, observed = known.decision, known.observed
        assert decision is not None
        assert decision.start is not None
        assert observed is not None
        start = decision.start
        run.engine.track(known.tracking)
        run.engine.submit(run.plan(start))
        seconds = None
        if observed.last is not None and start.attempt == 1:
            seconds = round(time.time() - float(observed.last["finished"]), 3)
            self._around.metrics.observe("fedloom_handover_seconds", max(0.0, seconds))
        meta = run.job.metadata
        log.info(
            "workflow %s starts",
            run.engine.workflow,
            extra={
                "job": f"{meta.namespace}/{meta.name}",
                "round": start.round,
                "attempt": start.attempt,
                "seconds": seconds,
            },
        )
        return replace(known, **run.where)

    def _end(
        self, key: Key, document: Document, run: JobRun, decision: Decision, *, is_kept: bool
    ) -> None:
        """The job has ended: close its tracking, then forget it; its status says all there is."""
        kind, word = (NORMAL, "Complete") if decision.phase == "Succeeded" else (WARNING, "Failed")
        self._note(document, kind, word, f"{decision.reason}: {decision.message}")
        if is_kept:
            self._tracking.close(run, decision)
        elif self._tracking.end(run, decision):
            self._runs.pop(key, None)

    def _stand_still(self, key: Key, document: Document, resolved: Resolved) -> float | None:
        """The job cannot be run as things are; say why. A round that runs already goes on."""
        known = self._known(document, self._runs.get(key), resolved)
        is_over = is_final(self._previous(key, document))
        if is_cancelled(document["metadata"].get("annotations") or {}) and not is_over:
            stop_all(self._around.shared, key, document["metadata"]["uid"])
            self._say(key, document, replace(known, decision=CANCELLED))
            return None
        finding = resolved.invalid or resolved.missing
        assert finding is not None
        self._note(document, WARNING, finding.reason, finding.message)
        self._say(key, document, known)
        return None if resolved.invalid is not None else _LOOK_AGAIN_SECONDS

    def _refused(self, key: Key, document: Document, known: Known, error: JobError) -> float | None:
        """The store, the plan or the API server refuse: somebody has to change something."""
        finding = Finding(error.reason, str(error))
        is_of_the_plan = known.decision is not None and known.decision.start is not None
        resolved = known.resolved
        if is_of_the_plan:
            resolved = replace(resolved, invalid=finding)
        else:
            resolved = replace(resolved, missing=finding)
        known = replace(known, resolved=resolved, decision=None)
        self._note(document, WARNING, finding.reason, finding.message)
        self._say(key, document, known)
        return _LOOK_AGAIN_SECONDS

    def _say(self, key: Key, document: Document, known: Known) -> None:
        """Bring the status up to date; nothing is written where it says all this already."""
        previous = self._previous(key, document)
        if known.decision is None and is_final(previous) and not is_reopened(document, previous):
            return  # an ended job stays ended, whatever became of what it was made of
        uid = document["metadata"]["uid"]
        reports, ticket = self._around.reports.of(key, uid)
        known = replace(known, reports=reports)
        status = status_of(known, previous, rfc3339(time.time()))
        wanted = to_document(status)
        if document.get("status") == wanted:
            self._remember(key, status)
            self._around.reports.told(key, uid, ticket)
            return
        meta = document["metadata"]
        kept = {name: meta[name] for name in ("name", "namespace", "uid", "resourceVersion")}
        written = self._around.shared.cluster.replace(
            JOBS,
            {
                "apiVersion": JOBS.api_version,
                "kind": JOBS.kind,
                "metadata": kept,
                "status": wanted,
            },
            "status",
        )
        self._remember(key, status)
        self._around.reports.told(key, uid, ticket)
        if written is not None:
            self._around.jobs.take("MODIFIED", written)

    def _remember(self, key: Key, status: JobStatus) -> None:
        if (run := self._runs.get(key)) is not None:
            run.last_status = status

    def _previous(self, key: Key, document: Document) -> JobStatus:
        """The status as this process wrote it, else as it stands there; empty where it is no status."""
        run = self._runs.get(key)
        if run is not None and run.last_status is not None:
            return run.last_status
        try:
            return read_status(document.get("status"))
        except InvalidJobError:
            return JobStatus()

    def _run_of(self, key: Key, resolved: Resolved) -> JobRun:
        assert resolved.job is not None
        around = self._around
        access = access_of(resolved.job, resolved.secret, around.shared.settings.store)
        access = replace(access, secrets=resolved.secrets)
        run, engine = self._runs.get(key), engine_name(resolved.job, around.shared)
        if run is None or run.access != access or run.engine.name != engine:
            run = self._runs[key] = JobRun(around.shared, resolved, access)
        else:
            run.update(resolved)
        return run

    def _note(self, document: Document, kind: str, reason: str, message: str) -> None:
        self._around.recorder.tell(document, kind, reason, message)

    def _forget(self, key: Key) -> None:
        _, uid = self._runs.pop(key, None), self._uids.pop(key, None)
        self._around.reports.forget(key)
        if uid is not None:
            self._tracking.forget(uid)
            self._deliveries.forget(uid)
