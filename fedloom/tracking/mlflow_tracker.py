"""The one door to MLflow: a Tracker that keeps runs and models there.

One run per job, found by its uid; one logged model and one version per registered round;
mlflow/README.md lists every name. Only `MlflowClient` is used: leaving `mlflow.start_run` would end
the run, and the fluent API prints and guesses. What mlflow-skinny and a database need is enough.
"""

from __future__ import annotations

import functools
import json
import sqlite3
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    LoggedModelOutput,
    LoggedModelStatus,
    Metric,
    Param,
    RunTag,
)
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.tracking import MlflowClient

from fedloom.errors import ArtifactNotFoundError, TrackingUnavailableError
from fedloom.tracking import vocabulary
from fedloom.tracking.addresses import is_database, make_whole, page_of
from fedloom.tracking.measurements import measure, measure_all
from fedloom.tracking.model_folder import ModelFolder
from fedloom.tracking.outages import outages
from fedloom.tracking.paging import batches, pages
from fedloom.tracking.registry import version_tags
from fedloom.tracking.tracker import JobDescription, Result, Run, Status

_METRICS_PER_BATCH = 1000
_ENTITIES_PER_BATCH = 100


class MlflowTracker:
    """A Tracker on an MLflow server or database.

    `artifact_location` is where models go when the URI is a database and the experiment is new.
    """

    def __init__(self, tracking_uri: str, artifact_location: str | None = None) -> None:
        self.address = vocabulary.without_credentials(tracking_uri)
        self._uri = tracking_uri
        self._location = artifact_location if is_database(tracking_uri) else None

    @outages
    def begin(self, description: JobDescription) -> Run:
        """Find the run by the job's uid and reopen it, or create it."""
        make_whole(self._uri, lambda path: create_schema(path, self._location or "mlruns"))
        mlflow.set_tracking_uri(self._uri)  # the registry resolves models:/m-... through it
        self._client = MlflowClient(tracking_uri=self._uri)
        self._description = description
        self._clients = sum(dataset.context == "training" for dataset in description.datasets)
        self._folder: ModelFolder | None = None
        self._versions: dict[tuple[str, str], str] = {}  # by round and digest
        self._unversioned: dict[tuple[str, str], str] = {}  # ids of logged models
        self._holds_alias = False
        self._experiment_id = self._find_experiment()
        found = self._client.search_runs(
            [self._experiment_id],
            f"tags.`{vocabulary.UID_TAG}` = '{description.uid}'",
            max_results=1,
            order_by=["attributes.start_time ASC"],
        )
        if found:
            self._run_id = found[0].info.run_id
            self._client.update_run(self._run_id, status="RUNNING")
            self._find_models()
        else:
            tags = vocabulary.run_tags(description)
            run = self._client.create_run(self._experiment_id, tags=tags, run_name=description.name)
            self._run_id = run.info.run_id
        self._describe(found[0] if found else None)
        page = page_of(self._uri, self._experiment_id, self._run_id)
        return Run(self._experiment_id, self._run_id, page)

    @outages
    def record(self, results: Sequence[Result]) -> None:
        """Log all numbers of these rounds; the time of each is its round's end, so repeats fall together."""
        metrics = [
            Metric(key, value, int(result["finished"] * 1000), result["round"])
            for result in results
            for key, value in measure_all(result, self._clients).items()
        ]
        for batch in batches(metrics, _METRICS_PER_BATCH):
            self._client.log_batch(self._run_id, metrics=batch)
        told = (vocabulary.privacy_tags(each) | vocabulary.transfer_tags(each) for each in results)
        tags = [RunTag(*pair) for each in told for pair in each.items()]
        if tags:
            self._client.log_batch(self._run_id, tags=tags)

    @outages
    def register(self, result: Result, model_file: Path) -> str:
        """Log the round's model and make a version of it, going on where an earlier try stopped.

        Raises ArtifactNotFoundError if the model file is not there.
        """
        if not model_file.is_file():
            raise ArtifactNotFoundError(str(model_file))
        key = (str(result["round"]), result["model"]["digest"])
        name = self._registered_model()
        tags = vocabulary.model_tags(self._description, result) | version_tags(result, model_file)
        if key not in self._versions:
            model_id = self._unversioned.get(key) or self._log_model(result, model_file, tags)
            self._create_registered_model(name)
            version = self._client.create_model_version(
                name, f"models:/{model_id}", self._run_id, tags, model_id=model_id
            )
            self._versions[key] = str(version.version)
        if self._description.save_policy == "every":
            self._move_alias(self._versions[key], may_take=False)
        return self._versions[key]

    @outages
    def finish(self, status: Status, champion_round: int | None) -> None:
        """End the run. A finished job takes the alias; one that failed only where it takes it from none."""
        for (number, _), version in self._versions.items():
            if number == str(champion_round):
                self._move_alias(version, may_take=status == "FINISHED")
        self._client.set_terminated(self._run_id, status)

    def _find_experiment(self) -> str:
        name = vocabulary.experiment_name(self._description)
        found = self._client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(self._client.create_experiment(name, self._location))
            except MlflowException as error:
                found = self._client.get_experiment_by_name(name)
                if found is None or error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
        if found.lifecycle_stage == "deleted":
            raise TrackingUnavailableError(
                f"MLflow at {self.address}: experiment {name!r} was deleted; "
                "restore it, or purge it with `mlflow gc`"
            )
        return str(found.experiment_id)

    def _describe(self, run: Any) -> None:
        """Log parameters and data sources that the run does not have yet.

        MLflow never changes a parameter: where a resumed job has another value the run keeps the
        first, and a tag says what it became.
        """
        wanted = vocabulary.parameters(self._description)
        there: dict[str, str] = dict(run.data.params) if run else {}
        new = [Param(key, value) for key, value in wanted.items() if key not in there]
        for batch in batches(new, _ENTITIES_PER_BATCH):
            self._client.log_batch(self._run_id, params=batch)
        changed = {
            key: f"{there[key]} -> {v}" for key, v in wanted.items() if there.get(key, v) != v
        }
        if changed:
            tag = RunTag(vocabulary.CHANGED_TAG, vocabulary.cut(json.dumps(changed), 5000))
            self._client.log_batch(self._run_id, tags=[tag])
        logged = run.inputs.dataset_inputs if run and run.inputs else []
        known = {(each.dataset.name, each.dataset.digest) for each in logged}
        inputs = [
            _dataset_input(key, entry)
            for key, entry in vocabulary.datasets(self._description).items()
            if key not in known
        ]
        for part in batches(inputs, _ENTITIES_PER_BATCH):
            self._client.log_inputs(self._run_id, datasets=part)

    def _find_models(self) -> None:
        """Take stock of what an earlier process registered, and clear away what it left half done."""
        name = self._description.registered_model
        if name is None:
            return
        versions = pages(self._client.search_model_versions, f"run_id = '{self._run_id}'")
        for version in versions:
            if version.name == name:
                self._versions[vocabulary.round_of(version.tags)] = str(version.version)
        models = pages(
            functools.partial(self._client.search_logged_models, [self._experiment_id]),
            f"source_run_id = '{self._run_id}'",
        )
        for model in models:
            if model.status != LoggedModelStatus.READY:
                self._client.delete_logged_model(model.model_id)
            elif (key := vocabulary.round_of(model.tags)) not in self._versions:
                self._unversioned[key] = model.model_id

    def _log_model(self, result: Result, model_file: Path, tags: dict[str, str]) -> str:
        """Log the round's model with its metrics; give its id."""
        number = result["round"]
        model = self._client.create_logged_model(
            self._experiment_id, f"round-{number:04d}", self._run_id, tags
        )
        folder = self._model_folder()
        with tempfile.TemporaryDirectory(prefix="fedloom-model-") as temporary:
            root = Path(temporary)
            folder.write(root, model_file)
            description = Model(
                run_id=self._run_id,
                model_id=model.model_id,
                model_size_bytes=sum(f.stat().st_size for f in root.rglob("*") if f.is_file()),
            )
            flavor = folder.flavor(result["model"]["uri"])
            description.add_flavor("python_function", **flavor).save(str(root / "MLmodel"))
            self._client.log_model_artifacts(model.model_id, str(root))
        metrics = [
            Metric(key, value, int(result["finished"] * 1000), number, model_id=model.model_id)
            for key, value in measure(result).items()
        ]
        self._client.log_batch(self._run_id, metrics=metrics)
        self._client.log_outputs(self._run_id, [LoggedModelOutput(model.model_id, number)])
        self._client.finalize_logged_model(model.model_id, "READY")
        return str(model.model_id)

    def _model_folder(self) -> ModelFolder:
        if self._folder is None:
            script = self._description.script
            self._folder = ModelFolder(
                Path(script) if script else None, self._description.requirements
            )
        return self._folder

    def _registered_model(self) -> str:
        name = self._description.registered_model
        if name is None:
            raise ValueError("register was called for a job without output.registeredModel")
        return name

    def _create_registered_model(self, name: str) -> None:
        if self._versions:
            return
        try:
            self._client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def _move_alias(self, version: str, *, may_take: bool) -> None:
        """Put the alias on a version. Unless `may_take`, not if it is on another job's."""
        alias, name = self._description.alias, self._registered_model()
        if alias is None:
            return
        if not (may_take or self._holds_alias):
            try:
                holder = self._client.get_model_version_by_alias(name, alias)
                if holder.tags.get(vocabulary.UID_TAG) != self._description.uid:
                    return
            except MlflowException as error:
                if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                    raise  # those two mean that no version has it
        self._client.set_registered_model_alias(name, alias, version)
        self._holds_alias = True


