"""FederatedLearningV2: a model, its hyperparameters and its data, trained the plain way of its framework."""

import os
from typing import Any, Mapping, Tuple

import numpy as np

from ..algorithms.transmitter import AbstractTransmitter, S3Transmitter, WSTransmitter
from ..common.config import BaseConfig
from ..common.log import LOGGER
from ..round.estimators import keras_of
from ..round.run import Run
from ..round.task import current, fail
from ..round.torch_loop import settings_of
from ..round.values import count_of
from ..round.weights import module_of

__all__ = ("FederatedLearningV2",)

_HONOURED = ("epochs", "batch_size", "optimizer", "learning_rate", "momentum", "weight_decay")
_ELSEWHERE = {
    "rounds": "spec.rounds of the job, or the aggregating script's, counts",
    "target_accuracy": "spec.stopCondition of the job stops early",
}
_HARMLESS = ("model_name", "use_tensorflow", "is_compiled", "parallelized", "max_concurrency")
_WHAT = "FederatedLearningV2"


class FederatedLearningV2:
    """A V2 training job; every argument may be a class, which is then made without arguments.

    `estimator.model` is a torch module or keras model, `estimator.hyperparameters` says epochs, batch_size,
    optimizer (SGD, Adam), learning_rate, momentum, weight_decay. `data` has `trainset` and `testset`
    (`customized`), or `parameters` with the path of an .npz file with x and y. What this cannot honour
    ends the run with a message: a setting passed over in silence would be another experiment.
    """

    def __init__(
        self,
        data: Any = None,
        estimator: Any = None,
        aggregation: Any = None,
        transmitter: Any = None,
    ) -> None:
        task = current(("initialize", "train", "evaluate"), _WHAT)
        data, estimator = _made(data), _made(estimator)
        self.aggregation, self.transmitter = _made(aggregation), transmitter
        _check_aggregation(self.aggregation)
        _check_estimator(estimator)
        self._run = Run(estimator, _WHAT)  # in the task initialize, this is the end
        self.estimator = estimator
        self.trainset: Any = None
        self.testset: Any = None
        if task.name != "initialize":
            self.trainset, self.testset = _sets(data)

    @classmethod
    def get_transmitter_from_config(cls) -> AbstractTransmitter:
        """Give the transmitter that TRANSMITTER names: s3, else ws."""
        config = BaseConfig()
        if config.transmitter != "s3":
            return WSTransmitter()
        return S3Transmitter(
            s3_endpoint_url=config.s3_endpoint_url,
            access_key=config.access_key_id,
            secret_key=config.secret_access_key,
            transmitter_url=config.agg_data_path,
        )

    def train(self) -> None:
        """Train one round on the trainset and hand the update over; the testset gives the metrics valid_*.

        In the evaluate task, evaluate on the trainset, which is then the evaluation's dataset.
        """
        testset = self.testset if _has_samples(self.testset) else None
        try:
            self._run.train(self.trainset, testset, {})
        except ValueError as error:
            fail("{}: {}".format(_WHAT, error))


def _made(thing: Any) -> Any:
    return thing() if isinstance(thing, type) else thing


def _check_aggregation(aggregation: Any) -> None:
    kind = (getattr(aggregation, "parameters", None) or {}).get("type", "fedavg")
    if kind == "mistnet":
        fail(
            "MistNet: this version does not train MistNet yet; train the whole model with "
            "FedAvgV2() instead"
        )
    if kind != "fedavg":
        LOGGER.info(
            "aggregation %s: the job's algorithm decides what is done with the update", kind
        )


def _check_estimator(estimator: Any) -> None:
    """End the run where something is asked of the estimator that is not done here."""
    model = getattr(estimator, "model", None)
    if isinstance(model, type):
        model = estimator.model = model()
    if module_of(estimator) is None and keras_of(estimator) is None:
        fail(
            "{}: estimator.model got {}, expected a torch module or a keras model; Plato's own model "
            "registry is not here, so put the model itself there".format(
                _WHAT, type(model).__name__
            )
        )
    for name in ("trainer", "algorithm"):
        if getattr(estimator, name, None) is not None:
            fail(
                "{}: estimator.{} is set, and Plato's are not run here; leave it None and say epochs, "
                "optimizer and learning_rate in estimator.hyperparameters, or write a V1 estimator with its "
                "own train() for FederatedLearning".format(_WHAT, name)
            )
    _check_hyperparameters(getattr(estimator, "hyperparameters", None) or {})


def _check_hyperparameters(given: Mapping[str, Any]) -> None:
    if given.get("type", "basic") not in ("basic", "", None):
        fail(
            "{}: hyperparameters.type got {!r}, expected 'basic', the only trainer here; a training loop of "
            "its own goes into a V1 estimator's train()".format(_WHAT, given["type"])
        )
    for name in given:
        if name in _ELSEWHERE:
            LOGGER.info("hyperparameters.%s: %s", name, _ELSEWHERE[name])
        elif name != "type" and name not in _HONOURED + _HARMLESS:
            fail(
                "{}: hyperparameters.{} is not known here, expected {}; what needs it goes into a V1 "
                "estimator's train()".format(_WHAT, name, ", ".join(_HONOURED))
            )
    try:
        settings_of(given)
    except ValueError as error:
        fail("{}: hyperparameters.{}".format(_WHAT, error))


def _sets(data: Any) -> Tuple[Any, Any]:
    """Give trainset and testset."""
    if data is None:
        fail("{}: data got None, expected an object with trainset and testset".format(_WHAT))
    if getattr(data, "customized", False) or getattr(data, "trainset", None) is not None:
        return getattr(data, "trainset", None), getattr(data, "testset", None)
    parameters = getattr(data, "parameters", None) or {}
    paths = (
        parameters.get("train_path"),
        parameters.get("data_path"),
        BaseConfig().train_dataset_url,
    )
    found = next((str(path) for path in paths if str(path or "").endswith(".npz")), "")
    if not found or not os.path.isfile(found):
        fail(
            "{}: data.parameters got {!r}, expected train_path, data_path or TRAIN_DATASET_URL to be an .npz "
            "file with x and y; Plato's datasource {!r} is not here: set data.customized = True, "
            "data.trainset and data.testset".format(
                _WHAT, parameters, parameters.get("datasource", "")
            )
        )
    test = str(parameters.get("test_path") or "")
    return _load_npz(found), _load_npz(test) if test.endswith(".npz") else None


def _load_npz(path: str) -> Tuple[Any, Any]:
    with np.load(path, allow_pickle=False) as arrays:
        if "x" not in arrays or "y" not in arrays:
            fail("{}: got {}, expected the arrays x and y".format(path, ", ".join(arrays)))
        return arrays["x"], arrays["y"]


def _has_samples(data: Any) -> bool:
    try:
        return count_of(data) > 0
    except TypeError:
        return False
