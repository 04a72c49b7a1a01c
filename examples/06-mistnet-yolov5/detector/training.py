"""The training loop: of a whole network on pictures, or of a tail on an extractor's output."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer

from .loss import Gains, loss_of
from .network import Tail
from .recipe import Recipe
from .samples import Batch, Samples

_MOST_DECAY, _DECAY_STEPS = 0.9999, 2000
_MOST_PIXELS = 2**21  # of a batch; of the network's inner maps a pixel takes about 400 bytes


@dataclass(frozen=True)
class Source:
    """Where batches come from.

    Attributes:
        epoch: gives the batches of an epoch, counted from 0.
        pictures: how many there are in an epoch.
        size: side in pixels of the pictures that they are, or were made of.
    """

    epoch: Callable[[int], Iterable[Batch]]
    pictures: int
    size: int


@dataclass(frozen=True)
class Progress:
    """One epoch, counted from 1: the mean loss per picture, and optimisation steps so far."""

    epoch: int
    loss: float
    steps: int


class MovingAverage:
    """Weights averaged over the steps, those far back less and less.

    The decay is 0.9999 (1 - exp(-n / 2000)) in step n: short at first, when weights move much.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = deepcopy(module).eval().requires_grad_(False)
        self.steps = 0

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        self.steps += 1
        decay = _MOST_DECAY * (1 - math.exp(-self.steps / _DECAY_STEPS))
        state = module.state_dict()
        for name, average in self.module.state_dict().items():
            if average.dtype.is_floating_point:
                average.lerp_(state[name], 1 - decay)
            else:
                average.copy_(state[name])


class Trainer:
    """Trains `model` in place, on the device it is on."""

    def __init__(
        self,
        model: Tail,
        recipe: Recipe,
        prepare: Callable[[Optimizer], Optimizer] = lambda optimizer: optimizer,
    ) -> None:
        """`prepare` is given the optimizer before its first step: to correct drift, say."""
        self.model, self.recipe = model, recipe
        self.optimizer = prepare(recipe.make_optimizer(model))
        self.average = MovingAverage(model) if recipe.average else None
        self.device = next(model.parameters()).device
        self.batches = self.steps = self._waiting = 0

    def run(
        self, source: Source, tell: Callable[[Progress], None] = lambda progress: None
    ) -> list[Progress]:
        """Train for the recipe's epochs; `model` then has the averaged weights if there are any.

        Raises FloatingPointError where the loss is no finite number any more.
        """
        gains = self.recipe.gains or Gains.published(source.size, self.model.shape.classes)
        per_epoch = math.ceil(source.pictures / self.recipe.batch_size)
        self.model.is_forgetful = self.recipe.batch_size * source.size**2 > _MOST_PIXELS
        done = []
        for epoch in range(self.recipe.epochs):
            self.model.train()
            losses, pictures = 0.0, 0
            for batch in source.epoch(epoch):
                self._pace(per_epoch)
                losses += self._learn(batch, gains)
                pictures += len(batch.inputs)
            self._step_if_waiting()
            done.append(Progress(epoch + 1, losses / max(pictures, 1), self.steps))
            tell(done[-1])
        if self.average is not None:
            self.model.load_state_dict(self.average.module.state_dict())
        self.model.eval()
        return done

    def _learn(self, batch: Batch, gains: Gains) -> float:
        """One batch's gradients; a step where enough have come together. Gives the loss."""
        raw = self.model(batch.inputs.to(self.device))
        loss = loss_of(raw, batch.targets.to(self.device), self.model.head.anchors, gains).total
        value = float(loss.detach())
        if not math.isfinite(value):
            raise FloatingPointError(
                f"the loss of batch {self.batches} is {value}: the learning rate of "
                f"{self.recipe.learning_rate} may be too high, or the weights were broken before"
            )
        torch.autograd.backward(loss)
        self._waiting += 1
        if self._waiting >= self._needed:
            self._step_if_waiting()
        return value

    def _step_if_waiting(self) -> None:
        if not self._waiting:
            return
        clip_grad_norm_(self.model.parameters(), self.recipe.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self._waiting = 0
        self.steps += 1
        if self.average is not None:
            self.average.update(self.model)

    def _pace(self, per_epoch: int) -> None:
        """Set rates, momentum and the batches per step for the next batch."""
        recipe, warmup = self.recipe, self.recipe.warmup
        total = per_epoch * recipe.epochs
        rate = recipe.learning_rate * recipe.rate(self.batches / total)
        long = warmup.steps(per_epoch, total)
        part = min(self.batches / long, 1.0) if long else 1.0
        self._needed = max(1, round(1 + part * (recipe.accumulated() - 1)))
        momentum = warmup.momentum + part * (recipe.momentum - warmup.momentum)
        groups = self.optimizer.param_groups
        for number, group in enumerate(groups):
            first = warmup.bias_rate if number == len(groups) - 1 else 0.0
            group["lr"] = first + part * (rate - first)
            if "betas" in group:
                group["betas"] = (momentum, group["betas"][1])
            else:
                group["momentum"] = momentum
        self.batches += 1


def pictures_of(samples: Samples, recipe: Recipe, seed: int) -> Source:
    """Samples as a source: every epoch in another order and changed otherwise, all from `seed`."""

    def epoch(number: int) -> Iterable[Batch]:
        return samples.epoch(recipe.batch_size, (seed + 7919 * number) % 2**63, recipe.augmentation)

    return Source(epoch, len(samples), samples.size)
