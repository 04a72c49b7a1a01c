"""The models that a probe compares, on their way down: encoded, as changes of one of them where that is less.

One of them, the base, goes down by itself through int8; each other one as its difference to the base,
through int8 too. Where all together would be more than one model, those nearest to the base go through
int4. What is compared are these copies. The model that the job then begins with is the exact one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from components.beginning import SCRATCH
from components.model_change import described, layout_in
from components.outcome import Arrays
from components.request import Place
from components.update_file import Array, Encoding, UpdateFile, delta_of, write_update
from fedloom.algorithms.layout import Layout, accumulator_dtype
from fedloom.algorithms.optimizers.casting import to_dtype
from fedloom.algorithms.transfer.deltas import common_base
from fedloom.artifacts.arrays import ArrayFile
from fedloom.artifacts.artifact import digest_of
from fedloom.errors import UpdateError

_FINE, _COARSE = "int8", "int4"
_HEADERS_BYTES = 4096
_MOST_LAYOUT_BYTES = 1 << 40


@dataclass(frozen=True)
class Candidate:
    """One of the models to compare, as the clients are told of it.

    Attributes:
        slot: its number, from 0; under it lie what goes down for it and what comes of it.
        name: of the source; `scratch` for the job's own beginning.
        kind: `scratch`; `full` for one that fits in full; `body` for one that fits but for its last layer;
            `own` for the body that the job would begin with by itself, which bodies are compared with.
        key, digest, size_bytes: of what goes down; empty and 0 where nothing does.
        codec: that it went through.
        is_difference: whether it is one, to the base.
    """

    slot: int
    name: str
    kind: str
    key: str = ""
    digest: str = ""
    size_bytes: int = 0
    codec: str = ""
    is_difference: bool = False


@dataclass(frozen=True)
class Roster:
    """All of them, the base's slot and the arrays that are zero where a job begins by itself."""

    candidates: tuple[Candidate, ...]
    base: int
    head: tuple[str, ...]
    layout: Layout

    @property
    def bytes_down(self) -> int:
        return sum(each.size_bytes for each in self.candidates)

    def to_bytes(self) -> bytes:
        document = {
            "candidates": [vars(each) for each in self.candidates],
            "base": self.base,
            "head": list(self.head),
            **described(self.layout),
        }
        return json.dumps(document, sort_keys=True).encode()

    @classmethod
    def read(cls, data: bytes) -> Roster:
        """Raises UpdateError("MalformedMessage") for anything else."""
        try:
            document = json.loads(data)
            candidates = tuple(Candidate(**each) for each in document["candidates"])
            layout = layout_in(document, _MOST_LAYOUT_BYTES)
            return cls(candidates, document["base"], tuple(document["head"]), layout)
        except (ValueError, TypeError, KeyError) as error:
            message = f"roster of the probe: {type(error).__name__}: {error}"
            raise UpdateError("MalformedMessage", message) from error


def write_candidates(
    models: Mapping[str, Arrays],
    kinds: Mapping[str, str],
    keys: Sequence[str],
    place: Place,
    seed: int,
) -> tuple[dict[str, Candidate], int]:
    """Store what goes down for each model under the key of its slot; give them by name, and the base's slot.

    `models` in the order of their slots, from slot 1; slot 0 is `scratch`, which may be missing.
    """
    first = 0 if SCRATCH in models else 1
    slots = {name: number for number, name in enumerate(models, start=first)}
    base = common_base(models)
    files = {base: (encoded(models[base], None, _FINE, seed), _FINE)}
    rest = sorted(
        (name for name in models if name != base), key=lambda n: _gap(models[n], models[base])
    )
    files |= {name: (encoded(models[name], models[base], _FINE, seed), _FINE) for name in rest}
    limit = sum(array.nbytes for array in models[base].values())
    for name in rest:  # the nearest first, which lose least
        if sum(len(data) for data, _ in files.values()) > limit - _HEADERS_BYTES:
            files[name] = (encoded(models[name], models[base], _COARSE, seed), _COARSE)
    found = {}
    for name, (data, codec) in files.items():
        key = keys[slots[name]]
        place.store.put(key, data, replace=True)
        stored = (key, digest_of(data), len(data), codec, name != base)
        found[name] = Candidate(slots[name], name, kinds[name], *stored)
    return dict(sorted(found.items(), key=lambda pair: pair[1].slot)), slots[base]


def _gap(one: Arrays, other: Arrays) -> float:
    """Give how far two models are from each other, summed over their floats."""
    pairs = ((one[name], other[name]) for name in sorted(one) if one[name].dtype.kind == "f")
    return sum(float(np.square(a.astype(np.float64) - b).sum()) for a, b in pairs)


def read_candidates(roster: Roster, place: Place) -> dict[int, Arrays]:
    """Bring all candidates here and decode them; by slot. Nothing for a probe without sources.

    Slot 0 is what the job begins with by itself, or as good as that: the base with a head of zeros.
    Raises UpdateError, ArtifactError.
    """
    from fedloom.algorithms.transfer.body import zero_head

    by_slot = {each.slot: each for each in roster.candidates if each.key}
    if not by_slot:
        return {}
    base = _read(by_slot[roster.base], None, roster.layout, place)
    found = {0: zero_head(base, frozenset(roster.head))} if roster.head else {}
    found[roster.base] = base
    for slot, each in by_slot.items():
        if slot != roster.base:
            found[slot] = _read(each, base, roster.layout, place)
    return found


def encoded(arrays: Arrays, base: Arrays | None, codec: str, seed: int) -> bytes:
    """Encode arrays, or their difference to a base."""
    before = base or {name: np.zeros_like(array) for name, array in arrays.items()}
    rng = np.random.Generator(np.random.PCG64(seed))
    return write_update(delta_of(arrays, before), _encoding(codec), rng)


def _encoding(codec: str) -> Encoding:
    return Encoding(codec, {}, "zstd", 0)


def decoded(path: Path, layout: Layout, codec: str, base: Arrays | None = None) -> Arrays:
    """Decode a file of `encoded` arrays with this layout, sorted by name. Raises UpdateError."""
    found: Arrays = {}
    with UpdateFile(ArrayFile(path), layout, codec, {}, 0) as file:
        for name, spec in layout.items():
            values: Array = np.zeros(spec.size, accumulator_dtype(spec.dtype))
            values[:] = file.read(name, 0, spec.size, values)
            if base is not None:
                values += base[name].reshape(-1)
            found[name] = to_dtype(values, spec.dtype).reshape(spec.shape)
    return found


def _read(candidate: Candidate, base: Arrays | None, layout: Layout, place: Place) -> Arrays:
    folder = place.work / "candidates"
    path = place.store.materialize(candidate.key, folder, digest=candidate.digest)
    return decoded(path, layout, candidate.codec, base)
