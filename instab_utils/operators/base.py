"""The contract of every measurement operator: y = A x, its exact adjoint, a stable left inverse,
its norm.
"""

from abc import ABC, abstractmethod

import torch


class LinearOperator(ABC):
    """A linear map A: images (batch, channels, n, n) -> measurements (batch, ...), batched and
    differentiable.

    Subclasses implement `forward`, `adjoint` and `pinv`; <A x, y> = <x, A* y> holds to round-off,
    with the complex inner product <a, b> = sum(conj(a) b) for complex operators. The aliases `A`,
    `A_adjoint`, `A_dagger` are the names deepinv uses, so that objects pass both ways.
    """

    image_shape: tuple[int, int]
    """Shape (n, n) of one image."""

    is_complex: bool = False
    """True when measurements are complex; the adjoint then returns complex images."""

    @abstractmethod
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """A x."""

    @abstractmethod
    def adjoint(self, y: torch.Tensor) -> torch.Tensor:
        """A* y."""

    @abstractmethod
    def pinv(self, y: torch.Tensor) -> torch.Tensor:
        """A stable (pseudo-)inverse applied to y: zero-filled for Fourier, filtered back-projection
        for Radon.
        """

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return self.forward(x)

    def A(self, x: torch.Tensor, **_: object) -> torch.Tensor:
        return self.forward(x)

    def A_adjoint(self, y: torch.Tensor, **_: object) -> torch.Tensor:
        return self.adjoint(y)

    def A_dagger(self, y: torch.Tensor, **_: object) -> torch.Tensor:
        return self.pinv(y)

    def norm(self, n_iter: int = 50, tol: float = 1e-6) -> float:
        """Largest singular value sigma_max(A) by power iteration on A* A (float32, fixed start,
        cached).

        Power iteration approaches from below; the result is within `tol` relative of its last step.
        """
        cached = getattr(self, "_norm", None)
        if cached is None:
            cached = self._norm = (
                power_iteration(
                    lambda x: self.adjoint(self.forward(x)),
                    (1, 1, *self.image_shape),
                    self.device,
                    self.is_complex,
                    n_iter=n_iter,
                    tol=tol,
                )
                ** 0.5
            )
        return cached

    @property
    def device(self) -> torch.device:
        """Device of the operator's own tensors; CPU where it has none."""
        return torch.device("cpu")

    def _check_image(self, x: torch.Tensor) -> None:
        if not isinstance(x, torch.Tensor):
            raise TypeError(
                f"{self} expects a torch tensor; got {type(x).__name__}. Use torch.as_tensor(x)."
            )
        if x.ndim != 4 or tuple(x.shape[-2:]) != tuple(self.image_shape):
            n, m = self.image_shape
            cure = " Add the axes: x[None, None]." if x.ndim == 2 else ""
            raise ValueError(
                f"{self} expects x of shape (batch, channels, {n}, {m}); got {tuple(x.shape)}.{cure}"
            )


def power_iteration(normal, shape, device, complex_, n_iter=50, tol=1e-6) -> float:
    """Largest eigenvalue of the positive semi-definite map `normal`, from a fixed random start.

    lambda_k = ||normal(v_k)|| with v_{k+1} = normal(v_k) / lambda_k; stops when it changes by less
    than `tol`.
    """
    generator = torch.Generator().manual_seed(0)
    v = torch.randn(
        shape, generator=generator, dtype=torch.complex64 if complex_ else torch.float32
    ).to(device)
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
