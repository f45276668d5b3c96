"""The contract of a measurement operator: y = A x, exact adjoint, stable inverse, norm."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor


class LinearOperator(ABC):
    """A linear map A: images (batch, channels, n, n) -> measurements (batch, ...), differentiable.

    Subclasses implement `forward`, `adjoint` and `pinv`; <A x, y> = <x, A* y> holds to round-off,
    with the complex inner product <a, b> = sum(conj(a) b) for complex operators. The aliases `A`,
    `A_adjoint`, `A_dagger` are the names deepinv uses, so that objects pass both ways.
    """

    image_shape: tuple[int, int]
    """Shape (n, n) of one image."""

    is_complex: bool = False
    """True when measurements are complex; the adjoint then returns complex images."""

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Return A x."""

    @abstractmethod
    def adjoint(self, y: Tensor) -> Tensor:
        """Return A* y."""

    @abstractmethod
    def pinv(self, y: Tensor) -> Tensor:
        """Return a stable (pseudo-)inverse of y: zero-filled for Fourier, FBP for Radon."""

    def __call__(self, x: Tensor) -> Tensor:
        return self.forward(x)

    def A(self, x: Tensor, **_: object) -> Tensor:
        return self.forward(x)

    def A_adjoint(self, y: Tensor, **_: object) -> Tensor:
        return self.adjoint(y)

    def A_dagger(self, y: Tensor, **_: object) -> Tensor:
        return self.pinv(y)

    def norm(self) -> float:
        """Return the largest singular value by power iteration on A* A (float32, cached).

        Power iteration approaches from below; the result is within 1e-6 relative of its last step.
        """
        if getattr(self, "_norm", None) is None:
            shape = (1, 1, *self.image_shape)
            self._norm = power_iteration(self._normal, shape, self.device, self.is_complex) ** 0.5
        return self._norm

    @property
    def device(self) -> torch.device:
        """Device of the operator's own tensors; CPU where it has none."""
        return torch.device("cpu")

    def _normal(self, x: Tensor) -> Tensor:
        return self.adjoint(self.forward(x))

    def _check_image(self, x: Tensor) -> None:
        check_batch(self, "x", x, self.image_shape)


def moved(t: Tensor, device: torch.device | str) -> Tensor:
    """Return t on a device; pinned on its way to a GPU, so that nothing waits for the copy."""
    away = t.device.type == "cpu" and torch.device(device).type == "cuda"
    return t.pin_memory().to(device, non_blocking=True) if away else t.to(device)


def check_batch(A: LinearOperator, name: str, x: Tensor, shape: tuple[int, int]) -> None:
    """Refuse all but tensors (batch, channels, *shape); the error says the cure."""
    if not isinstance(x, Tensor):
        raise TypeError(
            f"{A} expects a torch tensor; got {type(x).__name__}. Use torch.as_tensor({name})."
        )
    if x.ndim != 4 or tuple(x.shape[-2:]) != tuple(shape):
        cure = f" Add the axes: {name}[None, None]." if x.ndim == 2 else ""
        if name == "y" and tuple(x.shape[-2:]) == tuple(shape)[::-1]:
            cure = " Views come before bins: y.mT." + cure
        raise ValueError(
            f"{A} expects {name} of shape (batch, channels, {shape[0]}, {shape[1]}); "
            f"got {tuple(x.shape)}.{cure}"
        )


def power_iteration(
    normal: Callable[[Tensor], Tensor],
    shape: tuple[int, ...],
    device: torch.device,
    complex_: bool,
    n_iter: int = 50,
    tol: float = 1e-6,
) -> float:
    """Return the largest eigenvalue of a positive semi-definite map, from a fixed random start.

    lambda_k = ||normal(v_k)|| with v_{k+1} = normal(v_k) / lambda_k; stops when it changes by less
    than `tol`, relatively.
    """
    generator = torch.Generator().manual_seed(0)
    dtype = torch.complex64 if complex_ else torch.float32
    v = torch.randn(shape, generator=generator, dtype=dtype).to(device)
    v = v / v.norm()
    value = 0.0
    with torch.no_grad():
        for _ in range(n_iter):
            w = normal(v)
            last, value = value, float(w.norm())
            if value == 0.0:
                return 0.0
            v = w / value
            if abs(value - last) <= tol * value:
                break
    return value


def as_shape(image_size: int | tuple[int, int]) -> tuple[int, int]:
    """Return (n, m) of n or (n, m)."""
    return (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
