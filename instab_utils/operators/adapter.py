"""Operators of other libraries under our contract. The way back needs nothing: ours have A,
A_adjoint, A_dagger.
"""

import torch

from .base import LinearOperator


def as_operator(
    physics, image_size: int | tuple[int, int], complex_as_channels: bool = False
) -> LinearOperator:
    """A `LinearOperator` around any object with `A(x)`, `A_adjoint(y)` and `A_dagger(y)`, such as
    deepinv's physics.

    Args:
        physics: the object; it must be linear and noiseless (`A`, not its call, which in deepinv
            adds noise). One of ours is returned as it is.
        image_size: n or (n, m) of the images it takes.
        complex_as_channels: True for deepinv's MRI, which keeps a complex image as two real
            channels; ours stay complex (batch, 1, n, m) and are split and joined on the way.

    For the other direction: `deepinv.physics.LinearPhysics(A=operator.A,
    A_adjoint=operator.A_adjoint)`.
    """
    if isinstance(physics, LinearOperator):
        return physics
    missing = [
        name
        for name in ("A", "A_adjoint", "A_dagger")
        if not callable(getattr(physics, name, None))
    ]
    if missing:
        raise TypeError(
            f"as_operator wants methods A, A_adjoint, A_dagger; {type(physics).__name__} lacks {missing}."
        )
    return _External(physics, image_size, complex_as_channels)


class _External(LinearOperator):
    def __init__(self, physics, image_size, complex_as_channels):
        self.physics = physics
        self.image_shape = (
            (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
        )
        self.is_complex = complex_as_channels

    def forward(self, x):
        self._check_image(x)
        return self._through(self.physics.A, x)

    def adjoint(self, y):
        return self._through(self.physics.A_adjoint, y)

    def pinv(self, y):
        return self._through(self.physics.A_dagger, y)

    @property
    def device(self):
        tensors = [
            *getattr(self.physics, "parameters", list)(),
            *getattr(self.physics, "buffers", list)(),
        ]
        return tensors[0].device if tensors else torch.device("cpu")

    def to(self, device):
        return _External(self.physics.to(device), self.image_shape, self.is_complex)

    def _through(self, function, z):
        if not self.is_complex:
            return function(z)
        z = z if z.is_complex() else z.to(torch.complex64)
        # (batch, 1, n, m) -> (batch, 2, n, m)
        channels = torch.view_as_real(z.resolve_conj())[:, 0].movedim(-1, 1)
        out = function(channels)
        return torch.view_as_complex(out.movedim(1, -1).contiguous()).unsqueeze(1)

    def __repr__(self):
        return f"as_operator({type(self.physics).__name__}, {self.image_shape[0]}x{self.image_shape[1]})"
