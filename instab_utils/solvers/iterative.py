"""Classical iterative reconstruction: CGLS, SIRT, SART, EM, each a generator of its iterates."""

from collections.abc import Iterator
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from ..operators import FourierSlice, LinearOperator, Radon
from .driver import Callback, Iterate, Solution, differentiable, dot, drive, tiny, zero_image

Bounds = tuple[float | None, float | None]


@differentiable
def cgls(
    A: LinearOperator,
    y: Tensor,
    n_iter: int = 20,
    tol: float = 0.0,
    callback: Callback | None = None,
) -> Solution:
    """Solve min_x ||A x - y||^2 by conjugate gradients on A* A x = A* y, without forming A* A.

    Semi-convergent: the first iterations recover the image, later ones the noise; `n_iter` or `tol`
    regularises.

    Args:
        A: any `LinearOperator`.
        y: measurements, batched.
        n_iter: iterations; each costs one A and one A*.
        tol: stop an image at ||A x - y|| <= tol ||y||; with noise, set it to the noise level
            ||e|| / ||y|| (discrepancy principle). 0 never stops early.
        callback: `callback(k, x_k)` for k = 0 .. n_iter.

    Source: Hestenes and Stiefel 1952; Bjoerck 1996, algorithm 7.4.1. Not non-negative: clip the
    result yourself.
    """
    return drive(_cgls(A, y, zero_image(A, y)), y, n_iter, tol, callback)


def _cgls(A: LinearOperator, y: Tensor, x: Tensor) -> Iterator[Iterate]:
    r = y - A(x)
    s = A.adjoint(r)
    p, gamma = s, dot(s, s)
    while True:
        yield Iterate(x, r)
        q = A(p)
        # at the solution gamma = 0: stay there instead of 0 / 0
        alpha = gamma / dot(q, q).clamp_min(tiny(y))
        x = x + alpha * p
        r = r - alpha * q
        s = A.adjoint(r)
        gamma, last = dot(s, s), gamma
        p = s + gamma / last.clamp_min(tiny(y)) * p


@differentiable
def sirt(
    A: LinearOperator,
    y: Tensor,
    n_iter: int = 100,
    tol: float = 0.0,
    bounds: Bounds | None = None,
    callback: Callback | None = None,
) -> Solution:
    """Iterate x <- P[x + C A* R (y - A x)] from 0, R = 1 / (A 1) and C = 1 / (A* 1).

    R and C are the inverse row and column sums. Converges to a minimiser of the R-weighted misfit
    when A has no negative entries. Operators with complex or negative
    entries have no such sums; there R = 1 and C = 1 / ||A||^2 (Landweber).

    Args:
        bounds: (low, high) that P clips to, either may be None: `bounds=(0, None)` is x >= 0. Real
            images only.
        Others as in `cgls`.

    Source: Gilbert 1972; Gregor and Benson 2008. Same weights and update as ASTRA's SIRT.
    """
    iterates = _row_action(A, y, zero_image(A, y), [(A, slice(None))], bounds)
    return drive(iterates, y, n_iter, tol, callback)


@differentiable
def sart(
    A: LinearOperator,
    y: Tensor,
    n_iter: int = 10,
    tol: float = 0.0,
    bounds: Bounds | None = None,
    relaxation: float = 1.0,
    callback: Callback | None = None,
) -> Solution:
    """Iterate x <- P[x + relaxation C_s A_s* R_s (y_s - A_s x)], SIRT's update, view by view.

    Distant views, which share the least information, follow one another (`golden_order`).

    Args:
        A: a `Radon` operator; others have no views, use `sirt`.
        n_iter: passes over all the data; one pass costs about one A and one A*.
        relaxation: step in (0, 2); below 1 it damps the noise that consecutive views disagree on.
        Others as in `sirt`.

    Source: Andersen and Kak 1984.
    """
    if not isinstance(A, Radon):
        raise ValueError(f"sart goes through the views of a Radon operator; got {A}. Use sirt.")
    iterates = _row_action(A, y, zero_image(A, y), single_views(A), bounds, relaxation)
    return drive(iterates, y, n_iter, tol, callback)


