"""The training script of `v1_custom_aggregate.py`: it registers the aggregation too, as Sedna asks."""

from sedna.algorithms.aggregation.aggregation import BaseAggregation
from sedna.common.class_factory import ClassFactory, ClassType
from v1_train import main


@ClassFactory.register(ClassType.FL_AGG, alias="MiddleAggregation")
class MiddleAggregation(BaseAggregation):
    """Never asked for anything on this side."""

    def aggregate(self, clients):
        """Fail if asked."""
        raise AssertionError("a client aggregates nothing")


if __name__ == "__main__":
    main("MiddleAggregation")
