"""State folders as runs leave them, written by hand: any number of rounds, clients and surprises."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cli.report import write_report
from fedloom.artifacts.arrays import dump_arrays

UID = "12345678-0000-4000-8000-000000000000"
START = 1_700_000_000.0
VOID = {"meta", "br", "link", "img", "input", "hr"}


def client(number: int = 0, start: float = START, **changes: Any) -> dict[str, Any]:
    """A client of a result that succeeded."""
    return {
        "state": "Succeeded",
        "reason": None,
        "message": None,
        "num_examples": 100 + number,
        "num_steps": 4,
        "seconds": 0.5 + number / 1000,
        "uplink_bytes": 1000,
        "downlink_bytes": 4200,
        "metrics": {"loss": 0.4},
        "digest": "sha256:" + "a" * 64,
        "node": None,
        "steps": {"train": [start, start + 0.4], "compress": [start + 0.4, start + 0.5]},
        **changes,
    }


def failed(reason: str = "ScriptFailed", message: str = "it broke") -> dict[str, Any]:
    """A client of a result that failed."""
    unknown = ("num_examples", "num_steps", "seconds", "uplink_bytes", "downlink_bytes", "digest")
    state = {"state": "Failed", "reason": reason, "message": message}
    return {**client(), **state, **dict.fromkeys(unknown), "metrics": {}, "steps": {}}


@dataclass
class RunFolder:
    """A state folder that a test fills."""

    root: Path
    namespace: str = "default"
    name: str = "digits"
    spec: dict[str, Any] = field(default_factory=dict)

    @property
    def artifacts(self) -> Path:
        return self.root / "artifacts" / self.namespace / f"{self.name}-{UID[:8]}"

    def write_record(self, **changes: Any) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        spec = {
            "rounds": 3,
            "training_workers": [{}, {}],
            "algorithm": {"name": "fedavg", "parameters": {}},
            "compression": {"uplink": {"codec": "int8"}, "downlink": {"codec": "none"}},
            "participation": {"retries": 1, "min_clients": 1, "clients_per_round": 2},
            **self.spec,
        }
        record = {"namespace": self.namespace, "name": self.name, "uid": UID, "created": START}
        (self.root / "job.json").write_text(json.dumps({**record, "spec": spec, **changes}))

    def write_round(
        self, number: int, clients: dict[str, Any] | None = None, **changes: Any
    ) -> Path:
        """Write a round's result.json as `commit` does: sorted keys."""
        start = START + 2 * number
        clients = {"a": client(0, start), "b": client(1, start)} if clients is None else clients
        clients = clients if number else {}
        result = {
            "job": {"namespace": self.namespace, "name": self.name, "uid": UID},
            "round": number,
            "rounds": self.spec.get("rounds", 3),
            "attempt": 1,
            "started": start,
            "finished": start + 1.0,
            "seconds": 1.0,
            "metrics": {"accuracy": 1 - 0.5**number, "train/loss": 0.5**number} if number else {},
            "clients": clients,
            "server": {"steps": {"aggregate": [start + 0.6, start + 0.9]}},
            "traffic": {
                key: sum(one.get(key) or 0 for one in clients.values() if isinstance(one, dict))
                for key in ("uplink_bytes", "downlink_bytes")
            },
            "model": self.write_model(number),
            "state": {},
            **changes,
        }
        return self.write(f"round-{number:04d}/result.json", result)

    def write_attempt(self, number: int, attempt: int, **changes: Any) -> Path:
        document = {
            "round": number,
            "attempt": attempt,
            "finished": START,
            "reason": "TooFewClients",
            "message": f"round {number} needs 2 updates, got 1",
            "clients": {"b": failed()},
            **changes,
        }
        return self.write(f"round-{number:04d}/attempt-{attempt}.json", document)

    def write_model(self, number: int) -> dict[str, Any]:
        key = f"round-{number:04d}/model.safetensors"
        data = dump_arrays({"w": np.zeros((10, 100), np.float32)})
        path = self.artifacts / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        digest = "sha256:" + "d" * 64
        return {"key": key, "uri": path.as_uri(), "digest": digest, "size_bytes": len(data)}

    def write(self, key: str, document: Any) -> Path:
        path = self.artifacts / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document, sort_keys=True))
        return path

    def write_run(self, rounds: int = 3) -> None:
        """A whole run that went well."""
        self.write_record()
        for number in range(rounds + 1):
            self.write_round(number)

    def report(self) -> str:
        """Write the page, check that it is well-formed, and give it."""
        output = self.root / "report.html"
        write_report(self.root, output)
        text = output.read_text(encoding="utf-8")
        check_page(text)
        return text


class PageCheck(HTMLParser):
    """Every tag is closed in its order, and nothing of the page runs or is fetched."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag, attributes):
        assert tag not in ("script", "iframe", "object", "embed", "img", "link", "form", "base")
        for name, value in attributes:
            assert not name.startswith("on"), (tag, name)
            assert name not in ("src", "srcset", "xlink:href", "style"), (tag, name)
            assert name != "href" or value.startswith(("http://", "https://")), value
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes nothing"


def check_page(text: str) -> None:
    check = PageCheck()
    check.feed(text)
    check.close()
    assert check.open == []
    assert check.tags.count("html") == check.tags.count("main") == check.tags.count("h1") == 1
    assert "url(" not in text
    assert "@import" not in text


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "state")


@pytest.fixture
def succeeded():
    return client


@pytest.fixture
def failing():
    return failed
