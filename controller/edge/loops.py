"""The two loops over the link: what the cloud wants held comes down, what was said here goes up.

Both ask; the cloud never has to reach this node. Downwards the node says what it holds, and the cloud answers
with what differs, or waits until something does. Upwards one message goes at a time, in order, until the
cloud has taken it or has said that it never will.
"""

from __future__ import annotations

import logging
import random
import ssl
import threading
from collections.abc import Callable
from typing import Any

from controller.edge.holding import Holding
from controller.edge.identity import Enrolment
from controller.edge.storage import Storage
from controller.link.bodies import MESSAGE_HEADER, RESOURCES
from controller.link.calling import Line, LinkDownError
from controller.link.serving import Refusal
from fedloom.errors import FedloomError, InvalidJobError

log = logging.getLogger("fedloom.controller")

DOWNSTREAM = "/edges/downstream"
_WAIT_SECONDS = 25.0
_LATE_SECONDS = 15.0
_REFUSED_SECONDS = 10.0  # the cloud sends at once what is not held, again and again
_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 20.0
_PASSING = (401, 408, 425, 429)


class Loop:
    """Calls `turn` again and again, on a thread; it gives the seconds to wait; failures make that longer."""

    def __init__(
        self,
        name: str,
        turn: Callable[[], float],
        on_fault: Callable[[], None] = lambda: None,
        line: Line | None = None,
    ) -> None:
        self._turn = turn
        self._on_fault = on_fault
        self._line = line
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._pause = 0.0
        self.trouble = ""
        self._name = name

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Turn no more; a call over `line` is ended."""
        self._stopping.set()
        if self._line is not None:
            self._line.interrupt()

    def join(self) -> None:
        """Wait a little for the last turn to end."""
        self._thread.join(3.0)

    def _run(self) -> None:
        try:
            self._turn_on()
        finally:
            if self._line is not None:
                self._line.close()

    def _turn_on(self) -> None:
        wait = 0.0
        while not self._stopping.wait(wait):
            try:
                wait = self._turn()
                self._well()
            except FedloomError as error:
                wait = self._failed(str(error), error)
            except Exception as error:
                if self._stopping.is_set():
                    return
                log.exception("%s failed", self._name)
                wait = self._failed(repr(error), error)

    def _well(self) -> None:
        if self.trouble:
            log.info("%s: it works again", self._name)
        self.trouble, self._pause = "", 0.0

    def _failed(self, trouble: str, error: BaseException) -> float:
        if self.trouble != trouble and not self._stopping.is_set():
            log.warning("%s: %s", self._name, trouble)
        self.trouble = trouble
        cause = error.__cause__
        if isinstance(cause, ssl.SSLError) and "ALERT" in str(cause.reason):
            self._on_fault()  # the other side does not like our certificate
        grown = min(_LONGEST_PAUSE_SECONDS, max(_FIRST_PAUSE_SECONDS, 2 * self._pause))
        self._pause = grown
        return grown * random.uniform(0.8, 1.2)  # noqa: S311


class Downstream:
    """Keeps what this node holds as the cloud wants it.

    `on_change` is called after a change, with whether the cloud is another process than before.
    """

    def __init__(
        self,
        storage: Storage,
        holding: Holding,
        enrolment: Enrolment,
        cloud: tuple[str, int],
        on_change: Callable[[bool], None],
    ) -> None:
        self._epoch = ""
        self._storage = storage
        self._holding = holding
        self._enrolment = enrolment
        self._on_change = on_change
        self.line = Line(cloud, lambda: enrolment.credentials().to_connect())

    def turn(self) -> float:
        """Ask once; returns when there is something, or after half a minute."""
        wait = {"waitSeconds": _WAIT_SECONDS, "epoch": self._epoch}
        body = {"held": self._storage.held(), **wait}
        code, answer = self.line.call(
            "POST", DOWNSTREAM, body, timeout_seconds=_WAIT_SECONDS + _LATE_SECONDS
        )
        _expect(code, answer, self._enrolment)
        operations = answer.get("operations")
        if not isinstance(operations, list):
            raise LinkDownError("the cloud's answer has no list `operations`", 5.0)
        refused = sum(not self._apply(each) for each in operations)
        epoch = str(answer.get("epoch", ""))
        if operations or epoch != self._epoch:
            self._on_change(epoch != self._epoch)
        self._epoch = epoch
        return _REFUSED_SECONDS if refused else 0.0

    def _apply(self, operation: Any) -> bool:
        """Say whether one operation is taken; what is wrong with it must not keep the others away."""
        try:
            place = (operation["namespace"], operation["resource"], operation["name"])
            if place[1] not in RESOURCES:  # of a newer cloud
                return False
            version = str(operation.get("version", ""))
            document = operation.get("object")
            self._holding.apply(operation["operation"], place, document, version)
        except (InvalidJobError, Refusal, KeyError, TypeError) as error:
            log.error("the cloud sent what cannot be taken: %s", error)
            return False
        return True


class Upstream:
    """Sends messages, in order."""

    def __init__(self, storage: Storage, enrolment: Enrolment, cloud: tuple[str, int]) -> None:
        self._storage = storage
        self._enrolment = enrolment
        self.line = Line(cloud, lambda: enrolment.credentials().to_connect())
        self.sent = 0
        self.refused = 0

    def turn(self) -> float:
        """Send what waits; when nothing does, wait a little for something."""
        self._storage.changed.clear()
        while (message := self._storage.next_message()) is not None:
            body = dict(message.body)
            if message.merged:
                body["merged"] = message.merged
            header = {MESSAGE_HEADER: f"{self._storage.name}/{message.sequence}"}
            code, answer = self.line.call("POST", message.path, body, header)
            if code == 200:
                self.sent += 1
            elif 400 <= code < 500 and code not in _PASSING:
                self.refused += 1
                log.warning("the cloud refused %s: %s", message.path, answer.get("Message"))
            else:
                _expect(code, answer, self._enrolment)
            self._storage.delivered(message.sequence)
        self._storage.changed.wait(1.0)
        return 0.0


def _expect(code: int, answer: dict[str, Any], enrolment: Enrolment) -> None:
    """Raise LinkDownError for any answer but 200; with 401 the certificate is in doubt."""
    if code == 401:
        enrolment.doubt()
    if code != 200:
        raise LinkDownError(f"the cloud answers {code}: {answer.get('Message')}")
