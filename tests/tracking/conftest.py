"""A real MLflow on SQLite, and jobs and results to tell it about."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fedloom.artifacts.arrays import dump_arrays
from fedloom.tracking.tracker import DatasetDescription, JobDescription

HERE = Path(__file__).parent
# MLflow's own: with a SQLAlchemy newer than it, and about its own types when pyfunc is imported.
NOISE = (
    "ignore:The ``noload`` loader strategy is deprecated",
    "ignore:.*Any type hint is inferred as AnyType",
)


def pytest_collection_modifyitems(items):
    for item in (item for item in items if item.path.is_relative_to(HERE)):
        item.add_marker(pytest.mark.filterwarnings(*NOISE))


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    """MLflow writes its URI into the environment, and it phones home unless told not to."""
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory) -> Path:
    """A database with MLflow's tables, made once: that takes a second."""
    from fedloom.tracking.addresses import make_whole
    from fedloom.tracking.mlflow_tracker import create_schema

    path = tmp_path_factory.mktemp("empty") / "mlflow.db"
    make_whole(f"sqlite:///{path}", create_schema)
    return path


@pytest.fixture
def database(empty_database, tmp_path) -> Path:
    return Path(shutil.copyfile(empty_database, tmp_path / "mlflow.db"))


@pytest.fixture
def uri(database) -> str:
    return f"sqlite:///{database}"


@pytest.fixture
def client(uri):
    """MLflow's own client on the same database."""
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


class Stored:
    """What MLflow has of a job."""

    def __init__(self, client) -> None:
        self._client = client

    def run(self, job):
        experiment = self._client.get_experiment_by_name(f"{job.namespace}/{job.name}")
        query = f"tags.`sedna.io/job-uid` = '{job.uid}'"
        (run,) = self._client.search_runs([experiment.experiment_id], query)
        return run

    def steps(self, job, key="accuracy") -> list[int]:
        """The steps of every point that is stored of a metric."""
        history = self._client.get_metric_history(self.run(job).info.run_id, key)
        return [metric.step for metric in history]

    def versions(self) -> list[tuple[int, int]]:
        """(version, round) of all models registered as `digits`."""
        found = self._client.search_model_versions("name = 'digits'")
        return sorted((int(v.version), int(v.tags["sedna.io/round"])) for v in found)


@pytest.fixture
def stored(client) -> Stored:
    return Stored(client)


@pytest.fixture
def stored_at():
    from mlflow import MlflowClient

    return lambda address: Stored(MlflowClient(tracking_uri=address))


@pytest.fixture
def tracker(uri, tmp_path):
    from fedloom.tracking.mlflow_tracker import MlflowTracker

    return MlflowTracker(uri, (tmp_path / "artifacts").as_uri())


@pytest.fixture
def job() -> JobDescription:
    return JobDescription(
        namespace="fl",
        name="digits",
        uid="0000-1111",
        rounds=3,
        parameters={"algorithm": "fedavg", "learningRate": "0.1"},
        datasets=(
            DatasetDescription("digits-0", "data/0.npz", client="a"),
            DatasetDescription("digits-1", "data/1.npz", "sha256:" + "f" * 64, client="b"),
            DatasetDescription("digits-test", "data/test.npz", context="evaluation"),
        ),
        registered_model="digits",
        alias="champion",
        save_policy="every",
    )


@pytest.fixture
def weights(tmp_path):
    """Write a round's model: `w` is the identity times the round."""

    def write(number: int) -> Path:
        path = tmp_path / f"model-{number}.safetensors"
        path.write_bytes(dump_arrays({"w": np.eye(3, dtype=np.float32) * number}))
        return path

    return write


@pytest.fixture
def round_result(weights, job):
    """A committed round with clients a and b; more or other fields by keyword."""

    def make(number: int, **fields):
        clients = (
            {name: _client(0.5 / number + place) for place, name in enumerate("ab")}
            if number
            else {}
        )
        digest = hashlib.sha256(weights(number).read_bytes()).hexdigest()
        result = {
            "job": {"namespace": job.namespace, "name": job.name, "uid": job.uid},
            "round": number,
            "rounds": job.rounds,
            "attempt": 1,
            "started": 1_700_000_000.0 + number,
            "finished": 1_700_000_000.5 + number,
            "seconds": 0.5,
            "metrics": {"accuracy": 1 - 0.5 / number, "train/loss": 0.5} if number else {},
            "clients": clients,
            "server": {"steps": {}},
            "traffic": {"uplink_bytes": 200 * number, "downlink_bytes": 400},
            "model": {
                "key": "m",
                "uri": "file:///m",
                "digest": f"sha256:{digest}",
                "size_bytes": 1,
            },
            "state": {},
        }
        return result | fields

    return make


def _client(loss: float) -> dict:
    return {
        "state": "Succeeded",
        "reason": None,
        "message": None,
        "num_examples": 120,
        "num_steps": 30,
        "seconds": 0.25,
        "uplink_bytes": 100,
        "downlink_bytes": 200,
        "metrics": {"loss": loss},
        "digest": "sha256:0",
        "node": None,
        "steps": {},
    }


class PublishProcess:
    """A publish process and what it said, as a job's process holds it."""

    def __init__(self, folder: Path, program, environment: dict[str, str], round_message) -> None:
        self._round_message = round_message
        self.events: list[dict] = []
        self.log = folder / "publish.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-I", *program],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=folder,
                env={**os.environ, **environment},
            )
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def send(self, message: dict) -> None:
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        self.process.stdin.flush()

    def send_rounds(self, numbers) -> None:
        for number in numbers:
            self.send(self._round_message(number))

    def wait_for(self, event: str, timeout: float = 30.0, **fields) -> dict:
        """The first such event; fails the test if the process ends or time runs out before."""
        wanted = {"event": event, **fields}.items()
        deadline = time.monotonic() + timeout
        with self._news:
            while True:
                for found in self.events:
                    if wanted <= found.items():
                        return found
                left = deadline - time.monotonic()
                if left <= 0 or not self._reader.is_alive():
                    pytest.fail(
                        f"no {dict(wanted)} in {self.events}: {self.log.read_text()[-2000:]}"
                    )
                self._news.wait(min(left, 0.2))

    def end(self) -> int:
        """Close its standard input and give its exit code."""
        self.process.stdin.close()
        code = self.process.wait(40)
        self._reader.join()
        self.process.stdout.close()
        return code

    def kill(self) -> None:
        self.process.kill()
        self.end()

    def _read(self) -> None:
        for line in self.process.stdout:
            with self._news:
                self.events.append(json.loads(line))
                self._news.notify_all()


@pytest.fixture
def publish(tmp_path, job, uri, round_result, weights):
    """Start publish processes for the job; each is begun, and is killed at the end if it still lives."""
    started: list[PublishProcess] = []

    def round_message(number: int) -> dict:
        file = str(weights(number))
        return {"task": "round", "result": round_result(number), "model_file": file}

    def start(
        description: JobDescription = job,
        tracking_uri: str = uri,
        program=("-m", "components.publish"),
        **environment: str,
    ):
        process = PublishProcess(tmp_path, program, environment, round_message)
        started.append(process)
        begin = {
            "task": "begin",
            "description": description.as_json(),
            "tracking_uri": tracking_uri,
            "artifact_location": (tmp_path / "artifacts").as_uri(),
            "state": str(tmp_path / "tracking.json"),
        }
        process.send(begin)
        return process

    yield start
    for process in started:
        if process.process.poll() is None:
            process.kill()


@pytest.fixture
def other(job):
    """The same job under another uid: made again after it was deleted."""
    return replace(job, uid="2222-3333")
