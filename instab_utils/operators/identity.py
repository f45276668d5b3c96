"""A = I: denoising."""

from .base import LinearOperator


class Identity(LinearOperator):
    """y = x, for denoising: the measurement is the noisy image. Any image size; nothing is stored."""

    def __init__(self, image_size: int | tuple[int, int] = 1):
        self.image_shape = (
            (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
        )
        self._norm = 1.0

    def forward(self, x):
        return x

    adjoint = pinv = forward

    def to(self, device):
        return self

    def __repr__(self):
        return "Identity()"
