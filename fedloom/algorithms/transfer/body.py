"""What becomes a job's first model, and what a head probe does to heads.

Arrays that are taken over are not copied: whoever trains a model owns a copy of it anyway.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TypeAlias

import numpy as np

from fedloom.algorithms.layout import Array, accumulator_dtype, check_layout, layout_of
from fedloom.errors import JobError

Arrays: TypeAlias = Mapping[str, Array]


def transferred(own: Arrays, source: Arrays, names: Collection[str]) -> dict[str, Array]:
    """Give the model `own` with the arrays `names` taken from `source`.

    With all names it is a warm start, with those of the body a new head on a source's body, and with
    the body of the model before training what a held body is after it.

    Raises:
        UpdateError: `MissingTensor`, `ShapeMismatch` or `DtypeMismatch`, where an array to be taken
            does not fit.
    """
    taken = {name: source[name] for name in names if name in source}
    check_layout(layout_of({name: own[name] for name in names}), layout_of(taken))
    return {**own, **taken}


def zero_head(model: Arrays, head: Collection[str]) -> dict[str, Array]:
    """Give the model with its head at zero: as good as knowing nothing, and never worse on average.

    A classifier's scores are then equal for all labels. Cross-entropy is convex in the scores, so a
    random head with mean zero has at least this loss in expectation (Jensen): it is the fair figure
    of a model that has not been trained, where a randomly drawn head would be too easy to beat.
    """
    return {name: np.zeros_like(array) if name in head else array for name, array in model.items()}


def without_own(mean: Arrays, own: Arrays, share: float) -> dict[str, Array]:
    """Give the mean of all clients' arrays but one's: (mean - share * own) / (1 - share).

    So a client judges a head that its own data did not train (leave one out, by client), and the
    server need not send everyone another mean.

    Args:
        mean: weighted mean over all clients.
        own: this client's part in it, with the same names and shapes.
        share: its weight, 0 <= share < 1.

    Raises:
        JobError: `OnlyClient`, where `share` is 1 or more: nobody else has trained anything.
    """
    if not 0 <= share < 1:
        raise JobError("OnlyClient", f"got a client with a share of {share}, expected less than 1")
    others = {}
    for name, array in mean.items():
        dtype = accumulator_dtype(array.dtype)
        rest = (array.astype(dtype) - share * own[name].astype(dtype)) / (1 - share)
        others[name] = rest.astype(array.dtype)
    return others