def _row_action(
    A: LinearOperator,
    y: Tensor,
    x: Tensor,
    parts: list[tuple[LinearOperator, Tensor | slice]],
    bounds: Bounds | None,
    relaxation: float = 1.0,
) -> Iterator[Iterate]:
    """Yield one iterate a pass; a part is an operator and the views (axis 2 of y) that it makes."""
    if not 0 < relaxation < 2:
        raise ValueError(f"expected 0 < relaxation < 2, else the steps diverge; got {relaxation}.")
    if bounds is not None and x.is_complex():
        raise ValueError(
            "bounds need real images, but this operator's are complex. Leave them out."
        )
    with torch.no_grad():
        sums = [_inverse_sums(part, x, y[:, :, views]) for part, views in parts]
    while True:
        misfit = y - A(x)
        yield Iterate(x, misfit)
        for (part, views), (rows, columns) in zip(parts, sums):
            r = misfit if part is A else y[:, :, views] - part(x)
            x = x + relaxation * columns * part.adjoint(rows * r)
            if bounds is not None:
                x = x.clamp(*bounds)


@differentiable
def em(
    A: LinearOperator,
    y: Tensor,
    n_iter: int = 50,
    tol: float = 0.0,
    callback: Callback | None = None,
) -> Solution:
    """Iterate x <- x / (A* 1) A*(y / (A x)): maximum likelihood of Poisson data (MLEM).

    From the constant image with the mass of y. Stays non-negative and keeps the mass: sum(A x) =
    sum(y) after every step (over the rays that meet the image).

    Args:
        y: non-negative measurements; negative entries, which noise can make, count as 0.
        Others as in `cgls`. Needs an operator with real, non-negative entries, that is `Radon` or
        `Identity`.

    Raises:
        ValueError: complex operator.

    Source: Shepp and Vardi 1982. ASTRA has it on the GPU only (EM_CUDA).
    """
    if not _has_nonnegative_entries(A):
        raise ValueError(
            f"EM needs real, non-negative entries, as Radon and Identity have; got {A}. "
            "Use cgls or tv."
        )
    return drive(_em(A, y.clamp_min(0)), y, n_iter, tol, callback)


def _em(A: LinearOperator, y: Tensor) -> Iterator[Iterate]:
    ones = torch.ones_like(y)
    columns = A.adjoint(ones)
    inverse = torch.where(columns > 0, 1 / columns.clamp_min(tiny(y)), 0)
    inside = (columns > 0).to(y.dtype)
    x = inside * (dot(ones, y) / dot(ones, A(inside)).clamp_min(tiny(y)))
    while True:
        projection = A(x)
        yield Iterate(x, projection - y)
        # A ray outside the image has A x = 0 whatever x is: its ratio must not turn into inf.
        ratio = torch.where(projection > 0, y / torch.where(projection > 0, projection, 1), 0)
        x = x * inverse * A.adjoint(ratio)


def fbp(A: LinearOperator, y: Tensor) -> Solution:
    """Return A.pinv(y): filtered back-projection for Radon, zero-filled for Fourier; linear."""
    x = A.pinv(y)
    return drive(iter([Iterate(x, A(x) - y)]), y, n_iter=0)


def _has_nonnegative_entries(A: LinearOperator) -> bool:
    """Return whether the matrix of A has real entries >= 0; unknown real operators are trusted."""
    return not A.is_complex and not isinstance(A, FourierSlice)


def _inverse_sums(
    A: LinearOperator, x: Tensor, y: Tensor
) -> tuple[Tensor, Tensor] | tuple[float, float]:
    """Return R and C of a non-negative operator, 0 where a row or column is empty."""
    if not _has_nonnegative_entries(A):
        return 1.0, 1.0 / max(A.norm(), tiny(y)) ** 2
    return _inverted(A(torch.ones_like(x[:1]))), _inverted(A.adjoint(torch.ones_like(y[:1])))


def _inverted(sums: Tensor) -> Tensor:
    return torch.where(sums > 0, 1 / torch.where(sums > 0, sums, 1), 0)


_views: WeakKeyDictionary[Radon, list[tuple[Radon, Tensor]]] = WeakKeyDictionary()


def single_views(A: Radon) -> list[tuple[Radon, Tensor]]:
    """Return (A_s, s) for the views s one by one, in `golden_order`; built once for each A."""
    if A not in _views:
        views = [torch.tensor([view]) for view in golden_order(A.n_views)]
        _views[A] = [(_one_view(A, view), view) for view in views]
    return _views[A]


def _one_view(A: Radon, view: Tensor) -> Radon:
    part = type(A)(A.image_size, A.angles_deg[view], A.n_detectors).to(A.device)
    part.storage = "csr"  # folding by symmetries pays for whole scans only
    return part


def golden_order(n: int) -> list[int]:
    """Return 0 .. n - 1 in the order of the fractional parts of k times the golden ratio."""
    golden = (5**0.5 - 1) / 2
    position = torch.arange(n, dtype=torch.float64) * golden % 1
    return position.argsort().argsort().tolist()
