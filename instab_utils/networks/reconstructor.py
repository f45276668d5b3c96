"""From measurements to an image: one callable for every network, whatever it takes in."""

from collections.abc import Callable

import torch
from torch import nn

from ..operators import LinearOperator
from .automap import AUTOMAP, encode
from .cascade import Cascade
from .dagan import Generator
from .dncnn import DnCNN
from .variational import VariationalNetwork


class Reconstructor:
    """x = c f(y / c): a trained network f beside the operator that measured y, c a fixed scale;
    batched, differentiable.

    What f gets and gives depends on its kind:

    | network                    | f(y) = |
    |----------------------------|-------------------------------------------------------------------------------|
    | DnCNN                      | net(y) | | AUTOMAP                    | net(real and imaginary
    parts of the samples) | | DAGAN's Generator          | (net(2 abs(A* y) - 1) + 1) / 2:
    magnitudes | | Cascade, VariationalNetwork | net(y, A) | | any other, e.g. a U-Net    |
    net(A.pinv(y)): filtered back-projection, zero-filled |

    Args:
        network, operator: f and A.
        name: for messages and records; default the network's class.
        scale: c, the intensity that the network shall see as 1. Networks are not homogeneous.
        normalise: take c = scale * max |A* y| of every image instead. The gradient stays exact,
            because it is taken through the maximum, too; but a perturbation of one pixel can then
            rescale the whole image.
        front_end: y -> the network's input, in place of the table; the output is taken as it is.
            The INN paper's CT data are `lambda y: unit_range(A.pinv(y))`.

    Call it with y (batch, ...); returns x (batch, 1, n, n), not clipped; complex for Cascade and
    VariationalNetwork. Gradients flow to y, and to the network's weights where they ask for one.
    """

    def __init__(
        self,
        network: nn.Module,
        operator: LinearOperator,
        name: str | None = None,
        scale: float = 1.0,
        normalise: bool = False,
        front_end: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ):
        self.name = type(network).__name__ if name is None else name
        if not scale > 0:
            raise ValueError(f"Reconstructor({self.name!r}) expects scale > 0; got {scale}.")
        self.network, self.operator = network, operator
        self.scale, self.normalise, self.front_end = scale, normalise, front_end

    def __call__(self, y: torch.Tensor) -> torch.Tensor:
        scale = self.scale
        if self.normalise:
            scale = scale * self.operator.adjoint(y).abs().amax((1, 2, 3), keepdim=True).clamp_min(
                1e-12
            )
        return scale * self._apply(y / scale)

    def _apply(self, y):
        net, A = self.network, self.operator
        if self.front_end is not None:
            return net(self.front_end(y))
        if isinstance(net, (Cascade, VariationalNetwork)):
            return net(y, A)
        if isinstance(net, DnCNN):
            return net(y)
        if isinstance(net, AUTOMAP):
            return net(encode(y, A.mask))
        if isinstance(net, Generator):
            return (net(2 * A.adjoint(y).abs() - 1) + 1) / 2
        return net(A.pinv(y))

    def __repr__(self):
        return f"Reconstructor({self.name!r}, {self.operator})"


def unit_range(x: torch.Tensor) -> torch.Tensor:
    """(x - min x) / (max x - min x) per image: the range [0, 1] that the INN paper's code gives its
    CT data.

    It takes away the scale of the image, which no network can restore.
    """
    low, high = x.amin((1, 2, 3), keepdim=True), x.amax((1, 2, 3), keepdim=True)
    return (x - low) / (high - low).clamp_min(1e-12)
