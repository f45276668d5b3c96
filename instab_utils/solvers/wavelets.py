"""Basis pursuit denoising in Daubechies-2 wavelets by SPGL1: the stable method beside parallel MRI
in the literature.
"""

import math
from dataclasses import dataclass

import torch
from torch.nn.functional import pad

from ..operators import MaskedFourier, MultiCoilFourier
from .base import Solution, norm

_ROOT3 = 3**0.5
DB2 = tuple(value / (4 * 2**0.5) for value in (1 - _ROOT3, 3 - _ROOT3, 3 + _ROOT3, 1 + _ROOT3))
"""Low-pass analysis filter h of Daubechies-2 (db2, four taps); the high-pass one is g[k] = (-1)^(k
+ 1) h[3 - k].
"""
ROOT = 1e-3  # ||A x - y|| so near sigma, relatively, counts as the root


@dataclass(frozen=True)
class WaveletSolution(Solution):
    """A `Solution` with the two numbers that basis pursuit is about. `gap` bounds (l1 - min l1) /
    l1, and is infinite where ||A x - y|| > sigma.

    Attributes:
        l1: (batch,) ||z||_1 of the coefficients, in the units of the image.
        reached: (batch,) boolean: | ||A x - y|| - sigma | <= 1e-3 sigma (1e-3 ||y|| for sigma = 0),
            or x = 0 suffices. Where False, the iterations ran out or no image explains y up to
            sigma.
    """

    l1: torch.Tensor | None = None
    reached: torch.Tensor | None = None


def wavelet(
    A, y, sigma=0.01, relative=False, levels=3, joint=False, n_iter=500, tol=1e-4
) -> WaveletSolution:
    r"""x = Psi^-1 z with z = argmin ||z||_1 subject to ||A Psi^-1 z - y||_2 <= sigma, Psi =
    `wavelet_transform`.

    Orthogonal, periodised and not translation-invariant: the method of the paper, not the best that
    sparsity can do. Sides that 2^levels does not divide are continued by unknown pixels, which no
    datum sees and which the smallest ||z||_1 chooses, and which are cut off at the end. SPGL1 runs
    on the CPU, image by image, without gradients.

    Args:
        A: any `LinearOperator`.
        y: measurements, batched; what lies off a mask was not measured and is ignored.
        sigma: >= 0, a float or a tensor (batch,). In the units of y: the printed 0.01 is meant for
            max |A* y| = 1, as `data.kspace` and the setting "mri-vn" scale it. It is the norm of
            all noise together, not of a sample.
        relative: sigma in units of ||y|| instead, as `noise_level` and `tol` of the other solvers
            are.
        levels: of the wavelet transform.
        joint: ||z||_1 = sum of moduli |z|; False, as printed, is sum |Re z| + |Im z|. The same for
            real operators.
        n_iter: at most so many iterations, about one A and A* each (40 ms with 15 coils at 128 x
            128). A sigma far below the noise is slow: the printed one is 2e-4 ||y|| there, and
            takes 2000 iterations on noiseless data.
        tol: SPGL1's tolerance of optimality (its gap relative to half the squared misfit) and of
            the root.

    Returns:
        `WaveletSolution`: residuals of all iterations (an image that stopped early repeats its
        last), whether the root was `reached`, and `gap` from the dual point (y - A x) / ||Psi A* (y
        - A x)||_inf: a certificate, but a loose one (a few per cent where ||z||_1 is 3e-4 above its
        minimum).

    Raises:
        ValueError: negative sigma. ImportError: where the package spgl1 is missing.

    Source: Antun et al., PNAS 117 (2020), SI (parallel MRI); van den Berg and Friedlander, SIAM J.
    Sci. Comput. 31 (2008). We give SPGL1 y / sigma and A / ||A||, because its tolerances are
    relative to max(1, .): the answer then scales.
    """
    try:
        import spgl1
    except ImportError as error:
        raise ImportError(
            "wavelet needs the package spgl1: pip install spgl1. Without it use tv or tgv."
        ) from error
    y = y.detach()
    if isinstance(A, (MaskedFourier, MultiCoilFourier)):
        y = y * A.mask.to(y.device)
    sigma = torch.as_tensor(sigma, dtype=torch.float64).flatten().expand(len(y))
    if not bool((sigma >= 0).all()):
        raise ValueError(
            f"wavelet expects sigma >= 0, the norm of the misfit that is allowed; got {sigma.tolist()}."
        )
    sigma = sigma * norm(y).flatten().double().cpu() if relative else sigma
    with torch.no_grad():
        problems = [
            _Pursuit(A, y[b : b + 1], float(sigma[b]), levels, joint) for b in range(len(y))
        ]
        parts = [problem.solve(n_iter, tol) for problem in problems]
    x, histories, gaps, l1, reached = zip(*parts)
    longest = max(len(history) for history in histories)
    residuals = torch.tensor(
        [history + history[-1:] * (longest - len(history)) for history in histories]
    ).T
    x = torch.cat(x)
    real = x.real.dtype if x.is_complex() else x.dtype
    kind = {"dtype": real, "device": y.device}
    return WaveletSolution(
        x,
        longest - 1,
        residuals.to(**kind),
        torch.tensor(gaps, **kind),
        torch.tensor(l1, **kind),
        torch.tensor(reached, device=y.device),
    )


