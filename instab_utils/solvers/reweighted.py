"""Re-weighted shearlets with total (generalised) variation by split Bregman: the stable method of
Antun et al.
"""

import functools
from weakref import WeakKeyDictionary

import torch

from ..operators import Identity, MaskedFourier
from .base import Solution, dot, drive, gradients_if_asked, norm, start, tiny
from .shearlets import Shearlets

DEFAULTS = {
    "fourier": {
        "levels": (1, 1, 2),
        "weight": 1.0,
        "alpha": (1.0, 0.0),
        "mu": (100.0, 10.0, 20.0),
        "low_pass": 0.0,
        "beta": 3e3,
        "reweight": 0.1,
        "eps": 1e-5,
        "sweeps": 1,
        "cg_steps": 5,
        "n_iter": 30,
    },
    "radon": {
        "levels": (0, 0, 1, 1),
        "weight": 1.0,
        "alpha": (1.0, 0.0),
        "mu": (5.0, 5.0, 10.0),
        "low_pass": 0.0,
        "beta": 1e3,
        "reweight": 0.1,
        "eps": 1e-5,
        "sweeps": 1,
        "cg_steps": 5,
        "n_iter": 30,
    },
}
"""Settings of `shearlet` for operators with complex images and for all others."""

PUBLISHED = {
    "fourier": {
        **DEFAULTS["fourier"],
        "alpha": (1.0, 1.0),
        "mu": (5000.0, 10.0, 20.0),
        "low_pass": 1.0,
        "beta": 1e5,
        "sweeps": 4,
        "n_iter": 500,
    },
    "radon": {
        **DEFAULTS["radon"],
        "weight": 6e-3,
        "alpha": (0.0, 0.0),
        "mu": (500.0, 0.0, 0.0),
        "low_pass": 1.0,
        "beta": 1.2e6,
        "eps": 2e-7,
        "sweeps": 4,
        "cg_steps": 25,
        "n_iter": 100,
    },
}
"""What Antun et al. ran, in our units: `shearlet(A, y, **PUBLISHED["fourier"])`. Published numbers
of iterations: 50 to 500.
"""

FLOOR = 1e-12  # below every coefficient of an image of unit size: |0| would have no slope


