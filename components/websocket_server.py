"""The server of Sedna's first protocol: connections, heartbeat, who hears what. The door to websockets.

    GET /<aggregation>      who is connected, as JSON; GET / is a sign of life
    ws://.../<aggregation>  subscribe, then an update and the global weights, again and again

Memory: what was received and not yet read is kept as it came, at most one message of each connection. One
message at a time is decoded, tensor by tensor, and goes to a file; so a round takes about what its clients
send at once, and four times its largest message. A message that the process could not decode within its
memory is refused (1009) instead of ending the aggregator for everybody: there is no other limit.

Heartbeat: a ping every 20 seconds keeps the way through routers open while clients train. An answer is not
asked for: old images block their event loop while they train, and cannot give one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable, Iterable
from http import HTTPStatus

from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.exceptions import ConnectionClosed
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.http11 import Request as HttpRequest
from websockets.http11 import Response
from websockets.protocol import State

from components.inner_loop import InnerLoop, Rounds, now, say
from components.inner_rounds import TooFewUpdatesError
from components.websocket_gathering import Terms
from components.websocket_messages import MOST_TALK_BYTES, Subscribe, joined, read_message
from fedloom.errors import UpdateError

HEARTBEAT_SECONDS = 20.0
_SUBSCRIBE_SECONDS = 60.0
_ALIVE_SECONDS = 10.0
_LOOK_SECONDS = 1.0
_CLOSE_SECONDS = 2.0  # a client that trains does not answer
_MOST_UNREAD_BYTES = 1 << 20  # talk is not repeated to who has so much to read already
_POLICY, _TRY_LATER = 1008, 1013


class WebsocketServer:
    """Serves all inner rounds of one attempt.

    Args:
        terms: who takes part, how many are enough, how long a round may take.
        rounds: combines.
        most_bytes: of one message; None for any.
        leave_seconds: how long clients have, after the last weights, to take them and leave.
    """

    def __init__(
        self,
        terms: Terms,
        rounds: Rounds,
        *,
        most_bytes: int | None = None,
        leave_seconds: float = 60.0,
    ) -> None:
        self._terms = terms
        self._rounds = rounds
        self._most_bytes = most_bytes
        self._leave_seconds = leave_seconds
        self._connections: dict[str, ServerConnection] = {}
        self._path: str | None = None
        self._sending: set[asyncio.Task[None]] = set()

    async def run(self, host: str, port: int, on_listening: Callable[[int], None]) -> None:
        """Serve until the last inner round's weights have been taken; `on_listening` gets the port.

        Raises TooFewUpdatesError where a round cannot have enough updates, JobError.
        """
        self._loop = InnerLoop(self._terms, self._rounds, self._start_sending)
        async with serve(
            self._handle,
            host,
            port,
            process_request=self._answer_get,
            compression=None,
            extensions=[ServerPerMessageDeflateFactory(compress_settings={"level": 1})],
            max_size=MOST_TALK_BYTES,
            max_queue=1,
            ping_interval=HEARTBEAT_SECONDS,
            ping_timeout=None,
            close_timeout=_CLOSE_SECONDS,
            logger=_quiet(),
        ) as server:
            on_listening(next(iter(server.sockets)).getsockname()[1])
            try:
                await self._loop.run()
            except TooFewUpdatesError as error:
                await self._dismiss(error.reason)
                raise
            await self._farewell()

    async def _handle(self, connection: ServerConnection) -> None:
        """Serve one connection from its first message to its end."""
        try:
            worker, client, said = await self._subscribed(connection)
        except UpdateError as error:
            say(f"a connection from {connection.remote_address} is refused: {error.message}")
            await connection.close(_POLICY, _reason(error))
            return
        except (TimeoutError, ConnectionClosed):
            return
        self._enter(connection, worker, client, said)
        try:
            while True:
                data = await _received(connection)
                if await self._loop.take(worker, client, data):
                    self._repeat(data.decode())
        except ConnectionClosed:
            self._note_size(connection, client)
        except UpdateError as error:
            self._loop.refuse(client, error)
            await connection.close(_POLICY, _reason(error))
        finally:
            if self._connections.get(client) is connection:
                del self._connections[client]
                self._loop.leave(client)

    async def _subscribed(self, connection: ServerConnection) -> tuple[str, str, bytes]:
        """Read who it is. Raises UpdateError where it is nobody, or somebody who is there already."""
        data = await asyncio.wait_for(_received(connection), _SUBSCRIBE_SECONDS)
        message = read_message(data)
        if not isinstance(message, Subscribe):
            raise UpdateError("MalformedMessage", "got another message first, expected subscribe")
        client = self._loop.client_of(message.worker)
        before = self._connections.get(client)
        if before is not None and await _is_alive(before):
            raise UpdateError(
                "DuplicateClient", f"client_id: {message.worker!r} is connected already"
            )
        path = self._path_of(connection)
        if self._path not in (None, path):
            expected = f"got the path {path!r}, expected {self._path!r} as the other clients have"
            raise UpdateError("OtherAggregation", expected)
        self._path = path
        return message.worker, client, data

    def _enter(self, connection: ServerConnection, worker: str, client: str, said: bytes) -> None:
        before = self._connections.pop(client, None)
        if before is not None:  # its other end is gone, as its silence has shown
            before.transport.abort()
        self._repeat(joined(worker))
        self._connections[client] = connection
        connection.protocol.max_message_size = self._most_bytes
        self._repeat(said.decode())
        self._loop.enter(client)

    def _note_size(self, connection: ServerConnection, client: str) -> None:
        sent = connection.protocol.close_sent
        if sent is not None and sent.code == 1009:
            message = (
                f"a message is larger than {self._most_bytes} bytes, what memory there is allows"
            )
            self._loop.refuse(client, UpdateError("MessageTooLarge", message))

    def _repeat(self, text: str) -> None:
        """Tell everybody, but nobody who has not read for long."""
        broadcast(self._listeners(), text)

    def _listeners(self) -> Iterable[ServerConnection]:
        for connection in self._connections.values():
            if connection.transport.get_write_buffer_size() < _MOST_UNREAD_BYTES:
                yield connection

    def _start_sending(self, client: str, payload: bytes) -> None:
        task = asyncio.create_task(_send(self._connections[client], payload))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _farewell(self) -> None:
        """Wait until all clients have taken the last weights and gone, but not for ever."""
        end = now() + self._leave_seconds
        while self._connections and now() < end:
            await self._loop.wait(end - now())

    async def _dismiss(self, reason: str) -> None:
        await asyncio.gather(*(c.close(_TRY_LATER, reason) for c in self._connections.values()))

    def _answer_get(self, connection: ServerConnection, request: HttpRequest) -> Response | None:
        """Answer a plain GET; None lets the websocket be opened."""
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return None
        clients = [{"client_id": each} for each in sorted(self._connections)]
        response = connection.respond(HTTPStatus.OK, json.dumps({"clients": clients}) + "\n")
        response.headers["Content-Type"] = "application/json"
        return response

    @staticmethod
    def _path_of(connection: ServerConnection) -> str:
        return connection.request.path if connection.request is not None else "/"


async def _received(connection: ServerConnection) -> bytes:
    """Give the next message; raises ConnectionClosed, also where the other end does not take a goodbye."""
    while True:
        with contextlib.suppress(TimeoutError):
            return await asyncio.wait_for(connection.recv(decode=False), _LOOK_SECONDS)
        if connection.state is not State.OPEN:
            await connection.close()


async def _is_alive(connection: ServerConnection) -> bool:
    """Ask whether the other end still is there."""
    try:
        await asyncio.wait_for(await connection.ping(), _ALIVE_SECONDS)
    except (TimeoutError, ConnectionClosed):
        return False
    return True


async def _send(connection: ServerConnection, payload: bytes) -> None:
    with contextlib.suppress(ConnectionClosed):
        await connection.send(payload, text=True)


def _reason(error: UpdateError) -> str:
    """Give the reason of a close frame, which is 123 bytes at most."""
    return f"{error.reason}: {error.message}".encode()[:120].decode(errors="ignore")


def _quiet() -> logging.Logger:
    """A logger that keeps the library's own stories to itself: probes and port scans are no news."""
    logger = logging.getLogger("fedloom.websocket")
    logger.setLevel(logging.CRITICAL)
    return logger
