"""Tiny worst-case perturbations of any reconstruction f: y -> x behind any operator A (Antun et al.
2020).
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from .result import WorstCase
from .vectors import dot, forward_of, like, norm, normal, unit

# step and momentum where the caller gives none; tuned on slices that no chapter reports
ASCENTS = {
    "sphere": {"step": 0.3, "momentum": 0.5},
    "heavy-ball": {"step": 0.1, "momentum": 0.9},
}


def worst_case(
    f: Callable[[torch.Tensor], torch.Tensor],
    A: object,
    x: torch.Tensor,
    *,
    generator: torch.Generator,
    strengths: Sequence[float] = (0.002, 0.005, 0.01, 0.02),
    target: str | torch.Tensor = "prediction",
    ascent: str = "sphere",
    init: str | torch.Tensor = "singular",
    init_scale: float = 1e-3,
    penalty: float = 0.15,
    step: float | None = None,
    momentum: float | None = None,
    growth: float = 1.2,
    n_iter: int = 60,
    n_power: int = 4,
    n_restarts: int = 1,
    algorithm: int | str = "auto",
    sigma: float | torch.Tensor | None = None,
    callback: Callable[[int, torch.Tensor], None] | None = None,
) -> WorstCase:
    """Maximise Q(r) = 1/2 ||f(y + A r) - p(x)||^2 - lambda/2 ||r||^2 with y = A x and p(x) = f(Ax)
    or x.

    The gradient is exact: autograd through A and f, d = A* grad_y (algorithm 1) or, as Antun et al.
    do for Radon, d = B grad_y with B = filtered back-projection in the place of A* (algorithm 2).
    Two ways up, both from r_0 with ||r_0|| = init_scale ||x||:

    - ascent="heavy-ball", the paper's:  v <- momentum v + eta (d - lambda r),  r <- r + v. With
      init="uniform" this is Algorithm 1 / 2 as printed, up to the exact gradient and the units.
    - ascent="sphere", the default: the norm is prescribed, rho <- min(growth rho, largest strength
      ||x||), and the direction u = r / rho climbs along the tangent part of d,  v <- momentum v +
      (d/||d|| - <d/||d||, u> u), u <- (u + step v) / ||u + step v||. The penalty is constant on a
      sphere and drops out, and every strength is reached: where n_iter is too small for `growth`,
      the growth is raised. On Deep MRI it came to 1 % in 17 gradient evaluations where the paper's
      schedule took 62 and 83, with 1.1 and 1.2 times its amplification (two images,
      benchmarks/bench_attacks.py).

    init="singular" (default) starts at the top right singular vector of the Jacobian J of r -> f(y
    + A r), which the power iteration that estimates sigma_max(J) has found already; the paper
    starts from "uniform" noise on [0, 1] (not zero-mean), "gaussian" is its zero-mean relative. The
    objective is unbounded once sigma_max(J)^2 > lambda, so a run ends at the largest strength or at
    n_iter. All strengths come from one run: each r is the iterate at the crossing, rescaled to
    exactly strength * ||x||, and its amplification is measured after the rescaling.

    Args:
        f: differentiable reconstruction y -> x that treats the images of a batch independently.
        A: one of our operators, a deepinv physics (its noise-free `A.A` is used), or any callable x
            -> y.
        x: (batch, ...) images, real or complex. A complex x gets a complex r, a real x a real r.
        generator: random start; same state, same result.
        strengths: values of ||r|| / ||x||.
        target: "prediction" for p(x) = f(Ax), "truth" for p(x) = x, or a tensor p to be driven away
            from.
        ascent: "sphere" or "heavy-ball".
        init: "singular", "uniform", "gaussian", or a tensor like x giving the starting direction.
        init_scale: ||r_0|| / ||x||, also the size of the finite step of the power iteration.
        penalty: lambda / sigma_max(J)^2; heavy-ball grows for penalty < 1 and decays for penalty >
            1. 0.15 is what the published Deep MRI run had (65 / 424).
        step: heavy-ball: eta * sigma_max(J)^2 (default 0.1); sphere: step length in radians
            (default 0.3).
        momentum: in [0, 1); default 0.9 heavy-ball, 0.5 sphere.
        growth: factor by which the sphere's radius grows per step.
        n_iter: cap on the ascent steps of one run.
        n_power: power iterations, each one evaluation; skipped if `sigma` is given and init is not
            "singular".
        n_restarts: runs from new starts; per image and strength the one with the largest error to
            p(x) is kept.
        algorithm: 1, 2, or "auto": 2 for an operator with an `fbp`.
        sigma: known sigma_max(J), a number or (batch,); estimated otherwise (from below).
        callback: called as callback(step, rel_norm) after every step.

    Returns:
        WorstCase.

    Raises:
        ValueError: unknown choices, an all-zero image, f not differentiable or not finite at y.
        FloatingPointError: the gradient is not finite at the start. Later non-finite gradients end
            that image's run with a RuntimeWarning and a note; what it had reached is kept.

    Source: Antun et al., PNAS 2020, eqs. (9)-(12), Algorithms 1 and 2. Departures: exact gradients
    (the published code holds the data-consistency inputs constant), lambda inside eta in algorithm
    2 as in their code and eq. (12), step and penalty in units of sigma_max(J)^2, runs end by ||r||
    / ||x|| instead of by a number of iterations.
    """
    for name, value, known in (
        ("target", target, ("prediction", "truth")),
        ("ascent", ascent, tuple(ASCENTS)),
        ("algorithm", algorithm, (1, 2, "auto")),
    ):
        if not isinstance(value, torch.Tensor) and value not in known:
            raise ValueError(
                f"worst_case expects {name} to be one of {', '.join(map(repr, known))}; got {value!r}."
            )
    strengths = tuple(sorted(float(s) for s in strengths))
    if not strengths or strengths[0] <= init_scale:
        raise ValueError(
            f"worst_case expects strengths above init_scale = {init_scale}; got {strengths}."
        )
    problem = _Problem(f, A, x, target, algorithm)
    usual = ASCENTS[ascent]
    way = _Way(
        ascent,
        init,
        init_scale,
        penalty,
        usual["step"] if step is None else step,
        usual["momentum"] if momentum is None else momentum,
        max(growth, (strengths[-1] / init_scale) ** (1 / n_iter)),
        n_iter,
        n_power,
        sigma,
    )
    best = None
    for _ in range(n_restarts):
        run = _run(problem, strengths, way, generator, callback)
        best = run if best is None else _better(problem, best, run)
    return best


@dataclass(frozen=True)
class _Way:
    """The choices of `worst_case` that say how to climb."""

    ascent: str
    init: str | torch.Tensor
    init_scale: float
    penalty: float
    step: float
    momentum: float
    growth: float
    n_iter: int
    n_power: int
    sigma: float | torch.Tensor | None

    def climb(self, r, v, d, curvature, limit):
        """One step from r with velocity v along d; `limit` is the largest norm: (r, v)."""
        if self.ascent == "heavy-ball":
            v = self.momentum * v + self.step * (d / like(curvature, d) - self.penalty * r)
            return r + v, v
        u, d = unit(r), unit(d)
        v = self.momentum * v + d - like(dot(u, d), d) * u
        return unit(u + self.step * v) * like(torch.minimum(self.growth * norm(r), limit), d), v


class _Problem:
    """d(r) and f(A(x + r)) - f(Ax) for a subset of the images."""

    def __init__(self, f, A, x, target, algorithm):
        self.f, self.A, self.forward, self.x = f, A, forward_of(A), x.detach()
        self.size = norm(self.x)
        if not bool((self.size > 0).all()):
            raise ValueError(
                "worst_case measures ||r|| relative to ||x||; got an all-zero image. Leave it out."
            )
        with torch.no_grad():
            self.y = self.forward(self.x)
            self.x_rec = f(self.y)
        if not bool(torch.isfinite(self.x_rec).all()):
            raise ValueError("f(A x) is not finite without any perturbation. Repair f first.")
        self.goal = (
            target
            if isinstance(target, torch.Tensor)
            else self.x_rec
            if target == "prediction"
            else self.x
        )
        inverse = getattr(A, "fbp", None) if algorithm != 1 else None
        if algorithm == 2 and inverse is None:
            inverse = getattr(A, "pinv", None) or getattr(A, "A_dagger", None)
            if inverse is None:
                raise ValueError(
                    f"algorithm=2 needs A.fbp or A.pinv; {A} has neither. Use algorithm=1."
                )
        self.precondition = inverse

    def direction(self, r, images, goal):
        """Ascent direction of 1/2 ||f(y + A r) - goal||^2 and ||f(y + A r) - f(y)||, for x[images]."""
        leaf = r.detach()
        if self.precondition is None:
            leaf.requires_grad_()
            y = self.y[images] + self.forward(leaf)
        else:
            leaf = y = (self.y[images] + self.forward(leaf)).requires_grad_()
        x_rec = self.f(y)
        if not x_rec.requires_grad:
            raise ValueError(
                "f(y) carries no gradient. f must be differentiable torch code: no .detach(), no numpy."
            )
        loss = 0.5 * (x_rec - goal[images]).abs().square().sum()
        (d,) = torch.autograd.grad(loss, leaf)
        if self.precondition is not None:
            d = self.precondition(d)
            d = d if r.is_complex() or not d.is_complex() else d.real
        return d, norm(x_rec.detach() - self.x_rec[images])


def _run(problem, strengths, way, generator, callback) -> WorstCase:
    """One run from one start."""
    x, size = problem.x, problem.size
    batch = x.shape[0]
    u, curvature, n_power = _start_and_curvature(problem, way, generator)
    r, v = u * like(way.init_scale * size, x), torch.zeros_like(x)
    last_finite = r.clone()
    found = {s: torch.zeros_like(x) for s in strengths}
    reached = {s: torch.zeros(batch, dtype=torch.bool, device=x.device) for s in strengths}
    counts = torch.zeros(batch, dtype=torch.long, device=x.device)
    history, notes = {"rel_norm": [], "amplification": []}, {}
    active = torch.arange(batch, device=x.device)
    for k in range(way.n_iter):
        now = r[active]
        d, change = problem.direction(now, active, problem.goal)
        counts[active] += 1
        norms = norm(now)
        for name, value in (("rel_norm", norms / size[active]), ("amplification", change / norms)):
            history[name].append(torch.full_like(size, torch.nan).index_put((active,), value))
        fine = torch.isfinite(norm(d)) & torch.isfinite(change)
        for i in active[~fine].tolist():
            at = float(norm(r[i : i + 1]) / size[i])
            notes[i] = f"the gradient was not finite at iteration {k}, ||r||/||x|| = {at:.2e}"
            warnings.warn(
                f"worst_case: image {i}: {notes[i]}; keeping what was reached before.",
                RuntimeWarning,
                stacklevel=3,
            )
        active, now, d = active[fine], now[fine], d[fine]
        last_finite[active] = now
        now, v[active] = way.climb(
            now, v[active], d, curvature[active], strengths[-1] * size[active]
        )
        r[active] = now
        rel = norm(now) / size[active]
        for s in strengths:
            cross = (rel >= s * (1 - 1e-5)) & ~reached[s][active]
            here = active[cross]
            found[s][here] = unit(now[cross]) * like(s * size[here], x)
            reached[s][here] = True
        active = active[~reached[strengths[-1]][active]]
        if callback is not None:
            callback(k, norm(r) / size)
        if not len(active):
            break
    for s in strengths:
        found[s] = torch.where(like(reached[s], x), found[s], last_finite)
    return _measure(
        problem,
        found,
        reached,
        curvature.sqrt(),
        counts,
        counts + n_power,
        {name: torch.stack(rows) for name, rows in history.items()},
        notes,
    )


def _start_and_curvature(problem, way, generator):
    """Starting directions, sigma_max(J)^2, and the evaluations spent: power iteration by tiny
    ascent directions.

    (f(y + A h u) - f(y)) / h -> J u and the gradient there -> J* J u: the attack's own direction at
    ||h u|| = init_scale ||x|| is a power step, exact for a linear f, right to O(h) otherwise.
    Algorithm 2 iterates B J_f* J_f A.
    """
    x, size = problem.x, problem.size
    singular = isinstance(way.init, str) and way.init == "singular"
    start = u = _direction_of(way.init, x, generator)
    given = None if way.sigma is None else torch.as_tensor(way.sigma).to(size).expand_as(size) ** 2
    if given is not None and not singular:
        return start, given, 0
    n_power, images = max(way.n_power, 1), torch.arange(x.shape[0], device=x.device)
    for k in range(n_power):
        d, _ = problem.direction(u * like(way.init_scale * size, x), images, problem.x_rec)
        curvature = norm(d) / (way.init_scale * size)
        if not bool(torch.isfinite(curvature).all()):
            raise FloatingPointError(
                f"the gradient of f is not finite at power iteration {k}, ||r||/||x|| = "
                f"{way.init_scale}. A square root at exactly 0 does this: add an eps inside."
            )
        if not bool((curvature > 0).all()):
            raise ValueError(
                "f does not react to small perturbations of y (zero gradient); nothing to attack."
            )
        u = unit(d)
    return u if singular else start, curvature if given is None else given, n_power


def _measure(problem, r, reached, sigma, n_iter, n_evaluations, history, notes) -> WorstCase:
    with torch.no_grad():
        after = {s: problem.f(problem.y + problem.forward(p)) for s, p in r.items()}
    for s in after:
        broken = reached[s] & ~torch.isfinite(norm(after[s]))
        notes.update(
            {
                i: f"f(A(x + r)) is not finite at strength {s:g}"
                for i in broken.nonzero()[:, 0].tolist()
            }
        )
        reached[s] &= ~broken
    norms = {s: norm(p) for s, p in r.items()}
    return WorstCase(
        x=problem.x,
        x_rec=problem.x_rec,
        r=r,
        x_rec_perturbed=after,
        rel_norm={s: norms[s] / problem.size for s in r},
        amplification={s: norm(after[s] - problem.x_rec) / norms[s] for s in r},
        reached=reached,
        sigma_max=sigma,
        n_iter=n_iter,
        n_evaluations=n_evaluations,
        history=history,
        notes=notes,
        operator=problem.A,
    )


def _better(problem, a: WorstCase, b: WorstCase) -> WorstCase:
    """Per image and strength the run whose reconstruction is farther from p(x); the history is the
    last run's.
    """
    for s in a.r:
        error_a, error_b = (norm(w.x_rec_perturbed[s] - problem.goal) for w in (a, b))
        keep = (a.reached[s] & ~b.reached[s]) | (
            (a.reached[s] == b.reached[s]) & (error_a >= error_b)
        )
        for name in ("r", "x_rec_perturbed", "rel_norm", "amplification", "reached"):
            old, new = getattr(a, name)[s], getattr(b, name)[s]
            getattr(b, name)[s] = torch.where(like(keep, new), old, new)
    b.sigma_max = torch.maximum(a.sigma_max, b.sigma_max)
    b.n_iter, b.n_evaluations = a.n_iter + b.n_iter, a.n_evaluations + b.n_evaluations
    return b


def measurement_attack(f, y: torch.Tensor, *, generator: torch.Generator, **options) -> WorstCase:
    """Maximise ||f(y + e) - p|| over ||e|| = strength ||y||, with e only where y has samples
    (entries that are not 0).

    `worst_case` with the measurement in the place of the image: the result's `x` is y, its `r` is
    e, and `options` are worst_case's (target: "prediction" or a tensor such as the true image).
    Stronger than an image perturbation, because e need not be in the range of A.
    Source: the question of Genzel, Macdonald and Maerz (IEEE TPAMI 2022), by sphere ascent instead
    of projected Adam.
    """
    sampled = (y != 0).any(0)
    return worst_case(f, lambda e: e * sampled, y, generator=generator, **options)


def _direction_of(init, x, generator):
    if isinstance(init, torch.Tensor):
        return unit(init.to(x))
    if init in ("gaussian", "singular"):
        return unit(normal(x.shape, x, generator))
    if init == "uniform":
        shape = (*x.shape, 2) if x.is_complex() else x.shape
        noise = torch.rand(
            shape, generator=generator, dtype=x.real.dtype, device=generator.device
        ).to(x.device)
        return unit(torch.view_as_complex(noise) if x.is_complex() else noise)
    raise ValueError(f"init expects 'singular', 'uniform', 'gaussian' or a tensor; got {init!r}.")
