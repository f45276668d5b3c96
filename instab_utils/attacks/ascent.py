"""Tiny worst-case perturbations of any reconstruction f: y -> x behind any operator A."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from .. import profiles
from .result import WorstCase
from .vectors import dot, forward_of, like, norm, normal, unit

# (step, momentum) where the caller gives none; tuned on slices that no chapter reports
DEFAULTS = {"sphere": (0.3, 0.5), "heavy-ball": (0.1, 0.9)}


def _check(name, value, known):
    if value not in known:
        expected = ", ".join(map(repr, known))
        raise ValueError(f"worst_case expects {name} to be one of {expected}; got {value!r}.")


@dataclass(frozen=True)
class Ascent:
    """How `worst_case` climbs from its start r_0, ||r_0|| = init_scale ||x||.

    - "sphere", the default: the norm is prescribed, rho <- min(growth rho, largest strength ||x||),
      and the direction u = r / rho climbs along the tangent part of the ascent direction d,

          v <- momentum v + d/||d|| - <d/||d||, u> u,    u <- (u + step v) / ||u + step v||.

      The penalty is constant on a sphere and drops out, and every strength is reached: where
      n_iter is too small for `growth`, the growth is raised. On Deep MRI it reached 1 % in 17
      gradient evaluations where the paper's schedule took 62 and 83, with 1.1 and 1.2 times its
      amplification (two images, benchmarks/bench_attacks.py).
    - "heavy-ball", the paper's:  v <- momentum v + eta (d - lambda r),  r <- r + v. With
      init="uniform" this is Algorithm 1 / 2 as printed, up to the exact gradient and the units.
    """

    method: str = "sphere"  # or "heavy-ball"
    # starting direction: "singular" is the Jacobian's top right singular vector, which the power
    # iteration for sigma_max(J) finds anyway; "uniform" the paper's noise on [0, 1]; "gaussian"
    # zero-mean noise; or a tensor like x
    init: str | torch.Tensor = "singular"
    init_scale: float = 1e-3  # ||r_0|| / ||x||, also the finite step of the power iteration
    # lambda / sigma_max(J)^2; heavy-ball grows below 1, decays above; 0.15 = 65 / 424, Deep MRI
    penalty: float = 0.15
    step: float | None = None  # sphere: radians, 0.3; heavy-ball: eta sigma_max(J)^2, 0.1
    momentum: float | None = None  # in [0, 1): 0.5 sphere, 0.9 heavy-ball
    growth: float = 1.2  # of the sphere's radius in one step
    n_power: int = 4  # power iterations, one evaluation each; none if sigma is given and not needed
    sigma: float | torch.Tensor | None = None  # sigma_max(J), (batch,); else estimated from below
    algorithm: int | str = "auto"  # 1: d = A* grad; 2: d = B grad; "auto": 2 if A has an fbp

    def __post_init__(self):
        _check("method", self.method, tuple(DEFAULTS))
        _check("algorithm", self.algorithm, (1, 2, "auto"))

    def move(
        self,
        r: torch.Tensor,
        v: torch.Tensor,
        d: torch.Tensor,
        curvature: torch.Tensor,
        limit: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (r, v) after one step along d; `limit` is the largest norm of r."""
        step, momentum = DEFAULTS[self.method]
        step = step if self.step is None else self.step
        momentum = momentum if self.momentum is None else self.momentum
        if self.method == "heavy-ball":
            v = momentum * v + step * (d / like(curvature, d) - self.penalty * r)
            return r + v, v
        u = unit(r)
        d = unit(d)
        v = momentum * v + d - like(dot(u, d), d) * u
        radius = torch.minimum(self.growth * norm(r), limit)
        return unit(u + step * v) * like(radius, d), v


