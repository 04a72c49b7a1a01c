"""Features and labels out of whatever a script calls its data."""

from typing import Any, Mapping, Optional, Tuple

import numpy as np

__all__ = ("arrays_of", "features_and_labels")


def features_and_labels(data: Any) -> Optional[Tuple[Any, Any]]:
    """Give (features, labels) of a Sedna dataset, a pair, or a mapping with `x` and `y`; else None."""
    if isinstance(data, Mapping) and "x" in data:
        return data["x"], data.get("y")
    if hasattr(data, "x") and hasattr(data, "y"):
        return data.x, data.y
    if isinstance(data, (tuple, list)) and len(data) == 2 and hasattr(data[0], "__len__"):
        return data[0], data[1]
    return None


def arrays_of(data: Any, what: str) -> Tuple[Any, Any]:
    """Give the same as arrays of numbers; labels are int64 or float32, or None where there are none.

    Raises ValueError for data of another form, or that is no numbers.
    """
    pair = features_and_labels(data)
    if pair is None:
        raise ValueError(
            "{}: got {}, expected .x and .y, a pair (x, y) or a mapping of both".format(
                what, type(data).__name__
            )
        )
    features = _numbers(pair[0], what + " (x)")
    if pair[1] is None:
        return features, None
    labels = _numbers(pair[1], what + " (y)")
    kind = np.int64 if labels.dtype.kind in "biu" else np.float32
    return features, labels.astype(kind)


def _numbers(values: Any, what: str) -> Any:
    array = np.asarray(values)
    if array.dtype == object and array.size:
        array = np.stack([np.asarray(value) for value in array])
    if array.dtype.kind in "US":  # as they stand in an index
        for kind in (np.int64, np.float64):
            try:
                return array.astype(kind)
            except ValueError:
                continue
    if array.dtype.kind not in "biuf":
        raise ValueError("{}: got dtype {}, expected numbers".format(what, array.dtype))
    return array
