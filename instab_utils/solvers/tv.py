"""Total variation, the stable method of the later chapters: PDHG for every operator, stopped by a
true duality gap.
"""

from weakref import WeakKeyDictionary

import torch
from torch.nn.functional import pad

from ..operators import Identity, MaskedFourier, Radon, power_iteration
from .base import Solution, gradients_if_asked, norm, start, tiny

# of forward differences in two dimensions, an upper bound reached as n grows
GRADIENT_NORM_SQUARED = 8.0
CHECK_EVERY = 20  # iterations between two duality gaps; one gap costs about three iterations


def tv(
    A, y, weight, n_iter=500, tol=1e-2, x0=None, ratio=None, isotropic=True, callback=None
) -> Solution:
    r"""min_x F(x) = 1/2 ||A x - y||^2 / ||A||^2 + weight * TV(x),   TV(x) = sum over pixels of
    |grad x|.

    Primal-dual hybrid gradient. ||A|| is `A.norm()`, so that `weight` means the same at every image
    size and number of views; for `Identity` and `MaskedFourier` ||A|| = 1 and F is the textbook
    objective. grad: forward differences, zero across the border. Complex images stay complex: |grad
    x| joins real and imaginary parts, and nothing is projected onto real images (which would give a
    mask free conjugate samples). Channels are separate.

    Args:
        A: any `LinearOperator`.
        y: measurements, batched.
        weight: > 0, in image units: a float, or a tensor (batch,) with one weight for each image.
            Multiply an image by c and its weight must be multiplied by c too. `choose_weight` finds
            one on validation images.
        n_iter, tol: at most n_iter iterations (one A and one A* each); an image stops, checked
            every 20 iterations, at a relative duality gap <= tol.
        x0: start image; `A.pinv(y)` by default: from zero, sparse-view CT needs several times the
            iterations.
        ratio: primal step times weight. Larger moves the image faster and the edges slower; any
            value > 0 converges. Default 0.003 (0.03 for Fourier masks and denoising), balanced for
            images in [0, 1].
        isotropic: |grad x| = (|dx|^2 + |dy|^2)^(1/2); else |dx| + |dy|.
        callback: `callback(k, x_k)` for k = 0 .. n_iter.

    Returns:
        `Solution`; `gap` is (F(x) - D) / F(x) at a dual feasible point, so that F(x) - min F <= gap
        * F(x), certified.

    Source: Rudin, Osher, Fatemi, Physica D 60 (1992); Chambolle and Pock, JMIV 40 (2011), algorithm
    1, with theta = 1. For Radon the dual step of the data is ramp-filtered, which is FBP's
    preconditioning: it halves the iterations at 256 x 50. Where A A* = I (masks, identity) the data
    term has a closed-form proximal map.
    """
    weight = _checked("tv", y, weight)
    with gradients_if_asked(y, x0, weight):
        x = start(A, y, A.pinv(y) if x0 is None else x0)
        problem = _Problem(A, y, weight, isotropic)
        if isinstance(A, (Identity, MaskedFourier)):
            states = _pdhg_orthonormal(problem, x, 0.03 if ratio is None else ratio)
        else:
            states = _pdhg(problem, x, 0.003 if ratio is None else ratio)
        return _drive(problem, states, n_iter, tol, callback)


def _checked(name, y, weight):
    """weight as (batch or 1, 1, 1, 1) in the precision of y."""
    dtype = y.real.dtype if y.is_complex() else y.dtype
    weight = torch.as_tensor(weight, dtype=dtype, device=y.device).reshape(-1, 1, 1, 1)
    if not bool((weight > 0).all()):
        raise ValueError(
            f"{name} expects weight > 0; got {weight.flatten().tolist()}. Without regularisation use cgls."
        )
    return weight


def _pdhg(problem, x, ratio):
    """K = [A / ||A||; grad]. Both terms are dual: p of the data, q of the gradient.

    Converges for tau (||S^(1/2) A||^2 / ||A||^2 * s_p + 8 s_q) <= 1, with S the preconditioner of
    the data step.
    """
    data = _DataStep(problem)
    tau = ratio / problem.weight
    s_p, s_q = 0.25 / tau, 0.75 / (GRADIENT_NORM_SQUARED * tau)
    r = problem.misfit(x)
    x_bar, r_bar = x, r
    p, q = data.zero(r), (torch.zeros_like(x), torch.zeros_like(x))
    while True:
        yield x, r, lambda: (data.dual(p), q)
        p = data.step(p, r_bar, s_p)
        q = problem.project([q_i + s_q * g_i for q_i, g_i in zip(q, gradient(x_bar))])
        x_new = x - tau * (problem.adjoint(data.dual(p)) + gradient_adjoint(q))
        r_new = problem.misfit(x_new)
        x_bar, r_bar = 2 * x_new - x, 2 * r_new - r  # A is linear: its extrapolation is free
        x, r = x_new, r_new


