"""The shape of an aggregation rule."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from fedloom.algorithms.aggregation.source import Block, UpdateSource
from fedloom.algorithms.layout import Array, Layout
from fedloom.errors import JobError


class Aggregator(Protocol):
    """Turns the updates of a cohort into one, in memory that does not grow with the model."""

    @property
    def shows_bad_values(self) -> bool:
        """Whether NaN or an infinity in any update is sure to come out as one in that element.

        Where it is not, a bad update would be outvoted in silence: the caller checks every update
        (`source.check_source`) before it aggregates.
        """
        ...

    @property
    def least_updates(self) -> int:
        """With how many updates, at least, the rule can work: 1 or more."""
        ...

    def aggregate(
        self, sources: Sequence[UpdateSource], weights: Array, layout: Layout
    ) -> Iterator[Block]:
        """Stream the aggregated update, block by block.

        Args:
            sources: one per client, sorted by the clients' names, whose updates have passed the
                checks of `layout`.
            weights: shape (clients,), float64. A rule that does not use them says so.
            layout: of the model; tensors are yielded in sorted order of names.

        Returns:
            Blocks of at most `BLOCK_ELEMENTS` elements in the accumulator dtype, each tensor from
            start to end; an empty tensor gives one empty block. A block's values are valid until
            the next one is asked for.

        Raises:
            JobError: `NoUpdates` for no source at all, `TooFewForRule` for fewer than
                `least_updates`, and what the rule says. At the call, not at the first block.
        """
        ...


def check_enough(rule: str, updates: int, least: int, why: str) -> None:
    """Refuse fewer updates than a rule needs.

    Raises:
        JobError: `NoUpdates` for none at all, else `TooFewForRule` with got, expected and why.
    """
    if updates == 0:
        raise JobError("NoUpdates", "got no updates to aggregate, expected at least one")
    if updates < least:
        raise JobError(
            "TooFewForRule", f"{rule}: got {updates} updates, expected at least {least}: {why}"
        )
