"""The script's estimator, whatever it is made with: train, evaluate, predict, save.

Its own methods come first. What it lacks is done the plain way of its framework: torch by `torch_loop`,
keras by `fit`, sklearn by `partial_fit`, or by `fit` with warm_start.
"""

import inspect
import os
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional

import numpy as np

from ..common.config import BaseConfig, Context
from ..common.file_ops import FileOps
from ..common.log import LOGGER
from . import torch_loop, weights
from .data import arrays_of
from .values import count_of, metrics_of

__all__ = ("Estimator", "Trained", "keras_of")


class Trained(NamedTuple):
    """What a training gave: its metrics, and its number of optimizer steps where that is known."""

    metrics: Dict[str, float]
    steps: Optional[int] = None


class Estimator:
    """Wraps a script's estimator, whose attributes all show through; `estimator` is the script's own."""

    def __init__(self, estimator: Any) -> None:
        self.estimator = estimator() if isinstance(estimator, type) else estimator

    def __getattr__(self, name: str) -> Any:
        if name == "estimator":
            raise AttributeError(name)
        return getattr(self.estimator, name)

    @property
    def who(self) -> str:
        """Name the estimator for a message."""
        return type(self.estimator).__name__

    def get_weights(self) -> List[Any]:
        """Give the weights as a list of arrays, in the order of their names."""
        named = weights.read(self.estimator)
        return [named[name] for name in sorted(named)]

    def set_weights(self, arrays: Any) -> None:
        """Take over a list of arrays in the same order."""
        named = weights.read(self.estimator)
        if len(arrays) != len(named):
            raise weights.WeightsError(
                "{}: got {} arrays, expected {}".format(self.who, len(arrays), len(named))
            )
        new = {name: np.asarray(arrays[place]) for place, name in enumerate(sorted(named))}
        weights.write(self.estimator, new)

    def train(self, train_data: Any, valid_data: Any = None, **kwargs: Any) -> Trained:
        """Train once. Raises ValueError where there is no way to train."""
        own = _own_train(self.estimator)
        if own is not None:
            given = dict(kwargs, valid_data=valid_data)
            return Trained(metrics_of_or_none(_call(own, "train_data", train_data, given)))
        settings = self._settings(kwargs)
        model = keras_of(self.estimator)
        if model is not None:
            return _fit_keras(model, train_data, valid_data, settings)
        module = weights.module_of(self.estimator)
        if module is not None:
            found = torch_loop.settings_of(settings)
            metrics, steps = torch_loop.train_module(module, self.estimator, train_data, found)
            if valid_data is not None and count_of(valid_data):
                seen = torch_loop.evaluate_module(module, self.estimator, valid_data)
                metrics.update({"valid_" + name: value for name, value in seen.items()})
            return Trained(metrics, steps)
        linear = weights.sklearn_of(self.estimator)
        if linear is not None:
            return _fit_sklearn(linear, train_data, settings)
        raise ValueError(
            "{}: expected a method train(train_data, valid_data=None, ...), or a torch module, keras "
            "model or sklearn model, itself or as .model".format(self.who)
        )

    def can_evaluate(self) -> bool:
        """Say whether there is a way to evaluate."""
        own = getattr(self.estimator, "evaluate", None)
        framework = keras_of(self.estimator) or weights.module_of(self.estimator)
        return callable(own) or framework is not None or hasattr(_scored(self.estimator), "score")

    def evaluate(self, data: Any, **kwargs: Any) -> Any:
        """Evaluate, and give what the script's own method gives, or a mapping of numbers."""
        own = getattr(self.estimator, "evaluate", None)
        model = keras_of(self.estimator)
        if callable(own) and self.estimator is not model:
            return _call(own, "data", data, kwargs)
        if model is not None:
            x, y = arrays_of(data, "data")
            return metrics_of(
                model.evaluate(x, y, verbose=0), getattr(model, "metrics_names", None)
            )
        module = weights.module_of(self.estimator)
        if module is not None:
            return torch_loop.evaluate_module(module, self.estimator, data)
        linear = _scored(self.estimator)
        if linear is not None and hasattr(linear, "score"):
            name = "accuracy" if hasattr(linear, "classes_") else "score"
            return {name: float(linear.score(*arrays_of(data, "data")))}
        raise ValueError("{}: expected a method evaluate(data)".format(self.who))

    def predict(self, x: Any, **kwargs: Any) -> Any:
        """Predict by the script's own `predict`, else by its module or model."""
        for candidate in (self.estimator, getattr(self.estimator, "model", None)):
            own = getattr(candidate, "predict", None)
            if callable(own):
                return _call(own, "", x, kwargs)
        module = weights.module_of(self.estimator)
        if module is None:
            raise ValueError("{}: expected a method predict(x)".format(self.who))
        return module(x)

    def save(self, path: str = "") -> str:
        """Save by the script's own `save` where Sedna does, and give the path; nothing where it cannot.

        The path is MODEL_URL/MODEL_NAME, if MODEL_URL is a folder that is there: where it is none, it is the
        very file that the job's global model is written to at the end. A place that cannot be written to
        is a warning, no error: the update goes another way.
        """
        own = getattr(self.estimator, "save", None)
        target = path or _save_path()
        if not callable(own) or not target:
            return ""
        try:
            own(target)
        except Exception as error:
            LOGGER.warning("the model is not saved at %s: %s", target, error)
            return ""
        return target

    def _settings(self, kwargs: Mapping[str, Any]) -> Dict[str, Any]:
        """Merge what is said where: arguments of train, then `hyperparameters`, then the environment."""
        names = torch_loop.Settings._fields
        settings = {name: Context.get_parameters(name) for name in names}
        for source in (getattr(self.estimator, "hyperparameters", None) or {}, kwargs):
            settings.update({name: source[name] for name in names if source.get(name) is not None})
        return {name: value for name, value in settings.items() if value is not None}


