"""Sedna's documents, the plans and pods they become, and a server to download from."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from controller.decide import start_of
from controller.observed import Observed
from fedloom.api.documents import read_documents
from fedloom.api.lookup import datasets_of, models_of
from fedloom.api.validation import job_to_run
from fedloom.artifacts import layout
from pipelines.engines.argo import Owner, Setting
from pipelines.engines.argo_groups import groups_of
from pipelines.engines.argo_pods import pod_of
from pipelines.plan import Plan
from pipelines.rounds import RoundPlanner

UID = "8c2f1a77-5b1e-4c0e-9f57-0c8d1f0a2b3c"
DIGEST = "sha256:" + "0" * 64

Document = dict[str, Any]


def noun(kind: str, name: str, **spec: Any) -> Document:
    version = "sedna.io/v1alpha1"
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec}


def template(*, node: str | None = None, **container: Any) -> Document:
    inside = {"name": "worker", "image": "example/worker:1", "command": ["python", "train.py"]}
    spec = {"containers": [inside | container], **({"nodeName": node} if node else {})}
    return {"spec": spec}


@dataclass
class Sedna:
    """A job as Sedna's users write it; a test changes what it is about."""

    job: Document
    datasets: dict[str, Document]
    models: dict[str, Document]
    secrets: dict[str, Document] = field(default_factory=dict)

    @property
    def spec(self) -> Document:
        return self.job["spec"]

    @property
    def documents(self) -> list[Document]:
        return [self.job, *self.datasets.values(), *self.models.values(), *self.secrets.values()]

    def worker(self, index: int = 0) -> Document:
        return self.spec["trainingWorkers"][index]["template"]

    def container(self, index: int = 0) -> Document:
        return self.worker(index)["spec"]["containers"][0]

    def write(self, folder: Path) -> Path:
        path = folder / "job.yaml"
        path.write_text("".join(f"---\n{json.dumps(each)}\n" for each in self.documents))
        return path


@pytest.fixture
def sedna() -> Sedna:
    job = noun(
        "FederatedLearningJob",
        "yolo",
        aggregationWorker={"model": {"name": "out"}, "template": template()},
        trainingWorkers=[
            {"dataset": {"name": "coco-1"}, "template": template()},
            {"dataset": {"name": "coco-2"}, "template": template()},
        ],
    )
    datasets = {
        f"coco-{n}": noun(
            "Dataset", f"coco-{n}", url=f"/data/{n}/COCO", format="dir", nodeName=f"e{n}"
        )
        for n in (1, 2)
    }
    return Sedna(job, datasets, {"out": noun("Model", "out", url="/model/yolo.pth", format="pth")})


@pytest.fixture
def setting() -> Setting:
    return Setting(
        namespace="default",
        owner=Owner("sedna.io/v1alpha1", "FederatedLearningJob", "yolo", UID),
        service_account="fedloom-worker",
        steps_image="fedloom/steps:test",
        store_uri="s3://fedloom/jobs",
        edge_state_path="/var/lib/fedloom",
        dispatcher_image="fedloom/controller:test",
    )


@pytest.fixture
def planned(tmp_path: Path) -> Callable[..., Plan]:
    """Plan a round."""

    def plan(sedna: Sedna, number: int = 1) -> Plan:
        read = read_documents([sedna.write(tmp_path)])
        job = job_to_run(read)
        job = replace(job, metadata=replace(job.metadata, uid=UID))
        model = {"key": layout.model_key(0), "digest": DIGEST, "size_bytes": 0}
        last = {"round": number - 1, "model": model, "state": {}} if number else None
        planner = RoundPlanner(job, datasets_of(read, job), models_of(read, job))
        return planner.plan(start_of(job, Observed(last=last), now=0.0))

    return plan


@dataclass
class Seen:
    """A container and what surrounds it."""

    container: Document
    volumes: dict[str, Document]
    first: list[Document]

    @property
    def env(self) -> dict[str, Any]:
        names = [each["name"] for each in self.container["env"]]
        assert len(names) == len(set(names)), "a variable twice"
        return {
            each["name"]: each.get("value", each.get("valueFrom")) for each in self.container["env"]
        }

    @property
    def mounts(self) -> dict[str, Document]:
        paths = [each["mountPath"] for each in self.container["volumeMounts"]]
        assert len(paths) == len(set(paths)), "two mounts in one place"
        return {each["mountPath"]: each for each in self.container["volumeMounts"]}

    def path(self, mount: str) -> Any:
        """The hostPath behind a mount."""
        return self.volumes[self.mounts[mount]["name"]].get("hostPath")


@pytest.fixture
def seen(planned, setting) -> Callable[..., Seen]:
    """The user's container of a group of a round, its parameters filled in."""

    def look(sedna: Sedna, group: str = "client-coco-1", number: int = 1, **more: Any) -> Seen:
        from pipelines.engines.argo_containers import parameters, private_variables

        plan = planned(sedna, number)
        found = groups_of(plan)[group]
        pod = pod_of(found, plan, replace(setting, **more))
        values = parameters(found, 2) if found.client else {}
        text = json.dumps([pod.steps, pod.volumes, pod.first])
        for name, value in values.items():
            text = text.replace("{{inputs.parameters." + name + "}}", value)
        steps, volumes, first = json.loads(text)
        task = next(task for task in found.tasks if task.template is not None)
        container = next(each for each in steps if each["name"] == task.step)
        if found.client:  # what lies in the client's own Secret
            private = private_variables(task, plan)
            for entry in container["env"]:
                key = (entry.get("valueFrom") or {}).get("secretKeyRef", {}).get("key")
                if key in private:
                    entry["value"] = private[key]
        return Seen(container, {each["name"]: each for each in volumes}, first)

    return look


@dataclass
class WebServer:
    """Serves `files` (path -> bytes) with ETags; counts what was asked and what was sent whole."""

    url: str
    files: dict[str, bytes] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    asked: int = 0
    sent: int = 0
    has_etags: bool = True


@pytest.fixture
def web() -> Iterator[WebServer]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.asked += 1
            fault = found.faults.pop(0) if found.faults else ""
            data = found.files.get(self.path.partition("?")[0])
            if fault.startswith("to "):
                self.send_response(302)
                self.send_header("Location", fault.removeprefix("to "))
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if fault.isdecimal() or data is None:
                self.send_error(int(fault or 404))
                return
            tag = f'"{hash(data)}"'
            if found.has_etags and self.headers.get("If-None-Match") == tag:
                self.send_response(304)
                self.end_headers()
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            if found.has_etags:
                self.send_header("ETag", tag)
            else:
                self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
            self.end_headers()
            self.wfile.write(data[: len(data) // 2] if fault == "cut" else data)
            found.sent += 1

        def log_message(self, *_: object) -> None:
            """Not a word."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found = WebServer(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield found
    server.shutdown()
    server.server_close()
    thread.join(5)


@pytest.fixture
def host(web) -> str:
    return web.url.removeprefix("http://")


@pytest.fixture
def s3_secret(minio_server) -> Document:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": "keys",
            "annotations": {"s3-endpoint": minio_server.endpoint, "s3-usehttps": "0"},
        },
        "stringData": {
            "ACCESS_KEY_ID": minio_server.access_key,
            "SECRET_ACCESS_KEY": minio_server.secret_key,
        },
    }
