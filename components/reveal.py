"""reveal (edge): answer for the survivors, once, and forget the secrets of the attempt.

For a client whose update is in the sum the answer holds a share of its seed, which uncovers its own mask;
for one that dropped out a share of its mask key, which uncovers those it shares with others. Never both:
the two together uncover an update.
"""

from __future__ import annotations

from typing import Any

from components.client_secrets import ClientSecrets, Secrets
from components.command import run_command
from components.exchange import read_mailbox
from components.request import Place, Request
from components.session import LEAST_CLIENTS, Exchange, Reveal, Roster, Survivors, session_of, take
from components.share import open_sealed
from fedloom.errors import JobError, UpdateError


def run(request: Request, place: Place) -> dict[str, Any]:
    """Store the answer; a client that is not in the sum has none to give.

    Raises UpdateError where the list of survivors is not one that it may answer for.
    """
    assert request.client is not None
    client, session = request.client, session_of(request)
    store = ClientSecrets(place.edge, client)
    survivors = take(place, request, "survivors", Survivors.read)
    if client not in survivors.clients:
        store.spend(session)
        return {"answered": False}
    kept = store.find(session)
    if kept is not None and kept.is_spent and kept.answered == survivors.digest:
        return {"answered": True}  # secrets are spent when the answer is in the store
    secrets = store.get(session)
    roster = take(place, request, "roster", Roster.read)
    exchange = take(place, request, "exchange", Exchange.read)
    _check(client, secrets, survivors, exchange, request.settings["masking"]["threshold"])
    answer = _answer(request, place, secrets, (roster, exchange, survivors))
    store.record(secrets, "answered", survivors.digest, (0, 0))
    place.store.put(request.outputs["reveal"], answer.to_bytes(session), replace=True)
    store.spend(session)
    return {"answered": True, "refused": dict(answer.refused)}


def _check(
    client: str, secrets: Secrets, survivors: Survivors, exchange: Exchange, threshold: int
) -> None:
    """Raise UpdateError for a list of survivors that this client should not answer for."""
    wrong = None
    if secrets.masked is None:
        wrong = "this client has sent no masked update"
    elif survivors.exchange != exchange.digest or exchange.roster != secrets.roster:
        wrong = "they belong to another exchange than the one this client masked with"
    elif not set(survivors.clients) <= exchange.mailboxes.keys():
        wrong = "some of them have shared nothing"
    elif len(survivors.clients) < max(threshold, LEAST_CLIENTS):
        wrong = f"they are {len(survivors.clients)}, expected {max(threshold, LEAST_CLIENTS)}"
    if wrong is not None:
        raise UpdateError("BadSurvivors", f"client {client!r} does not answer for them: {wrong}")


def _answer(
    request: Request,
    place: Place,
    secrets: Secrets,
    views: tuple[Roster, Exchange, Survivors],
) -> Reveal:
    roster, exchange, survivors = views
    client = request.client or ""
    data = place.store.get(request.inputs["mailbox"]["key"], digest=exchange.mailboxes[client])
    mailbox = read_mailbox(data, client, exchange, secrets.session)
    seeds, mask_keys, refused = {}, {}, {}
    for sender in exchange.clients:
        try:
            mask_key, seed = open_sealed(secrets, roster, sender, client, mailbox[sender])
        except JobError as error:
            refused[sender] = error.message
            continue
        if sender in survivors.clients:
            seeds[sender] = seed
        else:
            mask_keys[sender] = mask_key
    sizes = (roster.size_bytes, exchange.size_bytes, survivors.size_bytes, len(data))
    traffic = secrets.uplink_bytes, secrets.downlink_bytes + sum(sizes)
    return Reveal(client, survivors.digest, seeds, mask_keys, refused, *traffic)


if __name__ == "__main__":
    run_command("reveal", run)
