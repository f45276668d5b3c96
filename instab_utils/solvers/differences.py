"""Finite differences of images and of fields of slopes, their exact adjoints and inverses."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from .driver import squares

GRADIENT_NORM_SQUARED = 8.0  # ||grad||^2 < 8 in two dimensions, reached as n grows
STRAIN_NORM_SQUARED = 8.0  # ||E||^2 <= ||grad||^2, componentwise

Pair = tuple[Tensor, Tensor]
Triple = tuple[Tensor, Tensor, Tensor]


def gradient(x: Tensor) -> Pair:
    """Return (dx down, dx right): forward differences, zero across the last row and column."""
    down = pad(x[..., 1:, :] - x[..., :-1, :], (0, 0, 0, 1))
    right = pad(x[..., 1:] - x[..., :-1], (0, 1))
    return down, right


def gradient_adjoint(q: Pair) -> Tensor:
    """Return grad* q of fields that are zero in their last row and column, as gradients are."""
    down, right = q
    return pad(down, (0, 0, 1, -1)) - down + pad(right, (1, -1)) - right


def strain(w: Pair) -> Triple:
    """Return E w = (first, second, mixed) of w = (down, right).

    |E w|^2 = first^2 + second^2 + mixed^2 at a pixel, with first = d_down w_down and second =
    d_right w_right at pixel centres, and mixed = (d_right w_down + d_down w_right) / sqrt(2), which
    is sqrt(2) times the mixed entry, at corners; zero where a difference would leave the grid that
    `gradient` fills. The kernel of E are the rigid fields (a + c j, b - c i).
    """
    down, right = w
    first = pad(down[..., 1:-1, :] - down[..., :-2, :], (0, 0, 1, 1))
    second = pad(right[..., 1:-1] - right[..., :-2], (1, 1))
    mixed = down[..., :-1, 1:] - down[..., :-1, :-1] + right[..., 1:, :-1] - right[..., :-1, :-1]
    return first, second, pad(mixed, (0, 1, 0, 1)) / 2**0.5


def strain_adjoint(s: Triple) -> Pair:
    """Return E* s of fields that are zero where strains are."""
    first, second, mixed = s
    mixed = mixed / 2**0.5
    down = first - pad(first[..., 1:, :], (0, 0, 0, 1)) + pad(mixed, (1, -1)) - mixed
    right = second - pad(second[..., 1:], (0, 1)) + pad(mixed, (0, 0, 1, -1)) - mixed
    return down, right


def shrink_factors(fields: Sequence[Tensor], bound: Tensor) -> Tensor:
    """Return the factors that bring |fields| to at most `bound`, pixel by pixel."""
    return bound * _squares(fields).clamp_min(bound * bound).rsqrt()


def project(fields: Sequence[Tensor], bound: Tensor) -> tuple[Tensor, ...]:
    """Return the fields with |fields| <= bound, pixel by pixel: the dual of bound * |.|_1."""
    factors = shrink_factors(fields, bound)
    return tuple(field * factors for field in fields)


def total_length(fields: Sequence[Tensor]) -> Tensor:
    """Return sum over pixels of |fields|, shape (batch,), summed in float64."""
    return _squares(fields).sqrt().sum((1, 2, 3), dtype=torch.float64)


def _squares(fields: Sequence[Tensor]) -> Tensor:
    return sum(squares(field) for field in fields)


def inverse_laplacian(v: Tensor) -> Tensor:
    """Return u with grad* grad u = v - mean(v) and mean 0.

    v is mirrored evenly, then divided by the eigenvalues in Fourier space.
    """
    n, m = v.shape[-2:]
    mirrored = torch.cat([v, v.flip(-2)], -2)
    spectrum = torch.fft.fft2(torch.cat([mirrored, mirrored.flip(-1)], -1))
    real = v.real.dtype if v.is_complex() else v.dtype
    values = _eigenvalues(n, real, v.device)[:, None] + _eigenvalues(m, real, v.device)
    values[0, 0] = torch.inf
    u = torch.fft.ifft2(spectrum / values)[..., :n, :m]
    return u if v.is_complex() else u.real


def _eigenvalues(n: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    half_angles = torch.pi * torch.arange(2 * n, device=device, dtype=dtype) / (2 * n)
    return 4 * torch.sin(half_angles) ** 2


class StrainInverse:
    """A right inverse of grad* E* on images without affine component: v -> s, grad* E* s = v.

    Two of the three entries of s suffice but for the image i * j, which the third takes, constant
    over the image. For the two, grad* E* is B u + u B' of an image u, B = D* D with D the second
    differences along one axis: diagonal in the eigenvectors of B and B', a few products of n x n
    matrices. In float64, as its condition grows like n^4.
    """

    def __init__(self, x: Tensor):
        values = []
        self.vectors = []
        for k in x.shape[-2:]:
            D = torch.eye(k, dtype=torch.float64, device=x.device).diff(n=2, dim=0)
            value, vector = torch.linalg.eigh(D.T @ D)
            value[:2] = 0  # of the affine functions, exactly
            values.append(value)
            self.vectors.append(vector)
        self.values = values[0][:, None] + values[1]
        self.values[:2, :2] = torch.inf

    def __call__(self, v: Tensor) -> Triple:
        n, m = v.shape[-2:]
        i, j = (torch.arange(k, dtype=torch.float64, device=v.device) - (k - 1) / 2 for k in (n, m))
        twist = (v * i[:, None] * j).sum((-2, -1), keepdim=True) / ((n - 1) * (m - 1))
        third = pad(twist.expand(*v.shape[:-2], n - 1, m - 1), (0, 1, 0, 1)) / 2**0.5
        zero = torch.zeros_like(v)
        v = v - gradient_adjoint(strain_adjoint((zero, zero, third)))
        Q, R = (vectors.to(v.dtype) for vectors in self.vectors)
        slopes = gradient(Q @ ((Q.T @ v @ R) / self.values) @ R.T)
        first, second, _ = strain(slopes)
        return first, second, third
