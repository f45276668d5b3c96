"""Classical iterative reconstruction: CGLS, SIRT, SART, EM; each algorithm is a generator of its
iterates.
"""

import torch

from ..operators import FourierSlice
from .base import Solution, dot, drive, start, tiny
from .subsets import split


def cgls(A, y, n_iter=20, tol=0.0, x0=None, callback=None) -> Solution:
    """min_x ||A x - y||^2 by conjugate gradients on A* A x = A* y, without ever forming A* A.

    Semi-convergent: the first iterations recover the image, later ones the noise; `n_iter` or `tol`
    regularises.

    Args:
        A: any `LinearOperator`.
        y: measurements, batched.
        n_iter: iterations; each costs one A and one A*.
        tol: stop an image at ||A x - y|| <= tol ||y||; with noise, set it to the noise level ||e||
            / ||y|| (discrepancy principle). 0 never stops early.
        x0: start image; zero by default.
        callback: `callback(k, x_k)` for k = 0 .. n_iter.

    Returns:
        `Solution`.

    Source: Hestenes and Stiefel 1952; Bjoerck 1996, algorithm 7.4.1. Not non-negative: clip the
    result yourself.
    """
    return drive(_cgls(A, y, start(A, y, x0)), y, x0, n_iter, tol, callback)


def _cgls(A, y, x):
    r = y - A(x)
    s = A.adjoint(r)
    p, gamma = s, dot(s, s)
    while True:
        yield x, r
        q = A(p)
        # at the solution gamma = 0: stay there instead of 0 / 0
        alpha = gamma / dot(q, q).clamp_min(tiny(y))
        x, r = x + alpha * p, r - alpha * q
        s = A.adjoint(r)
        gamma, last = dot(s, s), gamma
        p = s + gamma / last.clamp_min(tiny(y)) * p


def sirt(
    A, y, n_iter=100, tol=0.0, x0=None, bounds=None, relaxation=1.0, callback=None
) -> Solution:
    """x <- P[ x + relaxation * C A* R (y - A x) ], R = 1 / (A 1) and C = 1 / (A* 1): row and column
    sums.

    Converges to a minimiser of the R-weighted misfit for 0 < relaxation < 2 when A has no negative
    entries. Operators with complex or negative entries have no such sums; there R = 1 and C = 1 /
    ||A||^2 (Landweber).

    Args:
        bounds: (low, high) that P clips to, either may be None: `bounds=(0, None)` is x >= 0. Real
            images only.
        relaxation: step in (0, 2).
        Others as in `cgls`.

    Source: Gilbert 1972; Gregor and Benson 2008. Same weights and update as ASTRA's SIRT.
    """
    return sart(A, y, n_iter, tol, x0, bounds, relaxation, n_subsets=1, callback=callback)


def sart(
    A,
    y,
    n_iter=10,
    tol=0.0,
    x0=None,
    bounds=None,
    relaxation=1.0,
    n_subsets=None,
    order="spread",
    callback=None,
) -> Solution:
    """SIRT's update with one subset of the views after another: x <- P[ x + relaxation * C_s A_s*
    R_s (y_s - A_s x) ].

    Args:
        n_iter: passes over all the data; one pass costs about one A and one A*.
        n_subsets: groups that the views (axis 2 of y: k-space rows for Fourier operators) are dealt
            into; None is one view each, as printed; 1 is SIRT.
        order: "spread" visits distant views one after the other, "sequential" in their stored
            order. Distant views share the least information, so that a pass gains more.
        relaxation: step in (0, 2); below 1 it damps the noise that consecutive views disagree on.
        Others as in `sirt`.

    Source: Andersen and Kak 1984; ordered subsets: Censor and Elfving 2002.
    """
    if not 0 < relaxation < 2:
        raise ValueError(
            f"expected 0 < relaxation < 2, outside of which the iteration diverges; got {relaxation}."
        )
    x = start(A, y, x0)
    if bounds is not None and x.is_complex():
        raise ValueError(
            "bounds need real images, but this operator's images are complex. Leave bounds=None."
        )
    parts = split(A, y, y.shape[2] if n_subsets is None else n_subsets, order)
    return drive(_row_action(A, y, x, parts, bounds, relaxation), y, x0, n_iter, tol, callback)


