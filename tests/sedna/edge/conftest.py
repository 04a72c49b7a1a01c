"""What these tests share: a controller over an API server in memory, edges as objects and as processes, and
a cable between them that can be cut."""

from __future__ import annotations

import base64
import contextlib
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from controller.cluster.main import Controller
from controller.cluster.resources import (
    CONFIG_MAPS,
    DATASETS,
    JOBS,
    MODELS,
    NODES,
    PODS,
    TOKEN_REVIEWS,
)
from controller.cluster.settings import LinkSettings
from controller.edge.main import LocalController
from controller.edge.settings import read_settings

Document = dict[str, Any]
ROOT = Path(__file__).resolve().parents[3]
ACCOUNT = "system:serviceaccount:fedloom-edge:fedloom-local-controller"


def load(name: str, path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


shared = load("cluster_controller_conftest", ROOT / "tests/cluster_controller/conftest.py")


def eventually(is_so, seconds: float = 20.0):
    until = time.monotonic() + seconds
    while not (found := is_so()):
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.02)
    return found


class LinkCluster(shared.fake.FakeCluster):
    """The API server in memory that also reviews tokens: `<anything>.<pod>.<uid>` is bound to that pod."""

    account, audiences = ACCOUNT, ["fedloom"]

    def create(self, resource, document):
        if resource != TOKEN_REVIEWS:
            return super().create(resource, document)
        self._called("create", resource)
        kind, pod, uid = document["spec"]["token"].split(".")
        key = "authentication.kubernetes.io/pod-"
        extra = {key + "name": [pod], key + "uid": [uid]} if pod else {}
        status = {
            "authenticated": kind == "good",
            "audiences": self.audiences,
            "user": {"username": self.account, "extra": extra},
        }
        return {"status": status}


class Cloud:
    """A whole controller, its API server, and what came up to it."""

    def __init__(self, work: Path, certificate_seconds: float = 3600.0) -> None:
        self.cluster = LinkCluster()
        self.work = work
        self.link = LinkSettings(
            ("127.0.0.1", 0), "fedloom-edge", "fedloom-local-controller", certificate_seconds
        )
        self.messages: list[tuple[str, str, int, Any]] = []
        self._running: list[tuple[Controller, threading.Thread]] = []

    def start(self, port: int = 0) -> Controller:
        from dataclasses import replace

        link = replace(self.link, listen=("127.0.0.1", port))
        settings = replace(shared.controller_settings(None), link=link, own_namespace="system")
        controller = Controller(settings, self.cluster)
        self._listen_in(controller)
        thread = threading.Thread(target=controller.run, daemon=True)
        thread.start()
        self._running.append((controller, thread))
        eventually(lambda: controller.link.port)
        return controller

    def stop(self) -> None:
        for controller, thread in self._running:
            controller.stop()
            thread.join(10)
        self._running.clear()

    @property
    def controller(self) -> Controller:
        return self._running[-1][0]

    @property
    def port(self) -> int:
        return self.controller.link.port

    def _listen_in(self, controller: Controller) -> None:
        """Write down what is taken, and change nothing of it."""
        upstream = controller.link._upstream
        take = upstream.take

        def listened(node, place, body, message_id):
            answer = take(node, place, body, message_id)
            round_ = (body.get("output") or {}).get("ownerInfo", {}).get("currentRound")
            sequence = int((message_id or "/0").rpartition("/")[2])
            self.messages.append((node, "/".join(place), sequence, (round_, dict(answer.more))))
            return answer

        upstream.take = listened

    def node(self, name: str, **labels: str) -> None:
        self.cluster.create(NODES, shared.node_document(name, **labels))
        pod = {
            "metadata": {"name": f"lc-{name}", "namespace": "fedloom-edge", "uid": f"uid-{name}"},
            "spec": {"nodeName": name},
        }
        self.cluster.create(PODS, pod)

    def dataset(self, name: str, node: str, url: str = "", kind: str = "txt") -> None:
        document = shared.dataset_document(name, node)
        document["spec"] |= {"url": url or f"/data/{name}", "format": kind}
        self.cluster.create(DATASETS, document)

    def job(self, name: str = "toy", clients: tuple[str, ...] = ("a", "b"), **spec: Any) -> None:
        document = shared.job_document(name, clients, **spec)
        document["metadata"]["uid"] = f"uid-{name}"
        self.cluster.create(JOBS, document)
        if self.cluster.get(MODELS, "ns", "m") is None:
            self.cluster.create(MODELS, shared.model_document("m"))

    def status(self, name: str = "toy") -> Document:
        return self.cluster.get(JOBS, "ns", name).get("status") or {}

    def condition(self, kind: str, name: str = "toy") -> Document | None:
        found = [each for each in self.status(name).get("conditions", ()) if each["type"] == kind]
        return found[0] if found else None

    def authority(self) -> bytes:
        document = eventually(
            lambda: self.cluster.get(CONFIG_MAPS, "fedloom-edge", "fedloom-edge-authority")
        )
        return document["data"]["ca.crt"].encode()


