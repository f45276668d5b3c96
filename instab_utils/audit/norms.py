"""Upper bounds of operator norms, from above only: power iteration would approach from below, and
prove nothing.
"""

import math
from collections.abc import Callable

import torch

from ..operators import Identity, LinearOperator, MaskedFourier, MultiCoilFourier, Radon
from ..operators.radon import ramp_filter

OUTWARD = 1 + 1e-9
"""Every norm is raised by this: computed in double precision, its rounding stays far below."""
GRID = 64  # frequencies an axis for a convolution on a larger image
DENSE = 100  # entries of an input up to which a convolution is a dense matrix
DENSE_FBP = 2500  # entries of an image or of its views up to which filtered back-projection is one
CHUNK = 2**22  # complex numbers of one batch of symbols


def matrix_norm(matrix: torch.Tensor) -> float:
    """||M||_2 = sqrt(lambda_max(M M*)), by the smaller of the two Gram matrices in double
    precision, outward; M (rows, columns).
    """
    matrix = matrix.to(torch.complex128 if matrix.is_complex() else torch.float64)
    gram = matrix @ matrix.mH if matrix.shape[0] <= matrix.shape[1] else matrix.mH @ matrix
    return _root(float(torch.linalg.eigvalsh(gram)[-1]))


def conv_norm(
    weight: torch.Tensor, size: tuple[int, int], stride=1, dilation=1, groups: int = 1
) -> float:
    """||W||_2 from above, of the zero-padded convolution of an image of `size`, at any padding; and
    of its adjoint.

    Without stride,  ||W||_2 <= max_w ||W^(w)||_2,  W^(w) = sum_k W_k exp(-i k w) the c_out x c_in
    symbol: rows and columns of the image's matrix are rows and columns of a circular convolution on
    a torus of side N >= n + k - 1, which its frequencies 2 pi j / N diagonalise. On images above
    `GRID` the grid is coarser than the torus and the maximum is divided by cos(pi (k - 1) / N) an
    axis, before the root: u* W^* W^ u is a trigonometric polynomial of degree k - 1 (Ehlich and
    Zeller 1964). Stride s is no stride on the s^2 phases of the image, as channels. Small images
    take their dense matrix too.

    Args:
        weight: (c_out, c_in / groups, k, l), of a transposed convolution as well: it is the
            adjoint.
        size: (n, m) of what the convolution reads; of a transposed one, of what it writes.
    """
    stride, dilation = (v if isinstance(v, tuple) else (v, v) for v in (stride, dilation))
    weight, size = weight.detach().double(), tuple(size)
    found = max(_symbol_norm(w, size, stride, dilation) for w in weight.chunk(groups))
    if weight.shape[1] * groups * math.prod(size) <= DENSE:
        found = min(found, _dense_conv(weight, size, stride, dilation, groups))
    return found


