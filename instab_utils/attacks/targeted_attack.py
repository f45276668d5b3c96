"""The smallest input change that moves a reconstruction towards a target (Oala et al., eq. (4))."""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, fields

import torch

from .. import profiles
from .vectors import dot, like, norm

ARMIJO = 1e-4  # share of the linear decrease that a step has to reach
# a pair with <s, y> below this share of ||s|| ||y|| means rounding or a concave stretch
FLATTEST = 1e-6
# rejected steps in a row after which the pairs are dropped; after as many more the image stops
PATIENCE = 6
MEMORY = 10  # pairs that are kept
WINDOW = 5  # accepted steps over which `tolerance` is asked for


@dataclass
class Targeted:
    """Inputs found by one targeted attack; every per-image value has shape (batch,)."""

    x_in: torch.Tensor  # (batch, channels, n, m) attacked inputs
    x_adv: torch.Tensor  # the best found, inside the box
    target: torch.Tensor  # t
    before: torch.Tensor  # f(x_in)
    after: torch.Tensor  # f(x_adv)
    # E(x_adv) = ||f(x_adv) - t||^2 + penalty ||x_adv - x_in||^2, double precision
    objective: torch.Tensor
    objective_start: torch.Tensor  # E(x_in) = ||f(x_in) - t||^2
    n_evaluations: torch.Tensor  # of f with its gradient, the one at x_in included
    # (evaluations, batch): the least E so far, NaN once an image is done
    history: torch.Tensor
    # True: ended by `tolerance`; False: by n_evaluations, or see notes
    converged: torch.Tensor
    notes: dict[int, str] = field(default_factory=dict)  # image index -> why its run ended early


@profiles.tf32(False)
def targeted(
    f: Callable[[torch.Tensor], torch.Tensor],
    x_in: torch.Tensor,
    target: torch.Tensor,
    *,
    penalty: float = 0.5,
    box: tuple[float, float] = (0.0, 1.0),
    n_evaluations: int = 60,
    tolerance: float = 1e-5,
) -> Targeted:
    """Minimise E(x') = ||f(x') - t||^2 + penalty ||x' - x_in||^2 over x' in [lo, hi]^n.

    Projected L-BFGS on all images at once, each from x' = x_in. With F the pixels that their
    gradient does not hold at a bound, and H the L-BFGS matrix on F of the last `MEMORY` pairs
    s = x_+ - x, y = grad E(x_+) - grad E(x),

        x_+ = clip(x - a H grad E, lo, hi),

    a = 1, then shortened until E falls by 1e-4 <grad E, x - x_+>.

    Every image has its own step, pairs and end, and leaves the batch when it is done; one
    evaluation is one forward and one backward pass of those that are left. E is summed in double
    precision, so that rounding in a single-precision network is not taken for an ascent.

    Args:
        f: differentiable, (batch, channels, n, m) -> (batch, ...), treats the images of a batch
            independently.
        x_in: (batch, channels, n, m) inputs inside the box.
        target: t, shaped like f(x_in); `patch_target` makes the paper's two.
        penalty: lambda >= 0; the paper takes 0.5 for denoising, 0 for limited-angle CT.
        box: (lo, hi) for every pixel; (-inf, inf) for none.
        n_evaluations: cap on the evaluations of f with its gradient, per image; at least 1, the one
            at x_in.
        tolerance: an image has converged when its last 5 accepted steps together lowered E by no
            more than tolerance * E(x_in), or when no pixel can move against its gradient.

    Returns:
        Targeted. An image whose E or gradient is not finite at a trial point is stopped, with a
        RuntimeWarning and a note; the best it had reached is kept.

    Raises:
        ValueError: x_in outside the box, a target not shaped like f(x_in), f not differentiable.

    Source: Oala et al., Detecting Failure Modes in Image Reconstructions with Interval Neural
    Network Uncertainty, section 3.2, eq. (4), by L-BFGS-B as they do. Their code takes the mean of
    the squares, whose gradients at 512 x 512 lie below SciPy's default tolerance, and no box; this
    is the sum and the box of the print.
    """
    lo, hi = box
    x_in, target = x_in.detach(), target.detach()
    if bool((x_in < lo).any()) or bool((x_in > hi).any()):
        raise ValueError(
            f"targeted expects x_in inside box = [{lo:g}, {hi:g}]; got {x_in.min():.3g} to "
            f"{x_in.max():.3g}. Clip it, x_in.clamp({lo:g}, {hi:g}), or widen the box."
        )
    run = _Run.begin(x_in)
    x_adv = x_in.clone()
    objective = run.value.clone()
    n_spent = torch.zeros_like(run.image)
    converged = torch.zeros_like(run.image, dtype=torch.bool)
    history, notes = [], {}
    for k in range(1, n_evaluations + 1):
        trial = (run.x + like(run.step, run.x) * run.direction).clamp(lo, hi)
        value, gradient, x_rec = _evaluate(f, trial, x_in, target, penalty, run.image)
        if k == 1:
            before, after, start = x_rec, x_rec.clone(), value
        finite = torch.isfinite(value) & torch.isfinite(norm(gradient))
        accepted = finite & run.advance(trial, value, gradient, lo, hi, penalty)
        for best, new in ((x_adv, trial), (after, x_rec), (objective, value)):
            best[run.image] = torch.where(like(accepted, new), new, best[run.image])
        n_spent[run.image] = k
        history.append(torch.full_like(objective, math.nan))
        history[-1][run.image] = objective[run.image]
        settled = finite & run.settled(tolerance * start[run.image], lo, hi)
        stuck = finite & ~settled & (run.rejected >= 2 * PATIENCE)
        converged[run.image] = settled
        left = finite & ~settled & ~stuck
        if left.all():  # the only answer that a step waits for
            continue
        for i in run.image[~finite].tolist():
            notes[i] = f"not finite at evaluation {k}"
            warnings.warn(
                f"targeted: image {i}: objective or gradient {notes[i]}; keeping the best so far.",
                RuntimeWarning,
                stacklevel=2,
            )
        for i in run.image[stuck].tolist():
            notes[i] = f"no step lowers the objective at evaluation {k}: rounding, or a kink of f"
        run = run.only(left)
        if not len(run.image):
            break
    return Targeted(
        x_in,
        x_adv,
        target,
        before,
        after,
        objective,
        start,
        n_spent,
        torch.stack(history),
        converged,
        notes,
    )