def _pdhg_orthonormal(problem, x, ratio):
    """K = grad; prox of t/2 ||A x - y||^2 for A A* = I is v + t / (1 + t) A*(y - A v): no
    inversion.
    """
    tau = ratio / problem.weight
    s_q = 1 / (GRADIENT_NORM_SQUARED * tau)
    x_bar, q = x, (torch.zeros_like(x), torch.zeros_like(x))
    while True:
        x_k, q_k = x, q
        yield x, None, lambda: (-problem.A(gradient_adjoint(q_k)), q_k)
        q = problem.project([q_i + s_q * g_i for q_i, g_i in zip(q, gradient(x_bar))])
        v = x - tau * gradient_adjoint(q)
        x = v - tau / (1 + tau) * problem.adjoint(problem.misfit(v))
        x_bar = 2 * x - x_k


class _Problem:
    """F and its dual; A and y divided by ||A||."""

    def __init__(self, A, y, weight, isotropic):
        if isinstance(A, MaskedFourier):
            y = A(A.adjoint(y))  # what lies off the mask was not measured
        self.A, self.y, self.weight, self.isotropic = A, y, weight, isotropic
        self.scale = A.norm() or 1.0  # a mask without samples has norm 0
        self.y_norm = norm(y).clamp_min(tiny(y))

    def misfit(self, x):
        return (self.A(x) - self.y) / self.scale

    def adjoint(self, p):
        return self.A.adjoint(p) / self.scale

    def project(self, q):
        """Onto |q| <= weight, pixel by pixel: the dual of weight * TV."""
        return tuple(q_i * shrink for q_i, shrink in zip(q, self._shrinks(q)))

    def _shrinks(self, q):
        squares = [
            (q_i.real.square() + q_i.imag.square()) if q_i.is_complex() else q_i * q_i for q_i in q
        ]
        if self.isotropic:
            squares = [squares[0] + squares[1]] * 2
        floor = self.weight * self.weight
        first = self.weight * squares[0].clamp_min(floor).rsqrt()
        return (
            (first, first)
            if self.isotropic
            else (first, self.weight * squares[1].clamp_min(floor).rsqrt())
        )

    def objective(self, x, r):
        return _half_square(r) + self.weight.double().flatten() * total_variation(x, self.isotropic)

    def gap(self, x, r, p, q):
        """(F(x) - D(p', q')) / F(x), shape (batch,), with (p', q') a dual feasible point made from
        (p, q).

        D(p, q) = -1/2 ||p||^2 - Re <p, y>  if  A* p + grad* q = 0 and |q| <= weight, else -inf;
        PDHG meets the first
        condition in the limit only. Here it is met exactly: p loses its component along A 1, then v
        = A* p + grad* q has mean 0 and q - grad (grad* grad)^-1 v absorbs it; at last both are
        scaled down until |q| <= weight.
        """
        constant = self.A(torch.ones_like(x[:1])) / self.scale
        axes = (1, 2, 3) if x.shape[1] == 1 else (2, 3)  # coils share one image; channels do not
        energy = (constant.conj() * constant).sum(axes, keepdim=True).real
        p = p - constant * (constant.conj() * p).sum(axes, keepdim=True) / energy.clamp_min(tiny(r))
        v = self.adjoint(p) + gradient_adjoint(q)
        q = [q_i - g_i for q_i, g_i in zip(q, gradient(inverse_laplacian(v)))]
        largest = (
            torch.stack([shrink.amin((1, 2, 3)) for shrink in self._shrinks(q)]).amin(0).double()
        )
        return self._relative_gap(self.objective(x, r), p, largest)

    def _relative_gap(self, value, p, largest):
        """(value - max D(t p)) / value over |t| <= largest, up to which t times the other duals
        keep their bounds.
        """
        energy, correlation = 2 * _half_square(p), -_real_sum(p.conj() * (self.y / self.scale))
        best = (
            torch.minimum((correlation / energy.clamp_min(1e-300)).abs(), largest)
            * correlation.sign()
        )
        return (value - (best * correlation - best**2 * energy / 2)) / value.clamp_min(1e-300)


