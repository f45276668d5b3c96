"""Primal-dual hybrid gradient for least squares with a dual regulariser, and its duality gap."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import partial
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from ..operators import Identity, LinearOperator, MaskedFourier, Radon, power_iteration
from .differences import Pair, gradient_adjoint
from .driver import Callback, Iterate, Solution, drive

# primal step times weight, for images in [0, 1]: larger moves the image faster and the edges slower
PROXIMAL_RATIO = 0.03
DUAL_RATIO = 0.003
CHECK_EVERY = 20  # iterations between two duality gaps; one gap costs about three iterations


class PrimalDual(ABC):
    """min_x F(x) = 1/2 ||A x - y||^2 / ||A||^2 + R(x), R(x) = max <grad x, q> over dual fields q.

    Subclasses hold the dual variables of R and its bounds. `solve` runs Chambolle and Pock, JMIV 40
    (2011), algorithm 1, with theta = 1.
    """

    keeps_best_bound = False  # whether the highest lower bound so far counts for the gap

    def __init__(self, A: LinearOperator, y: Tensor, weight: float | Tensor):
        real = y.real.dtype if y.is_complex() else y.dtype
        weight = torch.as_tensor(weight, dtype=real, device=y.device).reshape(-1, 1, 1, 1)
        if not bool((weight > 0).all()):
            raise ValueError(
                f"expected weight > 0; got {weight.flatten().tolist()}. "
                "Without regularisation use cgls."
            )
        self.x = A.pinv(y)
        if isinstance(A, MaskedFourier):
            y = A(A.adjoint(y))  # what lies off the mask was not measured
        self.A = A
        self.y = y
        self.weight = weight
        self.scale = A.norm() or 1.0  # a mask without samples has norm 0
        self.lower = torch.zeros((), dtype=torch.float64, device=y.device)  # F >= 0

    @abstractmethod
    def prepare(self, x: Tensor, tau: Tensor, share: float) -> None:
        """Set the dual variables to zero, with steps that take `share` of 1 / tau."""

    @abstractmethod
    def step(self, x_bar: Tensor) -> Pair:
        """Update the dual variables at the extrapolated image and return q."""

    @abstractmethod
    def dual_field(self) -> Pair:
        """Return the q that the data dual -A grad* q of a mask is made from."""

    @abstractmethod
    def regulariser(self, x: Tensor) -> Tensor:
        """Return R(x), shape (batch,), float64."""

    @abstractmethod
    def feasible(self, x: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        """Return p' that meets A* p' + grad* q' = 0, and the largest t with t q' in its bounds."""

    def solve(self, n_iter: int, tol: float, callback: Callback | None) -> Solution:
        """Run from A.pinv(y)."""
        if isinstance(self.A, (Identity, MaskedFourier)):
            iterates = self._proximal(self.x, PROXIMAL_RATIO / self.weight)
        else:
            iterates = self._dual_data(self.x, DUAL_RATIO / self.weight)
        return drive(iterates, self.y / self.scale, n_iter, tol, callback, CHECK_EVERY)

    def _dual_data(self, x: Tensor, tau: Tensor) -> Iterator[Iterate]:
        """Iterate with K = [A / ||A||; grad], both terms dual: p of the data, q of the gradient.

        Converges for tau (||S^(1/2) A||^2 / ||A||^2 s_p + 8 s_q) <= 1, with S the preconditioner of
        the data step.
        """
        r = self._misfit(x)
        data = _DataDual(self, r, 0.25 / tau)
        self.prepare(x, tau, 0.75)
        x_bar, r_bar = x, r
        while True:
            yield Iterate(x, r, lambda x=x, r=r: self._gap(x, r, data.value()))
            data.step(r_bar)
            q = self.step(x_bar)
            x_new = x - tau * (self._adjoint(data.value()) + gradient_adjoint(q))
            r_new = self._misfit(x_new)
            x_bar = 2 * x_new - x
            r_bar = 2 * r_new - r  # A is linear: its extrapolation is free
            x, r = x_new, r_new

    def _proximal(self, x: Tensor, tau: Tensor) -> Iterator[Iterate]:
        """Iterate with K = grad, where A A* = I.

        There the proximal map of t/2 ||A x - y||^2 is v + t / (1 + t) A*(y - A v), and the misfit
        behind it is that of v over 1 + t.
        """
        r = self._misfit(x)
        x_bar = x
        self.prepare(x, tau, 1.0)
        while True:
            yield Iterate(x, r, partial(self._gap, x, r))
            v = x - tau * gradient_adjoint(self.step(x_bar))
            r_v = self._misfit(v)
            x_new = v - tau / (1 + tau) * self._adjoint(r_v)
            x_bar = 2 * x_new - x
            x, r = x_new, r_v / (1 + tau)

    def _misfit(self, x: Tensor) -> Tensor:
        return (self.A(x) - self.y) / self.scale

    def _adjoint(self, p: Tensor) -> Tensor:
        return self.A.adjoint(p) / self.scale

    def _gap(self, x: Tensor, r: Tensor, p: Tensor | None = None) -> Tensor:
        """Return (F(x) - max_t D(t p', t q')) / F(x), shape (batch,), (p', q') dual feasible.

        D(p, q) = -1/2 ||p||^2 - Re <p, y> if A* p + grad* q = 0 and q is within its bounds, else
        -inf. The iteration meets the first condition in the limit only, `feasible` exactly. p is
        -A grad* q by default.
        """
        value = _squared_norm(r) / 2 + self.regulariser(x)
        p = -self.A(gradient_adjoint(self.dual_field())) if p is None else p
        p, largest = self.feasible(x, p)
        energy = _squared_norm(p)
        correlation = -_real_sum(p.conj() * (self.y / self.scale))
        t = torch.minimum((correlation / energy.clamp_min(1e-300)).abs(), largest)
        t = t * correlation.sign()
        lower = t * correlation - t**2 * energy / 2
        if self.keeps_best_bound:
            lower = self.lower = torch.maximum(self.lower, lower)
        return (value - lower) / value.clamp_min(1e-300)


class _DataDual:
    """p <- (p + s S (A x - y)) / (1 + s S), the dual of the data term and its step s.

    S = 1, or for Radon a ramp over the detector frequencies with max |S^(1/2) A| / ||A|| = 1. There
    S A A* is close to the identity, so that all frequencies of the image converge at one rate; p is
    kept as its spectrum.
    """

    _norms: WeakKeyDictionary[Radon, float] = WeakKeyDictionary()

    def __init__(self, problem: PrimalDual, r: Tensor, s: Tensor):
        A = problem.A
        self.n_detectors = r.shape[-1] if isinstance(A, Radon) and not r.is_complex() else None
        self.p = torch.zeros_like(self._spectrum(r))
        self.s = s
        if self.n_detectors:
            k = torch.arange(self.n_detectors // 2 + 1, dtype=torch.float32, device=r.device)
            ramp = (k + 0.5) / self.n_detectors
            if A not in self._norms:
                self._norms[A] = self._filtered_norm(A, ramp) / problem.scale**2
            self.s = s * (ramp / self._norms[A]).to(s.dtype)

    def step(self, r: Tensor) -> None:
        self.p = (self.p + self.s * self._spectrum(r)) / (1 + self.s)

    def value(self) -> Tensor:
        return self._signal(self.p)

    def _filtered_norm(self, A: Radon, ramp: Tensor) -> float:
        def normal(x: Tensor) -> Tensor:
            return A.adjoint(self._signal(ramp * self._spectrum(A(x))))

        return power_iteration(normal, (1, 1, *A.image_shape), A.device, False)

    def _spectrum(self, r: Tensor) -> Tensor:
        return torch.fft.rfft(r) if self.n_detectors else r

    def _signal(self, p: Tensor) -> Tensor:
        return torch.fft.irfft(p, self.n_detectors) if self.n_detectors else p


def _squared_norm(a: Tensor) -> Tensor:
    return _real_sum(a.conj() * a)


def _real_sum(product: Tensor) -> Tensor:
    product = product.real if product.is_complex() else product
    return product.sum(tuple(range(1, product.ndim)), dtype=torch.float64)