class Cable:
    """TCP from here to there, until it is cut. `freeze` keeps connections open and lets nothing through."""

    def __init__(self, port: int) -> None:
        self.target = port
        self.is_cut = self.is_frozen = False
        self.bytes = 0
        self._pairs: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        self.is_cut = True
        for each in self._pairs:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        self.is_cut = self.is_frozen = False

    def close(self) -> None:
        self.cut()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if self.is_cut:
                near.close()
                continue
            try:
                far = socket.create_connection(("127.0.0.1", self.target), 5)
            except OSError:
                near.close()
                continue
            self._pairs += [near, far]
            for ends in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=ends, daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(65536):
                while self.is_frozen and not self.is_cut:
                    time.sleep(0.02)
                self.bytes += len(piece)
                sink.sendall(piece)
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        source.close()


class Edge:
    """One node's local controller: its files, its settings, and it as an object or as a process."""

    def __init__(self, folder: Path, cloud: Cloud, name: str, port: int | None = None) -> None:
        self.name = name
        self.folder = folder / name
        self.data = self.folder / "data"
        self.data.mkdir(parents=True)
        self.token = self.folder / "token"
        self.token.write_text(f"good.lc-{name}.uid-{name}")
        self.authority = self.folder / "ca.crt"
        self.authority.write_bytes(cloud.authority())
        self.worker_port = free_port()
        self.port = free_port()
        self.environ = {
            "FEDLOOM_LC_CLOUD": f"127.0.0.1:{port or cloud.port}",
            "FEDLOOM_LC_NODE": name,
            "FEDLOOM_LC_STATE": str(self.folder / "state"),
            "FEDLOOM_LC_TOKEN": str(self.token),
            "FEDLOOM_LC_AUTHORITY": str(self.authority),
            "FEDLOOM_LC_DATA": str(self.data),
            "FEDLOOM_LC_COUNT_SECONDS": "0.1",
            "FEDLOOM_LC_WORKER_LISTEN": f"127.0.0.1:{self.worker_port}",
            "FEDLOOM_LC_LISTEN": f"127.0.0.1:{self.port}",
        }
        self.running: LocalController | None = None
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> LocalController:
        """In this process, on threads."""
        self.running = LocalController(read_settings(self.environ))
        self.running.start()
        return self.running

    def launch(self) -> None:
        """As `fedloom local-controller`, a process of its own."""
        command = [Path(sys.executable).with_name("fedloom"), "local-controller"]
        log = (self.folder / "log").open("ab")
        environ = {**os.environ, **self.environ}
        self.process = subprocess.Popen(command, env=environ, stderr=log, stdout=log)
        log.close()
        eventually(lambda: self.health() is not None)

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(10)
        if self.running is not None:
            self.running.stop()
            self.running.close()

    def post(self, worker: str, **body: Any) -> tuple[int, Document]:
        """What a Sedna worker posts."""
        content = {
            "name": worker,
            "namespace": "ns",
            "ownerName": "toy",
            "ownerKind": "default",
            "kind": "train",
            "status": "running",
            **body,
        }
        return self.send(f"/sedna/workers/{worker}/info", json.dumps(content).encode())

    def report(self, worker: str, number: int, **more: Any) -> tuple[int, Document]:
        info = {
            "currentRound": number,
            "sampleCount": 120,
            "startTime": "2026-01-01 00:00:00",
            "updateTime": f"2026-01-01 00:00:{number:02d}",
        }
        return self.post(worker, ownerInfo=info, **more)

    def send(self, path: str, data: bytes | None) -> tuple[int, Document]:
        request = urllib.request.Request(f"http://127.0.0.1:{self.worker_port}{path}", data)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    def health(self) -> Document | None:
        try:
            return self.send("/healthz", None)[1]
        except OSError:
            return None


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.fixture
def wait():
    return eventually


def two_edges(folder: Path) -> Cloud:
    made = Cloud(folder)
    for name, node in (("a", "edge-1"), ("b", "edge-2")):
        made.node(node)
        made.dataset(name, node)
    made.job()
    made.start()
    return made


@pytest.fixture
def cloud(tmp_path):
    """A running controller that knows two edges, a job with a client on each, and their Datasets."""
    made = two_edges(tmp_path)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def still(tmp_path_factory):
    """The same with a node's local controller: shared by tests that change nothing."""
    folder = tmp_path_factory.mktemp("still")
    cloud = two_edges(folder)
    one = Edge(folder, cloud, "edge-1")
    one.start()
    eventually(lambda: (one.health() or {}).get("held") == 2)
    yield cloud, one
    one.stop()
    cloud.stop()


@pytest.fixture
def edge(cloud, tmp_path):
    """Make a node's local controller; not started yet."""
    made = []

    def make(name: str = "edge-1", port: int | None = None) -> Edge:
        made.append(Edge(tmp_path, cloud, name, port))
        return made[-1]

    yield make
    for each in made:
        each.stop()


@pytest.fixture
def cable(cloud):
    made = Cable(cloud.port)
    yield made
    made.close()


@pytest.fixture
def secret_of():
    """The installation's authority, as the controller keeps it."""

    def read(cloud: Cloud):
        from controller.cluster.resources import SECRETS
        from fedloom.keys.certificates import Authority

        data = cloud.cluster.get(SECRETS, "system", "fedloom-edge-authority")["data"]
        return Authority(*(base64.b64decode(data[key]) for key in ("ca.crt", "ca.key")))

    return read
