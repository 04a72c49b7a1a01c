"""One attempt of secure aggregation, and the messages that belong to it and to nothing else.

    advertise (edge)  -> Advert per client     its two public keys
    roster (cloud)    -> Roster                everybody's, frozen
    share (edge)      -> SealedShares          the client's secrets, cut up, a sealed piece for each
    exchange (cloud)  -> Exchange, mailboxes   who shared, frozen; what is sealed for each
    compress (edge)   -> a masked update
    survivors (cloud) -> Survivors             whose updates are in the sum, frozen; the masked sum
    reveal (edge)     -> Reveal                pieces of what still masks the sum

Every message names its session and carries the digest of the frozen one before it, so that nothing
from another attempt, and nothing made from another view of this one, is taken for it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from components.request import Place, Request
from fedloom.artifacts.artifact import digest_of
from fedloom.artifacts.store import Store
from fedloom.errors import ArtifactError, UpdateError

LEAST_CLIENTS = 3
"""The sum of two updates tells each of the two the other one's."""

Read = TypeVar("Read")


def session_of(request: Request) -> str:
    """Name the attempt: what keys, messages and refusals are bound to."""
    session = {"job": request.job["uid"], "round": request.round, "attempt": request.attempt}
    return json.dumps(session, sort_keys=True)


@dataclass(frozen=True)
class Advert:
    """A client's public keys: for what is sealed for it, and for the masks it shares."""

    client: str
    share_key: bytes
    mask_key: bytes

    def to_bytes(self, session: str) -> bytes:
        keys = {"share_key": self.share_key.hex(), "mask_key": self.mask_key.hex()}
        return _dump("advert", session, {"client": self.client, **keys})

    @classmethod
    def read(cls, data: bytes, session: str, client: str) -> Advert:
        """Raises UpdateError for anything but this client's advert of this session."""
        with _reading("advert", data, session) as document:
            _check_client("advert", document["client"], client)
            keys = (bytes.fromhex(document[name]) for name in ("share_key", "mask_key"))
            return cls(client, *keys)


@dataclass(frozen=True)
class Roster:
    """The clients that advertised, sorted by name; `digest` and `size_bytes` are its bytes'."""

    adverts: Mapping[str, Advert]
    digest: str
    size_bytes: int

    @property
    def numbers(self) -> dict[str, int]:
        """The number of each client as a holder of shares, from 1."""
        return {name: number for number, name in enumerate(sorted(self.adverts), start=1)}

    @staticmethod
    def dump(adverts: Mapping[str, Advert], session: str) -> bytes:
        keys = {
            name: [advert.share_key.hex(), advert.mask_key.hex()]
            for name, advert in adverts.items()
        }
        return _dump("roster", session, {"keys": keys})

    @classmethod
    def read(cls, data: bytes, session: str) -> Roster:
        """Raises UpdateError for anything but the roster of this session."""
        with _reading("roster", data, session) as document:
            adverts = {
                name: Advert(name, bytes.fromhex(share), bytes.fromhex(mask))
                for name, (share, mask) in document["keys"].items()
            }
            return cls(adverts, digest_of(data), len(data))


@dataclass(frozen=True)
class Exchange:
    """The clients whose shares are in.

    Attributes:
        roster: digest of the roster they shared among.
        seed_checks: of each client, what its seed is known by when it is put together again.
        mailboxes: of each client, the digest of what was sealed for it.
        digest, size_bytes: of the bytes of this.
    """

    roster: str
    seed_checks: Mapping[str, str]
    mailboxes: Mapping[str, str]
    digest: str = ""
    size_bytes: int = 0

    @property
    def clients(self) -> list[str]:
        return sorted(self.mailboxes)

    def to_bytes(self, session: str) -> bytes:
        content = {
            "roster": self.roster,
            "seed_checks": dict(self.seed_checks),
            "mailboxes": dict(self.mailboxes),
        }
        return _dump("exchange", session, content)

    @classmethod
    def read(cls, data: bytes, session: str) -> Exchange:
        """Raises UpdateError for anything but the exchange of this session."""
        with _reading("exchange", data, session) as document:
            checks, boxes = dict(document["seed_checks"]), dict(document["mailboxes"])
            return cls(document["roster"], checks, boxes, digest_of(data), len(data))


