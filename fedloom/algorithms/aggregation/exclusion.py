"""Tensors that are not shared: every client keeps its own, and the server leaves them as they are.

Li, Jiang, Zhang, Kamp, Dou: "FedBN: Federated Learning on Non-IID Features via Local Batch
Normalization", ICLR 2021, arXiv 2102.07623.
"""

from __future__ import annotations

from collections.abc import Sequence

from fedloom.algorithms.layout import Layout, names_like
from fedloom.errors import JobError

_FIELD = "spec.aggregation.exclude"


def shared_part(layout: Layout, patterns: Sequence[str]) -> Layout:
    """Give the tensors of a model that are sent and aggregated: those that no pattern describes.

    Args:
        layout: of the model.
        patterns: whole names, case-sensitive, with * for any text and ? for one character.

    Raises:
        JobError: `NothingExcluded` for a pattern that describes no tensor, so that a misspelt one
            does not share what was meant to stay; `NothingShared` where all tensors are excluded.
    """
    if not patterns:
        return layout
    for pattern in patterns:
        if not names_like(layout, [pattern]):
            raise JobError(
                "NothingExcluded",
                f"got {pattern!r}, which is the name of none of the model's {len(layout)} tensors: "
                f"{', '.join(sorted(layout)[:8])}{', ...' if len(layout) > 8 else ''}",
                _FIELD,
            )
    excluded = names_like(layout, patterns)
    if len(excluded) == len(layout):
        raise JobError(
            "NothingShared",
            f"got patterns for all {len(layout)} tensors of the model, expected one at least that "
            "is learned together",
            _FIELD,
        )
    return {name: spec for name, spec in layout.items() if name not in excluded}
