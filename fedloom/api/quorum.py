"""Which rule combines a job's updates, and how many of them it needs.

Known before anything runs, so that a job that never has as many updates is refused at once.
"""

from __future__ import annotations

from collections.abc import Mapping

from fedloom.api import capabilities
from fedloom.api.learning import Aggregation, Algorithm, Scalar


def rule_of(algorithm: Algorithm, aggregation: Aggregation) -> tuple[str, Mapping[str, Scalar]]:
    """Give the aggregation rule of a job and the parameters of it that are written.

    `aggregation.rule` where it is set, else the algorithm where that is a rule by itself (`median`),
    else the mean.
    """
    if aggregation.rule is not None:
        return aggregation.rule, aggregation.parameters
    if algorithm.name in capabilities.ROBUST_RULES:
        taken = capabilities.ROBUST_RULES[algorithm.name]
        return algorithm.name, {k: v for k, v in algorithm.parameters.items() if k in taken}
    return "mean", aggregation.parameters


def least_updates(rule: str, parameters: Mapping[str, Scalar]) -> tuple[int, str]:
    """Give the least number of updates that a rule can combine, and why.

    A parameter that is absent, or of the wrong type or size (which is found elsewhere), takes its
    default.
    """
    match rule:
        case "trimmed-mean":
            trim = _count(rule, parameters, "trim")
            return 2 * trim + 1, f"trimmed-mean drops trim = {trim} clients at each end"
        case "krum" | "multi-krum":
            byzantine = _count(rule, parameters, "byzantine")
            least, why = 2 * byzantine + 3, "2 * byzantine + 3"
            keep = _count(rule, parameters, "keep") if rule == "multi-krum" else 1
            if keep + byzantine > least:
                least, why = keep + byzantine, f"keep = {keep} beside the byzantine ones"
            return least, f"{rule} with byzantine = {byzantine} needs {why}"
    return 1, ""


def _count(rule: str, parameters: Mapping[str, Scalar], name: str) -> int:
    parameter = capabilities.RULES[rule][name]
    value = parameters.get(name)
    is_count = isinstance(value, int) and not isinstance(value, bool)
    if is_count and not parameter.bounds.violation(value):
        return int(value or 0)
    return int(parameter.default or 0)
