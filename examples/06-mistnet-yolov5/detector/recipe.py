"""How a detector is trained: what is chosen, in one value, and what follows from it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from .augmentation import LIGHT, PUBLISHED, Augmentation
from .loss import SMALL_GAINS, Gains


@dataclass(frozen=True)
class Warmup:
    """The first steps, in which rates rise in a straight line to those of the recipe.

    Attributes:
        epochs: how long, but at least `least_steps`, and at most a third of the run.
        bias_rate: the rate of biases in the first step; all others begin at 0.
        momentum: in the first step.
    """

    epochs: float = 3.0
    least_steps: int = 100
    bias_rate: float = 0.1
    momentum: float = 0.8

    def steps(self, steps_per_epoch: int, total: int) -> int:
        return min(max(round(self.epochs * steps_per_epoch), self.least_steps), total // 3)


@dataclass(frozen=True)
class Recipe:
    """The defaults are the published ones for training from scratch.

    Attributes:
        optimizer: `sgd` (with Nesterov's momentum) or `adamw`.
        final_rate: the last step's rate, in parts of `learning_rate`.
        schedule: `cosine` or `linear`, from one to the other.
        nominal_batch: gradients are added up over batches until there are so many pictures.
        weight_decay: of the weights of convolutions, not of normalisation or biases.
        clip: most norm of all gradients together.
        average: whether the weights' moving average is the result.
        gains: of the loss; None takes the published ones for the size and classes at hand.
    """

    epochs: int = 300
    batch_size: int = 16
    optimizer: str = "sgd"
    learning_rate: float = 0.01
    final_rate: float = 0.01
    schedule: str = "linear"
    momentum: float = 0.937
    weight_decay: float = 5e-4
    nominal_batch: int = 64
    clip: float = 10.0
    average: bool = True
    warmup: Warmup = field(default_factory=Warmup)
    gains: Gains | None = None
    augmentation: Augmentation = PUBLISHED

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "nominal_batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: got {getattr(self, name)}, expected >= 1")
        for name in ("learning_rate", "clip"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name}: got {value}, expected a finite number > 0")
        for name, known in (("optimizer", ("sgd", "adamw")), ("schedule", ("linear", "cosine"))):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name}: got {getattr(self, name)!r}, expected one of {', '.join(known)}"
                )

    def accumulated(self) -> int:
        """How many batches' gradients make one step."""
        return max(round(self.nominal_batch / self.batch_size), 1)

    def rate(self, progress: float) -> float:
        """The learning rate at `progress` from 0 to 1 of the run, in parts of `learning_rate`."""
        left = 1 - progress if self.schedule == "linear" else (1 + math.cos(math.pi * progress)) / 2
        return self.final_rate + (1 - self.final_rate) * left

    def make_optimizer(self, module: nn.Module) -> Optimizer:
        """An optimizer with three groups: weights with decay, other weights, biases (the last)."""
        decayed, plain, biases = _grouped(module)
        scale = self.batch_size * self.accumulated() / self.nominal_batch
        groups = [
            {"params": decayed, "weight_decay": self.weight_decay * scale},
            {"params": plain, "weight_decay": 0.0},
            {"params": biases, "weight_decay": 0.0},
        ]
        groups = [group for group in groups if group["params"]]
        if self.optimizer == "adamw":
            return AdamW(groups, lr=self.learning_rate, betas=(self.momentum, 0.999))
        return SGD(groups, lr=self.learning_rate, momentum=self.momentum, nesterov=True)


PUBLISHED_RECIPE = Recipe()
# For pictures of about 100 pixels, few classes and a run of minutes.
SMALL_RECIPE = Recipe(
    epochs=12,
    optimizer="adamw",
    learning_rate=2e-3,
    schedule="cosine",
    momentum=0.9,
    nominal_batch=16,
    warmup=Warmup(epochs=1.0, least_steps=20, bias_rate=0.0, momentum=0.9),
    gains=SMALL_GAINS,
    augmentation=LIGHT,
)
SMALL_ANCHOR_SCALE = 0.6


def device_of(name: str = "auto") -> torch.device:
    """The device to compute on: a GPU where there is one, unless another is named."""
    if name != "auto":
        return torch.device(name)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _grouped(
    module: nn.Module,
) -> tuple[list[nn.Parameter], list[nn.Parameter], list[nn.Parameter]]:
    """Weights of convolutions, weights of normalisation, biases."""
    decayed, plain, biases = [], [], []
    for part in module.modules():
        for name, parameter in part.named_parameters(recurse=False):
            if name == "bias":
                biases.append(parameter)
            elif isinstance(part, nn.Conv2d):
                decayed.append(parameter)
            else:
                plain.append(parameter)
    return decayed, plain, biases
