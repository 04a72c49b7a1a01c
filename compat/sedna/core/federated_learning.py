"""FederatedLearning (V1) and FederatedLearningV2, as training scripts import them."""

from typing import Any, Optional

from ..algorithms.aggregation import BaseAggregation
from ..common.class_factory import ClassFactory, ClassType
from ..common.config import BaseConfig
from ..common.log import LOGGER
from ..round import reports
from ..round.run import Run
from ..round.seeding import seed_here
from .federated_learning_v2 import FederatedLearningV2

__all__ = ("FederatedLearning", "FederatedLearningV2")

seed_here()


class FederatedLearning:
    """A V1 training job: `estimator` is a class, made without arguments, or an object.

    The script runs once for every round of its client. `train()` takes over the round's global model, calls
    the estimator once, hands its new weights over and returns; code after it runs with the weights that
    this client trained. What the estimator holds beside its weights, an optimizer's state above all, starts
    anew in each round. `aggregation` is accepted; the aggregating side decides.
    """

    def __init__(self, estimator: Any, aggregation: Any = "FedAvg") -> None:
        self.config = BaseConfig()
        self.log = LOGGER
        self.aggregation = aggregation
        self._run = Run(estimator, "FederatedLearning")
        self.job_name = self.config.job_name or ""
        self.job_kind = "federatedlearningjob"
        self.worker_name = self.config.worker_name or self._run.task.client
        self.estimator = self._run.estimator
        if isinstance(aggregation, type) and issubclass(aggregation, BaseAggregation):
            self.aggregation = aggregation.__name__

    def train(
        self, train_data: Any, valid_data: Any = None, post_process: Any = None, **kwargs: Any
    ) -> Any:
        """Train one round; keywords go to the estimator's `train` as far as its signature takes them.

        Gives the estimator, or what `post_process` (a function, or the name of a registered callback) makes
        of it. In the evaluate task of a round the estimator is evaluated on `train_data` instead. A second
        call in one run ends it with a message.
        """
        callback = _callback(post_process)
        self._run.train(train_data, valid_data, kwargs)
        return self.estimator if callback is None else callback(self.estimator)

    def inference(self, x: Any = None, post_process: Any = None, **kwargs: Any) -> Any:
        """Predict with the round's global model, after train() with the trained one."""
        self._run.load()
        callback = _callback(post_process)
        result = self.estimator.predict(x, **kwargs)
        self._run.inferred(x)
        return result if callback is None else callback(result)

    def evaluate(self, data: Any, post_process: Any = None, **kwargs: Any) -> Any:
        """Evaluate the same; in the evaluate task its numbers are the round's metrics."""
        self._run.load()
        callback = _callback(post_process)
        result = self.estimator.evaluate(data, **kwargs)
        self._run.evaluated(data, result)
        return result if callback is None else callback(result)

    def report_task_info(
        self, task_info: Any, status: str, results: Any = None, kind: str = "train"
    ) -> None:
        """Tell the local controller of this node, where there is one; never fails."""
        reports.send(task_info, str(getattr(status, "value", status)), results, kind)


def _callback(post_process: Optional[Any]) -> Any:
    if post_process is None or post_process == "":
        return None
    if callable(post_process):
        return post_process
    return ClassFactory.get_cls(ClassType.CALLBACK, post_process)
