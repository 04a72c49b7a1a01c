"""What the program of a mistnet job is told beside FEDLOOM_TASK and its like.

    FEDLOOM_MISTNET       JSON: epsilon (null: bits as they are), epsilonConvention, maxEpsilon (null: no
                          bound), holdOut, leakageImages
    FEDLOOM_EXTRACTOR     the extractor's arrays: where prepare-extractor writes them, others read them
    FEDLOOM_NODE_STATE    release: a folder of the node that outlives the job, for its key and its ledger
    FEDLOOM_PRETRAINED    prepare-extractor: the file to begin with, where the job names one

The tasks, and what else they find:

    prepare-extractor     writes FEDLOOM_UPDATE (the whole first model) and FEDLOOM_EXTRACTOR
    release               FEDLOOM_MODEL is the extractor; writes FEDLOOM_UPDATE (the release), FEDLOOM_RESULT
    train-tail            FEDLOOM_MODEL is the whole model, FEDLOOM_UPDATES holds all edges' releases;
                          writes FEDLOOM_UPDATE (the whole model), FEDLOOM_RESULT
    evaluate              the same; on TRAIN_DATASET_URL, else on what was held out; writes FEDLOOM_RESULT
    leakage-report        on TRAIN_DATASET_URL; writes FEDLOOM_RESULT
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedloom.algorithms.mistnet.randomized_response import RandomizedResponse
from fedloom.errors import JobError

VARIABLE = "FEDLOOM_MISTNET"
TASKS = ("prepare-extractor", "release", "train-tail", "evaluate", "leakage-report")


@dataclass(frozen=True)
class SplitEnvironment:
    """The part of a task's environment that only mistnet jobs have; see the module.

    Attributes:
        parameters: of the algorithm, in the job's spelling.
        extractor, node: the paths; None where the task has none.
        pretrained: path of the file to begin with; empty for none.
    """

    parameters: Mapping[str, Any] = field(default_factory=dict)
    extractor: Path | None = None
    node: Path | None = None
    pretrained: str = ""

    @property
    def mechanism(self) -> RandomizedResponse:
        """How bits are randomised. Raises JobError `InvalidParameter`."""
        return mechanism_of(self.parameters)

    @property
    def max_epsilon(self) -> float:
        bound = self.parameters.get("maxEpsilon")
        return math.inf if bound is None else float(bound)

    def variables(self) -> dict[str, str]:
        """Write it as environment variables; absent paths give no variable."""
        paths = {
            "FEDLOOM_EXTRACTOR": self.extractor,
            "FEDLOOM_NODE_STATE": self.node,
            "FEDLOOM_PRETRAINED": self.pretrained or None,
        }
        return {
            VARIABLE: json.dumps(dict(self.parameters), sort_keys=True),
            **{name: str(path) for name, path in paths.items() if path is not None},
        }

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> SplitEnvironment:
        """Read it back. Raises JobError where FEDLOOM_MISTNET is no JSON object."""
        try:
            parameters = json.loads(environ[VARIABLE])
        except ValueError:
            parameters = None
        if not isinstance(parameters, dict):
            message = f"{VARIABLE}: got {environ[VARIABLE][:80]!r}, expected a JSON object"
            raise JobError("BadEnvironment", message)
        paths = {
            name: Path(text) if (text := environ.get(f"FEDLOOM_{variable}")) else None
            for name, variable in (("extractor", "EXTRACTOR"), ("node", "NODE_STATE"))
        }
        return cls(parameters, pretrained=environ.get("FEDLOOM_PRETRAINED", ""), **paths)


def mechanism_of(parameters: Mapping[str, Any]) -> RandomizedResponse:
    """Give the mechanism that a mistnet job's parameters choose. Raises JobError `InvalidParameter`."""
    return RandomizedResponse.chosen(
        parameters.get("epsilon"),
        parameters.get("epsilonConvention", "paper"),
        is_private=parameters.get("privacy") != "none",
    )
