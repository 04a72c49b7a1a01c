"""L2-SP's anchor, the job's first model: fetched once by every client, then kept on its node."""

from __future__ import annotations

import shutil
from dataclasses import dataclass

from components.edge_state import own_folder
from components.outcome import Arrays
from components.request import Place, Request
from components.user_code import UserCode, fetch
from fedloom.artifacts.artifact import digest_of_file

_KIND = "anchor"


@dataclass(frozen=True)
class Anchor:
    """The anchor's weights, not to be changed, and how many bytes went down for them just now."""

    arrays: Arrays
    bytes: int


def receive_anchor(request: Request, place: Place, code: UserCode) -> Anchor:
    """Give the anchor that a train task names; in round 1 it is the model that came down anyway."""
    assert request.client is not None
    anchor, model = request.inputs[_KIND], request.inputs["model"]
    digest = anchor["digest"]
    folder = own_folder(place.edge, request.client)
    held = folder / f"anchor-{digest.removeprefix('sha256:')[:32]}.safetensors"
    is_held = held.exists() and (code.holds(_KIND, digest) or digest_of_file(held) == digest)
    fetched_bytes = 0
    if not is_held:
        folder.mkdir(parents=True, exist_ok=True)
        draft = folder / "anchor.part"
        shutil.copyfile(fetch(place, anchor), draft)
        draft.replace(held)
        if digest != model["digest"]:
            fetched_bytes = request.settings["drift"]["anchor_bytes"]
    return Anchor(code.load(place, {**anchor, "path": str(held)}, _KIND), fetched_bytes)
