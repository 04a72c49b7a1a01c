"""How many updates an algorithm needs, so that a job that never has as many is refused at once."""

from __future__ import annotations

from fedloom.api import capabilities
from fedloom.api.learning import Algorithm


def least_updates(algorithm: Algorithm) -> tuple[int, str]:
    """Give the least number of updates that the algorithm can combine, and why.

    A parameter that is absent, or of the wrong type or size (which is found elsewhere), takes its
    default.
    """
    match algorithm.name:
        case "trimmed-mean":
            trim = _count(algorithm, "trim")
            return 2 * trim + 1, f"trimmed-mean drops trim = {trim} clients at each end"
        case "krum" | "multi-krum":
            byzantine = _count(algorithm, "byzantine")
            least, why = 2 * byzantine + 3, "2 * byzantine + 3"
            keep = _count(algorithm, "keep") if algorithm.name == "multi-krum" else 1
            if keep + byzantine > least:
                least, why = keep + byzantine, f"keep = {keep} beside the byzantine ones"
            return least, f"{algorithm.name} with byzantine = {byzantine} needs {why}"
    return 1, ""


def _count(algorithm: Algorithm, name: str) -> int:
    parameter = capabilities.ALGORITHMS[algorithm.name][name]
    value = algorithm.parameters.get(name)
    is_count = isinstance(value, int) and not isinstance(value, bool)
    if is_count and not parameter.bounds.violation(value):
        return int(value or 0)
    return int(parameter.default)
