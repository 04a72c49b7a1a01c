"""The four things a training class is given or gives back: Client, Round, Update, Evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    Arrays = Mapping[str, np.ndarray[Any, Any]]
    Correction = Callable[[Arrays, Arrays], Arrays]


@dataclass(frozen=True)
class Client:
    """Who trains: one participant of the job, given to the constructor of a training class.

    Attributes:
        name: the client's id, unique in the job (its dataset's name); `evaluation` in the evaluate step.
        dataset: where the client's data lies on its node: a path of a file or folder.
        hyperparameters: of the job; a variable of the worker's template with the same name wins.
        state: a folder of this client that lives from round to round on its node. What is written
            there in a round is kept only if the round accepted the client's update.
        seed: an integer that differs per job and client and never changes.
    """

    name: str
    dataset: str
    hyperparameters: Mapping[str, Any]
    state: Path
    seed: int


@dataclass(frozen=True)
class Round:
    """The round at hand.

    Attributes:
        number: from 1 to `total`.
        total: rounds of the job.
        seed: an integer that differs per job, round and client and is the same on a retry.
        correction: the job's drift correction, (gradients, weights) -> corrected gradients; None
            where it has none. Scripts call `correct` instead.
    """

    number: int
    total: int
    seed: int
    correction: Correction | None = field(default=None, repr=False)

    @property
    def corrects(self) -> bool:
        """Whether `correct` changes anything: where it does not, the way to it can be saved."""
        return self.correction is not None

    def correct(self, gradients: Arrays, model: Arrays) -> Arrays:
        """Give the gradients with the job's drift correction added.

        Call it once per optimisation step with the gradients by name and the weights of (at least)
        these names at which they were taken, and step along what comes back: the same names, shapes
        and dtypes. The arrays of `gradients` may have been changed in place, those of `model` never.
        FedProx, SCAFFOLD and an L2-SP anchor (`spec.transfer.anchor`) correct; there an update of a
        script that never calls this is refused (CorrectionNotApplied), since it would be FedAvg's.
        Everything else corrects nothing: the gradients come back as they are.
        """
        return gradients if self.correction is None else self.correction(gradients, model)


@dataclass(frozen=True)
class Update:
    """What a client gives back after training.

    Attributes:
        model: the new full weights, with the names, shapes and dtypes of the model it was given.
        num_examples: how many examples it trained on, > 0: its weight in the mean.
        metrics: name -> finite number, averaged over the clients as `train/<name>`.
        num_steps: optimisation steps taken; scaffold and fednova divide by them and refuse an update
            without, to all others they are good to know.
    """

    model: Arrays
    num_examples: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    num_steps: int | None = None


@dataclass(frozen=True)
class Evaluation:
    """How good a model is on a client's data: examples looked at (> 0) and metrics by name."""

    num_examples: int
    metrics: Mapping[str, float] = field(default_factory=dict)
