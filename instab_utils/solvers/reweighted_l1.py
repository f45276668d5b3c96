"""Re-weighted shearlets with total variation by split Bregman, after Antun et al."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from ..operators import Identity, LinearOperator, MaskedFourier
from .driver import (
    Callback,
    Iterate,
    Solution,
    differentiable,
    dot,
    drive,
    norm,
    squares,
    tiny,
    zero_image,
)
from .shearlets import Shearlets

FLOOR = 1e-12  # below every coefficient of an image of unit size: |0| would have no slope


@dataclass(frozen=True)
class ShearletSettings:
    """What `shearlet` minimises and how it iterates.

    Attributes:
        levels: of `Shearlets`.
        weight: >= 0, of the shearlet term.
        alpha: >= 0, of total variation.
        mu, mu_gradient: >= 0, of the two terms' splittings; they set the speed and, re-weighted,
            also how sparse; a term with a zero is left out.
        beta: > 0, of the data.
        reweight: in (0, 1], or None for lambda_j = 1.
        eps: > 0, of the re-weighting.
        cg_steps: >= 1, of each solution for x where it is not exact.
    """

    levels: tuple[int, ...] = (1, 1, 2)
    weight: float = 1.0
    alpha: float = 1.0
    mu: float = 100.0
    mu_gradient: float = 10.0
    beta: float = 3e3
    reweight: float | None = 0.1
    eps: float = 1e-5
    cg_steps: int = 5

    def __post_init__(self):
        if min(self.weight, self.alpha, self.mu, self.mu_gradient) < 0:
            raise ValueError(f"expected weight, alpha, mu and mu_gradient >= 0; got {self}.")
        if not (self.weight * self.mu or self.alpha * self.mu_gradient):
            raise ValueError("no term is left: give shearlets or the gradient, or use cgls.")
        if not (self.beta > 0 and self.eps > 0 and self.cg_steps >= 1):
            raise ValueError(f"expected beta > 0, eps > 0 and cg_steps >= 1; got {self}.")
        if self.reweight is not None and not 0 < self.reweight <= 1:
            raise ValueError(f"expected reweight in (0, 1] or None; got {self.reweight}.")


SETTINGS = {
    "fourier": ShearletSettings(),
    "radon": ShearletSettings(levels=(0, 0, 1, 1), mu=5.0, mu_gradient=5.0, beta=1e3),
}
"""Settings of `shearlet` for operators with complex images and for all others."""


@differentiable
def shearlet(
    A: LinearOperator,
    y: Tensor,
    n_iter: int = 30,
    noise_level: float = 0.0,
    settings: ShearletSettings | None = None,
    callback: Callback | None = None,
) -> Solution:
    r"""Minimise weight sum_j lambda_j |Psi_j x| + alpha |grad x| such that A x = y, up to noise.

    Psi: `Shearlets`, low-pass not penalised; grad: periodic differences, isotropic norm. x is
    measured in units of max |A.pinv(y)|, one for each image and channel, and A in units of ||A||:
    settings depend neither on the brightness nor on the size of the image.

    Split Bregman: with d_i for each penalised term K_i x and multipliers b_i, one iteration is

        d_i <- shrink(K_i x + b_i, threshold_i)
        x   <- argmin beta/2 ||A x - y_k||^2 + sum_i mu_i/2 ||K_i x + b_i - d_i||^2
        b_i <- b_i + K_i x - d_i

    and y_{k+1} <- y_k + y - A x while the misfit is above the noise. The threshold of gradients is
    alpha / mu_gradient. That of a shearlet coefficient s is (weight / mu) * reweight * max|s_j| /
    (eps + |s|), with the maximum over its band: large coefficients pass, lambda_j follows the
    iterates. For `MaskedFourier` and `Identity` x is exact, a division in Fourier space; for other
    operators it is `cg_steps` conjugate gradients from the last x. The first x is 0 where x is
    exact, else `A.pinv(y)`.

    Args:
        A: any `LinearOperator`.
        y: measurements, batched.
        n_iter: iterations, always done.
        noise_level: ||e|| / ||y|| of the noise, or of the discretisation if that is more. The
            residual is added back only while ||A x - y|| > noise_level ||y|| (discrepancy
            principle), and the iteration goes on: the image settles at that misfit. 0 adds it back
            for ever: fine for a mask without noise, but in CT late iterates then fit what is not in
            the image. Measure ||A x - y|| / ||y|| of true images on validation data, where both are
            known. Infinity leaves y alone (y_k = y): what is minimised is then the sum of the
            penalties and beta/2 ||A x - y||^2 / ||A||^2, and with `reweight=None` the iterates
            converge to its minimum.
        settings: default `SETTINGS["fourier"]` for complex operators, else `SETTINGS["radon"]`.
        callback: `callback(k, x_k)` for k = 0 .. n_iter.

    Returns:
        `Solution`; no gap. Gradients with respect to y by unrolling: memory is n_iter times
        about five stacks of n_bands images.

    Source: Ma and Maerz 2016 (multilevel re-weighting with joint regularisers); Antun et al., PNAS
    117 (2020), whose settings ours depart from. For masks they have mu = 5000 (not converged after
    the published 50 iterations), TGV with alpha (1, 1) in place of TV, and four sweeps before each
    update of b; for CT shearlets alone, and beta 1000 times ours. Their low-pass has a quadratic
    term (held by one it needs hundreds of sweeps to fill in missing low frequencies); ours has one
    without a gradient only. Our data stop moving at the noise level, where the published iteration
    goes on fitting it. The shearlets are not ShearLab's.
    """
    if settings is None:
        settings = SETTINGS["fourier" if A.is_complex else "radon"]
    exact = isinstance(A, (Identity, MaskedFourier))
    x = zero_image(A, y) if exact else A.pinv(y)
    if isinstance(A, MaskedFourier):
        y = A(A.adjoint(y))  # what lies off the mask was not measured
    problem = (DiagonalSplitting if exact else ConjugateSplitting)(A, y, x, settings)
    return drive(problem.iterates(x, noise_level), y, n_iter, callback=callback)


class Term:
    """mu/2 ||K x + b - d||^2 with K given by its Fourier multipliers (rows, n, m)."""

    def __init__(self, mu: float, multipliers: Tensor, shrink: Callable[[Tensor], Tensor]):
        self.mu = mu
        self.multipliers = multipliers
        self.shrink = shrink
        self.adjoint = mu * multipliers.conj().resolve_conj()
        self.b = None
        self.w = None

    def pull(self, spectrum: Tensor, problem: "Splitting") -> Tensor:
        """Update b and w = d - b at x, and return the spectrum of mu K* w."""
        c = problem.image(self.multipliers * spectrum[..., None, :, :])
        if self.w is not None:
            self.b = c - self.w
        self.w = self.shrink(c) if self.b is None else self.shrink(c + self.b) - self.b
        return (self.adjoint * problem.spectrum(self.w)).sum(-3)


class Splitting(ABC):
    """Units, terms, and the multipliers `form` of the regularisers' sum_i mu_i K_i* K_i."""

    _transforms: WeakKeyDictionary[LinearOperator, dict] = WeakKeyDictionary()

    def __init__(self, A: LinearOperator, y: Tensor, x: Tensor, settings: ShearletSettings):
        self.A = A
        self.settings = settings
        self.scale = A.norm() or 1.0
        peak = A.pinv(y).abs().amax((-2, -1), keepdim=True)
        self.unit = torch.where(peak > 0, peak, 1)
        unit = self.unit if self.unit.shape[1] == y.shape[1] else self.unit.amax(1, keepdim=True)
        self.y = y / (unit * self.scale)
        self.y_norm = norm(self.y)
        known = self._transforms.setdefault(A, {})
        if settings.levels not in known:
            known[settings.levels] = Shearlets(tuple(A.image_shape), settings.levels)
        self.transform = known[settings.levels]
        self.like = x
        self.terms = self._terms(x)
        self.form = sum(term.mu * squares(term.multipliers).sum(0) for term in self.terms)

    @abstractmethod
    def refresh(self, misfit: Tensor, add_back: Tensor) -> None:
        """Begin an iteration: add the residual back to the data of the images in `add_back`."""

    @abstractmethod
    def solve(self, target: Tensor, u: Tensor) -> Tensor:
        """Return the next x from the spectrum of sum_i mu_i K_i* w_i and the last one."""

    def iterates(self, x: Tensor, noise_level: float) -> Iterator[Iterate]:
        u = x / self.unit
        add_back = torch.zeros_like(self.y_norm, dtype=torch.bool)
        while True:
            misfit = self.misfit(u)
            yield Iterate(u * self.unit, misfit * self.unit * self.scale)
            # what fits is left alone: more would be noise
            self.refresh(misfit, add_back & (norm(misfit) > noise_level * self.y_norm))
            spectrum = self.spectrum(u)
            u = self.solve(sum(term.pull(spectrum, self) for term in self.terms), u)
            add_back = torch.ones_like(add_back)

    def spectrum(self, x: Tensor) -> Tensor:
        return self.transform.spectrum(x)

    def image(self, spectrum: Tensor) -> Tensor:
        return self.transform.image(spectrum, self.like)

    def misfit(self, u: Tensor) -> Tensor:
        return self.A(u) / self.scale - self.y

    def back(self, r: Tensor) -> Tensor:
        return self.A.adjoint(r) / self.scale

    def _terms(self, x: Tensor) -> list[Term]:
        s = self.settings
        windows = self.transform.windows(x)
        terms = []
        if s.weight * s.mu:
            # A few bands at a time stay in the processor's cache.
            shrink = partial(_shrink_reweighted, s.weight / s.mu, s.reweight, s.eps)
            for bands in windows[1:].split(max(1, 2**18 // x.numel())):
                terms.append(Term(s.mu, bands, shrink))
        if s.alpha * s.mu_gradient:
            shrink = partial(_shrink_length, s.alpha / s.mu_gradient)
            terms.append(Term(s.mu_gradient, _periodic_gradient(x, windows), shrink))
        else:  # nothing else holds the low frequencies that are not measured
            terms.append(Term(s.mu, windows[:1], torch.nn.Identity()))
        return terms


class DiagonalSplitting(Splitting):
    """A* A is diagonal in Fourier space: a division for each frequency."""

    def __init__(self, A: LinearOperator, y: Tensor, x: Tensor, settings: ShearletSettings):
        super().__init__(A, y, x, settings)
        gram = 1.0
        if isinstance(A, MaskedFourier):
            gram = A.mask.to(x.device).square()
            gram = torch.fft.ifftshift(gram) if A.centred else gram
        system = self.form + settings.beta * gram
        # the mean, where nothing measures or penalises it, stays 0
        self.inverse = 1 / torch.where(system == 0, 1, system)
        self.data = self.spectrum(self.back(self.y))

    def refresh(self, misfit: Tensor, add_back: Tensor) -> None:
        if bool(add_back.any()):
            self.data = self.data - add_back * self.spectrum(self.back(misfit))

    def solve(self, target: Tensor, u: Tensor) -> Tensor:
        return self.image(self.inverse * (target + self.settings.beta * self.data))


class ConjugateSplitting(Splitting):
    """Any A: conjugate gradients from the last x, whose A* A x is known."""

    def __init__(self, A: LinearOperator, y: Tensor, x: Tensor, settings: ShearletSettings):
        super().__init__(A, y, x, settings)
        self.data = self.first = self.back(self.y)

    def refresh(self, misfit: Tensor, add_back: Tensor) -> None:
        moved = self.back(misfit)
        if bool(add_back.any()):
            self.data = self.data - add_back * moved
        self.normal = moved + self.first

    def solve(self, target: Tensor, u: Tensor) -> Tensor:
        beta = self.settings.beta
        r = self.image(target) - self._regularise(u) + beta * (self.data - self.normal)
        p = r
        energy = dot(r, r)
        for _ in range(self.settings.cg_steps):
            normal = self.back(self.A(p) / self.scale)
            q = self._regularise(p) + beta * normal
            step = energy / dot(p, q).clamp_min(tiny(r))
            u = u + step * p
            r = r - step * q
            self.normal = self.normal + step * normal
            last, energy = energy, dot(r, r)
            p = r + energy / last.clamp_min(tiny(r)) * p
        return u

    def _regularise(self, u: Tensor) -> Tensor:
        return self.image(self.form * self.spectrum(u))


def _periodic_gradient(x: Tensor, windows: Tensor) -> Tensor:
    """Return (2, n, m) Fourier multipliers of the differences downwards and to the right."""
    factors = []
    for k, n_kept in zip(x.shape[-2:], windows.shape[1:]):
        turns = torch.fft.fftfreq(k, dtype=torch.float64, device=x.device)[:n_kept]
        factors.append(torch.exp(2j * torch.pi * turns) - 1)
    down, right = factors
    return torch.stack(torch.broadcast_tensors(down[:, None], right)).to(windows.dtype)


def _shrink_reweighted(threshold: float, relative: float | None, eps: float, s: Tensor) -> Tensor:
    """Shrink s by threshold, or by threshold * relative * max|s_j| / (eps + |s|)."""
    size = (squares(s) + FLOOR**2).sqrt()
    t = threshold
    if relative is not None:
        t = threshold * relative * size.amax((-2, -1), keepdim=True) / (eps + size)
    return s * (1 - t / size).clamp_min(0)


def _shrink_length(threshold: float, s: Tensor) -> Tensor:
    size = (squares(s).sum(-3, keepdim=True) + FLOOR**2).sqrt()
    return s * (1 - threshold / size).clamp_min(0)
