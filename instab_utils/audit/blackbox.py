"""The worst perturbation of a reconstruction that can only be called: no gradients, no finite
differences.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from ..attacks.vectors import forward_of, normal

METHODS = ("random", "ranks", "evolution", "transfer")
# of the cosine frequencies an axis: from every pixel by itself to slow waves
SHARES = (1.0, 0.5, 0.25, 0.125)
BATCH = 8  # calls of one generation, at most
# responses that recombination looks at; beyond, they are compressed to the strongest combinations
ARCHIVE, KEPT = 320, 96


@dataclass(frozen=True)
class Found:
    """What a search found; dictionaries by strength, per-image values (batch,)."""

    r: dict[float, torch.Tensor]  # (batch, ...) like the image, ||r|| = strength ||image||
    reach: dict[float, torch.Tensor]  # ||f(y + A r) - p||
    n_calls: int  # images that f was given, per image searched
    n_skipped: torch.Tensor  # calls whose answer was not finite
    # (calls, batch) best reach so far at the largest strength, NaN before the first
    history: torch.Tensor
    method: str


def search(
    f: Callable[[torch.Tensor], torch.Tensor],
    A: object,
    image: torch.Tensor,
    y: torch.Tensor,
    *,
    strengths: Sequence[float],
    generator: torch.Generator,
    n_calls: int = 400,
    target: torch.Tensor | None = None,
    starts: Sequence[torch.Tensor] = (),
    method: str = "evolution",
) -> Found:
    """r = argmax ||f(y + A r) - p||  over  ||r|| = s ||image||,  from n_calls answers of f and
    nothing else.

    No gradient, no step that tends to zero: every call is a perturbation at full strength, and the
    best one called is returned, so an f that is rounded, noisy or not differentiable makes the
    proposals worse, never the result's value wrong. It is a lower bound of the worst case, as any
    attack is.

    - "random": Gaussian draws; what a random twin does, many times.
    - "ranks": a (mu/mu, lambda) evolution strategy on the sphere that looks at the order of the
      values only; its mutations are white in the lowest frequencies first, then in more of them.
    - "evolution": parents recombine by their whole answers d_k = f(y + A r_k) - p. Were f linear,
      sum_k c_k r_k would answer sum_k c_k d_k: the c with the largest ratio of the norms is a small
      eigenvalue problem, its combination is the next child. Its answer, an image, is another child
      (an echo: what the network invents is given to it to see; a power iteration where the Jacobian
      is symmetric), and fresh draws of four scales fill the generation.
    - "transfer": `starts` first, the best case of a stand-in that has gradients, then "evolution"
      with their answers among the parents. Every method tries `starts` first, and none loses them
      at the largest strength.

    Why "evolution" is the default (benchmarks/bench_blackbox.py, 2 %): of the largest singular
    value of a random 256 x 256 matrix, 400 / 2000 calls reach 0.58 / 0.58 by "random", 0.68 / 0.81
    by "ranks", 0.92 / 0.996 by "evolution". On the shipped DnCNN, 32 x 32 pixels, a random twin is
    amplified 0.41 times, the best of 300 draws 0.47, "evolution" 1.45 after 300 calls and after
    1500, one run of the gradient 1.24. Behind the Radon transform it falls short: on Ell-50's
    network at 64 x 64, twin 0.38, "evolution" 1.48 / 1.85 after 300 / 1500 calls, gradient 4.20.
    There the worst case of filtered back-projection, a stand-in with a gradient, reaches
    2.90 in one call, to which 299 more add nothing: give `starts` wherever there is a stand-in.

    The climb is at the largest strength; at each smaller one its r is rescaled, called, and refined
    by small steps, n_calls / 40 calls a strength. Images one after another, each with its own
    n_calls, the call of f(y) included.

    Args:
        f: y (k, ...) -> images (k, ...), torch or numpy; called with at most 16 at once.
        A: the operator, or any callable from images to measurements.
        image: (batch, 1, h, w) what r is added to, real or complex; r is of the same type.
        y: (batch, ...) measurements of it.
        strengths: values of ||r|| / ||image||.
        generator: same state, same result.
        n_calls: images that f is given per image, exactly.
        target: p (batch, ...); default f(y).
        starts: directions like image, of any norm.
        method: one of `METHODS`.

    Raises:
        ValueError: for an all-zero image, f(y) that is not finite, no finite answer at all, wrong
            arguments. Single answers that are not finite are skipped and counted.

    Source: the combination is a Rayleigh-Ritz step (Saad, Numerical Methods for Large Eigenvalue
    Problems, ch. 4) on M* M with M = Jacobian times A; rank-based recombination: Hansen and
    Ostermeier, Evolutionary Computation 9, 2001.
    """
    strengths = tuple(sorted(float(s) for s in strengths))
    _check(image, y, strengths, n_calls, starts, method)
    n_small = max(1, n_calls // 40)
    r, reach = {s: [] for s in strengths}, {s: [] for s in strengths}
    histories, skipped = [], []
    for i in range(len(image)):
        box = _Box(
            f,
            forward_of(A),
            image[i : i + 1],
            y[i : i + 1],
            None if target is None else target[i : i + 1],
            n_calls,
        )
        box.radius, box.limit = strengths[-1] * box.size, n_calls - n_small * (len(strengths) - 1)
        first = [box.real(s[i : i + 1]) for s in starts]
        _climb(box, first, generator, method)
        u = box.best()
        histories.append(box.history())
        for k, s in enumerate(reversed(strengths)):
            if k:
                box.restart(s * box.size, n_small)
                _refine(box, u, generator)
                u = box.best()
            r[s].append(box.image_of(u) * box.radius)
            reach[s].append(box.top)
        skipped.append(box.n_skipped)
    return Found(
        {s: torch.cat(v) for s, v in r.items()},
        {s: torch.stack(v) for s, v in reach.items()},
        box.n_calls,
        torch.tensor(skipped),
        torch.stack(histories, 1),
        method,
    )


def _check(image, y, strengths, n_calls, starts, method):
    if method not in METHODS:
        raise ValueError(
            f"search expects method to be one of {', '.join(METHODS)}; got {method!r}."
        )
    if not strengths or strengths[0] <= 0:
        raise ValueError(f"search expects strengths above 0; got {strengths}.")
    if n_calls < 4 * len(strengths) + len(starts):
        raise ValueError(
            f"search expects at least {4 * len(strengths) + len(starts)} calls for {len(strengths)} strengths and "
            f"{len(starts)} starts; got n_calls={n_calls}. Raise it."
        )
    if len(image) != len(y):
        raise ValueError(
            f"search expects as many images as measurements; got {len(image)} and {len(y)}."
        )
    if method == "transfer" and not len(starts):
        raise ValueError(
            "method='transfer' expects starts=[r, ...], e.g. the worst case of a stand-in; got none."
        )
    for s in starts:
        if s.shape != image.shape:
            raise ValueError(
                f"search expects starts like the image, {tuple(image.shape)}; got {tuple(s.shape)}."
            )


class _Box:
    """f for one image, which counts: directions are flat real vectors of norm 1."""

    def __init__(self, f, forward, image, y, target, n_calls):
        self.f, self.forward, self.image, self.y = f, forward, image, y
        self.n_calls, self.n_skipped, self.values = 0, 0, []
        self.size = torch.linalg.vector_norm(image)
        if not float(self.size) > 0:
            raise ValueError(
                "search measures ||r|| relative to ||image||; got an all-zero image. Leave it out."
            )
        self.target = self.call(y) if target is None else target
        if not bool(torch.isfinite(self.target).all()):
            raise ValueError("f(y) is not finite without any perturbation. Repair f first.")
        self.top, self.u, self.d = torch.tensor(-1.0, dtype=torch.float64), None, None

    def call(self, y):
        self.n_calls += len(y)
        with torch.no_grad():
            return torch.as_tensor(self.f(y)).to(self.y.device)

    def real(self, x):
        """Flat, real, norm 1."""
        x = torch.view_as_real(x) if x.is_complex() else x
        x = x.reshape(len(x), -1)
        return _unit(x)

    def image_of(self, u):
        if self.image.is_complex():
            return torch.view_as_complex(u.reshape(-1, *self.image.shape[1:], 2).contiguous())
        return u.reshape(-1, *self.image.shape[1:])

    @property
    def left(self):
        return self.limit - self.n_calls

    def restart(self, radius, n):
        self.radius, self.limit = radius, self.n_calls + n
        self.top, self.u, self.d = torch.tensor(-1.0, dtype=torch.float64), None, None

    def attempt(self, u):
        """||f(y + A r) - p|| and the responses f(y + A r) - p for directions u, as many as there
        are calls left.
        """
        u = u[: max(self.left, 0)]
        x_rec = self.call(self.y + self.forward(self.image_of(u) * self.radius))
        d = x_rec - self.target
        d = (torch.view_as_real(d) if d.is_complex() else d).reshape(len(u), -1)
        value = torch.linalg.vector_norm(d.double(), dim=1).cpu()
        good = torch.isfinite(value)
        self.n_skipped += int((~good).sum())
        value = torch.where(good, value, -1.0)
        for k in range(len(u)):
            if value[k] > self.top:
                self.top, self.u, self.d = value[k], u[k : k + 1], d[k : k + 1]
            self.values.append(float(self.top))
        keep = good.to(u.device)
        return u[keep], d[keep], value[good]

    def best(self):
        if self.u is None:
            raise ValueError(
                f"f was not finite at any of {self.n_calls} perturbed measurements. Repair f first."
            )
        return self.u

    def history(self):
        h = torch.tensor(self.values, dtype=torch.float64)
        return torch.where(h < 0, torch.nan, h)


def _cosines(n: int, k: int, like: torch.Tensor) -> torch.Tensor:
    """The k slowest cosines on n pixels, orthonormal rows."""
    pixels, frequencies = (
        torch.arange(n, dtype=torch.float64) + 0.5,
        torch.arange(k, dtype=torch.float64),
    )
    rows = torch.cos(torch.pi * frequencies[:, None] * pixels / n) * (2 / n) ** 0.5
    rows[0] /= 2**0.5
    return rows.to(like)


def _draws(box: _Box, n: int, share: float, generator) -> torch.Tensor:
    """n Gaussian directions, white in the lowest `share` of the frequencies an axis."""
    x = box.image
    h, w = x.shape[-2:]
    k, m = max(2, round(share * h)), max(2, round(share * w))
    z = normal((n, *x.shape[1:-2], k, m) if share < 1 else (n, *x.shape[1:]), x, generator)
    return box.real(_cosines(h, k, x).T @ z @ _cosines(w, m, x) if share < 1 else z)


def _climb(box: _Box, starts: list[torch.Tensor], generator, method: str) -> None:
    responses = box.attempt(torch.cat(starts)) if starts else None
    if method == "random":
        while box.left > 0:
            box.attempt(_draws(box, min(BATCH, box.left), 1.0, generator))
    elif method == "ranks":
        _by_ranks(box, generator)
    else:
        _by_responses(box, responses, generator)


def _by_ranks(box: _Box, generator) -> None:
    """(mu/mu, lambda) on the sphere, by the order of the values alone; from slow waves to pixels."""
    for share in SHARES:
        box.attempt(_draws(box, min(4, box.left), share, generator))
    n, sigma, total = 2 * BATCH, 0.7, max(box.left, 1)
    m = box.best()
    weights = torch.log(torch.tensor(n / 2 + 0.5)) - torch.log(torch.arange(1, n // 2 + 1))
    weights = (weights / weights.sum())[:, None].to(m)
    while box.left > 0:
        share, before = SHARES[min(3, 4 * box.left // total)], box.top
        u, _, value = box.attempt(_unit(m + sigma * _draws(box, n, share, generator)))
        if len(u) < n:  # the last calls, or an f that failed: the centre stays
            m = box.best()
            continue
        m = _unit(
            (weights * u[value.argsort(descending=True)[: n // 2].to(u.device)]).sum(
                0, keepdim=True
            )
        )
        if box.top <= before:
            m = _unit(m + box.best())
        sigma = min(1.5, 1.1 * sigma) if box.top > before else max(0.05, 0.85 * sigma)


def _by_responses(box: _Box, responses, generator) -> None:
    """Generations of the best combination of all parents, its echo, the best child's echo, and
    fresh draws.
    """
    u, d = responses[:2] if responses else (None, None)
    echoes = (
        box.target.shape == box.image.shape and box.target.is_complex() == box.image.is_complex()
    )
    for generation in itertools.count():
        if box.left <= 0:
            return
        children = []
        if u is not None and len(u):
            best, answers = _combined(u, d, 2)
            children = [best[:1], _unit(answers), _unit(box.d.to(u))] if echoes else [best]
        for j in range(BATCH - sum(map(len, children))):
            children.append(_draws(box, 1, SHARES[(generation + j) % len(SHARES)], generator))
        new_u, new_d, _ = box.attempt(torch.cat(children))
        u, d = (new_u, new_d) if u is None else (torch.cat([u, new_u]), torch.cat([d, new_d]))
        if len(u) > ARCHIVE:
            u, d = _combined(u, d, KEPT)


def _combined(u: torch.Tensor, d: torch.Tensor, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The n orthogonal combinations sum_k c_k u_k with the largest ||sum_k c_k d_k|| for norm 1,
    and these sums of answers.
    """
    overlap, strength = (u @ u.T).double(), (d @ d.T).double()
    e, v = torch.linalg.eigh(overlap)
    independent = e > 1e-5 * e[-1]
    white = v[:, independent] / e[independent].sqrt()
    _, q = torch.linalg.eigh(white.T @ strength @ white)
    c = (white @ q).flip(1)[:, :n].T
    return _unit(c.to(u) @ u), c.to(d) @ d


def _refine(box: _Box, u: torch.Tensor, generator) -> None:
    """u at another strength, and small steps from it."""
    box.attempt(u)
    while box.left > 0:
        start = u if box.u is None else box.u
        step = _draws(box, min(BATCH, box.left), SHARES[box.left % len(SHARES)], generator)
        box.attempt(_unit(start + 0.1 * step))


def _unit(u: torch.Tensor) -> torch.Tensor:
    return u / torch.linalg.vector_norm(u, dim=1, keepdim=True).clamp_min(torch.finfo(u.dtype).tiny)
