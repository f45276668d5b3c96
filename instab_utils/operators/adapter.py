"""Operators of other libraries, such as deepinv's physics, under our contract."""

import torch
from torch import Tensor

from .base import LinearOperator, as_shape

METHODS = ("A", "A_adjoint", "A_dagger")


def as_operator(
    physics: object, image_size: int | tuple[int, int], complex_as_channels: bool = False
) -> LinearOperator:
    """Return a `LinearOperator` around any object with A(x), A_adjoint(y) and A_dagger(y).

    The way back needs nothing: ours have these methods, so that
    `deepinv.physics.LinearPhysics(A=operator.A, A_adjoint=operator.A_adjoint)` works.

    Args:
        physics: the object; it must be linear and noiseless (`A`, not its call, which in deepinv
            adds noise). One of ours is returned as it is.
        image_size: n or (n, m) of the images it takes.
        complex_as_channels: True for deepinv's MRI, which keeps a complex image as two real
            channels; ours stay complex (batch, 1, n, m) and are split and joined on the way.
    """
    if isinstance(physics, LinearOperator):
        return physics
    missing = [name for name in METHODS if not callable(getattr(physics, name, None))]
    if missing:
        raise TypeError(
            f"as_operator expects methods {', '.join(METHODS)}; {type(physics).__name__} lacks "
            f"{missing}."
        )
    return _External(physics, image_size, complex_as_channels)


class _External(LinearOperator):
    def __init__(
        self, physics: object, image_size: int | tuple[int, int], complex_as_channels: bool
    ):
        self.physics = physics
        self.image_shape = as_shape(image_size)
        self.is_complex = complex_as_channels

    def forward(self, x: Tensor) -> Tensor:
        self._check_image(x)
        return self._through(self.physics.A, x)

    def adjoint(self, y: Tensor) -> Tensor:
        return self._through(self.physics.A_adjoint, y)

    def pinv(self, y: Tensor) -> Tensor:
        return self._through(self.physics.A_dagger, y)

    @property
    def device(self) -> torch.device:
        if not isinstance(self.physics, torch.nn.Module):
            return torch.device("cpu")
        tensors = [*self.physics.parameters(), *self.physics.buffers()]
        return tensors[0].device if tensors else torch.device("cpu")

    def to(self, device: torch.device | str) -> "_External":
        return _External(self.physics.to(device), self.image_shape, self.is_complex)

    def _through(self, function, z: Tensor) -> Tensor:
        if not self.is_complex:
            return function(z)
        z = z if z.is_complex() else z.to(torch.complex64)
        # (batch, 1, n, m) -> (batch, 2, n, m)
        channels = torch.view_as_real(z.resolve_conj())[:, 0].movedim(-1, 1)
        out = function(channels)
        return torch.view_as_complex(out.movedim(1, -1).contiguous()).unsqueeze(1)

    def __repr__(self):
        n, m = self.image_shape
        return f"as_operator({type(self.physics).__name__}, {n}x{m})"
