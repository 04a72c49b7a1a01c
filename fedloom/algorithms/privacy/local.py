"""Local differential privacy: noise that a client adds before anything leaves its node.

Nobody need be trusted with what a client sends: any two updates that it might have had give
outputs that are hard to tell apart. Two updates inside a ball of radius `clip` are up to **twice**
`clip` apart, and that is the sensitivity here.

Every call is a release of its own; what releases reveal adds up (`composed_epsilon`).
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from fedloom.algorithms.layout import BLOCK_ELEMENTS, Array
from fedloom.algorithms.parameters import require
from fedloom.algorithms.privacy.gaussian import gaussian_epsilon, gaussian_noise_multiplier
from fedloom.algorithms.privacy.noise import Entropy, add_gaussian, laplace, snap, uniform

MECHANISMS = ("gaussian", "laplace", "randomized-response")

_LEAST_BITS = 2.0**-53


@dataclass(frozen=True)
class LocalMechanism:
    """A local mechanism and its parameters.

    Args:
        name: `gaussian`, `laplace` or `randomized-response`.
        epsilon: > 0; of one update, for randomized-response of **one value** of it.
        clip: the largest L2 norm (gaussian), L1 norm (laplace) or magnitude of a value, > 0.
        delta: of gaussian, in (0, 1); the others have none.

    Raises:
        JobError: `InvalidParameter`.
    """

    name: str
    epsilon: float
    clip: float
    delta: float = 0.0

    def __post_init__(self) -> None:
        require(self.name in MECHANISMS, "mechanism", self.name, f"one of {MECHANISMS}")
        require(0 < self.epsilon < math.inf, "epsilon", self.epsilon, "a number above 0")
        require(0 < self.clip < math.inf, "clip", self.clip, "a number above 0")
        if self.name == "gaussian":
            require(0 < self.delta < 1, "delta", self.delta, "a number between 0 and 1")

    @property
    def epsilon_of(self) -> str:
        """What `epsilon` speaks of: `update`, or `value` of randomized-response."""
        return "value" if self.name == "randomized-response" else "update"

    @property
    def noise_multiplier(self) -> float:
        """Of gaussian and laplace: the scale of the noise over the sensitivity 2 clip."""
        if self.name == "gaussian":
            return gaussian_noise_multiplier(self.epsilon, self.delta)
        return 1.0 / self.epsilon

    def apply(self, arrays: Mapping[str, Array], entropy: Entropy = os.urandom) -> dict[str, Array]:
        """Clip and noise an update as a whole.

        Args:
            arrays: delta of each tensor of floats by name, finite; not written to. What counts
                (integers) stays out: its caller sends nothing of it.
            entropy: where the noise comes from; another one than the system's is for tests alone.

        Returns:
            Arrays of the same names, shapes and dtypes.
        """
        noise = self._noise(arrays, entropy)
        # In the order of names: what a test draws does not depend on how a mapping was built.
        return {name: _by_blocks(arrays[name], noise) for name in sorted(arrays)}

    def composed_epsilon(self, releases: int, values: int) -> float:
        """Give what so many updates of one client reveal together, at the mechanism's delta.

        gaussian: exactly, as one Gaussian. laplace: releases * epsilon. randomized-response:
        releases * values * epsilon, which for any model says that the whole update is **not**
        protected: each value by itself is.

        Args:
            releases: updates that left the node, >= 0.
            values: in an update.
        """
        if self.name == "gaussian":
            return gaussian_epsilon(self.noise_multiplier, self.delta, releases)
        each = self.epsilon * (values if self.epsilon_of == "value" else 1)
        return releases * each

    def _noise(self, arrays: Mapping[str, Array], entropy: Entropy) -> Callable[[Array], None]:
        if self.name == "randomized-response":
            return lambda values: randomize_response(values, self.clip, self.epsilon, entropy)
        norm = l2_norm(arrays) if self.name == "gaussian" else l1_norm(arrays)
        factor = self.clip / norm if norm > self.clip else 1.0
        scale = self.noise_multiplier * 2.0 * self.clip
        add = add_gaussian if self.name == "gaussian" else add_laplace

        def clip_and_add(values: Array) -> None:
            values *= factor * (1.0 - 2.0**-40)
            add(values, scale, entropy)

        return clip_and_add


def randomize_response(
    values: Array, clip: float, epsilon: float, entropy: Entropy = os.urandom
) -> None:
    """Replace each value by one random bit of it, in place: unbiased, epsilon-private by itself.

    A value x, cut to [-clip, clip], becomes b or -b, b = clip (e^epsilon + 1) / (e^epsilon - 1),
    the positive one with probability 1/2 + x / (2 b). Duchi, Jordan, Wainwright: "Local Privacy and
    Statistical Minimax Rates", FOCS 2013, arXiv 1302.3203. The variance is b^2 - x^2.

    Args:
        values: shape (elements,), float64, finite.
        clip: > 0.
        epsilon: > 0, of every value. Beyond about 36 a random number of 53 bits no longer tells the
            probabilities 0 and exp(-epsilon) apart; they are kept at 2**-53, which only adds noise.
        entropy: where the bits come from.
    """
    tilt = response_tilt(epsilon)
    np.clip(values, -clip, clip, out=values)
    values *= 0.5 * tilt / clip
    values += 0.5
    np.clip(values, _LEAST_BITS, 1.0 - _LEAST_BITS, out=values)
    is_positive = uniform(values.size, entropy) < values
    values.fill(-clip / tilt)
    values[is_positive] = clip / tilt


def response_tilt(epsilon: float) -> float:
    """Give (e^epsilon - 1) / (e^epsilon + 1): how far the two answers' chances are apart, at most."""
    return math.tanh(0.5 * epsilon)


def add_laplace(values: Array, scale: float, entropy: Entropy = os.urandom) -> None:
    """Add Laplace noise of a scale to float64 values in place, on the grid of `noise.snap`."""
    noise = laplace(values.size, entropy)
    noise *= scale
    values += noise
    snap(values, scale)


def l2_norm(arrays: Mapping[str, Array]) -> float:
    """Give the L2 norm of all arrays together, in float64; infinite beyond its range."""
    return math.sqrt(_sum(arrays, np.square))


def l1_norm(arrays: Mapping[str, Array]) -> float:
    """Give the L1 norm of all arrays together, in float64; infinite beyond its range."""
    return _sum(arrays, np.abs)


def _sum(arrays: Mapping[str, Array], of: Callable[[Array], Array]) -> float:
    total = 0.0
    with np.errstate(over="ignore"):
        for name in sorted(arrays):
            flat = arrays[name].reshape(-1)
            for start in range(0, flat.size, BLOCK_ELEMENTS):
                block = flat[start : start + BLOCK_ELEMENTS].astype(np.float64)
                total += float(np.add.reduce(of(block)))
    return total


def _by_blocks(array: Array, change: Callable[[Array], None]) -> Array:
    """Change an array's values in float64, a block at a time; give them in its own dtype."""
    flat = array.reshape(-1)
    out: Array = np.empty(flat.size, array.dtype)
    for start in range(0, flat.size, BLOCK_ELEMENTS):
        values = flat[start : start + BLOCK_ELEMENTS].astype(np.float64)
        change(values)
        with np.errstate(over="ignore"):
            out[start : start + values.size] = values
    return out.reshape(array.shape)
