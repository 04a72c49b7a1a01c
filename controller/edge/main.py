"""`fedloom local-controller`: the process of one edge node. Its settings are variables; see `settings`."""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import ssl
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from controller.cluster.logs import log_as_lines
from controller.edge.counting import Counting
from controller.edge.holding import Holding
from controller.edge.identity import Enrolment
from controller.edge.loops import Downstream, Loop, Upstream
from controller.edge.samples import Samples
from controller.edge.settings import Settings, read_settings
from controller.edge.storage import Storage
from controller.edge.workers import Workers
from controller.link.serving import Server
from fedloom.errors import FedloomError, InvalidJobError

log = logging.getLogger("fedloom.controller")

_IDENTITY_SECONDS = 2.0


class LocalController:
    """All parts of a local controller, put together."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._storage = Storage(settings.state, settings.messages)
        self._holding = Holding(self._storage, settings.node)
        self._enrolment = Enrolment(
            settings.state, settings.cloud, settings.authority, settings.token, settings.node
        )
        samples = Samples(settings.data, settings.data_prefix)
        self._counting = Counting(self._storage, samples, settings.node)
        self._upstream = Upstream(self._storage, self._enrolment, settings.cloud)
        self._look_now = threading.Event()
        downstream = Downstream(
            self._storage, self._holding, self._enrolment, settings.cloud, self._changed
        )
        doubt = self._enrolment.doubt
        self._loops = {
            "identity": Loop("identity", self._identify),
            "downstream": Loop("downstream", downstream.turn, doubt, downstream.line),
            "upstream": Loop("upstream", self._upstream.turn, doubt, self._upstream.line),
            "counting": Loop("counting", self._count),
        }
        self._servers: list[Server] = []
        self._stopping = threading.Event()

    def start(self) -> None:
        """Listen, and begin all loops."""
        own = tuple(host for host, _ in self._settings.worker_listen if host)
        workers = Workers(
            self._storage, self._holding, self._settings.worker_networks, own, self._health
        )
        for address in self._settings.worker_listen:
            self._servers.append(Server(address, workers.respond))
        if self._settings.listen is not None:
            server = Server(self._settings.listen, self._holding.respond, self._context)
            self._servers.append(server)
        for loop in self._loops.values():
            loop.start()

    def run(self) -> int:
        """Work until stopped."""
        self.start()
        ports = [server.port for server in self._servers]
        log.info("local controller of node %s listens at ports %s", self._settings.node, ports)
        self._stopping.wait()
        self.close()
        return 0

    def stop(self) -> None:
        self._stopping.set()

    def close(self) -> None:
        """Answer no more; what is on disk is what is taken up again."""
        for loop in self._loops.values():
            loop.stop()
        self._look_now.set()
        self._storage.changed.set()
        for server in self._servers:
            server.close()
        for loop in self._loops.values():
            loop.join()
        self._storage.close()

    def _context(self) -> ssl.SSLContext:
        try:
            return self._enrolment.credentials().to_serve()
        except FedloomError as error:
            raise ConnectionRefusedError(str(error)) from error

    def _identify(self) -> float:
        self._enrolment.look()
        return _IDENTITY_SECONDS

    def _count(self) -> float:
        self._look_now.wait(self._settings.count_seconds)
        self._look_now.clear()
        self._counting.look()
        return 0.0

    def _changed(self, is_another_cloud: bool) -> None:
        if is_another_cloud:
            self._counting.say_again()
        self._look_now.set()

    def _health(self) -> Mapping[str, Any]:
        troubles = {name: loop.trouble for name, loop in self._loops.items() if loop.trouble}
        return {
            "node": self._settings.node,
            "held": len(self._storage.held()),
            "waiting": self._storage.waiting(),
            "sent": self._upstream.sent,
            "refused": self._upstream.refused,
            "troubles": troubles,
        }


def main(environ: Mapping[str, str] = os.environ) -> int:
    """Run until a signal ends it; give the process's exit code."""
    log_as_lines()
    try:
        settings = read_settings(environ)
        settings.state.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = _alone(settings.state)
        controller = LocalController(settings)
    except InvalidJobError as error:
        for problem in error.problems:
            log.error("%s", problem)
        return 2
    except (FedloomError, OSError) as error:
        log.error("%s", error)
        return 1
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: controller.stop())
    try:
        return controller.run()
    finally:
        os.close(lock)


def _alone(folder: Path) -> int:
    """Wait until no other process works in this folder; the kernel lets go of a dead one's lock."""
    number = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    has_said = False
    while True:
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return number
        except BlockingIOError:
            if not has_said:
                log.info("another local controller works in %s: waiting for its end", folder)
            has_said = True
            time.sleep(0.2)