class _Pursuit:
    """One image: u = Psi x / unit as a real vector (imaginary parts after the real ones), B u = A x
    / (||A|| unit).
    """

    def __init__(self, A, y, sigma, levels, joint):
        self.A, self.y, self.sigma, self.levels, self.joint = A, y, sigma, levels, joint
        self.scale = A.norm() or 1.0
        self.size = float(norm(y))
        self.unit = (sigma or self.size or 1.0) / self.scale
        like = A.adjoint(y)
        block = 2**levels
        self.n, self.m = like.shape[-2:]
        self.shape = (*like.shape[:2], self.n + -self.n % block, self.m + -self.m % block)
        self.image_kind, self.data_kind = like.dtype, y.dtype

    def image(self, u):
        z = _unstacked(u, self.shape, self.image_kind, self.y.device)
        return inverse_wavelet_transform(z, self.levels)[..., : self.n, : self.m]

    def forward(self, u):
        return _stacked(self.A(self.image(u)) / self.scale)

    def adjoint(self, v):
        x = self.A.adjoint(_unstacked(v, self.y.shape, self.data_kind, self.y.device)) / self.scale
        x = pad(x, (0, self.shape[-1] - self.m, 0, self.shape[-2] - self.n))
        return _stacked(wavelet_transform(x, self.levels))

    def solve(self, n_iter, tol):
        """(x, relative residuals, gap, l1, reached)."""
        import numpy as np
        from scipy.sparse.linalg import LinearOperator
        from spgl1 import spgl1

        b = _stacked(self.y) / (self.unit * self.scale)
        target = self.sigma / (self.unit * self.scale)  # 1, or 0
        u, history = np.zeros(math.prod(self.shape) * (2 if self.image_kind.is_complex else 1)), []
        if self.size > self.sigma:
            B = LinearOperator(
                (len(b), len(u)), matvec=self.forward, rmatvec=self.adjoint, dtype=np.float64
            )
            u, _, _, info = spgl1(
                B,
                b,
                sigma=target,
                iter_lim=n_iter,
                opt_tol=tol,
                primal_norm=self.l1,
                dual_norm=self.largest,
                project=self.project,
            )
            history = list(info["rnorm2"])
        r = b - self.forward(u)
        misfit, size = np.linalg.norm(r), max(np.linalg.norm(b), 1e-300)
        l1, slope = self.l1(u, 1), self.largest(self.adjoint(r), 1)
        # the dual objective <b, p> - target ||p||
        lower = (b @ r - target * misfit) / max(slope, 1e-300)
        slack = ROOT * (target or size)
        gap = math.inf if misfit > target + slack else (l1 - lower) / l1 if l1 > 0 else 0.0
        reached = (l1 == 0 and misfit <= target) or abs(misfit - target) <= slack
        return (
            self.image(u) * self.unit,
            [float(f / size) for f in (*history, misfit)],
            gap,
            l1 * self.unit,
            bool(reached),
        )

    # the norm, its dual, and the projection onto its balls; SPGL1 also passes weights, which are 1

    def moduli(self, u):
        import numpy as np

        return (
            np.hypot(*u.reshape(2, -1)) if self.joint and self.image_kind.is_complex else np.abs(u)
        )

    def l1(self, u, weights):
        return self.moduli(u).sum()

    def largest(self, u, weights):
        return self.moduli(u).max()

    def project(self, u, weights, radius):
        """The moduli onto the l1 ball, signs or phases kept."""
        import numpy as np
        from spgl1 import oneprojector

        moduli = self.moduli(u)
        factors = oneprojector(moduli, weights, radius) / np.maximum(moduli, 1e-300)
        return u * np.resize(factors, len(u))


