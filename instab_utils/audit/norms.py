"""Upper bounds of operator norms; power iteration approaches from below and proves nothing."""

import math
from collections.abc import Callable

import torch
from torch.nn import functional as F

from ..operators import Identity, LinearOperator, MaskedFourier, MultiCoilFourier, Radon
from ..operators.radon import ramp_filter

OUTWARD = 1 + 1e-9
"""Factor on every norm: computed in double precision, its rounding stays far below."""
GRID = 64
"""Frequencies of an axis for a convolution on a larger image."""
DENSE_FBP = 2500
"""Pixels or bins up to which filtered back-projection is a dense matrix."""
CHUNK = 2**22
"""Complex numbers of one batch of symbols."""


def matrix_norm(matrix: torch.Tensor) -> float:
    """Return ||M||_2 = sqrt(lambda_max(M M*)) from above, M (rows, columns).

    By the smaller of the two Gram matrices, in double precision.
    """
    matrix = matrix.to(torch.complex128 if matrix.is_complex() else torch.float64)
    wide = matrix.shape[0] <= matrix.shape[1]
    return _largest_root(matrix @ matrix.mH if wide else matrix.mH @ matrix)


def conv_norm(
    weight: torch.Tensor,
    size: tuple[int, int],
    stride: tuple[int, int] = (1, 1),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
) -> float:
    """Return ||W||_2 from above of a zero-padded convolution, at any padding, and of its adjoint.

    Without stride,  ||W||_2 <= max_w ||W^(w)||_2,  W^(w) = sum_k W_k exp(-i k w)  the c_out x c_in
    symbol: rows and columns of the image's matrix are rows and columns of a circular convolution on
    a torus of side N >= n + k - 1, which its frequencies 2 pi j / N diagonalise. On images above
    `GRID` the grid is coarser than the torus and the maximum is divided by cos(pi (k - 1) / N) for
    each axis, before the root: u* W^* W^ u is a trigonometric polynomial of degree k - 1 (Ehlich
    and Zeller 1964). Stride s is no stride on the s^2 phases of the image, as channels.

    Args:
        weight: (c_out, c_in / groups, k, l), of a transposed convolution as well: it is the
            adjoint.
        size: (n, m) of the input; of a transposed convolution, of its output.
    """
    weight = weight.detach().double()
    return max(_symbol_norm(part, size, stride, dilation) for part in weight.chunk(groups))


