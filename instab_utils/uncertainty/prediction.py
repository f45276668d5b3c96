"""What every estimator answers: a reconstruction and its uncertainty, pixel by pixel."""

from typing import NamedTuple, Protocol

from torch import Tensor

PIXELS = 2**22
"""Pixels of one call of a network, 16 images of 512 x 512: bounds of 68 would take 90 GB."""


def parts(x: Tensor) -> tuple[Tensor, ...]:
    """Return the images x (batch, ...) in groups of at most `PIXELS` pixels, at least one image."""
    return x.split(max(1, PIXELS // x[0].numel()))


class Prediction(NamedTuple):
    """A reconstruction with its uncertainty, four tensors of one shape (batch, channels, n, m).

    `spread` is the u of the INN paper, >= 0: the width of an interval, a variance, a null
    detector's map. Only its order and its changes carry meaning: its size does not compare two
    methods. `lower` and `upper` are in the units of `mean`: the interval itself, or mean +- 1.96
    standard deviations where the method gives a Gaussian.
    """

    mean: Tensor
    spread: Tensor
    lower: Tensor
    upper: Tensor


def gaussian_prediction(mean: Tensor, std: Tensor, spread: Tensor) -> Prediction:
    """Return the prediction with lower, upper = mean -+ 1.96 std."""
    return Prediction(mean, spread, mean - 1.96 * std, mean + 1.96 * std)


class Estimator(Protocol):
    """Anything with a name and `predict(x_in) -> Prediction`, x_in the input of the network f."""

    name: str

    def predict(self, x_in: Tensor) -> Prediction: ...