def shearlet(
    A, y, n_iter=None, noise_level=0.0, x0=None, real=False, bregman=True, callback=None, **settings
) -> Solution:
    r"""min_x weight * sum_j lambda_j |Psi_j x| + alpha_1 |grad x - v| + alpha_2 |E v|  such that  A
    x = y, up to noise.

    Psi: `Shearlets`, low-pass not penalised; grad, E: periodic differences, isotropic norms; the
    minimum is over v too, and alpha_2 = 0 means v = 0, which is total variation. x is measured in
    units of max |A.pinv(y)|, one for each image and channel, and A in units of ||A||: settings
    depend neither on the brightness nor on the size of the image.

    Split Bregman: with d_i for each penalised term K_i x and multipliers b_i, one iteration repeats
    `sweeps` times

        d_i <- shrink(K_i x + b_i, threshold_i),   x <- argmin beta/2 ||A x - y_k||^2 + sum_i mu_i/2
        ||K_i x + b_i - d_i||^2,

    then b_i <- b_i + K_i x - d_i, and y_{k+1} <- y_k + y - A x while the misfit is above the noise.
    The threshold of gradients is alpha / mu. That of a shearlet coefficient s is (weight / mu_1) *
    reweight * max|s_j| / (eps + |s|), with the
    maximum over its band: large coefficients pass, lambda_j follows the iterates. For
    `MaskedFourier` and `Identity` x is exact, a division in Fourier space; for other operators it
    is `cg_steps` conjugate gradients from the last x.

    Args:
        A: any `LinearOperator`.
        y: measurements, batched.
        n_iter: iterations, always done; default 30.
        noise_level: ||e|| / ||y|| of the noise, or of the discretisation if that is more. The
            residual is added back only while ||A x - y|| > noise_level ||y|| (discrepancy
            principle), and the iteration goes on: the image settles at that misfit. 0 adds it back
            for ever: fine for a mask without noise, but in CT late iterates then fit what is not in
            the image. Measure ||A x - y|| / ||y|| of true images on validation data, where both are
            known.
        x0: start image; default 0 where x is exact, else `A.pinv(y)`.
        real: for complex operators, minimise over real images and return those. A mask has
            conjugate samples for free then, and an image that has a phase is destroyed: say so
            beside the result.
        bregman: False leaves y alone (y_k = y); what is minimised is then the sum of the penalties
            and beta/2 ||A x - y||^2 / ||A||^2, and with `reweight=None` the iterates converge to
            its minimum.
        callback: `callback(k, x_k)` for k = 0 .. n_iter.
        **settings: any of `DEFAULTS["fourier"]` or `DEFAULTS["radon"]`: `levels` of `Shearlets`;
            `weight` >= 0; `alpha` (alpha_1, alpha_2); `mu` of shearlets, gradient and E v, which
            set the speed and, re-weighted, also how sparse; a term with a zero is left out;
            `low_pass`: mu of the low-pass over mu_1 (no effect on the minimum; always 1 without a
            gradient); `beta`; `reweight` in (0, 1], None for lambda_j = 1; `eps`; `sweeps`;
            `cg_steps`.

    Returns:
        `Solution`; no gap. Gradients with respect to y and x0 by unrolling: memory is n_iter *
        sweeps times about five stacks of n_bands images.

    Raises:
        ValueError: unknown or impossible settings; no term left.

    Source: Ma and Maerz 2016 (multilevel re-weighting with joint regularisers); settings: Antun et
    al., PNAS 117 (2020).
    `PUBLISHED` is theirs: TGV with alpha (1, 1) for masks; shearlets alone for Radon, whose image
    was scaled to [0, 0.05]
    and whose A was not normalised: weight, eps and beta are converted for 512 x 50 and ||A|| = 155.
    `DEFAULTS` depart: the low-pass has no quadratic term (held by one it needs hundreds of sweeps
    to fill in missing low frequencies), mu_1 is 100 in place of 5000 (not converged after the
    published 50 iterations), one sweep, TV in place of TGV, for Radon TV is on, beta smaller (the
    result of a mask does not depend on it, coils and Radon are better conditioned), and the data
    stop moving at the noise level, where the published iteration goes on fitting it. The shearlets
    are not ShearLab's.
    """
    family = "fourier" if A.is_complex else "radon"
    unknown = set(settings) - set(DEFAULTS[family])
    if unknown:
        raise ValueError(
            f"shearlet has no settings {sorted(unknown)}; expected some of {', '.join(DEFAULTS[family])}."
        )
    s = DEFAULTS[family] | settings | ({} if n_iter is None else {"n_iter": n_iter})
    _check(s)
    with gradients_if_asked(y, x0):
        exact = isinstance(A, (Identity, MaskedFourier))
        x = start(A, y, x0 if exact or x0 is not None else A.pinv(y))
        if isinstance(A, MaskedFourier):
            y = A(A.adjoint(y))  # what lies off the mask was not measured
        if real and x.is_complex():
            x = x.real
        problem = (_Exact if exact else _ByCG)(A, y, x, s)
        return drive(
            _iterate(problem, x, s, bregman, noise_level), y, x0, s["n_iter"], 0.0, callback
        )


def _iterate(problem, x, s, bregman, noise_level):
    z = torch.zeros((problem.n_unknown, *x.shape), dtype=x.dtype, device=x.device)
    z = torch.cat([(x / problem.unit)[None], z[1:]])
    k = 0
    while True:
        misfit = problem.misfit(z[0])
        yield z[0] * problem.unit, misfit * problem.unit * problem.scale
        # what fits is left alone: more would be noise
        above = norm(misfit) > noise_level * problem.y_norm
        problem.refresh(z[0], misfit, above if bregman and k > 0 else torch.zeros_like(above))
        for sweep in range(s["sweeps"]):
            spectrum, target = problem.spectrum(z), [0] * problem.n_unknown
            for term in problem.terms:
                term.sweep(spectrum, target, problem, new_iteration=sweep == 0)
            z = problem.solve(target, z)
        k += 1


class _Term:
    """mu/2 ||K z + b - d||^2 with K given by its Fourier multipliers, {unknown: (rows, n,
    frequencies)}.
    """

    def __init__(self, mu, multipliers, shrink):
        self.mu, self.multipliers, self.shrink = mu, multipliers, shrink
        self.adjoints = {i: mu * m.conj().resolve_conj() for i, m in multipliers.items()}
        self.b = self.w = None

    def sweep(self, spectrum, target, problem, new_iteration):
        """Update b (once an iteration) and w = d - b; add mu K* w, the term's pull on z, to
        `target`.
        """
        c = problem.image(
            _sum(m * spectrum[i][..., None, :, :] for i, m in self.multipliers.items())
        )
        if new_iteration and self.w is not None:
            self.b = c - self.w
        self.w = self.shrink(c) if self.b is None else self.shrink(c + self.b) - self.b
        pull = problem.spectrum(self.w)
        for i, m in self.adjoints.items():
            target[i] = target[i] + (m * pull).sum(-3)


