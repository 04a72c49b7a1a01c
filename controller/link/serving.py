"""A small HTTP server, with or without TLS: bounded bodies, JSON answers, and who is asking.

Answers have Sedna's shape, `{"Status": 200, "Message": "OK"}`, and more beside it where there is more. A body
is refused by its announced length, before it is read. A handshake is the connection's own affair: nobody
who is slow at it keeps another waiting.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from fedloom.errors import FedloomError, InvalidJobError, TransientError
from fedloom.keys.certificates import Identity, identity_of

log = logging.getLogger("fedloom.controller")

_IDLE_SECONDS = 90.0
_HANDSHAKE_SECONDS = 10.0
_BODY_SECONDS = 60.0
_LINGER_SECONDS = 1.0
_LINGER_BYTES = 4 * 1024 * 1024
_MOST_CONNECTIONS = 4096
_PIECE = 65536
_LOOK_SECONDS = 0.1  # how long a close may wait


class Refusal(FedloomError):
    """The request is refused: an HTTP status and a sentence."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Request:
    """One request. `peer` is whose certificate the connection has, None without; `address` its IP."""

    method: str
    path: tuple[str, ...]
    headers: Mapping[str, str]
    peer: Identity | None
    address: str
    read: Callable[[int], bytes] = field(repr=False)

    def json(self, most_bytes: int) -> Any:
        """Read the body. Raises Refusal: 413 for more bytes, 411 without a length, 400 for no JSON."""
        body = self.read(most_bytes)
        try:
            return json.loads(body)
        except (ValueError, RecursionError) as error:
            raise Refusal(400, f"the body is no JSON: {str(error)[:200]}") from error


@dataclass(frozen=True)
class Answer:
    """What is answered, beside Sedna's two fields."""

    more: Mapping[str, Any] = field(default_factory=dict)
    message: str = "OK"
    code: int = 200


Respond = Callable[[Request], Answer]


class Server(http.server.ThreadingHTTPServer):
    """Answers on threads of its own until `close`; `context` asks for TLS, anew for each connection."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self,
        listen: tuple[str, int],
        respond: Respond,
        context: Callable[[], ssl.SSLContext] | None = None,
    ) -> None:
        self.respond = respond
        self._context = context
        self._room = threading.BoundedSemaphore(_MOST_CONNECTIONS)
        self._open: set[socket.socket] = set()
        if ":" in listen[0]:
            self.address_family = socket.AF_INET6
        super().__init__(listen, _Handler)
        threading.Thread(
            target=self.serve_forever, args=(_LOOK_SECONDS,), name="server", daemon=True
        ).start()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def close(self) -> None:
        """Take no more connections and end those that there are."""
        self.shutdown()
        self.server_close()
        for each in list(self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def server_bind(self) -> None:
        """As the base class, without asking DNS for a name of this host."""
        socket.socket.setsockopt(self.socket, socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._room.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def finish_request(self, request: Any, client_address: Any) -> None:
        request.settimeout(_HANDSHAKE_SECONDS)
        if self._context is None:
            self._finish(request, client_address)
            return
        try:
            secured = self._context().wrap_socket(request, server_side=True)
        except OSError as error:
            log.info("a handshake failed: %s", error, extra={"reason": str(client_address[0])})
            return
        with secured:
            self._finish(secured, client_address)

    def _finish(self, connection: socket.socket, client_address: Any) -> None:
        self._open.add(connection)
        try:
            super().finish_request(connection, client_address)
        finally:
            self._open.discard(connection)

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.info("a connection broke", extra={"reason": str(client_address[0])})


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "fedloom"
    sys_version = ""
    timeout = _IDLE_SECONDS
    disable_nagle_algorithm = True
    server: Server

    def do_GET(self) -> None:
        self._answer()

    do_POST = do_DELETE = do_PUT = do_GET  # noqa: N815 -- names of the base class

    def log_message(self, format: str, *args: object) -> None:
        return

    def _answer(self) -> None:
        self._is_read = False
        try:
            answer = self.server.respond(self._request())
        except Refusal as error:
            answer = Answer(message=str(error), code=error.code)
        except InvalidJobError as error:
            answer = Answer(message="; ".join(map(str, error.problems)), code=400)
        except TransientError as error:
            answer = Answer(message=str(error), code=503)
        except (ConnectionError, TimeoutError):
            self.close_connection = True
            return
        except Exception:
            log.exception("a request failed")
            answer = Answer(message="this server made a mistake; its log says which", code=500)
        self._send(answer)

    def _request(self) -> Request:
        peer = None
        if isinstance(self.connection, ssl.SSLSocket):
            certificate: Any = self.connection.getpeercert() or {}
            peer = identity_of(certificate.get("subjectAltName", ()))
        path = self.path.partition("?")[0].strip("/")
        parts = tuple(unquote(part) for part in path.split("/"))
        headers: Mapping[str, str] = self.headers  # type: ignore[assignment]  # asked by name, in any case
        return Request(
            self.command, parts, headers, peer, str(self.client_address[0]), self._read_body
        )

    def _read_body(self, most_bytes: int) -> bytes:
        size = self._announced()
        if size is None:
            raise Refusal(411, "got no Content-Length, expected one")
        if size > most_bytes:
            raise Refusal(413, f"the body: got {size} bytes, expected at most {most_bytes}")
        until, body = time.monotonic() + _BODY_SECONDS, bytearray()
        while len(body) < size:
            piece = self.rfile.read1(min(_PIECE, size - len(body)))
            if not piece or time.monotonic() > until:
                raise ConnectionAbortedError("the body did not come to its end")
            body += piece
        self._is_read = True
        return bytes(body)

    def _announced(self) -> int | None:
        text = self.headers.get("Content-Length", "")
        if self.headers.get("Transfer-Encoding") or not (text.isascii() and text.isdecimal()):
            return None
        return int(text[:18])

    def _send(self, answer: Answer) -> None:
        has_body = (
            self._announced() != 0 if self.command in ("POST", "PUT") else bool(self._announced())
        )
        is_unread = has_body and not self._is_read
        content = {"Status": answer.code, "Message": answer.message, **answer.more}
        text = json.dumps(content).encode()
        self.send_response(answer.code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        if answer.code == 503:
            self.send_header("Retry-After", "1")
        if is_unread:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        self.wfile.write(text)
        if is_unread:
            self._linger()

    def _linger(self) -> None:
        """Let the answer arrive: a close with bytes unread would take it back. Bounded, not to the end."""
        until, rest = time.monotonic() + _LINGER_SECONDS, _LINGER_BYTES
        try:
            self.wfile.flush()
            self.connection.settimeout(_LINGER_SECONDS)
            while rest > 0 and time.monotonic() < until:
                piece = self.rfile.read1(_PIECE)
                if not piece:
                    return
                rest -= len(piece)
        except OSError:
            return