def _evaluate(f, x, x_in, target, penalty, images):
    """Return E, its gradient and f at x, for x in the place of x_in[images]."""
    leaf = x.detach().requires_grad_()
    x_rec = f(leaf)
    if not x_rec.requires_grad:
        raise ValueError(
            "f(x) carries no gradient. f must be differentiable torch code: no .detach(), no numpy."
        )
    expected = (len(x_in), *x_rec.shape[1:])
    if target.shape != expected:
        raise ValueError(
            f"targeted expects a target shaped like f(x_in), {expected}; got {tuple(target.shape)}."
        )
    misfit = x_rec.detach() - target[images]
    change = x - x_in[images]
    (gradient,) = torch.autograd.grad(x_rec, leaf, 2 * misfit)
    value = _square(misfit) + penalty * _square(change)
    return value, gradient + 2 * penalty * change, x_rec.detach()


def _square(t):
    """Return ||t||^2 of every image, summed in double precision."""
    return t.double().flatten(1).square().sum(1)


@dataclass
class _Run:
    """The search of b unfinished images, the first axis of every field."""

    image: torch.Tensor  # (b,) their places in the whole batch
    x: torch.Tensor  # (b, ...) the last accepted points
    value: torch.Tensor  # (b,) E(x), infinite before the first
    gradient: torch.Tensor  # (b, ...) grad E(x)
    direction: torch.Tensor  # (b, ...) -H grad E(x)
    step: torch.Tensor  # (b,) a of the next trial
    rejected: torch.Tensor  # (b,) trials rejected in a row
    # (b, 2 MEMORY, pixels) s in the first half, y in the second; zero where there is none yet
    pairs: torch.Tensor
    # (b,) pairs ever kept: the next one takes the place n_pairs modulo MEMORY
    n_pairs: torch.Tensor
    recent: torch.Tensor  # (b, WINDOW) E at the accepted points before x, newest last

    @classmethod
    def begin(cls, x):
        """Return the state before the first evaluation, whose trial is x itself."""
        image = torch.arange(len(x), device=x.device)
        recent = torch.full((len(x), WINDOW), math.inf, dtype=torch.float64, device=x.device)
        return cls(
            image=image,
            x=x,
            value=recent[:, 0].clone(),
            gradient=torch.zeros_like(x),
            direction=torch.zeros_like(x),
            step=x.new_ones(len(x)),
            rejected=torch.zeros_like(image),
            pairs=x.new_zeros(len(x), 2 * MEMORY, x[0].numel()),
            n_pairs=torch.zeros_like(image),
            recent=recent,
        )

    def only(self, keep):
        """Return the search of the images in `keep`."""
        return _Run(*(getattr(self, part.name)[keep] for part in fields(self)))

    def advance(self, trial, value, gradient, lo, hi, penalty):
        """Move to the accepted trials, shorten the other steps; return which were accepted."""
        s = trial - self.x
        slope = dot(self.gradient, s).double()
        accepted = (slope <= 0) & (value <= self.value + ARMIJO * slope)
        y = gradient - self.gradient
        known = accepted & (dot(s, y) > FLATTEST * norm(s) * norm(y))
        each, place = torch.arange(len(s), device=s.device), self.n_pairs % MEMORY
        for pair, row in ((s, place), (y, MEMORY + place)):
            new = torch.where(known[:, None], pair.flatten(1), self.pairs[each, row])
            self.pairs[each, row] = new
        self.n_pairs += known
        shifted = torch.cat((self.recent[:, 1:], self.value[:, None]), 1)
        self.recent = torch.where(accepted[:, None], shifted, self.recent)
        # minimum of the parabola through the three
        shorter = (-slope / (2 * (value - self.value - slope))).clamp(0.1, 0.5)
        self.value = torch.where(accepted, value, self.value)
        self.x = torch.where(like(accepted, s), trial, self.x)
        self.gradient = torch.where(like(accepted, s), gradient, self.gradient)
        self.rejected = torch.where(accepted, 0, self.rejected + 1)
        lost = self.rejected == PATIENCE
        self.pairs.masked_fill_(lost[:, None, None], 0)
        anew = accepted | lost
        self.direction = torch.where(like(anew, s), self._aim(lo, hi, penalty), self.direction)
        self.step = torch.where(anew, 1, self.step * shorter.to(self.step))
        return accepted

    def settled(self, enough, lo, hi):
        """Return which converged: WINDOW steps gained at most `enough`, or no pixel can move."""
        held = ~(self._free(lo, hi) & (self.gradient != 0)).flatten(1).any(1)
        return held | (self.recent[:, 0] - self.value <= enough)

    def _free(self, lo, hi):
        """Return the pixels that are not held at a bound by their gradient."""
        return ~((self.x <= lo) & (self.gradient > 0) | (self.x >= hi) & (self.gradient < 0))

    def _aim(self, lo, hi, penalty):
        """Return -H grad E on the free pixels.

        With S and Y the pairs there in the order they came, p_s = S^T grad E, p_y = Y^T grad E,

            H grad E = h grad E + S R^-T ((D + h Y^T Y) R^-1 p_s - h p_y) - h Y R^-1 p_s,

        R the upper triangle and D the diagonal of S^T Y, h = <s, y> / ||y||^2 of the newest pair
        (Byrd, Nocedal and Schnabel 1994, eq. (3.1)). Without pairs h = 1 / (||grad E||^2 / E + 2
        penalty), half of Newton's step on a parabola whose least value is 0.
        """
        free = self._free(lo, hi).flatten(1)
        gradient = self.gradient.flatten(1) * free
        pairs = self.pairs * free[:, None]
        image = torch.arange(len(free), device=free.device)[:, None]
        order = (self.n_pairs[:, None] + torch.arange(MEMORY, device=free.device)) % MEMORY
        order = torch.cat((order, MEMORY + order), 1)
        products = pairs @ self.pairs.mT
        products = products[image[..., None], order[:, :, None], order[:, None]].double()
        p = (pairs @ gradient[..., None])[image, order, 0].double()
        squares = products.diagonal(0, 1, 2)
        sy = products[:, :MEMORY, MEMORY:]
        d = sy.diagonal(0, 1, 2)
        known = d > FLATTEST * (squares[:, :MEMORY] * squares[:, MEMORY:]).sqrt()
        p = p * known.repeat(1, 2)
        yy = products[:, MEMORY:, MEMORY:] * known[..., None]
        eye = torch.eye(MEMORY, dtype=sy.dtype, device=sy.device)
        r = torch.where(known[:, :, None] & known[:, None], sy.triu(), eye)
        newest = (known * torch.arange(1, MEMORY + 1, device=free.device)).argmax(1, keepdim=True)
        h = (d / squares[:, MEMORY:]).gather(1, newest)
        without = 1 / (gradient.double().square().sum(1) / self.value + 2 * penalty)
        h = torch.where(known.any(1, keepdim=True), h, without[:, None])
        u = torch.linalg.solve_triangular(r, p[:, :MEMORY, None], upper=True)
        w = (d * known)[..., None] * u + h[..., None] * (yy @ u - p[:, MEMORY:, None])
        w = torch.linalg.solve_triangular(r.mT, w, upper=False)
        weights = torch.cat((w[..., 0], -h * u[..., 0]), 1)
        weights = torch.zeros_like(p).scatter(1, order, weights).to(pairs)
        step = h.to(pairs) * gradient + (weights[:, None] @ pairs)[:, 0]
        return -step.reshape(self.x.shape)