def keras_of(estimator: Any) -> Any:
    """Give the keras model that an estimator is or has as `.model`; None where there is none."""
    for candidate in (estimator, getattr(estimator, "model", None)):
        if all(callable(getattr(candidate, n, None)) for n in ("fit", "compile", "set_weights")):
            return candidate
    return None


def metrics_of_or_none(result: Any) -> Dict[str, float]:
    """Give the metrics of what a train returned; none where it returned none."""
    return {} if result is None else metrics_of(result)


def _own_train(estimator: Any) -> Optional[Callable[..., Any]]:
    """Give the estimator's train, unless that is a torch module's switch into training mode."""
    own = getattr(estimator, "train", None)
    if not callable(own):
        return None
    module = getattr(getattr(type(estimator), "train", None), "__module__", "")
    return None if module.startswith("torch.") else own


def _scored(estimator: Any) -> Any:
    return weights.sklearn_of(estimator)


def _call(function: Callable[..., Any], first: str, data: Any, kwargs: Mapping[str, Any]) -> Any:
    """Call with those keywords that the function takes, the data by the name `first` or in front."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # written in C
        return function(data)
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    kept = {name: value for name, value in kwargs.items() if takes_all or name in parameters}
    in_front = [
        p for p in parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    if first in parameters or (takes_all and not in_front and first):
        kept[first] = data
        return function(**kept)
    if in_front:
        kept.pop(in_front[0].name, None)
    return function(data, **kept)


def _save_path() -> str:
    folder, name = BaseConfig().model_url or "", BaseConfig().model_name or ""
    return FileOps.join_path(folder, name) if name and os.path.isdir(folder) else ""


def _fit_keras(model: Any, data: Any, valid_data: Any, settings: Mapping[str, Any]) -> Trained:
    found = torch_loop.settings_of(dict(settings, optimizer=None))
    x, y = arrays_of(data, "train_data")
    if getattr(model, "optimizer", None) is None:
        several = y is not None and y.dtype.kind == "i"
        loss = "sparse_categorical_crossentropy" if several else "mse"
        optimizer = str(settings.get("optimizer", "sgd")).lower()
        model.compile(optimizer=optimizer, loss=loss, metrics=["accuracy"] if several else None)
        if "learning_rate" in settings:
            model.optimizer.learning_rate = found.learning_rate
    options: Dict[str, Any] = {"epochs": found.epochs, "batch_size": found.batch_size, "verbose": 0}
    if valid_data is not None and len(valid_data):
        options["validation_data"] = arrays_of(valid_data, "valid_data")
    return Trained(metrics_of_or_none(model.fit(x, y, **options)))


def _fit_sklearn(linear: Any, data: Any, settings: Mapping[str, Any]) -> Trained:
    epochs = torch_loop.settings_of(settings).epochs
    x, y = arrays_of(data, "train_data")
    if hasattr(linear, "partial_fit"):
        takes_classes = "classes" in inspect.signature(linear.partial_fit).parameters
        known = getattr(linear, "classes_", None)
        classes = np.unique(y) if known is None else known
        for _ in range(epochs):
            linear.partial_fit(x, y, **({"classes": classes} if takes_classes else {}))
    elif "warm_start" in linear.get_params():
        linear.set_params(warm_start=True)
        linear.fit(x, y)
    else:
        raise ValueError(
            "{}: has neither partial_fit nor warm_start; its fit would forget the global model. Write a "
            "method train(train_data)".format(type(linear).__name__)
        )
    return Trained({"score": float(linear.score(x, y))})
