"""Search for the worst perturbation of a reconstruction that can only be called."""

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from ..attacks.vectors import forward_of, normal

SHARES = (1.0, 0.5, 0.25, 0.125)
"""Shares of the cosine frequencies of an axis in a draw, from single pixels to slow waves."""
BATCH = 8
"""Calls of one generation, at most."""
ARCHIVE, KEPT = 320, 96
"""Responses kept for recombination; more are compressed to the strongest combinations."""


class SearchResult(NamedTuple):
    """Worst perturbations by strength, with one value an image."""

    r: dict[float, torch.Tensor]
    """(batch, ...) like the image, ||r|| = strength ||image||."""
    reach: dict[float, torch.Tensor]
    """(batch,) ||f(y + A r) - f(y)||."""


def search(
    f: Callable[[torch.Tensor], torch.Tensor],
    A: Callable,
    image: torch.Tensor,
    y: torch.Tensor,
    *,
    strengths: Sequence[float],
    generator: torch.Generator,
    n_calls: int = 400,
    starts: Sequence[torch.Tensor] = (),
) -> SearchResult:
    """Return r = argmax ||f(y + A r) - f(y)|| over ||r|| = s ||image|| from n_calls answers of f.

    Every call is a perturbation at full strength and the best one called is returned, so an f that
    is rounded, noisy or not differentiable makes the proposals worse but never the reported value
    wrong. Like any attack it gives a lower bound of the worst case.

    Parents recombine by their whole responses d_k = f(y + A r_k) - f(y). If f is linear,
    sum_k c_k r_k has the response sum_k c_k d_k, and the c with the largest ratio of norms solves a
    small eigenvalue problem; its combination is the next child. Its response, an image, is another
    child (a power iteration where the Jacobian is symmetric). Fresh draws at four scales fill the
    generation.

    Measured (benchmarks/bench_blackbox.py, 2 %): 0.92 and 0.996 of the largest singular value of a
    random 256 x 256 matrix after 400 and 2000 calls; random draws reach 0.58. On the shipped DnCNN
    at 32 x 32 pixels 1.45 after 300 calls, one run of the gradient 1.24, a random twin 0.41. Behind
    the Radon transform it falls short: on Ell-50's network at 64 x 64 pixels 1.48 after 300 calls,
    the gradient 4.20. There the worst case of filtered back-projection, which has a gradient,
    reaches 2.90 in one call: give `starts` wherever such a substitute exists.

    The climb is at the largest strength; at each smaller one r is rescaled, called and refined by
    small steps, n_calls / 40 calls a strength. Each image is searched with its own n_calls, the
    call of f(y) included.

    Args:
        f: y (k, ...) -> images (k, ...), torch or NumPy; called with at most 16 at once.
        A: the operator, or any callable from images to measurements.
        image: (batch, 1, h, w) what r is added to, real or complex; r is of the same type.
        y: (batch, ...) measurements of it.
        strengths: values of ||r|| / ||image|| above 0.
        generator: same state, same result.
        n_calls: images that f is given per image, exactly; four a strength, and one a start, or
            more.
        starts: directions like image, of any norm, which are tried first.

    Raises:
        ValueError: for an all-zero image, an f(y) that is not finite, or no finite response at all.
            Single responses that are not finite are skipped.

    Source: the combination is a Rayleigh-Ritz step (Saad, Numerical Methods for Large Eigenvalue
    Problems, ch. 4) on M* M with M = Jacobian times A.
    """
    strengths = sorted(map(float, strengths), reverse=True)
    n_small = max(1, n_calls // 40)
    r, reach = {s: [] for s in strengths}, {s: [] for s in strengths}
    for i in range(len(image)):
        box = _BlackBox(f, forward_of(A), image[i : i + 1], y[i : i + 1])
        for s in strengths:
            if s == strengths[0]:
                box.start(s, n_calls - 1 - n_small * (len(strengths) - 1))
                _climb(box, [start[i : i + 1] for start in starts], generator)
            else:
                u = box.u
                box.start(s, n_small)
                _refine(box, u, generator)
            if box.u is None:
                raise ValueError("f was not finite at any perturbed measurement. Repair f first.")
            r[s].append(box.image_of(box.u) * box.radius)
            reach[s].append(box.reach)
    return SearchResult(
        {s: torch.cat(parts) for s, parts in r.items()},
        {s: torch.stack(values) for s, values in reach.items()},
    )


class _BlackBox:
    """f for one image: directions u are flat real vectors of norm 1, r = radius u."""

    def __init__(self, f, forward, image, y):
        self.f, self.forward, self.image, self.y = f, forward, image, y
        if not bool(image.any()):
            raise ValueError(
                "search measures ||r|| relative to ||image||; got an all-zero image. Leave it out."
            )
        self.before = self._call(y)
        if not bool(torch.isfinite(self.before).all()):
            raise ValueError("f(y) is not finite without any perturbation. Repair f first.")

    def start(self, strength: float, n_calls: int) -> None:
        """Forget the best direction; perturb by ||r|| = strength ||image|| in n_calls from now."""
        self.radius, self.left = strength * torch.linalg.vector_norm(self.image), n_calls
        self.reach = torch.tensor(-1.0, dtype=torch.float64)
        self.u = self.d = None

    def _call(self, y: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return torch.as_tensor(self.f(y)).to(y.device)

    def image_of(self, u: torch.Tensor) -> torch.Tensor:
        shape = self.image.shape[1:]
        if self.image.is_complex():
            return torch.view_as_complex(u.reshape(-1, *shape, 2).contiguous())
        return u.reshape(-1, *shape)

    def attempt(self, u: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (u, d = f(y + A r) - f(y)) for the first `left` directions with finite answers."""
        u = u[: self.left]
        self.left -= len(u)
        d = _flat(self._call(self.y + self.forward(self.image_of(u) * self.radius)) - self.before)
        reach = torch.linalg.vector_norm(d.double(), dim=1).cpu()
        finite = torch.isfinite(reach)
        reach = torch.where(finite, reach, -1.0)
        k = int(reach.argmax())
        if reach[k] > self.reach:
            self.reach, self.u, self.d = reach[k], u[k : k + 1], d[k : k + 1]
        finite = finite.to(u.device)
        return u[finite], d[finite]


def _climb(box: _BlackBox, starts: list[torch.Tensor], generator: torch.Generator) -> None:
    """Call generations of the best combination of all parents, its responses and fresh draws."""
    u, d = box.attempt(torch.cat([_direction(s) for s in starts])) if starts else (None, None)
    same_kind = box.before.is_complex() == box.image.is_complex()
    responses_are_images = box.before.shape == box.image.shape and same_kind
    for generation in itertools.count():
        if box.left <= 0:
            return
        children = []
        if u is not None and len(u):
            best, responses = _combined(u, d, 2)
            children = [best]
            if responses_are_images:
                children = [best[:1], _unit(responses), _unit(box.d.to(u))]
        for j in range(BATCH - sum(map(len, children))):
            children.append(_draws(box, 1, SHARES[(generation + j) % len(SHARES)], generator))
        new_u, new_d = box.attempt(torch.cat(children))
        u = new_u if u is None else torch.cat([u, new_u])
        d = new_d if d is None else torch.cat([d, new_d])
        if len(u) > ARCHIVE:
            u, d = _combined(u, d, KEPT)


def _refine(box: _BlackBox, u: torch.Tensor, generator: torch.Generator) -> None:
    """Call u at the present strength, then small steps from the best."""
    box.attempt(u)
    while box.left > 0:
        start = u if box.u is None else box.u
        step = _draws(box, min(BATCH, box.left), SHARES[box.left % len(SHARES)], generator)
        box.attempt(_unit(start + 0.1 * step))


def _combined(u: torch.Tensor, d: torch.Tensor, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the n orthogonal unit sums sum_k c_k u_k with the largest ||sum_k c_k d_k||, both."""
    overlap, strength = (u @ u.T).double(), (d @ d.T).double()
    e, v = torch.linalg.eigh(overlap)
    independent = e > 1e-5 * e[-1]
    white = v[:, independent] / e[independent].sqrt()
    _, q = torch.linalg.eigh(white.T @ strength @ white)
    c = (white @ q).flip(1)[:, :n].T
    return _unit(c.to(u) @ u), c.to(d) @ d


def _draws(box: _BlackBox, n: int, share: float, generator: torch.Generator) -> torch.Tensor:
    """Return n Gaussian directions, white in the lowest `share` of the frequencies of an axis."""
    x = box.image
    if share == 1:
        return _direction(normal((n, *x.shape[1:]), x, generator))
    h, w = x.shape[-2:]
    k, m = max(2, round(share * h)), max(2, round(share * w))
    z = normal((n, *x.shape[1:-2], k, m), x, generator)
    return _direction(_cosines(h, k, x).T @ z @ _cosines(w, m, x))


def _cosines(n: int, k: int, like: torch.Tensor) -> torch.Tensor:
    """Return the k slowest cosines on n pixels as orthonormal rows (k, n)."""
    pixels = torch.arange(n, dtype=torch.float64) + 0.5
    frequencies = torch.arange(k, dtype=torch.float64)
    rows = torch.cos(torch.pi * frequencies[:, None] * pixels / n) * (2 / n) ** 0.5
    rows[0] /= 2**0.5
    return rows.to(like)


def _flat(x: torch.Tensor) -> torch.Tensor:
    x = torch.view_as_real(x) if x.is_complex() else x
    return x.reshape(len(x), -1)


def _direction(x: torch.Tensor) -> torch.Tensor:
    return _unit(_flat(x))


def _unit(u: torch.Tensor) -> torch.Tensor:
    return u / torch.linalg.vector_norm(u, dim=1, keepdim=True).clamp_min(torch.finfo(u.dtype).tiny)
