"""Making, finding and ending runs of Kubeflow Pipelines, with the records and Secrets that go with them.

Killed between any two calls, the next process finds in the record how far the last one came: nothing was
asked for yet, then it may be; it was asked for, then the run is looked for by its name, and asked for
again only after the time in which an answer could still have come; it is known, then it is adopted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from controller.cluster.answers import ConflictError, EngineUnavailableError, RefusedError
from controller.cluster.cache import Cache
from controller.cluster.kfp_api import CALL_SECONDS, KfpApi
from controller.cluster.kfp_poll import RunPoll
from controller.cluster.kfp_record import Record, changed, key_of, read_record, read_records
from controller.cluster.kfp_settings import KfpSettings
from controller.cluster.kubernetes import Cluster, Document
from controller.cluster.resources import CONFIG_MAPS, SECRETS, WORKFLOWS

ANSWER_SECONDS = CALL_SECONDS + 10.0
"""After this long a run that was asked for and is not there will not come any more."""
RUN_LABEL = "pipeline/runid"
"""Label that every release of KFP gives to the Workflow and the pods of a run."""
_WRONG_CLOCK = 10.0  # times further ahead: then a clock was wrong
_KEPT = 10
"""How many records of ended runs a job keeps, for their logs."""
_ARCHIVED = ("ARCHIVED", "STORAGESTATE_ARCHIVED")


@dataclass(frozen=True)
class Order:
    """A run to be made.

    Attributes:
        experiment, title, description: for people; the description holds the record's name, too.
        package: what `pipeline_spec` of the API takes.
        pipeline_root: empty for the backend's own.
        plugins: settings of the backend's plugins.
    """

    experiment: str
    title: str
    description: str
    package: Mapping[str, Any]
    pipeline_root: str = ""
    plugins: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class KfpRuns:
    """All runs of one backend.

    Attributes:
        records: cache of the records, indexed by `LABEL_KEY`.
        pods: cache of the pods of runs, indexed by `RUN_LABEL`.
        clock: gives unix seconds.
    """

    cluster: Cluster
    settings: KfpSettings
    api: KfpApi
    poll: RunPoll
    records: Cache
    pods: Cache
    clock: Callable[[], float] = time.time

    def of(self, job: tuple[str, str], uid: str | None = None) -> list[Record]:
        """Give a job's records, newest first.

        Raises EngineUnavailableError as long as they cannot be read.
        """
        if not self.records.is_synced:
            why = self.records.last_error or "they are being read"
            message = f"records of runs (ConfigMaps of {self.settings.namespace or 'jobs'}): {why}"
            raise EngineUnavailableError("KfpRecordsUnreadable", message)
        return read_records(self.records.labelled(key_of(*job)), uid)

    def has_open(self, job: tuple[str, str], uid: str) -> bool:
        """Whether a run of a job may be at work; not where nobody can say now."""
        found = self.records.labelled(key_of(*job))
        return any(record.is_open for record in read_records(found, uid))

    def stop_all(self, job: tuple[str, str], uid: str) -> None:
        """Ask for the end of every open run of a job."""
        for record in self.of(job, uid):
            if record.is_open:
                self.stop(record)

    def strangers(self, job: tuple[str, str], uid: str | None) -> list[Record]:
        """Give the records of other jobs that had, or have, this name."""
        found = read_records(self.records.labelled(key_of(*job)))
        return [record for record in found if record.job_uid != uid]

    def begin(self, document: Mapping[str, Any]) -> Record:
        """Give the record of this name, made now where there is none yet."""
        meta = document["metadata"]
        found = self.cluster.get(CONFIG_MAPS, meta["namespace"], meta["name"])
        if found is None:
            try:
                found = self.cluster.create(CONFIG_MAPS, document)
            except ConflictError:
                found = self.cluster.get(CONFIG_MAPS, meta["namespace"], meta["name"])
        record = read_record(found or document)
        if found is None or record is None:
            message = f"ConfigMap {meta['namespace']}/{meta['name']} is no record of a run"
            raise EngineUnavailableError("KfpRecordsUnreadable", message)
        self.records.take("MODIFIED", found)
        return record

    def ask(self, record: Record, order: Order, secrets: Sequence[Mapping[str, Any]]) -> Record:
        """Make the run of a record where there is none; give the record with its id.

        Raises EngineUnavailableError where that cannot be known now, RefusedError where the backend
        does not take it.
        """
        found = self._found(record)  # even where nothing was asked for: records can be deleted
        if found:
            return self.note(record, run=found)
        self._await_answer(record)
        for secret in secrets:
            self._make_secret(secret, record)
        names = tuple(str(each["metadata"]["name"]) for each in secrets)
        experiment = self._experiment(order, record)
        record = self.note(record, secrets=names, asked=self.clock())
        try:
            run = self._create(record, order, experiment)
        except (EngineUnavailableError, RefusedError) as error:
            if isinstance(error, RefusedError) or not error.is_open:
                self.note(record, asked=0.0)
            raise
        return self.note(record, run=run)

    def note(self, record: Record, **values: Any) -> Record:
        """Write something down of a run."""
        record, change = changed(record, **values)
        written = self.cluster.patch(CONFIG_MAPS, record.namespace, record.name, change)
        if written is None:
            message = f"ConfigMap {record.namespace}/{record.name}, the run's record, is gone"
            raise EngineUnavailableError("KfpRecordsUnreadable", message)
        self.records.take("MODIFIED", written)
        return record

    def stop(self, record: Record) -> None:
        """Ask for the end of a run, if there is one."""
        run = record.run
        if not run and record.asked:
            run = self._found(record)
            if run:
                self.note(record, run=run)
            else:
                self._await_answer(record)
        if run:
            self._guarded(lambda: self.api.terminate_run(run))
            self.poll.hasten(run)

    def finish(self, record: Record, state: str, reason: str = "", message: str = "") -> Record:
        """Take in that a run has ended: what opens the store to its pods goes."""
        for name in record.secrets:
            self.cluster.delete(SECRETS, record.namespace, name)
        record, change = changed(record, state=state, reason=reason, message=message[:2_000])
        written = self.cluster.patch(CONFIG_MAPS, record.namespace, record.name, change)
        if written is not None:  # else somebody has deleted it: nothing is left to write down
            self.records.take("MODIFIED", written)
        self.poll.forget(record.run)
        return record

    def drop(self, record: Record) -> None:
        """Forget a run for good: end it, and delete its record with all that belongs to it."""
        if record.is_open:
            self.stop(record)
        self.cluster.delete(CONFIG_MAPS, record.namespace, record.name)
        self.poll.forget(record.run)

    def prune(self, records: Iterable[Record]) -> None:
        """Delete the records of runs that ended long ago."""
        ended = [each for each in records if not each.is_open]
        for record in sorted(ended, key=lambda each: each.number)[:-_KEPT]:
            self.drop(record)

    def was_terminated(self, record: Record) -> bool:
        """Whether somebody asked for the run's end, which an old backend calls a failure."""
        selector = f"{RUN_LABEL}={record.run}"
        found, _ = self.cluster.list(WORKFLOWS, record.namespace, selector)
        return any((each.get("spec") or {}).get("activeDeadlineSeconds") == 0 for each in found)

    def _await_answer(self, record: Record) -> None:
        """Refuse to go on as long as what was asked for may still come."""
        left = record.asked + ANSWER_SECONDS - self.clock()
        if 0 < left <= _WRONG_CLOCK * ANSWER_SECONDS:
            message = f"run {record.title!r} was asked for and is not there: looking again"
            raise EngineUnavailableError("KfpAnswerLost", message, min(5.0, left))

    def _found(self, record: Record) -> str:
        """Find the run that was asked for; of several, which one caller cannot make, keep the first."""
        namespace = self._api_namespace(record)
        found = self._guarded(lambda: self.api.find_runs(record.title, namespace))
        mine = [each for each in found if record.name in str(each.get("description", "")).split()]
        mine.sort(key=lambda each: (str(each.get("created_at")), str(each["run_id"])))
        ids = [str(each["run_id"]) for each in mine]
        for double in ids[1:]:
            self._guarded(partial(self.api.terminate_run, double))
        return ids[0] if ids else ""

    def _experiment(self, order: Order, record: Record) -> str:
        """Give the experiment's id; one that was deleted is made again, one put away brought back."""
        name, namespace = order.experiment, self._api_namespace(record)
        found = self._guarded(lambda: self.api.find_experiment(name, namespace))
        if found is None:
            text = f"Rounds of the federated learning job {'/'.join(record.job)}"
            made = self._guarded(lambda: self.api.create_experiment(name, text, namespace))
            return str(made["experiment_id"])
        experiment = str(found["experiment_id"])
        if found.get("storage_state") in _ARCHIVED:
            self._guarded(lambda: self.api.unarchive_experiment(experiment))
        return experiment

    def _create(self, record: Record, order: Order, experiment: str) -> str:
        body: Document = {
            "experiment_id": experiment,
            "display_name": order.title,
            "description": f"{order.description} {record.name}",
            "pipeline_spec": order.package,
        }
        if order.pipeline_root:
            body["runtime_config"] = {"pipeline_root": order.pipeline_root}
        if self.settings.service_account:
            body["service_account"] = self.settings.service_account
        if order.plugins:
            body["plugins_input"] = order.plugins
        made = self._guarded(lambda: self.api.create_run(body))
        if made is None:
            message = f"experiment {order.experiment!r} was deleted just now"
            raise EngineUnavailableError("KfpFailed", message, 1.0)
        return str(made["run_id"])

    def _make_secret(self, secret: Mapping[str, Any], record: Record) -> None:
        meta = dict(secret["metadata"]) | record.owner()
        try:
            self.cluster.create(SECRETS, {**secret, "metadata": meta})
        except ConflictError:  # from an earlier try: its URLs may be old
            change = {key: secret[key] for key in ("data", "stringData") if key in secret}
            self.cluster.patch(SECRETS, meta["namespace"], meta["name"], change)

    def _api_namespace(self, record: Record) -> str:
        return self.settings.api_namespace(record.job[0])

    def _guarded(self, call: Callable[[], Any]) -> Any:
        """Call the backend unless it is to be left alone; remember how it went."""
        self.poll.check()
        try:
            answer = call()
        except EngineUnavailableError as error:
            self.poll.failed(error)
            raise
        self.poll.worked()
        return answer