@dataclass(frozen=True)
class Survivors:
    """The clients whose masked updates are in the sum.

    Attributes:
        exchange: digest of the exchange whose clients they masked with.
        clients: sorted by name.
        failures: client -> {`reason`, `message`} for the others of the cohort.
        total: {`key`, `digest`} of the masked sum.
        digest, size_bytes: of the bytes of this.
    """

    exchange: str
    clients: tuple[str, ...]
    failures: Mapping[str, Mapping[str, str]]
    total: Mapping[str, str]
    digest: str = ""
    size_bytes: int = 0

    def to_bytes(self, session: str) -> bytes:
        content = {
            "exchange": self.exchange,
            "clients": list(self.clients),
            "failures": {name: dict(each) for name, each in self.failures.items()},
            "total": dict(self.total),
        }
        return _dump("survivors", session, content)

    @classmethod
    def read(cls, data: bytes, session: str) -> Survivors:
        """Raises UpdateError for anything but the survivors of this session."""
        with _reading("survivors", data, session) as document:
            clients = tuple(sorted(document["clients"]))
            failures, total = dict(document["failures"]), dict(document["total"])
            digest = digest_of(data)
            return cls(document["exchange"], clients, failures, total, digest, len(data))


@dataclass(frozen=True)
class Reveal:
    """A survivor's answer: its shares of the survivors' seeds and of the others' mask keys.

    `refused` says of whom it has none, and why; `uplink_bytes` and `downlink_bytes` are what secure
    aggregation has cost this client, without the update and (`read` adds it) this answer.
    """

    client: str
    survivors: str
    seeds: Mapping[str, bytes]
    mask_keys: Mapping[str, bytes]
    refused: Mapping[str, str]
    uplink_bytes: int = 0
    downlink_bytes: int = 0

    def to_bytes(self, session: str) -> bytes:
        content = {
            "client": self.client,
            "survivors": self.survivors,
            "seeds": {name: share.hex() for name, share in self.seeds.items()},
            "mask_keys": {name: share.hex() for name, share in self.mask_keys.items()},
            "refused": dict(self.refused),
            "bytes": [self.uplink_bytes, self.downlink_bytes],
        }
        return _dump("reveal", session, content)

    @classmethod
    def read(cls, data: bytes, session: str, client: str) -> Reveal:
        """Raises UpdateError for anything but this client's reveal of this session."""
        with _reading("reveal", data, session) as document:
            _check_client("reveal", document["client"], client)
            seeds, keys = (
                {name: bytes.fromhex(share) for name, share in document[kind].items()}
                for kind in ("seeds", "mask_keys")
            )
            refused, (up, down) = dict(document["refused"]), map(int, document["bytes"])
            return cls(client, document["survivors"], seeds, keys, refused, up + len(data), down)


def take(place: Place, request: Request, name: str, read: Callable[[bytes, str], Read]) -> Read:
    """Read the input `name` of a request as a message of its session."""
    return read(place.store.get(request.inputs[name]["key"]), session_of(request))


def freeze(store: Store, key: str, data: bytes) -> None:
    """Store a view that everybody must share: the first one counts, whatever a repeat would say."""
    try:
        store.put(key, data)
    except ArtifactError as error:
        if error.reason != "ArtifactExists":
            raise


def describe(kind: str, session: str, content: Mapping[str, Any]) -> dict[str, str]:
    """Give the metadata of an array file that is a message of a session."""
    return {_METADATA: _dump(kind, session, content).decode()}


@contextmanager
def reading(kind: str, metadata: Mapping[str, str], session: str) -> Iterator[dict[str, Any]]:
    """Read what `describe` wrote; raises UpdateError for another kind or session."""
    with _reading(kind, metadata.get(_METADATA, "").encode(), session) as document:
        yield document


_METADATA = "fedloom.session"


def _dump(kind: str, session: str, content: Mapping[str, Any]) -> bytes:
    document = {"kind": kind, "session": json.loads(session), **content}
    return json.dumps(document, sort_keys=True).encode()


@contextmanager
def _reading(kind: str, data: bytes, session: str) -> Iterator[dict[str, Any]]:
    """Check kind and session of a message and what is done to it inside the block."""
    try:
        document = json.loads(data)
        got_kind, got_session = document["kind"], json.dumps(document["session"], sort_keys=True)
        if got_kind != kind:
            raise UpdateError("MalformedMessage", f"got {got_kind!r}, expected {kind}")
        if got_session != session:
            message = f"{kind}: got one of the session {got_session}, expected {session}"
            raise UpdateError("AnotherSession", message)
        yield document
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        text = f"{kind}: got no whole message ({type(error).__name__}: {error})"
        raise UpdateError("MalformedMessage", text) from error


def _check_client(kind: str, got: object, expected: str) -> None:
    if got != expected:
        raise UpdateError("MalformedMessage", f"{kind}: got that of {got!r}, expected {expected!r}")
