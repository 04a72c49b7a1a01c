"""The code that travels with a registered model: `mlflow.pyfunc.load_model(...)` runs this file.

It needs mlflow, numpy and safetensors. The artifact `weights` is the model as safetensors; `script`, if
there is one, the training script, in a folder with the modules beside it that it imports; `fedloom` a
zip of the part of Fedloom that these use. The class that the script hands to `fedloom.main` may have

    @staticmethod
    def predict(model: dict[str, np.ndarray], inputs: np.ndarray) -> np.ndarray: ...

and that is what predicts.
"""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from mlflow.pyfunc.model import PythonModel
from safetensors.numpy import load_file

HOW_TO = (
    "Give the class in the training script a static method predict(model, inputs), where model is the "
    "weights by name and inputs an array, and run the job again."
)
WEIGHTS = (
    "The weights themselves can be read with safetensors.numpy.load_file from "
    "artifacts/model.safetensors of this model."
)
_ABSENT = object()


class FederatedModel(PythonModel):
    """The weights of one round and the script's way to use them."""

    def load_context(self, context: Any) -> None:
        self.weights = load_file(context.artifacts["weights"])
        self._problem: Exception | SystemExit | None = None
        self._predict: Callable[..., Any] | None = None
        script = context.artifacts.get("script")
        if script is not None:
            try:
                self._predict = predict_of(Path(script), context.artifacts["fedloom"])
            except (Exception, SystemExit) as error:
                self._problem = error  # the weights load whatever the script does

    def predict(
        self, context: Any, model_input: np.ndarray, params: dict[str, Any] | None = None
    ) -> Any:
        """Predict. MLflow passes tables and lists on as they are; the script gets arrays."""
        if self._predict is None:
            raise mlflow.MlflowException(self._excuse()) from self._problem
        return self._predict(self.weights, as_array(model_input))

    def _excuse(self) -> str:
        if self._problem is None:
            return f"This model does not say how to predict. {HOW_TO} {WEIGHTS}"
        kind = type(self._problem).__name__
        return f"The training script cannot be loaded here: {kind}: {self._problem}. {WEIGHTS}"


def as_array(inputs: Any) -> Any:
    """A table or a list as an array; arrays, and arrays by name, as they are."""
    if isinstance(inputs, np.ndarray | dict):
        return inputs
    return inputs.to_numpy() if hasattr(inputs, "to_numpy") else np.asarray(inputs)


def predict_of(script: Path, archive: str) -> Callable[..., Any] | None:
    """Run the script and give its class's `predict(model, inputs)`; None where it has none."""
    trainers: list[Any] = []
    module = types.ModuleType("__main__")
    module.__file__ = str(script)
    with receiving(trainers.append, archive), importing_from(script):
        exec(compile(script.read_bytes(), str(script), "exec"), module.__dict__)  # noqa: S102
    # Its globals live as long as this module is known.
    sys.modules[f"fedloom_served_{len(sys.modules)}"] = module
    trainer = trainers[-1] if trainers else None
    method = getattr(trainer, "predict", None)
    if trainer is None or method is None:
        return None
    if isinstance(vars(trainer).get("predict"), types.FunctionType):
        # A plain method: bound to an instance without a client, because there is none here.
        bound: Callable[..., Any] = method.__get__(trainer.__new__(trainer))
        return bound
    return method  # type: ignore[no-any-return]


@contextmanager
def receiving(receive: Callable[[Any], None], archive: str) -> Iterator[None]:
    """Hand what the script gives to `fedloom.main` to `receive`.

    Where Fedloom is not installed the part of it that travels with the model stands in, and stays.
    """
    try:
        fedloom = importlib.import_module("fedloom")
    except ImportError:
        sys.path.append(archive)
        fedloom = importlib.import_module("fedloom")
    before = vars(fedloom).get("main", _ABSENT)
    vars(fedloom)["main"] = receive
    try:
        yield
    finally:
        if before is _ABSENT:
            del vars(fedloom)["main"]
        else:
            vars(fedloom)["main"] = before


@contextmanager
def importing_from(script: Path) -> Iterator[None]:
    """Let the script import what lies beside it, and nothing of it stay for other models."""
    folder, arguments = str(script.parent), sys.argv
    sys.path.insert(0, folder)
    sys.argv = [str(script)]
    try:
        yield
    finally:
        sys.argv = arguments
        sys.path.remove(folder)
        for name, module in list(sys.modules.items()):
            file = getattr(module, "__file__", None)
            if file is not None and Path(file).is_relative_to(folder):
                del sys.modules[name]


mlflow.models.set_model(FederatedModel())
