"""What does a released map show? The best linear guess of each patch of the image, in closed form.

A ridge regression from the 3 x 3 neighbourhood of each place of the debiased map to the patch of
pixels under it, fitted on public images (which the attacker releases to itself under noise of its
own) and tried on others. It is a **lower bound** of what an attacker can do: a cleverer one sees more.
Beside it stands the blind guess, the mean public image, which looks at no release at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from fedloom.algorithms.layout import Array
from fedloom.errors import JobError

STRENGTH = 1e-3
"""Of the ridge, times the mean square of an input. Noise in the maps regularises by itself."""

_REACH = 1
_FLAT = 1e-9
_BAND_ELEMENTS = 1 << 20


@dataclass(frozen=True)
class InversionFigures:
    """How well images were guessed.

    Attributes:
        images: tried on.
        mse: mean squared error of the guesses, pixels in [0, 1].
        blind_mse: of the mean public image.
        correlation: Pearson's, of guess and image, averaged over the images.
    """

    images: int
    mse: float
    blind_mse: float
    correlation: float

    @property
    def variance_recovered(self) -> float:
        """1 - mse / blind_mse: 0 is no better than blind, 1 the image itself; may be below 0."""
        return 1.0 - self.mse / self.blind_mse if self.blind_mse else 0.0


@dataclass(frozen=True, eq=False)
class RidgeInversion:
    """A fitted attacker.

    Attributes:
        weights: shape (9 channels + 1, stride * stride * colours), float64.
        blind: the mean public image, shape (height, width, colours), float64.
        stride: pixels of the image, each way, to one place of the map.
    """

    weights: Array
    blind: Array
    stride: int

    @classmethod
    def fit(
        cls, public: Iterable[tuple[Array, Array]], strength: float = STRENGTH
    ) -> RidgeInversion:
        """Fit on pairs of a debiased map and its image, one at a time.

        Args:
            public: maps of shape (channels, rows, columns) and images of shape (height, width,
                colours) with pixels in [0, 1], all alike; height / rows = width / columns, whole.
            strength: of the ridge.

        Raises:
            JobError: `InvalidParameter`, for no pair, or shapes that differ or do not fit.
        """
        squares: Array = np.zeros(())
        products: Array = np.zeros(())
        blind: Array = np.zeros(())
        stride = count = 0
        for features, image in public:
            stride = stride or _stride(features, image)
            _check(features, image, stride, blind.shape if count else image.shape)
            patches = _patches(image, stride)
            for places, inputs in _neighbourhoods(features):
                squares = squares + inputs.T @ inputs
                products = products + inputs.T @ patches[places]
            blind = blind + image
            count += 1
        if not count:
            raise JobError("InvalidParameter", "got no public image, expected one or more")
        slopes = np.arange(len(squares) - 1)  # the constant, held back, would pull guesses to black
        squares[slopes, slopes] += strength * squares.trace() / len(squares)
        return cls(np.linalg.solve(squares, products), blind / count, stride)

    def guess(self, features: Array) -> Array:
        """Give the image that a map of shape (channels, rows, columns) shows: (height, width, colours)."""
        _, rows, columns = features.shape
        bands = [inputs @ self.weights for _, inputs in _neighbourhoods(features)]
        patches = np.concatenate(bands)
        parts = patches.reshape(rows, columns, self.stride, self.stride, -1)
        image: Array = parts.transpose(0, 2, 1, 3, 4).reshape(self.blind.shape)
        return image

    def measure(self, private: Iterable[tuple[Array, Array]]) -> InversionFigures:
        """Try it on pairs as `fit` takes them, of images that were not fitted on.

        Raises:
            JobError: `InvalidParameter`, as `fit`.
        """
        errors, blind_errors, correlations = [], [], []
        for features, image in private:
            _check(features, image, self.stride, self.blind.shape)
            guess = self.guess(features)
            errors.append(float(np.mean((guess - image) ** 2)))
            blind_errors.append(float(np.mean((self.blind - image) ** 2)))
            correlations.append(_correlation(guess, image))
        if not errors:
            raise JobError("InvalidParameter", "got no private image, expected one or more")
        means = (float(np.mean(each)) for each in (errors, blind_errors, correlations))
        return InversionFigures(len(errors), *means)


def _stride(features: Array, image: Array) -> int:
    return int(image.shape[0]) // int(features.shape[1]) if features.ndim == image.ndim == 3 else 0


def _check(features: Array, image: Array, stride: int, expected: tuple[int, ...]) -> None:
    is_fitting = stride > 0 and image.shape == expected and features.ndim == 3
    if not is_fitting or tuple(stride * side for side in features.shape[1:]) != expected[:2]:
        raise JobError(
            "InvalidParameter",
            f"got a map of shape {features.shape} and an image of {image.shape}, expected "
            f"(channels, rows, columns) and {expected} with a whole number of pixels to a place",
        )


def _neighbourhoods(features: Array) -> Iterator[tuple[slice, Array]]:
    """Yield which places, in C order, and their inputs: shape (places, 9 channels + 1), float64.

    Some rows of the map at a time: an early cut has many places, and each has nine neighbours.
    """
    side = 2 * _REACH + 1
    channels, rows, columns = features.shape
    width = channels * side * side
    padded = np.pad(features, ((0, 0), (_REACH, _REACH), (_REACH, _REACH)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (side, side), axis=(1, 2))
    step = max(1, _BAND_ELEMENTS // (width * columns))
    for start in range(0, rows, step):
        band = windows[:, start : start + step].transpose(1, 2, 0, 3, 4)
        inputs: Array = np.ones((band.shape[0] * columns, width + 1))
        inputs[:, :-1] = band.reshape(-1, width)
        yield slice(start * columns, start * columns + len(inputs)), inputs


def _patches(image: Array, stride: int) -> Array:
    height, width, colours = image.shape
    parts = image.reshape(height // stride, stride, width // stride, stride, colours)
    patches: Array = parts.transpose(0, 2, 1, 3, 4).reshape(-1, stride * stride * colours)
    return patches.astype(np.float64)


def _correlation(guess: Array, image: Array) -> float:
    first, second = (each.reshape(-1) - each.mean() for each in (guess, image))
    norms = float(np.linalg.norm(first)), float(np.linalg.norm(second))
    # What rounding leaves of an image of one colour has no shape that could agree with another.
    is_flat = min(norms) < _FLAT * guess.size**0.5
    return 0.0 if is_flat else float(first @ second) / (norms[0] * norms[1])
