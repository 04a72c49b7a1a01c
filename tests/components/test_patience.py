"""A step in a pod outlasts a store that is away: what the clients did would be lost with it."""

from __future__ import annotations

import http.server
import socket
import threading
from dataclasses import replace

import pytest

from components import command
from components.connection import _patient, connect
from fedloom.artifacts import presigned
from fedloom.artifacts.retry import RetryPolicy
from fedloom.errors import StoreUnavailableError

AWAY_SECONDS = 60.0


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Absent(http.server.BaseHTTPRequestHandler):
    """A store with an empty bucket."""

    def do_HEAD(self) -> None:
        is_bucket = self.path.split("?")[0].strip("/").count("/") == 0
        self.send_response(200 if is_bucket else 404)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        return


def test_a_step_finds_a_store_that_comes_back():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    store = connect(
        {
            "store": "s3://bucket/job",
            "endpoint": f"http://127.0.0.1:{port}",
            "credentials": {"access_key": "somebody", "secret_key": "something"},
            "patience_seconds": 30.0,
        }
    )
    servers = []

    def come_back() -> None:
        server = http.server.HTTPServer(("127.0.0.1", port), Absent)
        servers.append(server)
        server.serve_forever(0.05)

    timer = threading.Timer(0.6, come_back)
    timer.start()
    try:
        assert not store.exists("round-0001/result.json")
    finally:
        timer.join(0.1)
        for server in servers:
            server.shutdown()
            server.server_close()


@pytest.mark.parametrize("draw", [0.0, 0.5, 0.999], ids=["eager", "usual", "slow"])
@pytest.mark.parametrize("policy", ["cloud", "edge"])
def test_a_minute_without_the_store_costs_no_update(policy, draw):
    clock = Clock()
    known: dict[str, RetryPolicy] = {
        "cloud": _patient(command._PATIENCE_SECONDS),
        "edge": presigned._RETRY,
    }
    tried = replace(known[policy], clock=clock, sleep=clock.sleep, uniform=lambda: draw or 0.05)

    def operation() -> str:
        if clock.now < AWAY_SECONDS:
            raise StoreUnavailableError("away")
        return "stored"

    assert tried.run(operation) == "stored"
