"""What every solver returns and how every iteration is driven: stopping, recording, gradients only
when asked.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Solution:
    """A reconstruction and how it was reached.

    Attributes:
        x: image (batch, channels, n, n); complex where the operator is.
        n_iter: iterations done.
        residuals: (recorded, batch) relative residuals ||A x_k - y|| / ||y||; the last row belongs
            to `x`. Our own iterative solvers record every k = 0 .. n_iter, other engines and `fbp`
            only the last.
        gap: (batch,) relative duality gap of `x`, an upper bound of (F(x) - min F) / F(x); None for
            methods without.
    """

    x: torch.Tensor
    n_iter: int
    residuals: torch.Tensor
    gap: torch.Tensor | None = None


def drive(
    iterates: Iterator[tuple[torch.Tensor, torch.Tensor]],
    y: torch.Tensor,
    x0: torch.Tensor | None,
    n_iter: int,
    tol: float,
    callback: Callable[[int, torch.Tensor], None] | None,
) -> Solution:
    """Walk through the pairs (x_k, A x_k - y) that an algorithm yields, and stop each image of the
    batch by itself.

    An image keeps its x_k from the first k with ||A x_k - y|| <= tol ||y|| on; the walk ends when
    all have stopped or after `n_iter` steps. `callback(k, x_k)` sees every iterate.
    """
    if n_iter < 0:
        raise ValueError(f"expected n_iter >= 0; got {n_iter}.")
    scale = norm(y).clamp_min(tiny(y))
    residuals, stopped, x, k = [], None, None, 0
    with gradients_if_asked(y, x0):
        for k, (x_k, misfit) in zip(range(n_iter + 1), iterates):
            x = x_k if stopped is None else torch.where(stopped, x, x_k)
            residual = norm(misfit) / scale
            if stopped is not None:
                residual = torch.where(stopped, residuals[-1], residual)
            residuals.append(residual)
            if callback is not None:
                callback(k, x)
            if tol > 0:
                stopped = residual <= tol
                if bool(stopped.all()):
                    break
    return Solution(x, k, torch.stack([r.detach().flatten() for r in residuals]))


def gradients_if_asked(*tensors: torch.Tensor | None) -> torch.set_grad_enabled:
    """Record the iterations for autograd only if the caller wants gradients of one of the tensors."""
    wanted = any(t is not None and t.requires_grad for t in tensors if isinstance(t, torch.Tensor))
    return torch.set_grad_enabled(torch.is_grad_enabled() and wanted)


def start(A, y: torch.Tensor, x0: torch.Tensor | None) -> torch.Tensor:
    """x0 broadcast over the batch, or the zero image of the right shape and type."""
    with torch.no_grad():
        zero = torch.zeros_like(A.adjoint(y))
    if x0 is None:
        return zero
    if x0.ndim != 4 or x0.shape[-2:] != zero.shape[-2:]:
        raise ValueError(
            f"expected x0 of shape {tuple(zero.shape)}; got {tuple(x0.shape)}. Add axes: x0[None, None]."
        )
    return zero + x0.to(zero.device)


def dot(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Re <a, b> of each element of the batch, shape (batch, 1, 1, 1)."""
    product = (a.conj() * b).real if a.is_complex() else a * b
    return product.sum(tuple(range(1, a.ndim)), keepdim=True)


def norm(a: torch.Tensor) -> torch.Tensor:
    """||a|| of each element of the batch, shape (batch, 1, 1, 1); its gradient is zero, not NaN, at
    a = 0.
    """
    return dot(a, a).clamp_min(tiny(a) ** 2).sqrt()


def tiny(a: torch.Tensor) -> float:
    """A positive number far below any value of interest, whose square is still a normal number."""
    return 1e-18 if a.dtype in (torch.float32, torch.complex64) else 1e-150
