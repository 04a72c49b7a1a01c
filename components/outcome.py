"""What the user's code gave back, as arrays and counts that were looked at."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fedloom.artifacts.arrays import load_arrays
from fedloom.errors import ArtifactError, UpdateError

if TYPE_CHECKING:
    from components.drift import Belongings

Arrays = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Outcome:
    """What the user's code gave back: `arrays` of initialize and train, counts of train and evaluate.

    `is_corrected` says whether train applied the drift correction that it was given; `own` is what the
    client has beside the global model.
    """

    arrays: Arrays | None
    num_examples: int = 0
    num_steps: int | None = None
    metrics: Mapping[str, float] | None = None
    is_corrected: bool = False
    own: Belongings | None = None


def checked_outcome(arrays: Arrays | None, examples: Any, steps: Any, metrics: Any) -> Outcome:
    """Check the counts and metrics that user code gave. Raises UpdateError("BadResult")."""
    if isinstance(examples, bool) or not isinstance(
        examples, (int, float, np.integer, np.floating)
    ):
        raise _bad("num_examples", examples, "a positive integer")
    if not math.isfinite(examples) or examples <= 0 or examples != int(examples):
        raise _bad("num_examples", examples, "a positive integer")
    if steps is not None and (
        isinstance(steps, bool) or not isinstance(steps, (int, np.integer)) or steps < 0
    ):
        raise _bad("num_steps", steps, "an integer >= 0 or nothing")
    if not isinstance(metrics, Mapping):
        raise _bad("metrics", metrics, "an object of numbers by name")
    numbers: dict[str, float] = {}
    for name, value in metrics.items():
        try:
            numbers[str(name)] = float(value)
        except (TypeError, ValueError):
            raise _bad(f"metrics.{name}", value, "a number") from None
    return Outcome(arrays, int(examples), None if steps is None else int(steps), numbers)


def _bad(field: str, got: object, expected: str) -> UpdateError:
    return UpdateError("BadResult", f"{field}: got {got!r}, expected {expected}")


def read_outcome(update: Path | None, result_file: Path | None) -> Outcome:
    """Read what a program left: its update (None for evaluate) and its result (None for initialize).

    Raises UpdateError("NoUpdate" | "MalformedUpdate" | "BadResult").
    """
    arrays = None
    if update is not None:
        if not update.exists():
            raise _nothing("FEDLOOM_UPDATE")
        try:
            arrays, _ = load_arrays(update)
        except ArtifactError as error:
            raise UpdateError("MalformedUpdate", f"FEDLOOM_UPDATE: {error.message}") from error
    if result_file is None:
        return Outcome(arrays)
    try:
        result = json.loads(result_file.read_bytes())
    except FileNotFoundError:
        raise _nothing("FEDLOOM_RESULT") from None
    except ValueError as error:
        raise UpdateError("BadResult", f"FEDLOOM_RESULT is not JSON: {error}") from error
    if not isinstance(result, dict) or "num_examples" not in result:
        raise _bad("FEDLOOM_RESULT", result, 'an object like {"num_examples": 120, "metrics": {}}')
    steps, metrics = result.get("num_steps"), result.get("metrics", {})
    outcome = checked_outcome(arrays, result["num_examples"], steps, metrics)
    return replace(outcome, is_corrected=True) if result.get("corrected") is True else outcome


def _nothing(variable: str) -> UpdateError:
    message = (
        f"the program ended with exit code 0 but wrote no {variable} "
        "(a script for Sedna does that in FederatedLearning(...).train())"
    )
    return UpdateError("NoUpdate", message)
