"""What this process knows of one running job: all of it can be read again from the store and the cluster."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from controller.cluster import pods as reading
from controller.cluster import reaper
from controller.cluster.conditions import ClientRun
from controller.cluster.engines import engine_of
from controller.cluster.job_sources import LOOK_SECONDS, JobSources
from controller.cluster.job_status import client_statuses
from controller.cluster.nodes import placements_of, seconds_of, unready_clients
from controller.cluster.pods import Pod
from controller.cluster.records import SharedObserver
from controller.cluster.resolve import Finding, Resolved
from controller.cluster.shared import Shared
from controller.cluster.stores import StoreAccess
from controller.decide import Decision
from controller.described import job_as_described
from controller.observed import Observed
from fedloom.api.clients import clients_of
from fedloom.api.status import FAILED, MOST_CLIENTS_SHOWN, SUCCEEDED, ClientStatus, JobStatus
from fedloom.api.transfer import learns_from_others
from pipelines.deadlines import client_deadline_seconds
from pipelines.engine import RunPhase
from pipelines.plan import Plan
from pipelines.rounds import RoundPlanner
from pipelines.script_tasks import has_description
from pipelines.start import Start

RETRY = "fedloom.io/retry-at"
"""Annotation of a job, RFC 3339: failed attempts that ended before do not count."""

"""Annotation of a job: `true` ends it."""

Result = Mapping[str, Any]

_MOST_PEEK_SECONDS = 5.0
_SOURCE_SECONDS = 15.0
_NO_REASON = ("NoUpdate", "PodDeleted")
_VAGUE = ("DeadlineExceeded", "PodDeleted")


def is_reopened(document: Mapping[str, Any], status: JobStatus) -> bool:
    """Whether somebody asked for another try since the job ended."""
    asked = seconds_of((document["metadata"].get("annotations") or {}).get(RETRY))
    ended = seconds_of(status.completion_time)
    return asked is not None and (ended is None or asked > ended)


@dataclass
class _Attempt:
    """The attempt at hand: which it is, and who was given up in it and why."""

    round: int = -1
    attempt: int = -1
    given_up: dict[str, Finding] = field(default_factory=dict)
    server: Finding | None = None
    seen: dict[str, ClientRun] = field(default_factory=dict)


class JobRun:
    """Observes one job and acts for it; for one thread at a time.

    Args:
        shared: what all jobs share.
        resolved: the job, complete.
        access: to its store.
    """

    def __init__(self, shared: Shared, resolved: Resolved, access: StoreAccess) -> None:
        assert resolved.job is not None
        self.access = access
        self.store = access.open()
        self.last_status: JobStatus | None = None
        self.observed: Observed | None = None
        self.untold: list[Result] = []
        """Committed rounds that nobody was told of yet."""
        self.has_old_news = False
        """Whether they include one that an earlier process may have told of."""
        self.clients: dict[str, ClientStatus] = {}
        self.pods_of_run: list[Pod] = []
        self.refusal: Decision | None = None
        """How the job ends because it cannot be run as it was described."""
        self._shared = shared
        self._attempt = _Attempt()
        self._is_recovered = False
        self.engine = engine_of(shared, resolved.job, access, self.store)
        self.observer = SharedObserver(self.store, self.engine)
        settings = shared.settings
        self._sources = JobSources(settings.tracking_uri, settings.work, self.store)
        self._take(resolved)

    def update(self, resolved: Resolved) -> None:
        """Take over an edited job; a round that runs ends as it was begun."""
        if resolved != self.resolved:
            self._take(resolved)

    def _take(self, resolved: Resolved) -> None:
        assert resolved.job is not None
        self.resolved = resolved
        # As its aggregation program described it, which holds for an edited job, too.
        self.job, self.refusal = job_as_described(resolved.job, self.observer.description)
        self.engine.job = self.job
        self.planner = RoundPlanner(self.job, resolved.datasets, resolved.models)
        self._placements = placements_of(self.job, resolved.datasets)
        shown = clients_of(self.job)[:MOST_CLIENTS_SHOWN]
        self._shown = frozenset(client.name for client in shown)
        asked = self.job.metadata.annotations.get(RETRY)
        self.observer.forgive_before = seconds_of(asked) or 0.0

    def observe(self) -> tuple[Observed, list[Result]]:
        """Look at everything; give also the rounds committed since this was last asked.

        Raises JobError where the store refuses, TransientError where it does not answer.
        """
        is_first = not self._is_recovered
        if is_first:
            self.observer.recover()
            self._is_recovered = True
        self.observer.is_expecting = self._commit_seconds() is not None
        observed = self.observer.observe()
        new = self.observer.take_new()
        if any(result["round"] == 0 for result in new):
            self._take(self.resolved)
        for result in new:
            self.clients |= self._explained(client_statuses(result, self._shown))
        # Of those that another process saw committed only what stays is told, and of the last.
        self.untold += new[-1:] if is_first else new
        self.has_old_news |= is_first and bool(new)
        nodes = self._shared.nodes()
        if nodes is not None:
            observed = replace(observed, unready=unready_clients(self._placements, nodes))
        if observed.last is None and learns_from_others(self.job.spec.transfer):
            sources = self._sources.look(self.job, self.resolved.sources)
            observed = replace(observed, sources=sources)
        self.pods_of_run = self._pods_of(observed)
        self.observed = observed
        return observed, new

    @property
    def is_settled(self) -> bool:
        """Whether nothing that round 0 finds out can change the job any more."""
        return self.observer.last is not None or not has_description(self.job.spec)

    def plan(self, start: Start) -> Plan:
        return self.planner.plan(start)

    def reap(self, observed: Observed) -> Iterator[reaper.Verdict]:
        """End what holds up the attempt at hand; give whom and why, each once."""
        run = observed.run
        if run is None or run.phase is not RunPhase.RUNNING:
            return
        self.engine.start_server()
        nodes = {node["metadata"]["name"]: node for node in self._shared.nodes() or ()}
        limits = self._limits()
        for verdict in reaper.verdicts(self.pods_of_run, nodes, limits, time.time()):
            is_new = self._note(verdict)
            reaper.carry_out(self._shared.cluster, self.engine.pods_namespace, verdict)
            if is_new:
                yield verdict

    def next_look_seconds(self, observed: Observed) -> float | None:
        """When to look again though nothing happened."""
        now = time.time()
        if observed.last is None and learns_from_others(self.job.spec.transfer):
            seconds = _next_search_seconds(observed)
            if seconds is not None:
                return seconds
        waits = [15.0] if self.engine.close_leftovers(observed.next_round - 1) else []
        if observed.not_before > now:
            waits.append(observed.not_before - now)
        if observed.run is not None and observed.run.phase is RunPhase.RUNNING:
            at_work = self._commit_seconds()
            waits += [] if at_work is None else [min(_MOST_PEEK_SECONDS, max(0.3, at_work / 10))]
            wait = reaper.next_look_seconds(self.pods_of_run, self._limits(), now)
            asked = self.engine.next_look_seconds()
            waits += [each for each in (wait, asked) if each is not None]
        return min(waits, default=None)

    @property
    def where(self) -> dict[str, Any]:
        """Which run is at work, and where it can be seen."""
        engine = self.engine
        return {"workflow": engine.workflow, "engine": engine.name, "url": engine.url}

    def client_runs(self, observed: Observed, *, is_final: bool) -> dict[str, ClientRun]:
        """The clients of the attempt at hand, or of that with which the job has ended."""
        run = observed.run
        if run is None or (run.phase is not RunPhase.RUNNING and not is_final):
            return {}
        runs = reading.client_runs(self.engine.clients(), self.pods_of_run)
        for name, before in self._attempt.seen.items():
            if name not in runs:  # a Job that was too slow loses its pod
                gone = before.state not in (SUCCEEDED, FAILED)
                runs[name] = replace(before, state=FAILED, reason="PodDeleted") if gone else before
        for name, finding in self._attempt.given_up.items():
            node = runs[name].node if name in runs else None
            runs[name] = ClientRun(FAILED, finding.reason, node, message=finding.message)
        self._attempt.seen = {
            name: _remembered(self._attempt.seen.get(name), now) for name, now in runs.items()
        }
        return dict(self._attempt.seen)

    def _explained(self, clients: dict[str, ClientStatus]) -> dict[str, ClientStatus]:
        """Say why a client sent nothing, which the server cannot know but its pod has told."""
        at_hand = self._attempt
        unknown = [
            name
            for name, client in clients.items()
            if client.state == FAILED and client.reason in _NO_REASON
            if client.last_round == at_hand.round
        ]
        pods = self.engine.pods_of(at_hand.round, at_hand.attempt) if unknown else ()
        told = reading.client_runs({}, pods)  # since the last look
        for name in unknown:
            client, run = clients[name], at_hand.seen.get(name)
            if run is None or run.reason in (None, *_NO_REASON):
                run = told.get(name, run)
            if run is not None:
                reason, node = run.reason or client.reason, run.node or client.node_name
                clients[name] = replace(client, reason=reason, node_name=node)
        return clients

    def _commit_seconds(self) -> float | None:
        """For how long the pod that commits is at work; None where it is not."""
        return self.engine.commit_seconds(time.time())

    def _pods_of(self, observed: Observed) -> list[Pod]:
        run = observed.run
        if run is None:
            return []
        if (self._attempt.round, self._attempt.attempt) != (run.round, run.attempt):
            self._attempt = _Attempt(run.round, run.attempt)
            self.engine.server_finding = None
        return self.engine.pods_of(run.round, run.attempt)

    def _note(self, verdict: reaper.Verdict) -> bool:
        finding = Finding(verdict.reason, verdict.message)
        if verdict.client is None:
            is_new, self._attempt.server = self._attempt.server is None, finding
            self.engine.server_finding = finding
            return is_new
        is_new = verdict.client not in self._attempt.given_up
        self._attempt.given_up[verdict.client] = finding
        return is_new

    def _limits(self) -> reaper.Limits:
        settings = self._shared.settings
        return reaper.Limits(
            deadline_seconds=client_deadline_seconds(self.job),
            grace_seconds=settings.deadline_grace_seconds,
            lost_node_seconds=settings.lost_node_seconds,
        )


def _next_search_seconds(observed: Observed) -> float | None:
    """When to look for sources again; None where the job need not, or has begun."""
    if observed.run is not None and observed.run.phase is RunPhase.RUNNING:
        return None
    if observed.sources is None:
        return LOOK_SECONDS
    return None if observed.sources.waiting is None else _SOURCE_SECONDS


def _remembered(before: ClientRun | None, now: ClientRun) -> ClientRun:
    """Keep why a client did not start, or did fail, where its end tells no more than that it was late."""
    is_vague = now.state == FAILED and now.reason in _VAGUE
    if not is_vague or before is None or before.reason in (None, *_VAGUE):
        return now
    return replace(now, reason=before.reason, message=before.message)
