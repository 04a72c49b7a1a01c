"""The masked half of compress (edge): an update becomes integers that mean nothing by themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from components.client_secrets import ClientSecrets, Secrets
from components.masked_file import dump_masked, rule_of
from components.request import Place, Request
from components.session import Exchange, Roster, session_of, take
from components.share import check_roster
from fedloom.algorithms.layout import Array, Layout, check_finite, flat_blocks
from fedloom.algorithms.privacy.integer_grid import GridLayout, fit_update
from fedloom.algorithms.privacy.masks import Mask, mask_arrays, sign_of
from fedloom.artifacts.artifact import Artifact, digest_of
from fedloom.errors import ArtifactNotFoundError, UpdateError
from fedloom.keys.agreement import KeyPair, derive
from fedloom.keys.keystream import AesKeystream


@dataclass(frozen=True)
class Masking:
    """What a client masks with: the exchange it is in, and its secrets."""

    client: str
    roster: Roster
    exchange: Exchange
    secrets: Secrets

    def masks(self) -> list[Mask]:
        """Give its own mask and the one that it shares with every other client of the exchange."""
        own = Mask(seed_stream(self.secrets.seed, self.secrets.session), 1)
        pair = self.secrets.mask_pair
        shared = [
            Mask(self._stream(pair, other), sign_of(self.client, other))
            for other in self.exchange.clients
            if other != self.client
        ]
        return [own, *shared]

    def _stream(self, pair: KeyPair, other: str) -> AesKeystream:
        public = self.roster.adverts[other].mask_key
        return pair_stream(pair, public, (self.client, other), self.secrets.session)


def prepare(request: Request, place: Place) -> Masking:
    """Find out whether this client is in the round at all; before it trains for nothing.

    Raises UpdateError where it is not, or its secrets are gone.
    """
    assert request.client is not None
    session, client = session_of(request), request.client
    try:
        roster = take(place, request, "roster", Roster.read)
        exchange = take(place, request, "exchange", Exchange.read)
    except ArtifactNotFoundError as error:
        raise UpdateError("NotInExchange", f"client {client!r}: {error.message}") from error
    secrets = ClientSecrets(place.edge, client).get(session)
    check_roster(client, secrets, roster, request.settings["masking"]["threshold"])
    if exchange.roster != roster.digest or secrets.roster != roster.digest:
        raise UpdateError("AnotherRoster", f"client {client!r} shared among other clients")
    if client not in exchange.mailboxes:
        raise UpdateError("NotInExchange", f"client {client!r} shared too late or not at all")
    if len(exchange.mailboxes) < request.settings["masking"]["threshold"]:
        raise UpdateError("TooFewClients", f"got {len(exchange.mailboxes)} clients that shared")
    return Masking(client, roster, exchange, secrets)


def encode(request: Request, place: Place, deltas: Mapping[str, Array], layout: Layout) -> bytes:
    """Clip, round and mask an update; give the bytes to send.

    Args:
        deltas: by name, what is sent; float64 or float32.
        layout: of the same tensors in the model.

    Raises:
        UpdateError: what `prepare` raises, `NotFinite`, or `DoneDifferently` where another update
            was masked in this attempt before: the difference of the two would be bare.
    """
    masking, settings = prepare(request, place), request.settings["masking"]
    for name in sorted(deltas):
        check_finite(name, flat_blocks(deltas[name]))
    grid = GridLayout(layout, rule_of(settings))
    rng = np.random.Generator(np.random.PCG64(request.settings["seed"]))
    rounded = fit_update(deltas, grid, settings["clip_norm"], settings["is_bounded"], rng)
    mask_arrays(rounded.arrays, grid, masking.masks())
    session = masking.secrets.session
    data = dump_masked(rounded.arrays, session, masking.client, masking.exchange.digest)
    secrets = ClientSecrets(place.edge, masking.client)
    sizes = 0, masking.roster.size_bytes + masking.exchange.size_bytes
    secrets.record(masking.secrets, "masked", digest_of(data), sizes)
    return data


def store(request: Request, place: Place, deltas: Mapping[str, Array], layout: Layout) -> Artifact:
    """Store the masked update; see `encode`."""
    data = encode(request, place, deltas, layout)
    return place.store.put(request.outputs["update"], data, replace=True)


def seed_stream(seed: bytes, session: str) -> AesKeystream:
    """Give the mask that a client has for itself."""
    return AesKeystream(derive(seed, "self mask", session.encode()))


def pair_stream(pair: KeyPair, public: bytes, names: tuple[str, str], session: str) -> AesKeystream:
    """Give the mask that two clients share: from the keys of either, the same."""
    purpose = f"pair mask {sorted(names)}"
    return AesKeystream(pair.agree(public, purpose, session.encode()))
