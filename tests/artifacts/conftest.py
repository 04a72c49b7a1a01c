"""A proxy that misbehaves on demand, between the S3 store and a real server."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

SLOW_DOWN = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>later</Message></Error>"


@dataclass(frozen=True)
class Fault:
    """What to do with one request.

    `kind`: `refuse` (503 after `after_bytes` of its body), `refuse-in-html` (502, as a load balancer
    would), `cut-upload` (close after `after_bytes` of its body), `cut-download` (close after
    `after_bytes` of the answer's body), `lose-answer` (served, but nobody hears of it), `stall`,
    `fail-in-200` (an error after a hasty 200, as S3 does), `not-s3` (400 in HTML).
    """

    kind: str
    after_bytes: int = 0


@dataclass
class FlakyProxy:
    """Each connection carries one request to `upstream`; `faults` are used up in order.

    A fault meets the next request whose line contains all words of its pattern; `lines` keeps every
    request line.
    """

    upstream: tuple[str, int]
    lines: list[str] = field(default_factory=list)
    faults: list[tuple[str, Fault]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()

    def plan(self, pattern: str, kind: str, *, after_bytes: int = 0, times: int = 1) -> None:
        self.faults += [(pattern, Fault(kind, after_bytes))] * times

    def count(self, pattern: str) -> int:
        return sum(pattern in line for line in self.lines)

    def stop(self) -> None:
        self._stopped.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in [self._accepting, *self._threads]:
            thread.join(10)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                self._serve_request(connection)
            except OSError:
                return  # the client went away, as it does after a time-out

    def _serve_request(self, client: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            if not (data := client.recv(65536)):
                return
            head += data
        head, body = head.split(b"\r\n\r\n", 1)
        line = head.split(b"\r\n", 1)[0].decode()
        fault = self._fault_of(line)
        length = _content_length(head)
        if fault.kind in ("refuse", "refuse-in-html", "cut-upload"):
            _read_body(client, body, min(fault.after_bytes, length))
            if fault.kind == "refuse":
                client.sendall(_answer(503, "application/xml", SLOW_DOWN))
            elif fault.kind == "refuse-in-html":
                client.sendall(_answer(502, "text/html", b"<h1>Bad Gateway</h1>"))
            return
        body = _read_body(client, body, length)
        if fault.kind == "fail-in-200":
            client.sendall(_answer(200, "application/xml", SLOW_DOWN))
            return
        if fault.kind == "not-s3":
            client.sendall(_answer(400, "text/html", b"<h1>Hello</h1>"))
            return
        if fault.kind == "stall":
            self._stopped.wait(30)
            return
        answer = self._ask(head + b"\r\nConnection: close\r\n\r\n" + body)
        if fault.kind == "cut-download":
            answer = answer[: answer.index(b"\r\n\r\n") + 4 + fault.after_bytes]
        if fault.kind != "lose-answer":
            client.sendall(answer)

    def _fault_of(self, line: str) -> Fault:
        with self._lock:
            self.lines.append(line)
            for place, (pattern, fault) in enumerate(self.faults):
                if all(word in line for word in pattern.split()):
                    del self.faults[place]
                    return fault
        return Fault("none")

    def _ask(self, request: bytes) -> bytes:
        with socket.create_connection(self.upstream) as server:
            server.sendall(request)
            return b"".join(iter(lambda: server.recv(1 << 20), b""))


def _content_length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.split(b":")[1])
    return 0


def _read_body(client: socket.socket, body: bytes, length: int) -> bytes:
    pieces = [body]
    missing = length - len(body)
    while missing > 0 and (data := client.recv(min(missing, 1 << 20))):
        pieces.append(data)
        missing -= len(data)
    return b"".join(pieces)


def _answer(status: int, content_type: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status} Later\r\nContent-Type: {content_type}\r\n"
    return f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body


@pytest.fixture
def proxy(minio_server) -> Iterator[FlakyProxy]:
    host, port = minio_server.endpoint.split(":")
    proxy = FlakyProxy((host, int(port)))
    yield proxy
    proxy.stop()
