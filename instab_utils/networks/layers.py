"""Layers whose meaning differs between frameworks, shared by the architectures."""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..operators import LinearOperator


def convolutions(widths: Sequence[int]) -> nn.ModuleList:
    """Return 3x3 convolutions with zero padding, from each number of channels to the next."""
    return nn.ModuleList(nn.Conv2d(i, o, 3, padding=1) for i, o in itertools.pairwise(widths))


class PostProcessor(nn.Module):
    """A network that corrects the image of a linear method."""

    def reconstruct(self, y: Tensor, A: LinearOperator) -> Tensor:
        """Return f(A^+ y)."""
        return self(A.pinv(y))


class Dropout(nn.Module):
    """Dropout with a generator of its own: x keep / (1 - fraction), keep ~ Bernoulli(1 - fraction).

    One draw for every element, in training mode; x in evaluation.

    Args:
        fraction: share that is dropped, in [0, 1); Keras' `rate`, not TensorFlow 1's `keep_prob`.

    The mask is drawn from `self.generator` where that is set, on the generator's device; from
    PyTorch's default generator otherwise. Its numbers fill memory in order, so that a channels-last
    input gets another mask.
    """

    def __init__(self, fraction: float):
        super().__init__()
        if not 0 <= fraction < 1:
            raise ValueError(
                f"Dropout expects the fraction that is dropped in [0, 1); got {fraction}."
            )
        self.fraction = fraction
        self.generator: torch.Generator | None = None

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.fraction == 0:
            return x
        device = x.device if self.generator is None else self.generator.device
        keep = torch.empty_like(x, dtype=torch.bool, device=device).bernoulli_(
            1 - self.fraction, generator=self.generator
        )
        return x * keep.to(x.device) / (1 - self.fraction)

    def extra_repr(self) -> str:
        return f"fraction={self.fraction}"


class WithDropout(nn.Module):
    """A network with one dropout layer, `self.drop`, wherever it calls it."""

    drop: Dropout

    @property
    def generator(self) -> torch.Generator | None:
        """Source of the dropout masks, a `torch.Generator`; None is PyTorch's default generator."""
        return self.drop.generator

    @generator.setter
    def generator(self, generator: torch.Generator | None):
        self.drop.generator = generator


def symmetric_pad(x: Tensor, width: int) -> Tensor:
    """Return x (batch, channels, n, m) mirrored at its borders, edge pixels repeated.

    This is TensorFlow's SYMMETRIC, numpy's "symmetric".

    PyTorch's "reflect" does not repeat the edge. Needs width <= n, m.
    """
    if width > min(x.shape[-2:]):
        raise ValueError(
            f"symmetric_pad expects images of at least {width} pixels a side; got {tuple(x.shape)}."
        )
    x = torch.cat([x[..., :width].flip(-1), x, x[..., x.shape[-1] - width :].flip(-1)], -1)
    return torch.cat([x[..., :width, :].flip(-2), x, x[..., x.shape[-2] - width :, :].flip(-2)], -2)


def random_bits(shape: Sequence[int], generators: Sequence, device: torch.device) -> Tensor:
    """Return uniform integers of 16 bits, of `shape`, from -2^15 to 2^15 - 1.

    Drawn four at a time: on a CPU a quarter of the time of bernoulli_.

    Args:
        generators: one, or one for each entry of the first axis, which then does not depend on
            how many there are. None is PyTorch's default generator.
    """
    n = math.prod(shape) // len(generators)
    words = torch.empty(len(generators), -(-n // 4), dtype=torch.int64, device=device)
    for row, generator in zip(words, generators):
        row.random_(-(2**63), None, generator=generator)
    return words.view(torch.int16)[:, :n].reshape(shape)