class _DataStep:
    """p <- argmin 1/2 ||p||^2 + <p, y> + 1/2 ||p - (p + s S A x)||^2_(s S)^-1 = (p + s S (A x - y))
    / (1 + s S).

    S = 1, or for Radon a ramp over the detector frequencies with max |S^(1/2) A| / ||A|| = 1. There
    S A A* is close to the identity, so that all frequencies of the image converge at one rate; p is
    kept as its spectrum.
    """

    _norms: WeakKeyDictionary = WeakKeyDictionary()

    def __init__(self, problem):
        A, y = problem.A, problem.y
        self.n_detectors = y.shape[-1] if isinstance(A, Radon) and not y.is_complex() else None
        self.response = 1.0
        if self.n_detectors:
            frequency = torch.arange(y.shape[-1] // 2 + 1, dtype=torch.float32, device=y.device)
            ramp = (frequency + 0.5) / y.shape[-1]
            if A not in self._norms:
                filtered = lambda x: A.adjoint(self.dual(ramp * self._spectrum(A(x))))
                self._norms[A] = (
                    power_iteration(filtered, (1, 1, *A.image_shape), y.device, False)
                    / problem.scale**2
                )
            self.response = (ramp / self._norms[A]).to(problem.weight.dtype)

    def zero(self, r):
        return torch.zeros_like(self._spectrum(r))

    def step(self, p, r, s):
        s = s * self.response
        return (p + s * self._spectrum(r)) / (1 + s)

    def dual(self, p):
        return torch.fft.irfft(p, self.n_detectors) if self.n_detectors else p

    def _spectrum(self, r):
        return torch.fft.rfft(r) if self.n_detectors else r


def _drive(problem, states, n_iter, tol, callback):
    """Walk along the states, freeze each image of the batch at its first small gap, and stop with
    the last one.
    """
    if n_iter < 0:
        raise ValueError(f"expected n_iter >= 0; got {n_iter}.")
    x = gap = stopped = None
    residuals = []
    for k, (x_k, r, dual) in zip(range(n_iter + 1), states):
        x = x_k if stopped is None else torch.where(stopped, x, x_k)
        if callback is not None:
            callback(k, x)
        if (k % CHECK_EVERY and k < n_iter) or (k == 0 < n_iter):
            continue
        with torch.no_grad():
            r = problem.misfit(x_k) if r is None else r
            new, residual = (
                problem.gap(x_k, r, *dual()),
                (norm(r) * problem.scale / problem.y_norm).flatten(),
            )
            if stopped is not None:
                done = stopped.flatten()
                new, residual = (
                    torch.where(done, gap, new),
                    torch.where(done, residuals[-1], residual),
                )
            gap = new
            residuals.append(residual)
            stopped = (gap <= tol).view(-1, 1, 1, 1)
            if bool(stopped.all()):
                break
    return Solution(
        x, k, torch.stack(residuals), gap.to(x.real.dtype if x.is_complex() else x.dtype)
    )


def gradient(x):
    """(dx down, dx right): forward differences, zero across the last row and column."""
    return pad(x[..., 1:, :] - x[..., :-1, :], (0, 0, 0, 1)), pad(x[..., 1:] - x[..., :-1], (0, 1))


def gradient_adjoint(q):
    """Exact adjoint of `gradient` on fields that are zero in its last row and column, as its values
    are.
    """
    down, right = q
    return pad(down, (0, 0, 1, -1)) - down + pad(right, (1, -1)) - right


def total_variation(x, isotropic=True):
    """TV(x) of each element of the batch, shape (batch,), summed in float64."""
    down, right = (g.abs() for g in gradient(x))
    size = torch.hypot(down, right) if isotropic else down + right
    return size.sum((1, 2, 3), dtype=torch.float64)


def inverse_laplacian(v):
    """u with grad* grad u = v - mean(v) and mean 0: mirror v evenly, divide by the eigenvalues in
    Fourier space.
    """
    n, m = v.shape[-2:]
    mirrored = torch.cat([v, v.flip(-2)], -2)
    spectrum = torch.fft.fft2(torch.cat([mirrored, mirrored.flip(-1)], -1))
    real = v.real.dtype if v.is_complex() else v.dtype
    half_angles = (
        torch.pi * torch.arange(2 * k, device=v.device, dtype=real) / (2 * k) for k in (n, m)
    )
    along, across = (4 * torch.sin(angle) ** 2 for angle in half_angles)
    values = along[:, None] + across
    values[0, 0] = torch.inf
    u = torch.fft.ifft2(spectrum / values)[..., :n, :m]
    return u if v.is_complex() else u.real


def _half_square(a):
    return _real_sum(a.conj() * a) / 2


def _real_sum(product):
    product = product.real if product.is_complex() else product
    return product.sum(tuple(range(1, product.ndim)), dtype=torch.float64)
