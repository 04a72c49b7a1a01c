"""share (edge): cut the client's secrets into shares and seal one of each for every client."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from components.client_secrets import ClientSecrets, Secrets
from components.command import run_command
from components.request import Place, Request
from components.session import Roster, describe, session_of, take
from fedloom.algorithms.privacy.secret_sharing import SHARE_BYTES, split
from fedloom.artifacts.arrays import dump_arrays
from fedloom.errors import UpdateError
from fedloom.keys.agreement import KeyPair, derive
from fedloom.keys.sealing import OVERHEAD_BYTES, seal, unseal

SEALED_BYTES = 2 * SHARE_BYTES + OVERHEAD_BYTES
"""Of what one client seals for another: a share of its mask key, then one of its seed."""


def run(request: Request, place: Place) -> dict[str, Any]:
    """Store what this client seals for every client of the roster, itself included.

    Raises UpdateError where the roster is not one that this client takes part in.
    """
    assert request.client is not None
    client, session = request.client, session_of(request)
    roster = take(place, request, "roster", Roster.read)
    store = ClientSecrets(place.edge, client)
    secrets = store.get(session)
    check_roster(client, secrets, roster, request.settings["masking"]["threshold"])
    numbers, threshold = roster.numbers, request.settings["masking"]["threshold"]
    keys = split(secrets.mask_key, threshold, list(numbers.values()))
    seeds = split(secrets.seed, threshold, list(numbers.values()))
    sealed = np.empty((len(numbers), SEALED_BYTES), np.uint8)
    for receiver, number in numbers.items():
        message = keys[number] + seeds[number]
        public = roster.adverts[receiver].share_key
        key, label = _key_and_label(
            secrets.share_pair, public, (client, receiver), roster.digest, session
        )
        sealed[number - 1] = np.frombuffer(seal(key, message, label), np.uint8)
    content = {
        "client": client,
        "roster": roster.digest,
        "seed_check": seed_check(secrets, session),
    }
    data = dump_arrays({"sealed": sealed}, describe("shares", session, content))
    advert = roster.adverts[client].to_bytes(session)
    sizes = len(advert) + len(data), roster.size_bytes
    store.record(secrets, "roster", roster.digest, sizes)
    place.store.put(request.outputs["shares"], data, replace=True)
    return {"receivers": len(numbers)}


def check_roster(client: str, secrets: Secrets, roster: Roster, threshold: int) -> None:
    """Raise UpdateError where a client does not stand in a roster with the keys that it has."""
    advert = roster.adverts.get(client)
    if advert is None:
        raise UpdateError("NotInRoster", f"client {client!r} advertised too late or not at all")
    if (advert.share_key, advert.mask_key) != (
        secrets.share_pair.public,
        secrets.mask_pair.public,
    ):
        raise UpdateError("AnotherKey", f"client {client!r}: the roster has keys that are not its")
    if len(roster.adverts) < threshold:
        raise UpdateError(
            "TooFewClients", f"got a roster of {len(roster.adverts)}, expected {threshold} or more"
        )


def seed_check(secrets: Secrets, session: str) -> str:
    """Give what a seed is known by, which says no more of it than the rest of its output does."""
    return derive(secrets.seed, "seed check", session.encode()).hex()


def open_sealed(
    secrets: Secrets, roster: Roster, sender: str, receiver: str, sealed: bytes
) -> tuple[bytes, bytes]:
    """Give (share of the sender's mask key, share of its seed).

    Raises JobError `SealBroken` where it is not what the sender sealed for the receiver.
    """
    key, label = _key_and_label(
        secrets.share_pair,
        roster.adverts[sender].share_key,
        (sender, receiver),
        roster.digest,
        secrets.session,
    )
    message = unseal(key, sealed, label)
    return message[:SHARE_BYTES], message[SHARE_BYTES:]


def _key_and_label(
    own: KeyPair, public: bytes, way: tuple[str, str], roster: str, session: str
) -> tuple[bytes, bytes]:
    label = json.dumps([*way, roster]).encode()
    return own.agree(public, f"share {json.dumps(way)}", session.encode()), label


if __name__ == "__main__":
    run_command("share", run)
