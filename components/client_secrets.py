"""What a client keeps secret for one attempt of secure aggregation, on its own node.

One file per client beside its edge state, readable by its owner alone. A new attempt writes it anew, so
the secrets of an older one are gone by then; an attempt that ends takes them out at once. What stays is
which survivors the client answered for, so that it answers for no others.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from fedloom.artifacts.files import disk_error, remove_if_there
from fedloom.errors import UpdateError
from fedloom.keys.agreement import KEY_BYTES, KeyPair

_FOLDER = ".secrets"
_HEX = ("share_key", "mask_key", "seed")
_RECORDS = ("roster", "masked", "answered", "uplink_bytes", "downlink_bytes")


@dataclass(frozen=True)
class Secrets:
    """A client's secrets of one session, and what it has done with them.

    Attributes:
        session: whose they are.
        share_key: private key for what is sealed for this client.
        mask_key: private key for the masks it shares with each other client.
        seed: of its own mask.
        roster: digest of the roster it shared them among.
        masked: digest of its masked update.
        answered: digest of the survivors that it answered for.
        uplink_bytes, downlink_bytes: of its messages so far, without its update.
    """

    session: str
    share_key: bytes = field(repr=False)
    mask_key: bytes = field(repr=False)
    seed: bytes = field(repr=False)
    roster: str | None = None
    masked: str | None = None
    answered: str | None = None
    uplink_bytes: int = 0
    downlink_bytes: int = 0

    @property
    def is_spent(self) -> bool:
        return not self.seed

    @cached_property
    def share_pair(self) -> KeyPair:
        return KeyPair.of(self.share_key)

    @cached_property
    def mask_pair(self) -> KeyPair:
        return KeyPair.of(self.mask_key)


class ClientSecrets:
    """The secrets of one client on this node."""

    def __init__(self, edge: Path, client: str) -> None:
        self._folder = edge / _FOLDER
        self._path = self._folder / f"{client}.json"
        self._client = client

    def begin(self, session: str) -> Secrets:
        """Make new secrets for a session; whatever was there before is gone."""
        share_key, mask_key, seed = (os.urandom(KEY_BYTES) for _ in _HEX)
        secrets = Secrets(session, share_key, mask_key, seed)
        self._write(secrets)
        return secrets

    def find(self, session: str) -> Secrets | None:
        """Give the secrets of a session, spent or not; None where there are none."""
        try:
            document = json.loads(self._path.read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        if document.get("session") != session:
            return None
        share_key, mask_key, seed = (bytes.fromhex(document[name]) for name in _HEX)
        records: dict[str, Any] = {name: document[name] for name in _RECORDS}
        return Secrets(session, share_key, mask_key, seed, **records)

    def get(self, session: str) -> Secrets:
        """Give the unspent secrets of a session. Raises UpdateError `SecretsLost`."""
        secrets = self.find(session)
        if secrets is None or secrets.is_spent:
            raise UpdateError(
                "SecretsLost",
                f"client {self._client!r}: the secrets of this attempt are not on this node any "
                "more, expected them in its edge state: it is out of the attempt",
            )
        return secrets

    def record(self, secrets: Secrets, name: str, digest: str, sizes: tuple[int, int]) -> Secrets:
        """Write down what is done with the secrets, before it is done.

        `name`: roster, masked or answered; `sizes`: bytes up and down. Raises UpdateError
        `DoneDifferently` where another digest stands there: a client that masked two updates with
        the same masks, or answered for two lists of survivors, would give itself away.
        """
        before = getattr(secrets, name)
        if before == digest:
            return secrets
        if before is not None:
            raise UpdateError(
                "DoneDifferently",
                f"client {self._client!r}, {name}: got {digest} after {before} in the same "
                "attempt, expected the same again",
            )
        up, down = secrets.uplink_bytes + sizes[0], secrets.downlink_bytes + sizes[1]
        changes: dict[str, Any] = {name: digest, "uplink_bytes": up, "downlink_bytes": down}
        after = replace(secrets, **changes)
        self._write(after, is_durable=name != "roster")
        return after

    def spend(self, session: str) -> None:
        """Take the secrets out; what was done with them stays."""
        secrets = self.find(session)
        if secrets is not None and not secrets.is_spent:
            self._write(replace(secrets, share_key=b"", mask_key=b"", seed=b""))

    def _write(self, secrets: Secrets, *, is_durable: bool = False) -> None:
        document: dict[str, Any] = {"session": secrets.session}
        document |= {name: getattr(secrets, name).hex() for name in _HEX}
        document |= {name: getattr(secrets, name) for name in _RECORDS}
        temporary = f"{self._path}.new"
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            remove_if_there(temporary)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "wb") as file:
                file.write(json.dumps(document).encode())
                file.flush()
                if is_durable:
                    os.fsync(descriptor)
            os.replace(temporary, self._path)
            if is_durable:
                _sync_names(self._folder)
        except OSError as error:
            raise disk_error(error, self._path) from error


def _sync_names(folder: Path) -> None:
    """Make a name that was given in a folder survive a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
