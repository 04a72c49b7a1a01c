"""Asking the other side: one connection that is kept, TLS, JSON, bounded answers."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
from collections.abc import Callable, Mapping
from typing import Any

from fedloom.errors import TransientError
from fedloom.keys.certificates import CLOUD, host_of

_CONNECT_SECONDS = 10.0
_MOST_BYTES = 64 * 1024 * 1024


class LinkDownError(TransientError):
    """The other side cannot be reached, or stopped in the middle of an answer."""


class _Connection(http.client.HTTPSConnection):
    """Connects to an address and expects the certificate of a role there, not of a host."""

    def __init__(self, address: tuple[str, int], context: ssl.SSLContext) -> None:
        super().__init__(*address, timeout=_CONNECT_SECONDS, context=context)
        self._tls = context

    def connect(self) -> None:
        plain = socket.create_connection((self.host, self.port), _CONNECT_SECONDS)
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            self.sock = self._tls.wrap_socket(plain, server_hostname=host_of(CLOUD))
        except BaseException:
            plain.close()
            raise


class Line:
    """A line to the cloud; for one thread. `context` gives the certificates, anew for each connection."""

    def __init__(self, address: tuple[str, int], context: Callable[[], ssl.SSLContext]) -> None:
        self._address = address
        self._context = context
        self._connection: _Connection | None = None

    def call(
        self,
        method: str,
        path: str,
        body: Any,
        headers: Mapping[str, str] | None = None,
        timeout_seconds: float = 30.0,
    ) -> tuple[int, dict[str, Any]]:
        """Give status and answer. Raises LinkDownError where there is none, and hangs up."""
        text = json.dumps(body).encode()
        sent = {"Content-Type": "application/json", **(headers or {})}
        try:
            if self._connection is None:
                self._connection = _Connection(self._address, self._context())
                self._connection.connect()
            assert self._connection.sock is not None
            self._connection.sock.settimeout(timeout_seconds)
            self._connection.request(method, path, text, sent)
            response = self._connection.getresponse()
            answer = response.read(_MOST_BYTES + 1)
            if response.will_close or len(answer) > _MOST_BYTES:
                self.close()
            return response.status, _object(answer)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            where = ":".join(map(str, self._address))
            message = f"{method} {path} at {where}: {type(error).__name__}: {error}"
            raise LinkDownError(message) from error
        except BaseException:
            self.close()
            raise

    def interrupt(self) -> None:
        """End a call that another thread is in; it finds the connection broken."""
        connection = self._connection
        if connection is not None and connection.sock is not None:
            with contextlib.suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Hang up; the next call connects anew."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _object(answer: bytes) -> dict[str, Any]:
    try:
        value = json.loads(answer)
    except ValueError:
        value = None
    return value if isinstance(value, dict) else {"Message": answer[:200].decode(errors="replace")}