@profiles.tf32(False)
def worst_case(
    f: Callable[[torch.Tensor], torch.Tensor],
    A: object,
    x: torch.Tensor,
    *,
    generator: torch.Generator,
    strengths: Sequence[float] = (0.002, 0.005, 0.01, 0.02),
    target: str | torch.Tensor = "prediction",
    n_iter: int = 60,
    ascent: Ascent = Ascent(),
) -> WorstCase:
    """Maximise Q(r) = 1/2 ||f(y + A r) - p(x)||^2 - lambda/2 ||r||^2, y = A x, p(x) = f(Ax) or x.

    The gradient is exact: autograd through A and f, d = A* grad_y (algorithm 1) or, as Antun et al.
    do for Radon, d = B grad_y with B = filtered back-projection in the place of A* (algorithm 2).
    The objective is unbounded once sigma_max(J)^2 > lambda, J the Jacobian of r -> f(y + A r), so a
    run ends at the largest strength or at n_iter. All strengths come from one run: each r is the
    iterate at the crossing, rescaled to exactly strength * ||x||, and its amplification is measured
    after the rescaling.

    Args:
        f: differentiable reconstruction y -> x that treats the images of a batch independently.
        A: one of our operators, a deepinv physics (its noise-free `A.A` is used), or any callable
            x -> y.
        x: (batch, ...) images, real or complex. A complex x gets a complex r, a real x a real r.
        generator: random start; same state, same result.
        strengths: values of ||r|| / ||x||.
        target: "prediction" for p(x) = f(Ax), "truth" for p(x) = x, or a tensor p to be driven
            away from.
        n_iter: cap on the ascent steps.
        ascent: start, step and direction.

    Returns:
        WorstCase.

    Raises:
        ValueError: unknown choices, an all-zero image, f not differentiable or not finite at y.
        FloatingPointError: the gradient is not finite at the start. Later non-finite gradients end
            that image's run with a RuntimeWarning and a note; what it had reached is kept.

    Source: Antun et al., PNAS 2020, eqs. (9)-(12), Algorithms 1 and 2. Departures: exact gradients
    (the published code holds the data-consistency inputs constant), lambda inside eta in algorithm
    2 as in their code and eq. (12), step and penalty in units of sigma_max(J)^2, runs end by
    ||r|| / ||x|| instead of by a number of iterations.
    """
    strengths = tuple(sorted(float(s) for s in strengths))
    if not strengths or strengths[0] <= ascent.init_scale:
        raise ValueError(
            f"worst_case expects strengths above init_scale = {ascent.init_scale}; got {strengths}."
        )
    fastest = max(ascent.growth, (strengths[-1] / ascent.init_scale) ** (1 / n_iter))
    ascent = replace(ascent, growth=fastest)
    objective = Objective(f, A, x, target, ascent.algorithm)
    x, size = objective.x, objective.size
    u, curvature, n_power = _start(objective, ascent, generator)
    r = u * like(ascent.init_scale * size, x)
    v = torch.zeros_like(x)
    last_finite = r.clone()
    crossing = {s: torch.zeros_like(x) for s in strengths}
    reached = {s: torch.zeros_like(size, dtype=torch.bool) for s in strengths}
    counts = torch.zeros_like(size, dtype=torch.long)
    history, notes = [], {}
    active = torch.arange(len(x), device=x.device)
    for k in range(n_iter):
        now = r[active]
        d, change = objective.direction(now, active)
        counts[active] += 1
        history.append(torch.full_like(size, torch.nan))
        history[-1][active] = norm(now) / size[active]
        finite = torch.isfinite(norm(d)) & torch.isfinite(change)
        last_finite[active] = torch.where(like(finite, x), now, last_finite[active])
        limit = strengths[-1] * size[active]
        now, v[active] = ascent.move(now, v[active], d, curvature[active], limit)
        r[active] = torch.where(like(finite, x), now, r[active])
        for s in strengths:
            crosses = (norm(now) / size[active] >= s * (1 - 1e-5)) & ~reached[s][active] & finite
            scaled = unit(now) * like(s * size[active], x)
            crossing[s][active] = torch.where(like(crosses, x), scaled, crossing[s][active])
            reached[s][active] |= crosses
        done = ~finite | reached[strengths[-1]][active]
        if not done.any():  # the only answer that a step waits for
            continue
        for i in active[~finite].tolist():
            at = float(history[-1][i])
            notes[i] = f"the gradient was not finite at iteration {k}, ||r||/||x|| = {at:.2e}"
            warnings.warn(
                f"worst_case: image {i}: {notes[i]}; keeping what was reached before.",
                RuntimeWarning,
                stacklevel=2,
            )
        active = active[~done]
        if not len(active):
            break
    for s in strengths:
        crossing[s] = torch.where(like(reached[s], x), crossing[s], last_finite)
    with torch.no_grad():
        after = {s: f(objective.y + objective.forward(p)) for s, p in crossing.items()}
    for s in strengths:
        broken = reached[s] & ~torch.isfinite(norm(after[s]))
        for i in broken.nonzero()[:, 0].tolist():
            notes[i] = f"f(A(x + r)) is not finite at strength {s:g}"
        reached[s] &= ~broken
    norms = {s: norm(p) for s, p in crossing.items()}
    return WorstCase(
        x=x,
        x_rec=objective.x_rec,
        r=crossing,
        x_rec_perturbed=after,
        rel_norm={s: norms[s] / size for s in strengths},
        amplification={s: norm(after[s] - objective.x_rec) / norms[s] for s in strengths},
        reached=reached,
        sigma_max=curvature.sqrt(),
        n_iter=counts,
        n_evaluations=counts + n_power,
        history=torch.stack(history),
        notes=notes,
    )


