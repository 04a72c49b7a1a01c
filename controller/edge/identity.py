"""Who this node is to the cloud: a key made here, and a certificate that the cloud signed for it.

The key never leaves the node. The cloud signs for the node of the pod that the service-account token is bound
to, whatever else is said. A certificate is asked for anew long before it ends, and whenever it does not fit
the installation's authority, which may have been replaced.
"""

from __future__ import annotations

import json
import logging
import os
import ssl
import time
from dataclasses import dataclass, field
from pathlib import Path

from controller.link.calling import Line
from controller.link.tls import client_context, server_context, stranger_context
from fedloom.errors import JobError, TransientError
from fedloom.keys import certificates

log = logging.getLogger("fedloom.controller")

ENROLMENT = "/edges/enrolment"


class NotEnrolledError(TransientError):
    """There is no usable certificate yet."""


@dataclass(frozen=True)
class Credentials:
    """A certificate, its key and whom to trust, all PEM; when to ask for another, by this node's clock."""

    certificate: bytes
    key: bytes = field(repr=False)
    authority: bytes
    renew_at: float

    def to_connect(self) -> ssl.SSLContext:
        return client_context(self.certificate, self.key, self.authority)

    def to_serve(self) -> ssl.SSLContext:
        return server_context(self.certificate, self.key, self.authority)


class Enrolment:
    """Keeps this node's credentials in a folder; `authority` and `token` are files that others keep fresh."""

    def __init__(
        self, folder: Path, cloud: tuple[str, int], authority: Path, token: Path, node: str
    ) -> None:
        self._path = folder / "identity.json"
        self._cloud = cloud
        self._authority = authority
        self._token = token
        self._node = node
        self._credentials: Credentials | None = None

    def credentials(self) -> Credentials:
        """Give what to connect with. Raises NotEnrolledError where there is nothing yet."""
        if self._credentials is None:
            raise NotEnrolledError("this node has no certificate yet", 1.0)
        return self._credentials

    def look(self) -> None:
        """Have usable credentials: those of the folder, or new ones. Raises TransientError to try again."""
        authority = self._trusted()
        kept = self._credentials or self._kept(authority)
        if kept is not None and self._is_usable(kept, authority):
            self._credentials = kept
            if time.time() < kept.renew_at:
                return
        self._enrol(authority)

    def doubt(self) -> None:
        """The cloud does not take the certificate: ask for another at the next look."""
        if self._credentials is not None:
            kept = self._credentials
            self._credentials = Credentials(kept.certificate, kept.key, kept.authority, 0.0)

    def _enrol(self, authority: bytes) -> None:
        key = certificates.new_key()
        body = {"request": certificates.request_of(key).decode()}
        try:
            token = self._token.read_text().strip()
        except OSError as error:
            raise NotEnrolledError(f"no service-account token: {error}", 5.0) from error
        line = Line(self._cloud, lambda: stranger_context(authority))
        try:
            code, answer = line.call("POST", ENROLMENT, body, {"Authorization": f"Bearer {token}"})
        finally:
            line.close()
        if code != 200:
            message = f"the cloud does not enrol this node ({code}): {answer.get('Message')}"
            raise NotEnrolledError(message, 5.0)
        if answer.get("node") != self._node:
            message = f"the cloud knows this node as {answer.get('node')!r}, not as {self._node!r}"
            raise NotEnrolledError(f"{message}: see FEDLOOM_LC_NODE", 30.0)
        certificate = str(answer.get("certificate", "")).encode()
        if not certificates.is_signed_by(certificate, authority):
            raise NotEnrolledError("the certificate is not signed by whom this node trusts", 5.0)
        renew_at = time.time() + float(answer.get("renewSeconds", 3600))
        self._credentials = Credentials(certificate, key, authority, renew_at)
        self._keep(self._credentials)
        log.info("enrolled as node %s", self._node)

    def _trusted(self) -> bytes:
        try:
            return self._authority.read_bytes()
        except OSError as error:
            raise NotEnrolledError(f"no certificate of the installation: {error}", 5.0) from error

    def _is_usable(self, kept: Credentials, authority: bytes) -> bool:
        return (
            kept.authority == authority
            and certificates.is_signed_by(kept.certificate, authority)
            and time.time() < certificates.end_of(kept.certificate)
        )

    def _kept(self, authority: bytes) -> Credentials | None:
        try:
            found = json.loads(self._path.read_text())
            certificate, key = found["certificate"].encode(), found["key"].encode()
            if found["node"] != self._node:
                return None
            certificates.request_of(key)
            return Credentials(certificate, key, authority, float(found["renewAt"]))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, JobError):
            return None

    def _keep(self, credentials: Credentials) -> None:
        content = {
            "node": self._node,
            "certificate": credentials.certificate.decode(),
            "key": credentials.key.decode(),
            "renewAt": credentials.renew_at,
        }
        new = self._path.with_suffix(".new")
        new.unlink(missing_ok=True)
        number = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(number, "w") as file:
            json.dump(content, file)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._path)