def _symbol_norm(weight, size, stride, dilation) -> float:
    kernel = weight.shape[2:]
    if max(dilation) > 1:  # zeros between the taps
        spread = [(k - 1) * d + 1 for k, d in zip(kernel, dilation)]
        full = weight.new_zeros(*weight.shape[:2], *spread)
        full[..., :: dilation[0], :: dilation[1]] = weight
        weight = full
    if max(stride) > 1:
        rows, columns = (-k % s for k, s in zip(weight.shape[2:], stride))
        weight = F.pad(weight, (0, columns, 0, rows))
        phases = weight.unflatten(3, (-1, stride[1])).unflatten(2, (-1, stride[0]))
        weight = phases.permute(0, 1, 3, 5, 2, 4).flatten(1, 3)
        size = tuple(n // s + 2 for n, s in zip(size, stride))  # of one phase, at any padding
    sides, slack = [], 1.0
    for n, k in zip(size, weight.shape[2:]):
        degree = k - 1
        coarse = max(GRID, 16 * degree)
        sides.append(min(n + degree, coarse))
        if n + degree > coarse:
            slack *= math.cos(math.pi * degree / coarse)
    # conjugate frequencies have the same norm
    symbol = torch.fft.rfft2(weight, s=sides).flatten(2).permute(2, 0, 1)
    if symbol.shape[1] > symbol.shape[2]:
        symbol = symbol.mT
    largest = 0.0
    for part in symbol.split(max(1, CHUNK // symbol[0].numel())):
        largest = max(largest, float(torch.linalg.eigvalsh(part @ part.mH)[:, -1].max()))
    return _root(largest / slack)


def nonnegative_norm(apply: Callable, start: torch.Tensor, n_iter: int = 30) -> float:
    """Return ||M||_2 <= sqrt(max_i (M^T M v)_i / v_i) for a matrix M >= 0 (Collatz and Wielandt).

    Any v > 0 gives a bound; v is from power iteration.

    Args:
        apply: x -> M x, differentiable: its transpose is taken by autograd. Pooling, up-sampling,
            padding, projections.
        start: a tensor like x; only its shape and device count.
    """
    v, bound = torch.ones_like(start, dtype=torch.float64), math.inf
    for _ in range(n_iter):
        with torch.enable_grad():
            leaf = v.clone().requires_grad_()
            out = apply(leaf)
            (back,) = torch.autograd.grad(out, leaf, out.detach())
        last, bound = bound, min(bound, float((back / v).max()))
        if not bound < last * (1 - 1e-9):
            break
        v = back + 1e-9 * back.max()
    return _root(bound)


def adjoint_norm(A: LinearOperator) -> float:
    """Return ||A*|| = ||A|| from above.

    1 of a masked unitary transform and of the identity; sqrt(max sum_c |S_c|^2) of several coils;
    `nonnegative_norm` of `Radon`. NotImplementedError for other operators.
    """
    if type(A) in (Identity, MaskedFourier):
        return 1.0
    if type(A) is MultiCoilFourier:
        return _root(float(_coil_energy(A).max()))
    if type(A) is Radon:
        return nonnegative_norm(A, torch.zeros(1, 1, *A.image_shape, device=A.device))
    raise NotImplementedError(f"there is no norm from above for {A}")


def pinv_norm(A: LinearOperator) -> float:
    """Return ||A.pinv||_2 from above.

    1 of a masked unitary transform and of the identity; 1 / sqrt(min sum_c |S_c|^2 > 0) of several
    coils. Filtered back-projection step A^T H: exact, from its dense matrix, up to `DENSE_FBP`
    pixels or bins; else step ||A|| max|h^|, which is about ten times too large, because A is small
    where the ramp is large. NotImplementedError for other operators.
    """
    if type(A) in (Identity, MaskedFourier):
        return 1.0
    if type(A) is MultiCoilFourier:
        used = A._energy.double()  # which it keeps in single precision
        return _root(float((_coil_energy(A) / used.square())[used > 0].max()))
    if type(A) is not Radon:
        raise NotImplementedError(f"there is no norm from above for pinv of {A}")
    if min(math.prod(A.image_shape), math.prod(A.sinogram_shape)) <= DENSE_FBP:
        return _largest_root(_fbp_gram(A))
    ramp = float(ramp_filter(A.n_detectors).abs().max())
    return OUTWARD * math.pi / A.n_views * adjoint_norm(A) * ramp


def _coil_energy(A) -> torch.Tensor:
    return A.coil_maps.to(torch.complex128).abs().square().sum(0)


def _fbp_gram(A) -> torch.Tensor:
    """F^T F over the bins or F F^T over the pixels, F = A.fbp; the transpose by autograd."""
    by_bins = math.prod(A.sinogram_shape) <= math.prod(A.image_shape)
    shape = A.sinogram_shape if by_bins else A.image_shape
    n = math.prod(shape)
    gram = torch.empty(n, n, dtype=torch.float64, device=A.device)
    for place in torch.arange(n, device=A.device).split(256):
        unit = torch.zeros(len(place), n, dtype=torch.float64, device=A.device)
        unit = unit.scatter_(1, place[:, None], 1).reshape(-1, 1, *shape)
        with torch.enable_grad():
            y = unit if by_bins else unit.new_zeros(len(place), 1, *A.sinogram_shape)
            y.requires_grad_()
            x = A.fbp(y)
            (back,) = torch.autograd.grad(x, y, x.detach() if by_bins else unit)
        gram[place] = (back if by_bins else A.fbp(back)).flatten(1)
    return gram


def _largest_root(gram: torch.Tensor) -> float:
    return _root(float(torch.linalg.eigvalsh(gram)[-1]))


def _root(square: float) -> float:
    return OUTWARD * math.sqrt(max(square, 0.0))