def _symbol_norm(weight, size, stride, dilation):
    if max(dilation) > 1:  # zeros between the taps
        full = weight.new_zeros(
            *weight.shape[:2], *((k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilation))
        )
        full[..., :: dilation[0], :: dilation[1]] = weight
        weight = full
    if max(stride) > 1:
        extra = [-k % s for k, s in zip(weight.shape[2:], stride)]
        weight = torch.nn.functional.pad(weight, (0, extra[1], 0, extra[0]))
        weight = (
            weight.unflatten(3, (-1, stride[1]))
            .unflatten(2, (-1, stride[0]))
            .permute(0, 1, 3, 5, 2, 4)
            .flatten(1, 3)
        )
        size = tuple(n // s + 2 for n, s in zip(size, stride))  # of one phase, whatever the padding
    degrees = [k - 1 for k in weight.shape[2:]]
    sides, slack = [], 1.0
    for n, d in zip(size, degrees):
        coarse = max(GRID, 16 * d)
        sides.append(min(n + d, coarse))
        if n + d > coarse:
            slack *= math.cos(math.pi * d / coarse)
    # conjugate frequencies have the same norm
    symbol = torch.fft.rfft2(weight, s=sides).flatten(2).permute(2, 0, 1)
    if symbol.shape[1] > symbol.shape[2]:
        symbol = symbol.mT
    largest = 0.0
    for part in symbol.split(max(1, CHUNK // symbol[0].numel())):
        largest = max(largest, float(torch.linalg.eigvalsh(part @ part.mH)[:, -1].max()))
    return _root(largest / slack)


def _dense_conv(weight, size, stride, dilation, groups):
    """With the largest padding that reaches the image: any other leaves rows out, but for strides,
    whose phases differ.
    """
    if max(stride) > 1:
        return math.inf
    channels = weight.shape[1] * groups
    basis = torch.eye(channels * math.prod(size), dtype=weight.dtype, device=weight.device).reshape(
        -1, channels, *size
    )
    padding = tuple((k - 1) * d for k, d in zip(weight.shape[2:], dilation))
    return matrix_norm(
        torch.nn.functional.conv2d(basis, weight, None, 1, padding, dilation, groups).flatten(1)
    )


def nonnegative_norm(
    apply: Callable[[torch.Tensor], torch.Tensor], start: torch.Tensor, n_iter: int = 30
) -> float:
    """||M||_2 <= sqrt(max_i (M^T M v)_i / v_i) for a matrix M >= 0 and any v > 0 (Collatz and
    Wielandt); v by power iteration.

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


def adjoint_norm(A: LinearOperator) -> float | None:
    """||A*|| = ||A|| from above; None where this module has no bound for A.

    1 of a masked unitary transform and of the identity; sqrt(max sum_c |S_c|^2) of several coils;
    `nonnegative_norm` of `Radon`.
    """
    if type(A) in (Identity, MaskedFourier):
        return 1.0
    if type(A) is MultiCoilFourier:
        return _root(float(A.coil_maps.to(torch.complex128).abs().square().sum(0).max()))
    if type(A) is Radon:
        return nonnegative_norm(A, torch.zeros(1, 1, *A.image_shape, device=A.device))
    return None


def pinv_norm(A: LinearOperator) -> float | None:
    """||A.pinv||_2 from above; None where this module has no bound for A.

    1 of a masked unitary transform and of the identity; 1 / sqrt(min sum_c |S_c|^2 > 0) of several
    coils. Filtered back-projection step A^T H: exact, from its dense matrix, up to `DENSE_FBP`
    pixels or bins; else step ||A|| max|h^|, which is about ten times too large, because A is small
    where the ramp is large.
    """
    if type(A) in (Identity, MaskedFourier):
        return 1.0
    if type(A) is MultiCoilFourier:
        # which it keeps in single precision
        energy, used = A.coil_maps.to(torch.complex128).abs().square().sum(0), A._energy.double()
        return _root(float((energy / used.square())[used > 0].max()))
    if type(A) is Radon:
        if min(math.prod(A.image_shape), math.prod(A.sinogram_shape)) <= DENSE_FBP:
            return _root(float(torch.linalg.eigvalsh(_fbp_gram(A))[-1]))
        return (
            OUTWARD
            * math.pi
            / A.n_views
            * adjoint_norm(A)
            * float(ramp_filter(A.n_detectors).abs().max())
        )
    return None


def _fbp_gram(A):
    """F^T F over the bins or F F^T over the pixels, whichever is smaller, F = A.pinv; in blocks,
    the transpose by autograd.
    """
    n_bins, n_pixels = math.prod(A.sinogram_shape), math.prod(A.image_shape)
    n, shape = (n_bins, A.sinogram_shape) if n_bins <= n_pixels else (n_pixels, A.image_shape)
    gram = torch.empty(n, n, dtype=torch.float64, device=A.device)
    for place in torch.arange(n, device=A.device).split(256):
        unit = torch.zeros(len(place), n, dtype=torch.float64, device=A.device).scatter_(
            1, place[:, None], 1
        )
        unit = unit.reshape(-1, 1, *shape)
        with torch.enable_grad():
            y = unit.new_zeros(len(place), 1, *A.sinogram_shape) if n_pixels < n_bins else unit
            y.requires_grad_()
            x = A.fbp(y)
            (back,) = torch.autograd.grad(x, y, x.detach() if n_bins <= n_pixels else unit)
        gram[place] = (back if n_bins <= n_pixels else A.fbp(back)).flatten(1)
    return gram


def _root(square: float) -> float:
    return OUTWARD * math.sqrt(max(square, 0.0))