def _sum(parts):
    return functools.reduce(torch.add, parts)


def _reweighted(threshold, relative, eps):
    """shrink(s, threshold * relative * max|s_j| / (eps + |s|)) by coefficient; `relative` None:
    shrink(s, threshold).
    """

    def shrink(s):
        size = (_square(s) + FLOOR**2).sqrt()
        if relative is None:
            t = threshold
        else:
            t = threshold * relative * size.amax((-2, -1), keepdim=True) / (eps + size)
        return s * (1 - t / size).clamp_min(0)

    return shrink


def _isotropic(threshold):
    def shrink(s):
        size = (_square(s).sum(-3, keepdim=True) + FLOOR**2).sqrt()
        return s * (1 - threshold / size).clamp_min(0)

    return shrink


def _square(s):
    return s.real.square() + s.imag.square() if s.is_complex() else s.square()


class _Problem:
    """Units, terms and the regularisers' quadratic form sum_i mu_i K_i* K_i, a matrix of
    multipliers.
    """

    _transforms: WeakKeyDictionary = WeakKeyDictionary()

    def __init__(self, A, y, x, s):
        self.A, self.scale, self.beta, self.cg_steps = A, A.norm() or 1.0, s["beta"], s["cg_steps"]
        peak = A.pinv(y).abs().amax((-2, -1), keepdim=True)
        self.unit = torch.where(peak > 0, peak, 1)
        unit = self.unit if self.unit.shape[1] == y.shape[1] else self.unit.amax(1, keepdim=True)
        self.y = y / (unit * self.scale)
        self.y_norm = norm(self.y)
        known = self._transforms.setdefault(A, {})
        if s["levels"] not in known:
            known[s["levels"]] = Shearlets(tuple(A.image_shape), s["levels"])
        self.transform, self.like, self.real = known[s["levels"]], x, not x.is_complex()
        self.terms = self._terms(s, x)
        self.n_unknown = 3 if s["alpha"][1] else 1

    def spectrum(self, x):
        return self.transform.spectrum(x)

    def image(self, spectrum):
        return self.transform.image(spectrum, self.like)

    def misfit(self, u):
        return self.A(u) / self.scale - self.y

    def back(self, r):
        """A* / ||A||, on real images its real part."""
        u = self.A.adjoint(r) / self.scale
        return u.real if self.real and u.is_complex() else u

    def _terms(self, s, x):
        windows = self.transform.windows(x)
        self.form = torch.zeros(3, 3, *windows.shape[1:], dtype=windows.dtype, device=x.device)
        terms = []
        (first, second), (mu, mu_1, mu_2) = s["alpha"], s["mu"]
        if s["weight"] and mu:
            shrink = _reweighted(s["weight"] / mu, s["reweight"], s["eps"])
            # A few bands at a time stay in the processor's cache.
            step = max(1, 2**18 // x.numel())
            terms += [_Term(mu, {0: part}, shrink) for part in windows[1:].split(step)]
            # else nothing holds the frequencies that are not measured
            low = s["low_pass"] if first and mu_1 else 1.0
            if low:
                terms.append(_Term(low * mu, {0: windows[:1]}, lambda c: c))
        if first and mu_1:
            n, m = x.shape[-2:]
            turns = (
                torch.fft.fftfreq(k, dtype=torch.float64, device=x.device)[:size]
                for k, size in zip((n, m), windows.shape[1:])
            )
            down, right = (torch.exp(2j * torch.pi * t) - 1 for t in turns)
            gradient = torch.stack(torch.broadcast_tensors(down[:, None], right)).to(windows.dtype)
            v = {}
            if second:
                one, none = torch.ones_like(gradient[0]), torch.zeros_like(gradient[0])
                v = {1: -torch.stack([one, none]), 2: -torch.stack([none, one])}
                back, half = -gradient.conj(), 0.5**0.5
                strain = {
                    1: torch.stack([back[0], none, half * back[1]]),
                    2: torch.stack([none, back[1], half * back[0]]),
                }
                terms.append(_Term(mu_2, strain, _isotropic(second / mu_2)))
            terms.append(_Term(mu_1, {0: gradient, **v}, _isotropic(first / mu_1)))
        for term in terms:
            for i, a in term.multipliers.items():
                for j, b in term.multipliers.items():
                    self.form[i, j] += term.mu * (a.conj() * b).sum(0)
        return terms


class _Exact(_Problem):
    """A* A is diagonal in Fourier space: one small linear system for each frequency."""

    def __init__(self, A, y, x, s):
        super().__init__(A, y, x, s)
        gram = (
            torch.ones(A.image_shape, device=x.device)
            if isinstance(A, Identity)
            else A.mask.to(x.device).square()
        )
        if getattr(A, "centred", False):
            gram = torch.fft.ifftshift(gram)
        if self.real:  # on real images the part of A* A that keeps them real
            gram = (gram + gram.flip((-2, -1)).roll((1, 1), (-2, -1))) / 2
        self.gram = gram[..., : self.form.shape[-1]]
        k = self.n_unknown
        system = self.form[:k, :k].clone()
        system[0, 0] += self.beta * self.gram
        for i in range(k):  # the mean, where nothing measures or penalises it, stays 0
            system[i, i] = torch.where(system[i, i] == 0, 1, system[i, i])
        self.inverse = (
            torch.linalg.inv(system.permute(2, 3, 0, 1)).permute(2, 3, 0, 1)
            if k > 1
            else 1 / system
        )
        self.data = self.spectrum(self.back(self.y))

    def refresh(self, u, misfit, add_back):
        if bool(add_back.any()):
            self.data = self.data - add_back * self.spectrum(self.back(misfit))

    def solve(self, target, z):
        target[0] = target[0] + self.beta * self.data
        return self.image(
            torch.stack([sum(m * t for m, t in zip(row, target)) for row in self.inverse])
        )


class _ByCG(_Problem):
    """Any A: conjugate gradients from the last z, whose A* A u is known."""

    def __init__(self, A, y, x, s):
        super().__init__(A, y, x, s)
        self.data = self.first = self.back(self.y)

    def refresh(self, u, misfit, add_back):
        moved = self.back(misfit)
        if bool(add_back.any()):
            self.data = self.data - add_back * moved
        self.normal = moved + self.first

    def solve(self, target, z):
        wanted = self.image(torch.stack([t + torch.zeros_like(target[0]) for t in target]))
        data, r = self.beta * (self.data - self.normal), wanted - self._regularise(z)
        r = torch.cat([r[:1] + data, r[1:]])
        p, energy = r, self._dot(r, r)
        for _ in range(self.cg_steps):
            normal, q = self.back(self.A(p[0]) / self.scale), self._regularise(p)
            q = torch.cat([q[:1] + self.beta * normal, q[1:]])
            step = energy / self._dot(p, q).clamp_min(tiny(r))
            z, r = z + step * p, r - step * q
            self.normal = self.normal + step * normal
            last, energy = energy, self._dot(r, r)
            p = r + energy / last.clamp_min(tiny(r)) * p
        return z

    def _regularise(self, z):
        spectra = self.spectrum(z)
        k = self.n_unknown
        return self.image(
            torch.stack([sum(self.form[i, j] * spectra[j] for j in range(k)) for i in range(k)])
        )

    @staticmethod
    def _dot(a, b):
        return sum(dot(x, y) for x, y in zip(a, b))


def _check(s):
    if len(s["mu"]) != 3 or len(s["alpha"]) != 2 or min(*s["mu"], *s["alpha"], s["weight"]) < 0:
        raise ValueError(
            f"expected weight, alpha (two) and mu (three), all >= 0; got {s['weight']}, {s['alpha']}, {s['mu']}."
        )
    if s["alpha"][1] and not (s["alpha"][0] and s["mu"][1] and s["mu"][2]):
        raise ValueError(
            f"alpha_2 > 0 needs alpha_1, mu_2 and mu_3 > 0; got alpha {s['alpha']}, mu {s['mu']}."
        )
    if not (s["weight"] and s["mu"][0]) and not (s["alpha"][0] and s["mu"][1]):
        raise ValueError(
            "no term is left: give shearlets (weight, mu_1) or the gradient (alpha_1, mu_2), or use cgls."
        )
    if not s["beta"] > 0 or s["sweeps"] < 1 or s["cg_steps"] < 1:
        raise ValueError(
            f"expected beta > 0, sweeps and cg_steps >= 1; got {s['beta']}, {s['sweeps']}, {s['cg_steps']}."
        )
    if s["reweight"] is not None and not 0 < s["reweight"] <= 1 or not s["eps"] > 0:
        raise ValueError(
            f"expected reweight in (0, 1] or None, and eps > 0; got {s['reweight']} and {s['eps']}."
        )
