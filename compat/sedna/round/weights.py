"""An estimator's weights as named arrays, and back.

Asked in this order: its own `get_weights`/`set_weights`; those of its `.model` (keras); the state of a torch
module, itself or its `.model`; sklearn's `coef_`/`intercept_` (of a network: `coefs_`/`intercepts_`). A list
gets the names `0000`, `0001`, ... in its order; a mapping and a torch state keep their own names.
"""

import sys
from typing import Any, Dict, List, Mapping, Optional

import numpy as np

from .safetensors import Array

__all__ = ("WeightsError", "module_of", "read", "sklearn_of", "write")

_SKLEARN = (("coef_", "intercept_"), ("coefs_", "intercepts_"))


class WeightsError(ValueError):
    """Weights that are not there or do not fit; the message says what was got and expected."""


def read(estimator: Any, model: Optional[Mapping[str, Array]] = None) -> Dict[str, Array]:
    """Give the estimator's weights as copies, named and typed as in `model` where there is one.

    Raises WeightsError where there are none, or where number, shapes or names differ from the model's.
    """
    who = type(estimator).__name__
    raw = _raw(estimator)
    if raw is None or (hasattr(raw, "__len__") and len(raw) == 0):
        raise WeightsError(
            "{}: get_weights gave {!r}, expected a list of arrays; build the model in __init__, so that it "
            "has weights before any training".format(who, raw)
        )
    values = raw if isinstance(raw, Mapping) else _named(raw, model)
    arrays = {
        str(name): _array(value, "{}: {}".format(who, name)) for name, value in values.items()
    }
    return arrays if model is None else _fitted(arrays, model, who)


def write(estimator: Any, model: Mapping[str, Array]) -> None:
    """Give the estimator a model's arrays. Raises WeightsError where it has others."""
    who = type(estimator).__name__
    owner = _owner(estimator)
    try:
        present = _raw(estimator)
    except Exception:
        if owner is None and sklearn_of(estimator) is None:
            raise
        present = None  # a model that is made by its first weights has none to show yet
    if present is not None and hasattr(present, "__len__") and len(present):
        values = present if isinstance(present, Mapping) else _named(present, model)
        found = {str(name): _array(value, str(name)) for name, value in values.items()}
        _fitted(found, model, who)
    arrays = [_like(model[name], present, name, place) for place, name in enumerate(sorted(model))]
    if owner is not None:
        owner.set_weights(_shaped(arrays, present, model))
        return
    module = module_of(estimator)
    if module is not None:
        torch = sys.modules["torch"]
        module.load_state_dict({name: torch.as_tensor(array) for name, array in model.items()})
        return
    _write_sklearn(sklearn_of(estimator), [model[name] for name in sorted(model)])


def module_of(estimator: Any) -> Any:
    """Give the torch module that an estimator is or has as `.model`; None where there is none."""
    torch = sys.modules.get("torch")
    kind = getattr(getattr(torch, "nn", None), "Module", None)
    for candidate in (estimator, getattr(estimator, "model", None)):
        if kind is not None and isinstance(candidate, kind):
            return candidate
    return None


def sklearn_of(estimator: Any) -> Any:
    """Give the sklearn estimator that this is or has as `.model`; None where there is none."""
    for candidate in (estimator, getattr(estimator, "model", None)):
        if hasattr(candidate, "fit") and hasattr(candidate, "get_params"):
            return candidate
    return None


def _owner(estimator: Any) -> Any:
    """Give what has get_weights and set_weights: the estimator or its `.model`."""
    for candidate in (estimator, getattr(estimator, "model", None)):
        if all(callable(getattr(candidate, name, None)) for name in ("get_weights", "set_weights")):
            return candidate
    return None


def _raw(estimator: Any) -> Any:
    """Give the weights as the estimator has them: a list, a mapping, an array or None."""
    owner = _owner(estimator)
    if owner is not None:
        return owner.get_weights()
    module = module_of(estimator)
    if module is not None:
        return module.state_dict()
    linear = sklearn_of(estimator)
    if linear is not None:
        return _read_sklearn(linear)
    raise WeightsError(
        "{}: expected get_weights() and set_weights(list), or a torch module, keras model or linear sklearn "
        "model, itself or as .model".format(type(estimator).__name__)
    )