def _row_action(A, y, x, parts, bounds, relaxation):
    with torch.no_grad():
        weights = [sums(part, x, part.select(y)) for part in parts]
        weights = [(rows, relaxation * columns) for rows, columns in weights]
    while True:
        misfit = y - A(x)
        yield x, misfit
        for part, (rows, step) in zip(parts, weights):
            r = misfit if part.is_all else part.select(y) - part.forward(x)
            x = x + step * part.adjoint(rows * r)
            if bounds is not None:
                x = x.clamp(*bounds)


def em(A, y, n_iter=50, tol=0.0, x0=None, callback=None) -> Solution:
    """x <- x / (A* 1) * A*( y / (A x) ): maximum likelihood of Poisson data by expectation
    maximisation (MLEM).

    Stays non-negative and keeps the mass: sum(A x) = sum(y) after every step (over the rays that
    meet the image).

    Args:
        y: non-negative measurements; negative entries, which noise can make, count as 0.
        x0: start image, positive where the answer may be; default: constant with the mass of y.
        Others as in `cgls`. Needs an operator with real, non-negative entries, that is `Radon` or
        `Identity`.

    Raises:
        ValueError: complex operator or negative x0.

    Source: Shepp and Vardi 1982. ASTRA has it on the GPU only (EM_CUDA).
    """
    if not has_nonnegative_entries(A):
        raise ValueError(
            f"EM needs real, non-negative entries, as Radon and Identity have; got {A}. Use cgls or tv."
        )
    if x0 is not None and bool((x0 < 0).any()):
        raise ValueError("EM expects x0 >= 0; got negative values. Clip it: x0.clamp_min(0).")
    return drive(_em(A, y.clamp_min(0), start(A, y, x0), x0 is None), y, x0, n_iter, tol, callback)


def _em(A, y, x, constant_start):
    ones = torch.ones_like(y)
    columns = A.adjoint(ones)
    inverse = torch.where(columns > 0, 1 / columns.clamp_min(tiny(y)), 0)
    if constant_start:
        inside = (columns > 0).to(y.dtype)
        x = inside * (dot(ones, y) / dot(ones, A(inside)).clamp_min(tiny(y)))
    while True:
        projection = A(x)
        yield x, projection - y
        # A ray outside the image has A x = 0 whatever x is: its ratio must not turn into inf.
        ratio = torch.where(projection > 0, y / torch.where(projection > 0, projection, 1), 0)
        x = x * inverse * A.adjoint(ratio)


def fbp(A, y, **filter_options) -> Solution:
    """x = A.pinv(y): filtered back-projection for Radon, zero-filled for Fourier; linear, one step,
    no iteration.

    With options (`filter="hann"`) it is `A.fbp(y, **options)`.
    """
    x = A.fbp(y, **filter_options) if filter_options else A.pinv(y)
    return drive(iter([(x, A(x) - y)]), y, None, 0, 0.0, None)


def has_nonnegative_entries(A) -> bool:
    """Whether the matrix of A has real entries >= 0, which EM and row sums need; unknown real
    operators are trusted.
    """
    return not A.is_complex and not isinstance(A, FourierSlice)


def sums(part, x, y):
    """Inverse row sums R and column sums C of a non-negative operator, 0 where a row or column is
    empty.
    """
    if not has_nonnegative_entries(part.operator):
        return 1.0, 1.0 / max(part.operator.norm(), tiny(y)) ** 2
    rows, columns = part.forward(torch.ones_like(x[:1])), part.adjoint(torch.ones_like(y[:1]))
    invert = lambda s: torch.where(s > 0, 1 / torch.where(s > 0, s, 1), 0)
    return invert(rows), invert(columns)