def open_client(tracking_uri: str) -> MlflowClient:
    """A client of whatever stands behind the URI; nothing is contacted."""
    mlflow.set_tracking_uri(tracking_uri)
    return MlflowClient(tracking_uri=tracking_uri)


def download(uri: str, folder: Path) -> Path | None:
    """Bring one artifact into the folder; None where there is none."""
    try:
        return Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(folder)))
    except (MlflowException, OSError):
        return None


def create_schema(path: Path, artifact_root: str = "mlruns") -> None:
    """Write a SQLite file with MLflow's tables.

    Made in memory, where its seventy migrations do not wait for a disk: half the time. The default
    experiment, which is in there too, keeps its artifacts in `artifact_root`.
    """
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    store: Any = SqlAlchemyStore
    engine = store("sqlite:///:memory:", artifact_root).engine
    with closing(engine.raw_connection()) as source, closing(sqlite3.connect(path)) as target:
        source.driver_connection.backup(target)
    engine.dispose()


def _dataset_input(key: tuple[str, str], entry: dict[str, str]) -> DatasetInput:
    tags = [InputTag(name, value) for name, value in entry.items() if name != "source"]
    source = entry["source"]
    kind = source.partition("://")[0] if "://" in source else "local"
    dataset = Dataset(*key, source_type=kind, source=json.dumps({"uri": source}))
    return DatasetInput(dataset, tags)
