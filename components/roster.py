"""roster (cloud): freeze which clients take part in this attempt's secure aggregation."""

from __future__ import annotations

from typing import Any

from components.command import run_command
from components.request import Place, Request
from components.session import LEAST_CLIENTS, Advert, Roster, freeze, session_of
from fedloom.errors import ArtifactNotFoundError, JobError, UpdateError


def run(request: Request, place: Place) -> dict[str, Any]:
    """Collect the adverts that are there and freeze them.

    An advert that is wrong is left out, its client named. Raises JobError `TooFewClients` where
    fewer are left than must answer in the end.
    """
    session = session_of(request)
    adverts: dict[str, Advert] = {}
    left_out: dict[str, str] = {}
    for client, key in sorted(request.settings["adverts"].items()):
        try:
            advert = Advert.read(place.store.get(key), session, client)
            _check_new(advert, adverts)
        except ArtifactNotFoundError:
            left_out[client] = "no public keys arrived"
        except UpdateError as error:
            left_out[client] = error.message
        else:
            adverts[client] = advert
    check_enough(request, "public keys", adverts, left_out)
    freeze(place.store, request.outputs["roster"], Roster.dump(adverts, session))
    return {"clients": sorted(adverts), "left_out": left_out}


def check_enough(
    request: Request, what: str, found: dict[str, Any], left_out: dict[str, str]
) -> None:
    """Raise JobError `TooFewClients` where fewer than the threshold are left."""
    needed = request.settings["masking"]["threshold"]
    least = max(needed, request.settings.get("min_clients", 0), LEAST_CLIENTS)
    if len(found) >= least:
        return
    missing = "; ".join(f"{name}: {why}" for name, why in sorted(left_out.items())[:5])
    raise JobError(
        "TooFewClients",
        f"round {request.round}: got the {what} of {len(found)} clients, expected {least} or "
        f"more, of which {needed} must answer for the masks of the others. {missing}",
    )


def _check_new(advert: Advert, adverts: dict[str, Advert]) -> None:
    """Keys are different from each other, as random ones are."""
    keys = {key for other in adverts.values() for key in (other.share_key, other.mask_key)}
    if {advert.share_key, advert.mask_key} & keys or advert.share_key == advert.mask_key:
        raise UpdateError("MalformedMessage", "got a public key twice, expected new ones")


if __name__ == "__main__":
    run_command("roster", run)