def _stacked(a):
    """A tensor as a float64 vector for SPGL1, [real parts, imaginary parts] if complex."""
    a = torch.stack([a.real, a.imag]) if a.is_complex() else a
    return a.flatten().double().cpu().numpy()


def _unstacked(v, shape, dtype, device):
    a = torch.from_numpy(v).to(device)
    if not dtype.is_complex:
        return a.to(dtype).view(shape)
    re, im = a.view(2, *shape)
    return torch.complex(re, im).to(dtype)


def wavelet_transform(x: torch.Tensor, levels: int = 3) -> torch.Tensor:
    """Psi x: periodised, orthogonal Daubechies-2 coefficients of images (..., n, m), n and m
    divisible by 2^levels.

    The layout is the usual one: the coarsest image in the corner [: n / 2^levels, : m / 2^levels],
    of each level the differences along columns below, along rows to the right, along both in the
    other corner. ||Psi x|| = ||x||. Differentiable, any dtype and device. As PyWavelets'
    wavedec2(x, "db2", mode="periodization").

    Raises:
        ValueError: for sides that 2^levels does not divide.
    """
    return _by_level(x, levels, range(levels), _split)


def inverse_wavelet_transform(z: torch.Tensor, levels: int = 3) -> torch.Tensor:
    """Psi^-1 z = Psi* z."""
    return _by_level(z, levels, reversed(range(levels)), _merge)


def _by_level(x, levels, order, step):
    n, m = x.shape[-2:]
    if n % 2**levels or m % 2**levels:
        raise ValueError(
            f"expected sides divisible by 2^{levels} = {2**levels}; got {n} x {m}. "
            "Take fewer levels or pad the image; `wavelet` pads by itself."
        )
    for level in order:
        a, b = n >> level, m >> level
        corner = step(step(x[..., :a, :b]).mT).mT
        if level:
            right = torch.cat([corner, x[..., :a, b:]], -1)
            corner = torch.cat([right, x[..., a:, :]], -2)
        x = corner
    return x


def _split(x):
    """[low, high] along the last axis: low[k] = sum_j h[j] x[2 k + 2 - j], high[k] the same with g,
    indices modulo n.
    """
    h0, h1, h2, h3 = DB2
    even, odd = x[..., 0::2], x[..., 1::2]
    later, before = even.roll(-1, -1), odd.roll(1, -1)
    low = h0 * later + h1 * odd + h2 * even + h3 * before
    high = -h3 * later + h2 * odd - h1 * even + h0 * before
    return torch.cat([low, high], -1)


def _merge(z):
    """The transpose of `_split`, which is its inverse."""
    h0, h1, h2, h3 = DB2
    low, high = z.chunk(2, -1)
    even = (h0 * low - h3 * high).roll(1, -1) + h2 * low - h1 * high
    odd = h1 * low + h2 * high + (h3 * low + h0 * high).roll(-1, -1)
    return torch.stack([even, odd], -1).flatten(-2)
