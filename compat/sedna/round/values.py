"""Numbers from what scripts give: text of the environment, numpy scalars, histories of epochs."""

import math
from typing import Any, Callable, Dict, Mapping, Optional, TypeVar

import numpy as np

__all__ = ("count_of", "metrics_of", "number_of")

N = TypeVar("N", int, float)


def number_of(name: str, value: Any, kind: Callable[[Any], N]) -> N:
    """Give `value` as an int or float. Raises ValueError that names it where it is no such number."""
    try:
        number = kind(value)
        if float(value) != number:
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        wanted = "a whole number" if kind is int else "a number"
        raise ValueError("{}: got {!r}, expected {}".format(name, value, wanted)) from None
    return number


def metrics_of(result: Any, names: Optional[Any] = None) -> Dict[str, float]:
    """Give the finite numbers in what a `train` or `evaluate` returned, by name.

    A mapping gives its numbers, of a history (a list per epoch) the last one. A lone number is called
    `score`. A sequence is named by `names`, else `metric_0`, ... Everything else is passed over.
    """
    result = getattr(result, "history", result)  # what keras' fit returns
    if isinstance(result, (list, tuple)):
        known = [str(name) for name in names or ()]
        labels = known if len(known) == len(result) else []
        labels = labels or ["metric_{}".format(place) for place in range(len(result))]
        result = {label: result[place] for place, label in enumerate(labels)}
    elif not isinstance(result, Mapping):
        result = {"score": result}
    found = {}
    for name, value in result.items():
        number = _number(value)
        if number is not None:
            found[str(name)] = number
    return found


def _number(value: Any) -> Optional[float]:
    if isinstance(value, (list, tuple)):
        return _number(value[-1]) if value else None
    if value is None or isinstance(value, (str, bytes)):
        return None
    try:
        array = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
        number = float(array.reshape(-1)[-1]) if array.size else math.nan
    except (TypeError, ValueError, RuntimeError):
        return None
    return number if math.isfinite(number) else None


def count_of(data: Any) -> int:
    """Give the number of samples in what a script calls its data; 0 for None.

    `len` of it, except for a tuple of features and labels, or a mapping: `len` of the first part. Raises
    TypeError for what has no length.
    """
    if data is None:
        return 0
    if isinstance(data, tuple) and data and hasattr(data[0], "__len__"):
        return len(data[0])
    if isinstance(data, Mapping):
        return count_of(next(iter(data.values()), None))
    dataset = getattr(data, "dataset", None)  # a DataLoader: its length is a number of batches
    return len(data if dataset is None else dataset)
