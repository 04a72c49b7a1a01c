"""One run of a training script: initialize, train or evaluate, each handed over exactly once."""

import atexit
import time
from typing import Any, Dict, List, Mapping, Optional

from ..common.config import BaseConfig
from ..common.file_ops import FileOps
from ..common.log import LOGGER
from . import reports, safetensors, weights
from .estimators import Estimator, Trained
from .seeding import seed_frameworks
from .task import Task, current, fail, finish, report_end, write_json
from .values import count_of, metrics_of

__all__ = ("Run",)

_INFERRED, _EVALUATED, _TASK_DONE = 1, 2, 3


class Run:
    """The task of this process with the script's estimator. Made once, as the script makes its job.

    In `initialize` it hands over the estimator's weights and ends the process, at once if the estimator
    has weights already, else when the script calls train().
    """

    def __init__(self, estimator: Any, what: str) -> None:
        self.task: Task = current(("initialize", "train", "evaluate"), what)
        seed_frameworks()
        self.estimator = Estimator(estimator)
        self._what = what
        self._model: Optional[Dict[str, safetensors.Array]] = None
        self._done = 0  # the weightiest thing that has been handed over
        atexit.register(self._end)
        if self.task.name == "initialize":
            self._initialize(is_last_chance=False)

    def train(self, data: Any, valid_data: Any, kwargs: Mapping[str, Any]) -> None:
        """Do the task: train and hand over the update; in the evaluate task, evaluate on `data`."""
        if self._done == _TASK_DONE:
            fail(
                "{}: train() was called twice in one run; a run is one round of one client, and Fedloom runs "
                "the script again for the next round".format(self._what)
            )
        if self.task.name == "initialize":
            self._initialize(is_last_chance=True)
        self.load()
        samples = self._count(data)
        if self.task.name == "evaluate":
            self._evaluate_instead(data, samples)
        else:
            self._train(data, valid_data, kwargs, samples)
        self._done = _TASK_DONE

    def load(self) -> None:
        """Give the estimator the round's global model, once."""
        if self._model is not None:
            return
        if self.task.name == "initialize":
            self._initialize(is_last_chance=True)
        try:
            self._model = safetensors.load(self.task.model)
            weights.write(self.estimator.estimator, self._model)
        except (weights.WeightsError, safetensors.FormatError, OSError) as error:
            fail("the global model of round {}: {}".format(self.task.round, error))

    def evaluated(self, data: Any, result: Any) -> None:
        """Hand over what an evaluation of the script gave, unless train() already did so."""
        if self.task.name == "evaluate" and self._done < _EVALUATED:
            self._write_result(self._count(data), metrics_of(result), None)
            self._done = _EVALUATED

    def inferred(self, x: Any) -> None:
        """Hand over, in the evaluate task, that samples were looked at; nothing else is known."""
        if self.task.name == "evaluate" and not self._done and hasattr(x, "__len__") and len(x):
            self._write_result(len(x), {}, None)
            self._done = _INFERRED

    def _initialize(self, is_last_chance: bool) -> None:
        try:
            arrays = weights.read(self.estimator.estimator)
            safetensors.save(self.task.update, arrays)
        except Exception as error:
            if not is_last_chance:
                LOGGER.debug("no weights yet: %s", error)
                return
            fail("the first model: {}".format(error))
        finish()

    def _train(self, data: Any, valid_data: Any, kwargs: Mapping[str, Any], samples: int) -> None:
        assert self._model is not None
        started = time.time()
        try:
            trained = self.estimator.train(data, valid_data, **kwargs)
        except Exception as error:
            reports.send(reports.task_info(self.task.round, samples, started), "failed")
            if isinstance(error, ValueError) and type(error) is weights.WeightsError:
                fail(str(error))
            raise
        try:
            arrays = weights.read(self.estimator.estimator, self._model)
            safetensors.save(self.task.update, arrays)
        except (weights.WeightsError, safetensors.FormatError) as error:
            reports.send(reports.task_info(self.task.round, samples, started), "failed")
            fail("no update can be handed over: {}".format(error))
        self._write_result(samples, trained.metrics, trained.steps)
        saved = self.estimator.save()
        is_last = self.task.round >= self.task.rounds
        reports.send(
            reports.task_info(self.task.round, samples, started),
            "completed" if is_last else "running",
            _results(saved, trained),
        )

    def _evaluate_instead(self, data: Any, samples: int) -> None:
        if not self.estimator.can_evaluate():
            fail(
                "the task is evaluate, and {} has no method evaluate(data); write one, or leave "
                "spec.evaluation out of the job".format(self.estimator.who)
            )
        result = self.estimator.evaluate(data)
        self._write_result(samples, metrics_of(result), None)

    def _count(self, data: Any) -> int:
        try:
            samples = count_of(data)
        except TypeError:
            fail("{}: the data got {}, which has no length".format(self._what, type(data).__name__))
        if samples == 0:
            fail(
                "{}: the data holds no samples; TRAIN_DATASET_URL is {!r}: is the file there, and the files "
                "that it names?".format(self._what, BaseConfig().train_dataset_url or "")
            )
        return samples

    def _write_result(
        self, samples: int, metrics: Mapping[str, float], steps: Optional[int]
    ) -> None:
        document: Dict[str, Any] = {"num_examples": samples, "metrics": dict(metrics)}
        if steps is not None:
            document["num_steps"] = steps
        write_json(self.task.result, document)

    def _end(self) -> None:
        """Say why nothing was handed over, where a script ends without having done its task."""
        if self._done == _TASK_DONE or (self.task.name == "evaluate" and self._done):
            return
        report_end(
            "{}: the script ended without calling train(), so there is nothing to hand over for the task "
            "{!r}".format(self._what, self.task.name)
        )


def _results(saved: str, trained: Trained) -> List[Dict[str, Any]]:
    """Give the models of a report: the saved one by its path on the node, with its metrics."""
    config = BaseConfig()
    path = saved or config.model_url or ""
    if not path and not trained.metrics:
        return []
    url = FileOps.remove_path_prefix(path, config.data_path_prefix or "")
    extension = url.rpartition("/")[2].rpartition(".")
    return [
        {
            "format": extension[2] if extension[1] else "",
            "url": url,
            "metrics": dict(trained.metrics),
        }
    ]
