"""The privacy of one aggregation: the noised rule, what it cost, and what the next round needs of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Protocol

import numpy as np

from components.local_noise import local_promise, mechanism_of
from components.request import Place, Request
from fedloom.algorithms.aggregation.source import Block, UpdateSource
from fedloom.algorithms.layout import Array, Layout
from fedloom.algorithms.privacy.private_mean import PrivateMean, noised_mean
from fedloom.artifacts.arrays import dump_arrays, load_arrays
from fedloom.artifacts.artifact import Artifact

STATE = "privacy"
_CLIP_NORM, _RELEASES = "clip_norm", "releases"


class MaskedSum(Protocol):
    """The sum of updates that nobody can see one by one."""

    def sums(self, layout: Layout) -> Iterator[Block]:
        """Stream it, float64; of integers and bools zeros."""
        ...


class PrivateRound:
    """The privacy part of one aggregation of one attempt; where the server adds noise, its rule.

    Its settings are `central` and `local` of `pipelines.privacy.privacy_settings`, one or both.
    """

    shows_bad_values: ClassVar[bool] = False
    least_updates: ClassVar[int] = 0

    def __init__(self, request: Request, place: Place) -> None:
        settings = request.settings["privacy"]
        self._request = request
        self._place = place
        self._central: Mapping[str, Any] | None = settings.get("central")
        self._local: Mapping[str, Any] | None = settings.get("local")
        self._before = self._read_state()
        self._next_clip_norm: float | None = None
        self._clipped_fraction: float | None = None
        self._masked: MaskedSum | None = None

    @property
    def is_noised(self) -> bool:
        """Whether the server adds noise: then this is the rule."""
        return self._central is not None

    def over(self, masked: MaskedSum) -> PrivateRound:
        """Be the rule that adds the noise to a sum of updates that were clipped on their edges."""
        self._masked = masked
        return self

    @property
    def clip_norm(self) -> float:
        """Of this round: the last round's word, or the job's."""
        assert self._central is not None
        return float(self._before.get(_CLIP_NORM, self._central["clip_norm"]))

    def aggregate(
        self, sources: Sequence[UpdateSource], weights: Array, layout: Layout
    ) -> Iterator[Block]:
        """Stream the noised mean of the clipped updates; see `PrivateMean`."""
        del weights
        central = self._central
        assert central is not None
        if self._masked is not None:
            deviation = central["noise_multiplier"] * self.clip_norm
            return noised_mean(self._masked.sums(layout), layout, deviation, central["denominator"])
        rule = PrivateMean(
            clip_norm=self.clip_norm,
            noise_multiplier=central["noise_multiplier"],
            denominator=central["denominator"],
            clip_quantile=central["clip_quantile"],
        )
        release = rule.release(sources, layout)
        self._next_clip_norm = release.next_clip_norm
        self._clipped_fraction = release.clipped_fraction
        return release.blocks

    def report(self, layout: Layout) -> dict[str, Any]:
        """Give the `privacy` of the round's result: plain JSON values.

        epsilon, max_epsilon, delta, noise_multiplier, adjacency, clip_norm and clipped_fraction of
        the noise on the sum; `local` of the clients' own.
        """
        found: dict[str, Any] = {}
        if self._central is not None:
            told = ("epsilon", "max_epsilon", "delta", "noise_multiplier", "adjacency")
            found = {key: self._central[key] for key in told}
            found |= {"clip_norm": self.clip_norm, "clipped_fraction": self._clipped_fraction}
        if self._local is not None:
            values = sum(spec.size for spec in layout.values() if spec.dtype.kind == "f")
            composed = mechanism_of(self._local).composed_epsilon(self._releases, values)
            found["local"] = local_promise(self._local) | {
                "values": values,
                "releases": self._releases,
                "composed_epsilon": composed,
            }
        return found

    def store_state(self) -> dict[str, Artifact]:
        """Store what the next round starts from, where there is anything."""
        arrays: dict[str, Array] = {}
        if self._next_clip_norm is not None and self._adapts:
            arrays[_CLIP_NORM] = np.array(self._next_clip_norm, np.float64)
        if self._local is not None:
            arrays[_RELEASES] = np.array(self._releases, np.int64)
        if not arrays:
            return {}
        key = self._request.outputs[STATE]
        return {STATE: self._place.store.put(key, dump_arrays(arrays), replace=True)}

    @property
    def _adapts(self) -> bool:
        return self._central is not None and self._central["clip_quantile"] is not None

    @property
    def _releases(self) -> int:
        """How often a client may have sent an update: those of failed attempts were sent too."""
        return int(self._before.get(_RELEASES, 0)) + self._request.attempt

    def _read_state(self) -> dict[str, Array]:
        found = self._request.inputs.get(STATE)
        if found is None:
            return {}
        return load_arrays(self._place.store.get(found["key"], digest=found["digest"]))[0]
