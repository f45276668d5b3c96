"""A = I: denoising."""

import copy

import torch
from torch import Tensor

from .base import LinearOperator, as_shape


class Identity(LinearOperator):
    """y = x, for denoising: the measurement is the noisy image, of any size."""

    device = torch.device("cpu")

    def __init__(self, image_size: int | tuple[int, int] = 1):
        self.image_shape = as_shape(image_size)
        self._norm = 1.0

    def forward(self, x: Tensor) -> Tensor:
        return x

    adjoint = pinv = forward

    def to(self, device: torch.device | str) -> "Identity":
        other = copy.copy(self)
        other.device = torch.device(device)
        return other

    def __repr__(self):
        return "Identity()"
