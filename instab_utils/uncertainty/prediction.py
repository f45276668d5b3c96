"""What every estimator answers: a reconstruction and how far it may be off, pixel by pixel."""

from typing import NamedTuple, Protocol

import torch


class Prediction(NamedTuple):
    """A reconstruction with its uncertainty; four tensors of the same shape (batch, channels, n,
    m).

    `spread` is the u of the INN paper, >= 0: the width of an interval, a variance, a null
    detector's map. Only its order and its changes carry meaning, so two methods are never compared
    by its size. `lower` and `upper` are in the units of `mean`: the interval itself, or mean +-
    1.96 standard deviations where the method gives a Gaussian.
    """

    mean: torch.Tensor
    spread: torch.Tensor
    lower: torch.Tensor
    upper: torch.Tensor


class Estimator(Protocol):
    """Anything with a name and `predict(x_in) -> Prediction`; x_in is what the network f takes in:
    (batch, channels, n, m).
    """

    name: str

    def predict(self, x_in: torch.Tensor) -> Prediction: ...
