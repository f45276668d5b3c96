"""Scores of predicted intervals, distributions and samples against the image."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .checks import comparable, interval, masked, same_shape

LEVELS = tuple(p / 20 for p in range(20))
"""Levels of the intervals that an ECE is a mean over."""

DELTAS = (0.0, *np.logspace(-20, -1, 21).tolist())
"""Tolerances among which `tuned_calibration_error` chooses."""


class Coverage(NamedTuple):
    """Shares of pixels inside the interval, below and above it: three (batch,), the sum is 1."""

    inside: Tensor
    below: Tensor
    above: Tensor


def coverage(lower: Tensor, upper: Tensor, x: Tensor) -> Coverage:
    """Return shares of pixels with lower <= x <= upper, x < lower and x > upper, per image.

    Args:
        lower, upper, x: (batch, ...) of one shape, lower <= upper.

    Both ends count. The published code of the INN paper counts a pixel as covered whenever x <
    upper, below the interval too, which is 1 - `above`. No nominal share is implied: an interval
    network promises none.
    """
    lower, upper, x = interval(lower, upper, x)
    parts = ((lower <= x) & (x <= upper), x < lower, x > upper)
    return Coverage(*[part.to(torch.float64).flatten(1).mean(1) for part in parts])


def interval_score(lower: Tensor, upper: Tensor, x: Tensor, level: float) -> Tensor:
    """Return Winkler's score per image, (batch,): width plus penalties of misses.

    Mean over pixels of (upper - lower) + 2/a max(lower - x, 0) + 2/a max(x - upper, 0), a = 1 -
    level. In the units of x, smaller is better; its expectation is smallest at the a/2 and 1 - a/2
    quantiles, so width and misses are weighed by what an interval of this level should do. An
    interval of no width scores 2/a times the absolute error.
    """
    if not 0 < level < 1:
        raise ValueError(f"interval_score expects a level in (0, 1), such as 0.95; got {level}.")
    lower, upper, x = interval(lower, upper, x)
    misses = (lower - x).clamp(min=0) + (x - upper).clamp(min=0)
    return (upper - lower + 2 / (1 - level) * misses).flatten(1).mean(1)


def gaussian_nll(mean: Tensor, variance: Tensor, x: Tensor, eps: float = 1e-6) -> Tensor:
    """Return -log density of x under N(mean, variance), mean over pixels, (batch,), in nats.

    1/2 log(2 pi (variance + eps)) + 1/2 ((x - mean)^2 + eps) / (variance + eps); eps (in both
    places, as in the published code of the INR papers) keeps it finite for variance 0 and bounds it
    below by 1/2 log(2 pi eps) + 1/2 = -5.49 at eps = 1e-6.
    """
    same_shape(mean, variance)
    mean, x = comparable(mean, x)
    variance = variance.detach().to(torch.float64) + eps
    if not bool((variance > 0).all()):
        raise ValueError(
            "gaussian_nll expects a variance >= 0, not its logarithm, and no NaN. "
            "Take exp(log_variance)."
        )
    quadratic = ((x - mean).square() + eps) / variance
    return 0.5 * (torch.log(2 * math.pi * variance) + quadratic).flatten(1).mean(1)


class Reliability(NamedTuple):
    """Nominal levels of intervals, and the share of pixels that they cover."""

    levels: Tensor  # (n_levels,)
    coverage: Tensor  # (batch, n_levels)


def reliability(
    samples: Tensor,
    x: Tensor,
    delta: float = 0.0,
    levels: Sequence[float] | None = None,
    where: Tensor | None = None,
) -> Reliability:
    """Return the coverage of central intervals of samples, by level p.

    Share of pixels with q_{1/2 - p/2} - delta < x < q_{1/2 + p/2} + delta.

    Args:
        samples: (n_samples, batch, ...) real; q are their empirical quantiles, pixel by pixel
            (numpy's "linear").
        x: (batch, ...) truth.
        delta: tolerance, in the units of x.
        levels: of the intervals, in [0, 1); default 0, 0.05, ..., 0.95.
        where: bool, the shape of x: pixels that count, at least one an image; default all.

    Both ends are strict, as in the published code of the INR papers: a pixel that all samples have
    exactly right is not covered at delta = 0. Perfect samples (drawn as x is) do not reach p: with
    n_samples of them the coverage is p (n - 1) / (n + 1), exactly where the quantile is one of the
    samples and nearly so between them.
    """
    levels = torch.as_tensor(LEVELS if levels is None else levels, dtype=torch.float64)
    return Reliability(levels, _coverages(samples, x, (delta,), levels, where)[..., 0])


def calibration_error(
    samples: Tensor, x: Tensor, delta: float = 0.0, where: Tensor | None = None
) -> Tensor:
    """Return ECE = sum over p = 0, 0.05, ..., 0.95 of 0.05 |coverage(p) - p|, per image, (batch,).

    Arguments as in `reliability`. 0.475 is total failure (nothing covered); 0.525 everything
    covered at every level. Perfect samples get 0.95 / (n_samples + 1) and sampling noise: 0.019
    with 50 of them.
    """
    levels, covered = reliability(samples, x, delta, where=where)
    return (covered - levels).abs().mean(1)


def tuned_calibration_error(
    samples: Tensor, x: Tensor, where: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return the smallest `calibration_error` over delta in `DELTAS` and that delta, both (batch,).

    `DELTAS` are 0 and 21 values from 1e-20 to 1e-1. delta is chosen with the ground truth x, for
    each image by itself: a score that no user without the truth can have, nor trust. It is the ECE
    of the INR papers' published code; say so beside it, and give `calibration_error` with delta = 0
    as well.
    """
    levels = torch.tensor(LEVELS, dtype=torch.float64)
    covered = _coverages(samples, x, DELTAS, levels, where)
    error, best = (covered - levels[:, None]).abs().mean(1).min(1)
    return error, torch.tensor(DELTAS, dtype=torch.float64)[best]


def _coverages(
    samples: Tensor, x: Tensor, deltas: Sequence[float], levels: Tensor, where: Tensor | None
) -> Tensor:
    """Return the coverage (batch, levels, deltas), deltas ascending.

    x is inside where max(low - x, x - high) < delta: one pass a level.
    """
    if samples.is_complex() or samples.shape[1:] != x.shape or len(samples) < 2:
        raise ValueError(
            f"expected two or more real samples (n_samples, {', '.join(map(str, x.shape))}); "
            f"got {(*samples.shape,)}."
        )
    x, where = masked(x, where, "reliability")
    image = torch.arange(len(x), device=x.device)[:, None].expand_as(where)[where]
    total = where.sum(1, dtype=torch.float64)
    drawn = samples.detach().flatten(2)[:, where].mT.sort(1).values.mT.to(torch.float64)
    x = x[where].to(torch.float64)
    deltas = torch.tensor(deltas, dtype=torch.float64, device=x.device)
    n_cells = len(deltas) + 1
    shares = []
    for p in levels.tolist():
        low = _between(drawn, (0.5 - p / 2) * (len(drawn) - 1))
        high = _between(drawn, (0.5 + p / 2) * (len(drawn) - 1))
        # the first delta that is large enough
        first = torch.bucketize(torch.maximum(low - x, x - high), deltas, right=True)
        counts = (image * n_cells + first).bincount(minlength=len(total) * n_cells)
        shares.append(counts.view(len(total), -1)[:, :-1].cumsum(1) / total[:, None])
    return torch.stack(shares, 1).cpu()


def _between(ordered: Tensor, place: float) -> Tensor:
    """Interpolate the rows linearly at a fractional index."""
    below = min(int(place), len(ordered) - 2)
    return torch.lerp(ordered[below], ordered[below + 1], place - below)
