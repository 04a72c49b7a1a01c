"""advertise (edge): make the client's secrets of this attempt and publish the keys that belong to them."""

from __future__ import annotations

from typing import Any

from components.client_secrets import ClientSecrets
from components.command import run_command
from components.request import Place, Request
from components.session import Advert, session_of


def run(request: Request, place: Place) -> dict[str, Any]:
    """Publish two public keys; their private halves stay in the client's edge state.

    Run again it publishes the same ones, unless something was done with them already: an attempt
    that is begun anew after it was killed shares no secret with the one that was.
    """
    assert request.client is not None
    session, key = session_of(request), request.outputs["advert"]
    store = ClientSecrets(place.edge, request.client)
    secrets = store.find(session)
    if secrets is None or secrets.is_spent or secrets.roster is not None:
        secrets = store.begin(session)
    advert = Advert(request.client, secrets.share_pair.public, secrets.mask_pair.public)
    place.store.put(key, advert.to_bytes(session), replace=True)
    return {"advert": key}


if __name__ == "__main__":
    run_command("advertise", run)