def _read_sklearn(linear: Any) -> List[Any]:
    for names in _SKLEARN:
        if hasattr(linear, names[0]):
            found = [getattr(linear, name) for name in names if hasattr(linear, name)]
            if names is _SKLEARN[0]:
                return found
            return [array for arrays in found for array in arrays]
    raise WeightsError(
        "{0}: got no coef_ before training, and without data Fedloom cannot make it; call {0}.partial_fit on "
        "one sample of each class in the estimator's __init__, or name a pretrainedModel in the job".format(
            type(linear).__name__
        )
    )


def _write_sklearn(linear: Any, arrays: List[Array]) -> None:
    if hasattr(linear, "coefs_"):
        half = len(arrays) // 2
        linear.coefs_, linear.intercepts_ = arrays[:half], arrays[half:]
        return
    for name, array in zip(_SKLEARN[0], arrays):  # noqa: B905 (Python 3.6)
        setattr(linear, name, array)


def _named(raw: Any, model: Optional[Mapping[str, Array]]) -> Dict[str, Any]:
    """Name a list's arrays: by the model's names in their order, else by number."""
    values = [raw] if _is_array(raw) else list(raw)
    if model is not None and len(model) == len(values):
        return {name: values[place] for place, name in enumerate(sorted(model))}
    width = max(4, len(str(len(values) - 1)))
    return {"{:0{}d}".format(place, width): value for place, value in enumerate(values)}


def _is_array(raw: Any) -> bool:
    return isinstance(raw, np.ndarray) and raw.dtype != object


def _array(value: Any, place: str) -> Array:
    """Give a copy as a numpy array; whole numbers in plain lists count as floats."""
    if hasattr(value, "detach"):
        if "bfloat16" in str(value.dtype):
            raise WeightsError(
                "{}: got bfloat16, expected a dtype that numpy has; keep the model in float32 and compute in "
                "autocast".format(place)
            )
        value = value.detach().cpu().numpy()
    try:
        array = np.array(value)
    except ValueError:
        raise WeightsError("{}: got rows of different lengths".format(place)) from None
    if not isinstance(value, (np.ndarray, np.generic)) and array.dtype.kind in "iu":
        array = array.astype(np.float64)
    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
        raise WeightsError("{}: got dtype {}, expected numbers".format(place, array.dtype))
    return array


def _fitted(arrays: Dict[str, Array], model: Mapping[str, Array], who: str) -> Dict[str, Array]:
    """Check the arrays against the global model and give them its dtypes."""
    if set(arrays) != set(model):
        strange = sorted(set(arrays) ^ set(model))[0]
        raise WeightsError(
            "{}: got {} arrays, the global model has {} (first difference: {!r}); every client and every "
            "round needs one and the same model".format(who, len(arrays), len(model), strange)
        )
    fitted = {}
    for name, array in arrays.items():
        wanted = model[name]
        if array.shape != wanted.shape:
            raise WeightsError(
                "{}: weights {!r} got the shape {}, the global model has {}; shapes must not change between "
                "rounds".format(who, name, array.shape, wanted.shape)
            )
        if not np.can_cast(array.dtype, wanted.dtype, "same_kind"):
            raise WeightsError(
                "{}: weights {!r} got dtype {}, the global model has {}".format(
                    who, name, array.dtype, wanted.dtype
                )
            )
        fitted[name] = array.astype(wanted.dtype, copy=False)
    return fitted


def _like(array: Array, present: Any, name: str, place: int) -> Any:
    """Give an array as a torch tensor where the estimator's own weights are tensors."""
    sample = None
    if isinstance(present, Mapping):
        sample = present.get(name)
    elif isinstance(present, (list, tuple)) and place < len(present):
        sample = present[place]
    if hasattr(sample, "detach"):
        return sys.modules["torch"].as_tensor(array)
    return array


def _shaped(arrays: List[Any], present: Any, model: Mapping[str, Array]) -> Any:
    """Give the arrays in the form in which the estimator gives them itself; a list where it gives none."""
    by_name = dict(zip(sorted(model), arrays))  # noqa: B905 (Python 3.6)
    if isinstance(present, Mapping):
        return {name: by_name[str(name)] for name in present}
    if present is None and not all(name.isdigit() for name in by_name):
        return by_name
    if _is_array(present):
        return arrays[0]
    return arrays