class Objective:
    """1/2 ||f(y + A r) - p||^2 of every image, and its ascent direction."""

    def __init__(self, f, A, x, target, algorithm):
        if not isinstance(target, torch.Tensor):
            _check("target", target, ("prediction", "truth"))
        self.f, self.forward, self.x = f, forward_of(A), x.detach()
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
        self.p = target
        if not isinstance(target, torch.Tensor):
            self.p = self.x_rec if target == "prediction" else self.x
        self.precondition = getattr(A, "fbp", None) if algorithm != 1 else None
        if algorithm == 2 and self.precondition is None:
            self.precondition = getattr(A, "pinv", None) or getattr(A, "A_dagger", None)
            if self.precondition is None:
                raise ValueError(
                    f"algorithm=2 needs A.fbp or A.pinv; {A} has neither. Use algorithm=1."
                )

    def direction(
        self, r: torch.Tensor, images: torch.Tensor, p: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the ascent direction at r of x[images], and ||f(y + A r) - f(y)||."""
        p = self.p if p is None else p
        leaf = r.detach()
        if self.precondition is None:
            leaf.requires_grad_()
            y = self.y[images] + self.forward(leaf)
        else:
            leaf = y = (self.y[images] + self.forward(leaf)).requires_grad_()
        x_rec = self.f(y)
        if not x_rec.requires_grad:
            raise ValueError(
                "f(y) carries no gradient. f must be differentiable torch code: no .detach(), "
                "no numpy."
            )
        loss = 0.5 * (x_rec - p[images]).abs().square().sum()
        (d,) = torch.autograd.grad(loss, leaf)
        if self.precondition is not None:
            d = self.precondition(d)
            d = d if r.is_complex() or not d.is_complex() else d.real
        return d, norm(x_rec.detach() - self.x_rec[images])


def measurement_attack(
    f: Callable[[torch.Tensor], torch.Tensor],
    y: torch.Tensor,
    *,
    generator: torch.Generator,
    **options,
) -> WorstCase:
    """Maximise ||f(y + e) - p|| over ||e|| = strength ||y||, e only where y has samples (not 0).

    `worst_case` with the measurement in the place of the image: the result's `x` is y, its `r` is
    e, and `options` are worst_case's (target: "prediction" or a tensor such as the true image).
    Stronger than an image perturbation, because e need not be in the range of A.
    Source: the question of Genzel, Macdonald and Maerz (IEEE TPAMI 2022), by sphere ascent instead
    of projected Adam.
    """
    sampled = (y != 0).any(0)
    return worst_case(f, lambda e: e * sampled, y, generator=generator, **options)


def _start(objective, ascent, generator):
    """Return starting directions, sigma_max(J)^2, and the evaluations spent on them.

    Power iteration by tiny ascent directions: (f(y + A h u) - f(y)) / h -> J u and the gradient
    there -> J* J u, so that the attack's own direction at ||h u|| = init_scale ||x|| is a power
    step, exact for a linear f, right to O(h) otherwise. Algorithm 2 iterates B J_f* J_f A.
    """
    x, size = objective.x, objective.size
    start = u = _direction_of(ascent.init, x, generator)
    singular = isinstance(ascent.init, str) and ascent.init == "singular"
    given = None
    if ascent.sigma is not None:
        given = torch.as_tensor(ascent.sigma).to(size).expand_as(size) ** 2
        if not singular:
            return start, given, 0
    n_power, images = max(ascent.n_power, 1), torch.arange(len(x), device=x.device)
    for k in range(n_power):
        tiny = u * like(ascent.init_scale * size, x)
        d, _ = objective.direction(tiny, images, objective.x_rec)
        curvature = norm(d) / (ascent.init_scale * size)
        finite, positive = torch.stack([torch.isfinite(curvature), curvature > 0]).all(1).tolist()
        if not finite:
            raise FloatingPointError(
                f"the gradient of f is not finite at power iteration {k}, ||r||/||x|| = "
                f"{ascent.init_scale}. A square root at exactly 0 does this: add an eps inside."
            )
        if not positive:
            raise ValueError(
                "f does not react to small perturbations of y (zero gradient); nothing to attack."
            )
        u = unit(d)
    return u if singular else start, curvature if given is None else given, n_power


def _direction_of(init, x, generator):
    """Return the unit direction that `Ascent.init` names."""
    if isinstance(init, torch.Tensor):
        return unit(init.to(x))
    if init in ("gaussian", "singular"):
        return unit(normal(x.shape, x, generator))
    if init == "uniform":
        real = torch.view_as_real(x) if x.is_complex() else x
        noise = torch.rand(
            real.shape, generator=generator, dtype=real.dtype, device=generator.device
        )
        noise = noise.to(x.device)
        return unit(torch.view_as_complex(noise) if x.is_complex() else noise)
    raise ValueError(f"init expects 'singular', 'uniform', 'gaussian' or a tensor; got {init!r}.")
