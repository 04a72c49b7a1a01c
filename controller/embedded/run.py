"""Run a job on this machine: the loop that drives `decide` over a state folder and the local engine."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from controller.budget import privacy_notice
from controller.decide import Decision, decide
from controller.described import description_notice, job_as_described
from controller.description import describe
from controller.embedded.downloads import bring_here
from controller.embedded.events import beginning_event, finished_event, round_event
from controller.embedded.preflight import check_machine
from controller.embedded.scratch import clear_memory, memory_folder
from controller.embedded.state import StateFolder
from controller.embedded.stores import open_job_store, probe_store
from controller.embedded.tracking import (
    NoTracking,
    OpenedLater,
    PublishedTracking,
    Tracking,
)
from controller.observed import Observed
from controller.observer import Observer
from controller.sources import WAITING, Sources
from fedloom.api.compatibility import WEBSOCKET
from fedloom.api.dataset import Dataset
from fedloom.api.documents import Documents
from fedloom.api.job import FederatedLearningJob
from fedloom.api.lookup import datasets_of, models_of
from fedloom.api.model import Model
from fedloom.api.sedna import as_scripts
from fedloom.api.split_fields import is_split
from fedloom.api.transfer import learns_from_others
from fedloom.artifacts import layout
from fedloom.artifacts.store import Store
from fedloom.artifacts.transient import TransientUpdates
from pipelines.engines.local import LocalEngine
from pipelines.rounds import RoundPlanner
from pipelines.script_tasks import has_description

Event = dict[str, Any]
_LOOK_SECONDS = 1.0


@dataclass(frozen=True)
class Order:
    """What to run and how.

    Attributes:
        documents: the job's documents, as read.
        job: the job, validated, defaults filled in.
        state: the state folder.
        parallel: how many clients at once.
        tracking_uri: of an MLflow server; None for SQLite in the state folder.
        is_tracked: whether rounds go to MLflow at all.
    """

    documents: Documents
    job: FederatedLearningJob
    state: Path
    parallel: int
    tracking_uri: str | None = None
    is_tracked: bool = True


def run_embedded(order: Order, on_event: Callable[[Event], None]) -> Decision:
    """Run the job until it is final, going on after the last committed round.

    `on_event` gets `{"event": "notice" | "round" | "finished", ...}`. Raises InvalidJobError or
    StateError before anything is written; KeyboardInterrupt passes after everything was stopped.
    """
    if order.job.spec.compat == WEBSOCKET:
        message = "compat: websocket is for images; here its scripts run, and find Fedloom's sedna"
        on_event({"event": "notice", "reason": "RunsAsScripts", "message": message})
        order = replace(order, job=as_scripts(order.job))
    datasets = datasets_of(order.documents, order.job)
    models = models_of(order.documents, order.job)
    sizes = check_machine(order.job, datasets, models, order.documents.base_folder)
    probe_store(order.documents, order.job)
    with StateFolder(order.state, order.job) as state:
        store, connection = open_job_store(order.documents, state)
        settings = {
            **connection,
            "work": str(state.work),
            "memory": str(memory_folder() or state.work),
            "edge": str(state.edge),
            "logs": str(state.logs),
            "base": str(order.documents.base_folder.absolute()),
        }
        if is_split(order.job.spec):
            settings["node"] = str(state.node)
        _clear(state)
        found = bring_here(order.documents, state.job, (datasets, models), state.downloads)
        if found != (datasets, models):
            sizes = check_machine(order.job, *found, order.documents.base_folder)
        engine = LocalEngine(store, order.parallel, settings, sizes)
        run = _Run(state.job, store, engine, found, on_event)
        run.search = _search(order, state)
        try:
            return run.to_the_end(order, state)
        finally:
            engine.close()
            _clear(state)


def _search(order: Order, state: StateFolder) -> Callable[[], Sources] | None:
    """Give what looks for the sources of a job that learns from others; None for one that does not."""
    if not learns_from_others(state.job.spec.transfer):
        return None
    from controller.embedded.sources import SourceSearch  # of no concern to other jobs

    return SourceSearch(order.documents, state.job, state, order.tracking_uri).look


def _clear(state: StateFolder) -> None:
    shutil.rmtree(state.work, ignore_errors=True)
    clear_memory()


class _Run:
    """One run of the loop."""

    def __init__(
        self,
        job: FederatedLearningJob,
        store: Store,
        engine: LocalEngine,
        found: tuple[Mapping[str, Dataset], Mapping[str, Model]],
        on_event: Callable[[Event], None],
    ) -> None:
        self._job = job
        self._store = store
        self._engine = engine
        self._datasets, self._models = found
        self._planner = RoundPlanner(job, *found)
        self._on_event = on_event
        self._observer = Observer(store, engine)
        self._is_described = not has_description(job.spec)
        self._refusal: Decision | None = None
        self.search: Callable[[], Sources] | None = None
        self._sources: Sources | None = None

    def to_the_end(self, order: Order, state: StateFolder) -> Decision:
        self._observer.recover()
        last = self._observer.last
        if last is not None:
            self._notice("Resumed", f"going on after round {last['round']} in {state.root}")
        self._take_description()
        if promise := privacy_notice(self._job.spec):
            self._notice("Privacy", promise)
        tracking = self._tracking(order, state)
        try:
            for result in self._observer.take_new():
                tracking.publish(result)
            decision = self._loop(self._observe(), tracking)
        except BaseException:
            tracking.finish("KILLED")
            raise
        found = tracking.finish("FINISHED" if decision.phase == "Succeeded" else "FAILED")
        last = self._observer.last
        if decision.phase == "Succeeded" and last is not None:
            self._export(last, order.documents)
        self._on_event(finished_event(decision, last, self._observer.last_metrics(), found))
        return decision

    def _tracking(self, order: Order, state: StateFolder) -> Tracking:
        if not order.is_tracked:
            return NoTracking()
        return (
            self._published(order, state)
            if self._is_described
            else OpenedLater(lambda: self._published(order, state))
        )

    def _published(self, order: Order, state: StateFolder) -> Tracking:
        datasets = datasets_of(order.documents, self._job)  # where they lie, not where they are now
        description = describe(self._job, datasets, order.documents.base_folder)
        return PublishedTracking(state, description, order.tracking_uri, self._store, self._notice)

    def _loop(self, observed: Observed, tracking: Tracking) -> Decision:
        """observe -> decide -> act until the decision is final."""
        while True:
            self._take_description()
            decision = self._refusal or decide(self._job, observed, time.time())
            if decision.start is not None:
                if decision.start.attempt > 1:
                    self._notice(
                        "RoundRetried", f"trying again after {': '.join(observed.failure)}"
                    )
                self._engine.submit(self._planner.plan(decision.start))
            # The next round is already on its way while the last one is told and cleared up.
            for result in self._observer.take_new():
                tracking.publish(result)
                self._tell(result)
                if isinstance(self._store, TransientUpdates):
                    self._store.delete(layout.updates_folder(result["round"]))
            if decision.is_final or decision.is_waiting:
                return decision
            self._wait(decision)
            observed = self._observe()

    def _observe(self) -> Observed:
        """Look at the rounds and, before the first of a job that learns from others, at its sources."""
        observed = self._observer.observe()
        if self.search is None or observed.last is not None:
            return observed
        if self._sources is None or self._sources.waiting is not None:
            before, self._sources = self._sources, self.search()
            waiting = self._sources.waiting
            if waiting is not None and (before is None or before.waiting != waiting):
                self._notice(WAITING, waiting[1])
        return replace(observed, sources=self._sources)

    def _wait(self, decision: Decision) -> None:
        """Wait until something may have changed."""
        if decision.reason == WAITING:
            time.sleep(_LOOK_SECONDS)
        else:
            self._engine.wait(_LOOK_SECONDS)

    def _take_description(self) -> None:
        """Run the job as its aggregation program described it, once that is known."""
        description = self._observer.description
        if self._is_described or description is None:
            return
        self._is_described = True
        self._job, self._refusal = job_as_described(self._job, description)
        self._planner = RoundPlanner(self._job, self._datasets, self._models)
        self._notice(*description_notice(description))

    def _tell(self, result: Mapping[str, Any]) -> None:
        if result["round"] > 0:
            self._on_event(round_event(result))
        elif "transfer" in result:
            self._on_event(beginning_event(result["transfer"]))

    def _notice(self, reason: str, message: str) -> None:
        self._on_event({"event": "notice", "reason": reason, "message": message})

    def _export(self, last: Mapping[str, Any], documents: Documents) -> None:
        """Copy the final model to where the job's Models say."""
        from controller.embedded.export import export_model  # of no concern before the end

        for notice in export_model(documents, self._job, self._store, last):
            self._notice(*notice)
