"""The engine of one job on Kubeflow Pipelines: every attempt at a round is one run of an experiment.

What Argo keeps in a Workflow stands here in a record (see `kfp_record`) and in the run itself; a backend
that does not answer is a trouble that is told and passes, never a failed attempt.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

from controller.cluster.answers import EngineUnavailableError
from controller.cluster.cancelling import is_cancelled
from controller.cluster.conditions import TrackingFacts
from controller.cluster.kfp_pods import executor_of, labelled_pods
from controller.cluster.kfp_poll import GONE, RunState
from controller.cluster.kfp_record import Record, record_of
from controller.cluster.kfp_runs import KfpRuns
from controller.cluster.kfp_submission import Tracked, check_nodes, compile_order
from controller.cluster.pods import Pod, client_of, running_seconds
from controller.cluster.resolve import Finding
from controller.cluster.shared import Shared
from controller.cluster.stores import StoreAccess
from fedloom.api.job import FederatedLearningJob
from fedloom.artifacts import layout
from fedloom.artifacts.store import Store
from pipelines.deadlines import client_deadline_seconds
from pipelines.engine import RunPhase, RunStatus
from pipelines.engines.argo_clients import ClientStatus
from pipelines.plan import Plan

_CLOSING_SECONDS = 60.0
"""How long a run may take to end after its round has."""
_LONGEST_SECONDS, _TURNS = 3_600.0, 10
"""A run whose job has a deadline is ended so long after ten times that: clients of a node take turns."""
_SUCCEEDED = ("SUCCEEDED", "SKIPPED")


class KfpEngine:
    """Runs the plans of one job; see `pipelines.engine.Engine`.

    Args:
        shared: what all jobs share.
        runs: of the backend.
        job: with its defaults.
        access: to the job's store.
        store: the same, opened.
    """

    name = "kfp"

    def __init__(
        self,
        shared: Shared,
        runs: KfpRuns,
        job: FederatedLearningJob,
        access: StoreAccess,
        store: Store,
    ) -> None:
        self._shared = shared
        self._runs = runs
        self.job = job
        self._access = access
        self._store = store
        self._made: dict[tuple[int, int], Record] = {}
        self._ends: dict[str, tuple[str, str]] = {}  # of runs by id: why they ended
        self._over: dict[str, float] = {}  # records whose round is over, and since when
        self.workflow = ""
        self.url = ""
        self.trouble: Finding | None = None
        self._tracked = Tracked()
        self.server_finding: Finding | None = None

    @property
    def pods_namespace(self) -> str:
        return self._runs.settings.namespace_of(self.job.metadata.namespace)

    def track(self, facts: TrackingFacts | None) -> None:
        """Take in where the job is tracked: its runs say so."""
        if facts is not None:
            meta = self.job.metadata
            experiment = f"{meta.namespace}/{meta.name}"
            self._tracked = Tracked(experiment, facts.run_id or "", facts.url or "")

    def submit(self, plan: Plan) -> None:
        """Make the run of a plan, or adopt the one that is there already.

        Raises JobError where the plan cannot be run like this, EngineUnavailableError where the
        backend cannot be asked, or may have made it without anybody having heard: then submit again.
        """
        self._records()
        check_nodes(self._runs.settings, self._shared.nodes() or ())
        settings = (self._shared.settings, self._runs.settings)
        made = compile_order(plan, self.job, self._access, settings, self._tracked)
        document = record_of(plan, self.pods_namespace, made.order.title, made.clients)
        record = self._runs.begin(document)
        if not record.run:
            record = self._runs.ask(record, made.order, made.secrets)
        self._made = {record.number: record}
        self._show(record)
        self.trouble = None
        self._store.put(layout.plan_key(plan.round, plan.attempt), plan.to_json(), replace=True)

    def status(self) -> RunStatus | None:
        """Say how the newest run stands; where the backend does not say, as it stood."""
        record = self.newest()
        if record is None or not (record.run or record.state):
            return None
        self._show(record)
        status = RunStatus(record.round, record.attempt, RunPhase.RUNNING)
        if not record.is_open:
            return self._ended(status, record.state, record.reason, record.message)
        state = self._state_of(record)
        if state is None or not state.has_ended:
            self._end_if_late(record)
            return status
        return self._ended(status, state.state, *self._end_of(record, state))

    def wait(self, timeout_seconds: float) -> None:
        """Nothing to wait for here: `next_look_seconds` says when to look again."""

    def close(self) -> None:
        """Ask for the end of what still runs."""
        self._runs.stop_all(self._key, self.job.metadata.uid)

    def newest(self) -> Record | None:
        """Give the record of the newest attempt at the newest round."""
        return next(iter(self._records()), None)

    def start_server(self) -> None:
        """A run starts its server's tasks itself."""

    def clients(self) -> Mapping[str, ClientStatus]:
        """What the backend says of clients is in their pods."""
        return {}

    def all_pods(self) -> list[Pod]:
        """Give the job's pods outside of runs: those of runs carry no uid."""
        return [*self._shared.pods.labelled(self.job.metadata.uid)]

    def pods_of(self, number: int, attempt: int) -> list[Pod]:
        """Give the pods of one attempt, with the labels that pods of rounds have."""
        record = self._record(number, attempt)
        if record is None or not record.run:
            return []
        return labelled_pods(self._runs.pods.labelled(record.run), record)

    def commit_seconds(self, now: float) -> float | None:
        """For how long a pod of the server's is at work; None where none is."""
        record = self.newest()
        if record is None or not record.is_open:
            return None
        pods = self.pods_of(*record.number)
        server = [pod for pod in pods if executor_of(pod) and client_of(pod) is None]
        return min(filter(None, (running_seconds(pod, now) for pod in server)), default=None)

    def next_look_seconds(self) -> float | None:
        """When it is time to ask for the run again; None where none is open."""
        record = self.newest()
        if record is None or not record.is_open or not record.run:
            return None
        return self._runs.poll.wait_seconds(record.run)

    def close_leftovers(self, committed: int) -> bool:
        """Put away runs whose round is over; say whether any of them is still at work."""
        records, is_left, now = self._records(), False, time.monotonic()
        for index, record in enumerate(records):
            if not record.is_open:
                continue
            state = self._state_of(record) if record.run else None
            is_past = record.round <= committed or index > 0 or self._was_cancelled
            if state is not None and state.has_ended:
                self._finish(record, state.state, *self._end_of(record, state))
            elif is_past and not record.run and not record.asked:
                self._finish(record, GONE, "RunDeleted", "it was never made")
            elif is_past:
                is_left = True
                if now - self._over.setdefault(record.name, now) >= _CLOSING_SECONDS:
                    self._runs.stop(record)
        self._runs.prune(records)
        return is_left

    def _finish(self, record: Record, state: str, reason: str, message: str) -> None:
        self._runs.finish(record, state, reason, message)
        self._made.pop(record.number, None)

    def _is_late(self, record: Record) -> bool:
        """Whether a run takes longer than any round can."""
        deadline = client_deadline_seconds(self.job)
        if deadline is None or not record.asked:
            return False
        each = deadline + self._shared.settings.deadline_grace_seconds
        return self._runs.clock() - record.asked > _LONGEST_SECONDS + _TURNS * each

    def _end_if_late(self, record: Record) -> None:
        """End what nothing else ends: pods that nobody makes, tasks without a client's name."""
        if self._is_late(record):
            try:
                self._runs.stop(record)
            except EngineUnavailableError as error:
                self.trouble = Finding(error.reason, str(error))

    @property
    def _key(self) -> tuple[str, str]:
        return self.job.metadata.namespace, self.job.metadata.name

    @property
    def _was_cancelled(self) -> bool:
        return is_cancelled(self.job.metadata.annotations)

    def _records(self) -> list[Record]:
        """Give the job's records, newest first, with those that the watch has not shown yet."""
        found = {each.number: each for each in self._runs.of(self._key, self.job.metadata.uid)}
        for number, record in self._made.items():
            if number not in found or not found[number].run:
                found[number] = record
        return sorted(found.values(), key=lambda each: each.number, reverse=True)

    def _record(self, number: int, attempt: int) -> Record | None:
        return next((e for e in self._records() if e.number == (number, attempt)), None)

    def _show(self, record: Record) -> None:
        self.workflow = record.title
        self.url = self._runs.settings.page_of(record.run) if record.run else ""

    def _state_of(self, record: Record) -> RunState | None:
        """Ask how a run stands; None where nobody says, and then why is told."""
        namespace = self._runs.settings.api_namespace(record.job[0])
        try:
            state = self._runs.poll.state_of(record.run, namespace)
        except EngineUnavailableError as error:
            self.trouble = Finding(error.reason, f"{error}; the controller tries again")
            return None
        self.trouble = None
        return state

    def _ended(self, status: RunStatus, state: str, reason: str, message: str) -> RunStatus:
        finding = self.server_finding
        if finding is not None:
            reason, message = finding.reason, finding.message
        phase = RunPhase.SUCCEEDED if state in _SUCCEEDED else RunPhase.FAILED
        if phase is RunPhase.SUCCEEDED:  # told where the round's result is not there
            message = message or f"{self.workflow} has ended without a model; see {self.url}"
        return replace(status, phase=phase, reason=reason, message=message)

    def _end_of(self, record: Record, state: RunState) -> tuple[str, str]:
        """Say why a run ended, found out once."""
        if record.run not in self._ends:
            self._ends[record.run] = self._explained(record, state)
        return self._ends[record.run]

    def _explained(self, record: Record, state: RunState) -> tuple[str, str]:
        run = f"run {record.title!r} ({record.run})"
        if state.state in _SUCCEEDED:
            return "", ""
        if state.state == GONE:
            return "RunDeleted", f"{run} was deleted in Kubeflow Pipelines"
        if self._is_late(record):
            return "DeadlineExceeded", f"{run} had not ended long after its clients' deadline"
        if state.is_cancelled or self._runs.was_terminated(record):
            return "RunCancelled", f"{run} was terminated in Kubeflow Pipelines"
        tasks = [
            name for name in state.failed if not name.startswith((record.name, "exit-handler-"))
        ]
        where = f": {', '.join(tasks[:5])}" if tasks else ""
        why = f": {state.message}" if state.message else ""
        return "RunFailed", f"{run} has failed{where}{why}; see {self.url}"
