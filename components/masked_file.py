"""A masked update as a safetensors file: one flat array of unsigned integers for each ring.

`u2`, `u4`, `u8` hold the tensors of the model whose grid is in that ring, one behind the other (see
`integer_grid.GridLayout`); the masked sum of a round has the same shape. The metadata names the
session, the client and the digest of the exchange that it masked with.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from components.request import Place
from components.session import describe, reading
from fedloom.algorithms.layout import Array
from fedloom.algorithms.privacy.integer_grid import Dtype, GridLayout, GridRule
from fedloom.artifacts.arrays import ArrayFile, dump_arrays
from fedloom.errors import UpdateError

KIND = "masked update"


def rule_of(settings: Mapping[str, Any]) -> GridRule:
    """Give the grid that all sides of a round use, from the `masking` settings of a task."""
    return GridRule(settings["codec"], float(settings["max_value"]), int(settings["clients"]))


def ring_name(ring: Dtype) -> str:
    return ring.str[1:]


def dump_masked(arrays: Mapping[Dtype, Array], session: str, client: str, exchange: str) -> bytes:
    """Give the bytes of a masked update."""
    content = {"client": client, "exchange": exchange}
    named = {ring_name(ring): array for ring, array in arrays.items()}
    return dump_arrays(named, describe(KIND, session, content))


def open_masked(
    place: Place, update: Mapping[str, Any], layout: GridLayout, whose: tuple[str, str, str]
) -> ArrayFile:
    """Open a verified masked update; the caller closes it.

    Args:
        update: {`key`, `digest`}.
        layout: of the model on the grid.
        whose: session, client and digest of the exchange.

    Raises:
        UpdateError or ArtifactError: for anything else than a masked update of this client, in
            this session, with the masks of this exchange, for a model of this layout.
    """
    folder = place.work / "masked"
    file = ArrayFile(place.store.materialize(update["key"], folder, digest=update["digest"]))
    try:
        session, client, exchange = whose
        with reading(KIND, file.metadata, session) as content:
            got = content["client"], content["exchange"]
        if got != (client, exchange):
            message = f"{KIND}: got one of {got[0]!r} among others, expected {client!r}"
            raise UpdateError("MalformedUpdate", message)
        check_rings(file, layout)
    except BaseException:
        file.close()
        raise
    return file


def check_rings(file: ArrayFile, layout: GridLayout) -> None:
    """Raise UpdateError `MalformedUpdate` unless a file has just the flat arrays of a layout."""
    got = {name: (info.dtype, info.shape) for name, info in file.tensors.items()}
    expected = {ring_name(ring): (ring, (size,)) for ring, size in layout.sizes.items()}
    if got != expected:
        raise UpdateError("MalformedUpdate", f"{KIND}: got arrays {got}, expected {expected}")
