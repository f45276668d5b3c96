"""The loop that every iterative solver runs in: stopping, residuals, gradients only when asked."""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..operators import LinearOperator

Callback = Callable[[int, Tensor], None]
"""`callback(k, x_k)` for k = 0 .. n_iter."""


@dataclass(frozen=True)
class Solution:
    """A reconstruction and how it was reached.

    Attributes:
        x: image (batch, channels, n, n); complex where the operator is.
        n_iter: iterations done.
        residuals: (recorded, batch) relative residuals ||A x_k - y|| / ||y||; the last row belongs
            to `x`. Every k = 0 .. n_iter is recorded; of `tv` and `tgv` every 20th, of `fbp` and of
            other libraries only the last.
        gap: (batch,) relative duality gap of `x`, an upper bound of (F(x) - min F) / F(x); None for
            methods without.
    """

    x: Tensor
    n_iter: int
    residuals: Tensor
    gap: Tensor | None = None


class Iterate(NamedTuple):
    """x_k, its misfit A x_k - y, and a function for its relative duality gap where there is one."""

    x: Tensor
    misfit: Tensor
    gap: Callable[[], Tensor] | None = None


def drive(
    iterates: Iterator[Iterate],
    y: Tensor,
    n_iter: int,
    tol: float = 0.0,
    callback: Callback | None = None,
    check_every: int = 1,
) -> Solution:
    """Run an algorithm until every image of the batch has stopped, or for `n_iter` steps.

    Args:
        iterates: the algorithm, a generator of its iterates.
        y: measurements, in the units of the misfit.
        n_iter: at most so many steps.
        tol: an image keeps its x_k from the first checked k on whose gap, or else relative
            residual, is <= tol; 0 never stops early.
        callback: sees every iterate.
        check_every: iterations between two checks; above 1, k = 0 is not checked.
    """
    if n_iter < 0:
        raise ValueError(f"expected n_iter >= 0; got {n_iter}.")
    size = norm(y.detach()).clamp_min(tiny(y)).flatten()
    residuals = []
    x = gap = stopped = None
    for k, iterate in zip(range(n_iter + 1), iterates):
        x = iterate.x if stopped is None else torch.where(stopped, x, iterate.x)
        if callback is not None:
            callback(k, x)
        if check_every > 1 and k < n_iter and (k == 0 or k % check_every):
            continue
        with torch.no_grad():
            residual = norm(iterate.misfit).flatten() / size
            new_gap = None if iterate.gap is None else iterate.gap()
        if stopped is not None:
            residual = torch.where(stopped.flatten(), residuals[-1], residual)
            new_gap = None if gap is None else torch.where(stopped.flatten(), gap, new_gap)
        residuals.append(residual)
        gap = new_gap
        if tol > 0:
            stopped = ((residual if gap is None else gap) <= tol).view(-1, 1, 1, 1)
            if bool(stopped.all()):
                break
    real = x.real.dtype if x.is_complex() else x.dtype
    return Solution(x, k, torch.stack(residuals), None if gap is None else gap.to(real))


def differentiable(solver: Callable[..., Solution]) -> Callable[..., Solution]:
    """Decorate `solver(A, y, ...)`: record its iterations only if an argument needs gradients."""

    @functools.wraps(solver)
    def wrapped(A: LinearOperator, y: Tensor, *args: object, **options: object) -> Solution:
        tensors = [t for t in (y, *args, *options.values()) if isinstance(t, Tensor)]
        wanted = any(t.requires_grad for t in tensors)
        with torch.set_grad_enabled(torch.is_grad_enabled() and wanted):
            return solver(A, y, *args, **options)

    return wrapped


def zero_image(A: LinearOperator, y: Tensor) -> Tensor:
    """Return the zero image of the shape and type of A* y."""
    with torch.no_grad():
        return torch.zeros_like(A.adjoint(y))


def squares(a: Tensor) -> Tensor:
    """Return |a|^2, element by element."""
    return a.real.square() + a.imag.square() if a.is_complex() else a * a


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Return Re <a, b> of each element of the batch, shape (batch, 1, 1, 1)."""
    product = (a.conj() * b).real if a.is_complex() else a * b
    return product.sum(tuple(range(1, a.ndim)), keepdim=True)


def norm(a: Tensor) -> Tensor:
    """Return ||a|| of each element of the batch, (batch, 1, 1, 1); at a = 0 its gradient is 0."""
    return dot(a, a).clamp_min(tiny(a) ** 2).sqrt()


def tiny(a: Tensor) -> float:
    """Return a number far below any value of interest, whose square is still a normal number."""
    return 1e-18 if a.dtype in (torch.float32, torch.complex64) else 1e-150
