"""exchange (cloud): freeze whose shares are in, and lay what was sealed for a client into its mailbox."""

from __future__ import annotations

from typing import Any

import numpy as np

from components.command import run_command
from components.request import Place, Request
from components.roster import check_enough
from components.session import Exchange, Roster, describe, freeze, reading, session_of, take
from components.share import SEALED_BYTES
from fedloom.algorithms.layout import Array
from fedloom.artifacts.arrays import dump_arrays, load_arrays
from fedloom.errors import ArtifactError, ArtifactNotFoundError, UpdateError


def run(request: Request, place: Place) -> dict[str, Any]:
    """Collect the shares that are there; write a mailbox for each of their senders, then freeze.

    Raises JobError `TooFewClients` where fewer than the threshold have shared.
    """
    key, session = request.outputs["exchange"], session_of(request)
    if place.store.exists(key):
        return {"clients": Exchange.read(place.store.get(key), session).clients}
    roster = take(place, request, "roster", Roster.read)
    found: dict[str, Array] = {}
    checks: dict[str, str] = {}
    left_out: dict[str, str] = {}
    for client, shares in sorted(request.settings["shares"].items()):
        try:
            found[client], checks[client] = _read(place.store.get(shares), client, roster, session)
        except ArtifactNotFoundError:
            left_out[client] = "no shares arrived"
        except (ArtifactError, UpdateError) as error:
            left_out[client] = error.message
    check_enough(request, "shares", found, left_out)
    mailboxes = _deliver(request, place, found, roster)
    exchange = Exchange(roster.digest, checks, mailboxes)
    freeze(place.store, key, exchange.to_bytes(session))
    return {"clients": exchange.clients, "left_out": left_out}


def read_mailbox(data: bytes, client: str, exchange: Exchange, session: str) -> dict[str, bytes]:
    """Give what each client sealed for this one, by sender.

    Raises UpdateError or ArtifactError for anything but its mailbox in this exchange.
    """
    arrays, metadata = load_arrays(data)
    with reading("mailbox", metadata, session) as content:
        if content["client"] != client or content["senders"] != exchange.clients:
            message = f"mailbox: got that of {content['client']!r}, expected {client!r}"
            raise UpdateError("MalformedMessage", message)
        sealed = _sealed(arrays, len(exchange.clients))
    return {name: row.tobytes() for name, row in zip(exchange.clients, sealed, strict=True)}


def _read(data: bytes, client: str, roster: Roster, session: str) -> tuple[Array, str]:
    arrays, metadata = load_arrays(data)
    with reading("shares", metadata, session) as content:
        if (content["client"], content["roster"]) != (client, roster.digest):
            message = f"shares: got those of {content['client']!r} among another roster"
            raise UpdateError("MalformedMessage", message)
        if client not in roster.adverts:
            raise UpdateError("NotInRoster", "it stands in no roster")
        bytes.fromhex(content["seed_check"])
        return _sealed(arrays, len(roster.adverts)), content["seed_check"]


def _sealed(arrays: dict[str, Array], rows: int) -> Array:
    sealed = arrays["sealed"]
    if sealed.shape != (rows, SEALED_BYTES) or sealed.dtype != np.uint8:
        message = f"got {sealed.dtype}{list(sealed.shape)}, expected uint8[{rows}, {SEALED_BYTES}]"
        raise UpdateError("MalformedMessage", message)
    return sealed


def _deliver(
    request: Request, place: Place, found: dict[str, Array], roster: Roster
) -> dict[str, str]:
    senders, session = sorted(found), session_of(request)
    digests = {}
    for receiver in senders:
        row = roster.numbers[receiver] - 1
        sealed = np.stack([found[sender][row] for sender in senders])
        content = {"client": receiver, "senders": senders}
        data = dump_arrays({"sealed": sealed}, describe("mailbox", session, content))
        key = request.outputs[f"mailbox-{receiver}"]
        digests[receiver] = place.store.put(key, data, replace=True).digest
    return digests


if __name__ == "__main__":
    run_command("exchange", run)
