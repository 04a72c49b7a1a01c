"""What the tests of the websocket aggregator share: an aggregator on a thread, and clients of our own."""

from __future__ import annotations

import importlib.util
import json
import threading
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from components.request import Place, Request
from components.websocket import WebsocketAttempt
from fedloom.artifacts.local import LocalStore

SCRIPT = Path(__file__).parents[1] / "scripts" / "websocket_client.py"
SECONDS = 20.0


def _loaded() -> ModuleType:
    spec = importlib.util.spec_from_file_location("websocket_client", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_SCRIPT = _loaded()


@dataclass
class Aggregator:
    """A round's server on a thread of this process."""

    request: Request
    place: Place
    port: int = 0
    error: BaseException | None = None
    attempt: WebsocketAttempt | None = None
    clients: list[Client] = field(default_factory=list)
    _ready: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> Aggregator:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(SECONDS)
        return self

    def end(self) -> Any:
        """Wait for the end; give what was found, or raise what was raised."""
        assert self._thread is not None
        self._thread.join(SECONDS)
        assert not self._thread.is_alive(), "the aggregator has not ended"
        if self.error is not None:
            raise self.error
        assert self.attempt is not None
        return self.attempt.found

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
            return json.loads(answer.read())

    def client(self, name: str, path: str = "/FedAvg") -> Client:
        self.clients.append(Client(self.port, f"trainworker-{name}", path))
        return self.clients[-1]

    def close(self) -> None:
        """Close what a test has left open."""
        for client in self.clients:
            client.close()

    def _run(self) -> None:
        try:
            self.attempt = WebsocketAttempt(self.request, self.place)
            self.attempt.run(self._listening)
        except BaseException as error:
            self.error = error
        finally:
            self._ready.set()

    def _listening(self, port: int) -> None:
        self.port = port
        self._ready.set()


class Client:
    """A client of the protocol, one message at a time."""

    def __init__(self, port: int, worker: str, path: str) -> None:
        self.worker = worker
        self.wire = _SCRIPT.Wire("127.0.0.1", port, path[1:], SECONDS)
        self.wire.limit(SECONDS)

    def subscribe(self) -> Client:
        self.say({"type": "subscribe", "client_id": self.worker})
        while self.hear() != {"type": "subscribe", "client_id": self.worker}:
            pass
        return self

    def update(self, weights: Any, examples: Any = 10) -> None:
        data = {"num_samples": examples, "weights": weights}
        self.say({"type": "update_weight", "client": self.worker, "job_name": "j", "data": data})

    def weights(self) -> dict[str, Any]:
        """Give the next global weights, passing over all other messages."""
        while (message := self.hear())["type"] != "recv_weight":
            pass
        assert message["round_number"] == message["data"]["round_number"]
        data: dict[str, Any] = message["data"]
        return data

    def say(self, document: Any) -> None:
        self.wire.send(document if isinstance(document, str) else json.dumps(document))

    def hear(self) -> Any:
        return json.loads(self.wire.receive())

    def hear_all(self) -> None:
        """Listen until something ends it."""
        while True:
            self.hear()

    def close(self) -> None:
        self.wire.close()


Serve = Callable[..., Aggregator]


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Start an aggregator for clients of these names, with settings of the step."""
    monkeypatch.setattr("components.websocket_server._CLOSE_SECONDS", 0.2)

    def start(*names: str, attempt: int = 1, **settings: Any) -> Aggregator:
        work = tmp_path / f"work-{attempt}"
        work.mkdir(exist_ok=True)
        place = Place(LocalStore(tmp_path / "store"), work, work, work, work, work)
        given = {
            "workers": {f"trainworker-{name}": name for name in names},
            "nodes": {name: f"edge-{name}" for name in names},
            "min_clients": len(names),
            "deadline_seconds": 10.0,
            "inner_rounds": 1,
            "leave_seconds": 5.0,
            "host": "127.0.0.1",
            "port": 0,
            "aggregation": {"rule": "mean", "parameters": {}, "weights": "examples"},
        }
        request = Request(
            job={"namespace": "default", "name": "old", "uid": "0" * 36},
            round=1,
            rounds=1,
            attempt=attempt,
            step="websocket",
            client=None,
            inputs={},
            outputs={"model": "round-0001/model.safetensors"},
            settings={**given, **settings},
            cohort=names,
        )
        started.append(Aggregator(request, place).start())
        return started[-1]

    started: list[Aggregator] = []
    yield start
    for aggregator in started:
        aggregator.close()


@pytest.fixture
def script() -> ModuleType:
    """The program of an old image."""
    return _SCRIPT
