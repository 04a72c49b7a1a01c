"""Aggregations: the built-in ones, and the base of a script's own.

This `__init__` imports, since scripts import these names from here.
"""

from .aggregation import AggClient, BaseAggregation, FedAvg, FedAvgV2, MistNet

__all__ = ("AggClient", "BaseAggregation", "FedAvg", "FedAvgV2", "MistNet")
