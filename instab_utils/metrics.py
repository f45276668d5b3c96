"""Image quality, intervals, alarms, means and slopes: the numbers of every record."""

import math
from typing import NamedTuple

import numpy as np
import torch


def psnr_db(x_rec: torch.Tensor, x: torch.Tensor, peak: float | None = None) -> torch.Tensor:
    """PSNR = 10 log10(peak^2 / mean (|x_rec| - |x|)^2), peak = max |x|, per image, in dB.

    Args:
        x_rec: (batch, ...) reconstructions, real or complex.
        x: reference of the same shape.
        peak: this number for all images instead; 1 in the INR paper.

    Returns:
        (batch,) float64 tensor; inf for a perfect image.

    Magnitudes are compared where either is complex, real values as they are. Antun et al. say
    magnitudes, but their code takes the complex difference and the peak of the reconstruction; we
    take what they say, and the peak of x.
    """
    x_rec, x = _comparable(x_rec, x)
    peak = (
        x.abs().flatten(1).amax(1)
        if peak is None
        else torch.full((len(x),), peak, dtype=torch.float64, device=x.device)
    )
    if not bool((peak > 0).all()):
        raise ValueError(
            "psnr_db: the peak of the reference is 0 for an all-zero image. Leave it out."
        )
    return 10 * torch.log10(peak.square() / (x_rec - x).square().flatten(1).mean(1))


def ssim(x_rec: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Structural similarity of magnitudes, scikit-image's with a 7x7 window and data range max |x|;
    (batch,).

    Channels are averaged. Images (batch, channels, n, m), n and m at least 7.
    """
    from skimage.metrics import structural_similarity

    x_rec, x = _comparable(x_rec, x)
    if x.ndim != 4:
        raise ValueError(
            f"ssim expects (batch, channels, n, m); got {tuple(x.shape)}. Add the axes: x[None, None]."
        )
    return torch.tensor(
        [
            structural_similarity(
                truth, image, data_range=float(np.abs(truth).max()), channel_axis=0
            )
            for image, truth in zip(x_rec.cpu().numpy(), x.cpu().numpy(), strict=True)
        ],
        dtype=torch.float64,
    )


def relative_error(x_rec: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """||x_rec - x|| / ||x|| per image, of the complex difference where complex; (batch,)."""
    _same_shape(x_rec, x)
    return _flat_norm(x_rec - x) / _flat_norm(x)


def pearson(u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Pearson correlation of the pixels of u and v, per image, (batch,); 0 where either is
    constant.

    The correlation is undefined for a constant map; 0 (no alarm, no information) is our choice, so
    count such maps.
    """
    _same_shape(u, v)
    u, v = (t.to(torch.float64).flatten(1) for t in (u, v))
    # not by the variance: it is round-off, not 0
    constant = (u.amax(1) == u.amin(1)) | (v.amax(1) == v.amin(1))
    u, v = u - u.mean(1, keepdim=True), v - v.mean(1, keepdim=True)
    return torch.where(
        constant, 0.0, (u * v).sum(1) / (_flat_norm(u) * _flat_norm(v)).where(~constant, 1.0)
    )


class Coverage(NamedTuple):
    """Shares of the pixels of each image inside its interval, below and above it; three (batch,)
    tensors that add up to 1.
    """

    inside: torch.Tensor
    below: torch.Tensor
    above: torch.Tensor


def coverage(lower: torch.Tensor, upper: torch.Tensor, x: torch.Tensor) -> Coverage:
    """Shares of pixels with lower <= x <= upper, x < lower and x > upper, per image.

    Args:
        lower, upper, x: (batch, ...) of one shape, lower <= upper.

    Both ends count. The published code of the INN paper counts a pixel as covered whenever x <
    upper, below the interval too, which is 1 - `above`. What share is right is not said here: an
    interval network promises none.
    """
    lower, upper, x = _interval(lower, upper, x)
    return Coverage(
        *(
            t.to(torch.float64).flatten(1).mean(1)
            for t in ((lower <= x) & (x <= upper), x < lower, x > upper)
        )
    )


def interval_score(
    lower: torch.Tensor, upper: torch.Tensor, x: torch.Tensor, level: float
) -> torch.Tensor:
    """Winkler's score, mean over pixels of (upper - lower) + 2/a max(lower - x, 0) + 2/a max(x -
    upper, 0), a = 1 - level; (batch,).

    In the units of x, smaller is better; its expectation is smallest at the a/2 and 1 - a/2
    quantiles, so width and misses are weighed by what an interval of this level should do. An
    interval of no width scores 2/a times the absolute error.
    """
    if not 0 < level < 1:
        raise ValueError(f"interval_score expects a level in (0, 1), such as 0.95; got {level}.")
    lower, upper, x = _interval(lower, upper, x)
    misses = (lower - x).clamp(min=0) + (x - upper).clamp(min=0)
    return (upper - lower + 2 / (1 - level) * misses).flatten(1).mean(1)


def gaussian_nll(
    mean: torch.Tensor, variance: torch.Tensor, x: torch.Tensor, eps: float = 1e-6
) -> torch.Tensor:
    """Negative log-likelihood of x under N(mean, variance), mean over pixels, per image, (batch,),
    in nats.

    1/2 log(2 pi (variance + eps)) + 1/2 ((x - mean)^2 + eps) / (variance + eps); eps (in both
    places, as in the published code of the INR papers) keeps it finite for variance 0 and bounds it
    below by 1/2 log(2 pi eps) + 1/2 = -5.49 at eps = 1e-6.
    """
    _same_shape(mean, variance)
    mean, x = _comparable(mean, x)
    variance = variance.detach().to(torch.float64) + eps
    if not bool((variance > 0).all()):
        raise ValueError(
            "gaussian_nll expects a variance >= 0, not its logarithm, and no NaN. Take exp(log_variance)."
        )
    return 0.5 * (
        torch.log(2 * math.pi * variance) + ((x - mean).square() + eps) / variance
    ).flatten(1).mean(1)


class Reliability(NamedTuple):
    """What intervals promise and what they keep."""

    levels: torch.Tensor  # (n_levels,)
    coverage: torch.Tensor  # (batch, n_levels)


DELTAS = (0.0, *np.logspace(-20, -1, 21).tolist())
"""Tolerances among which `tuned_calibration_error` chooses."""


def reliability(
    samples: torch.Tensor,
    x: torch.Tensor,
    delta: float = 0.0,
    levels=None,
    where: torch.Tensor | None = None,
) -> Reliability:
    """Coverage of central intervals of samples: share of pixels with q_{1/2 - p/2} - delta < x <
    q_{1/2 + p/2} + delta, by level p.

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
    levels = (
        torch.arange(20, dtype=torch.float64) / 20
        if levels is None
        else torch.as_tensor(levels, dtype=torch.float64)
    )
    return Reliability(levels, _coverages(samples, x, (delta,), levels, where)[..., 0])


def calibration_error(
    samples: torch.Tensor, x: torch.Tensor, delta: float = 0.0, where: torch.Tensor | None = None
) -> torch.Tensor:
    """ECE = sum over p = 0, 0.05, ..., 0.95 of 0.05 |coverage(p) - p|, per image, (batch,);
    arguments as in `reliability`.

    0.475 is total failure (nothing covered); 0.525 everything covered at every level. Perfect
    samples get 0.95 / (n_samples + 1)
    and sampling noise: 0.019 with 50 of them.
    """
    levels, covered = reliability(samples, x, delta, where=where)
    return (covered - levels).abs().mean(1)


def tuned_calibration_error(
    samples: torch.Tensor, x: torch.Tensor, where: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The smallest `calibration_error` over delta in `DELTAS`, 0 and 21 values from 1e-20 to 1e-1,
    and that delta; both (batch,).

    delta is chosen with the ground truth x, for each image by itself: a score that no user without
    the truth can have, nor trust. It is the ECE of the INR papers' published code; say so beside
    it, and give `calibration_error` with delta = 0 as well.
    """
    levels = torch.arange(20, dtype=torch.float64) / 20
    covered = _coverages(samples, x, DELTAS, levels, where)
    error, best = (covered - levels[:, None]).abs().mean(1).min(1)
    return error, torch.tensor(DELTAS, dtype=torch.float64)[best]


def _coverages(samples, x, deltas, levels, where):
    """Coverage (batch, levels, deltas), deltas ascending. x is inside where max(low - x, x - high)
    < delta: one pass a level.
    """
    if samples.is_complex() or samples.shape[1:] != x.shape or len(samples) < 2:
        raise ValueError(
            f"expected two or more real samples (n_samples, {', '.join(map(str, x.shape))}); got {(*samples.shape,)}."
        )
    x, where = _masked(
        x, torch.ones_like(x, dtype=torch.bool) if where is None else where, "reliability"
    )
    image = torch.arange(len(x), device=x.device)[:, None].expand_as(where)[where]
    total = image.bincount(minlength=len(x)).to(torch.float64)
    if not bool((total > 0).all()):
        raise ValueError(
            f"reliability needs a pixel of the mask in every image; image {int((total == 0).nonzero()[0])} has none."
        )
    drawn, x = (
        samples.detach().flatten(2)[:, where].mT.sort(1).values.mT.to(torch.float64),
        x[where].to(torch.float64),
    )
    deltas, found = torch.tensor(deltas, dtype=torch.float64, device=x.device), []
    for p in levels.tolist():
        low, high = (_between(drawn, q * (len(drawn) - 1)) for q in (0.5 - p / 2, 0.5 + p / 2))
        # the first delta that is large enough
        first = torch.bucketize(torch.maximum(low - x, x - high), deltas, right=True)
        counts = (image * (len(deltas) + 1) + first).bincount(
            minlength=len(total) * (len(deltas) + 1)
        )
        found.append(counts.view(len(total), -1)[:, :-1].cumsum(1) / total[:, None])
    return torch.stack(found, 1).cpu()


def _between(ordered, place):
    """Linear interpolation of the rows at a fractional index."""
    below = min(int(place), len(ordered) - 2)
    return torch.lerp(ordered[below], ordered[below + 1], place - below)


def auroc(score: torch.Tensor, positive: torch.Tensor) -> torch.Tensor:
    """P(score of a positive pixel > score of a negative one) + P(equal) / 2, the area under the ROC
    curve, per image, (batch,).

    Args:
        score: (batch, ...) real, larger means more alarming; only the order counts.
        positive: bool, the same shape; every image needs pixels of both kinds.

    By average ranks (Mann-Whitney). 0.5 is chance, and exactly what a constant map gets. It does
    not see how rare the positive
    pixels are: among few of them an alarm of AUROC 0.9 can still be wrong most of the time.
    """
    score, positive = _masked(score, positive, "auroc")
    n_positive = positive.sum(1, dtype=torch.float64)
    n_negative = positive.shape[1] - n_positive
    for i, (p, n) in enumerate(zip(n_positive, n_negative, strict=True)):
        if p == 0 or n == 0:
            raise ValueError(
                f"auroc needs positive and negative pixels in every image; image {i} has {p:.0f} and {n:.0f}."
            )
    rank_sums = []
    for values, chosen in zip(score, positive, strict=True):
        _, level, count = values.unique(return_inverse=True, return_counts=True)
        count = count.to(torch.float64)
        ranks = count.cumsum(0) - (count - 1) / 2  # the mean rank of equal values, from 1
        rank_sums.append(ranks[level][chosen].sum())
    return (torch.stack(rank_sums) - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative)


def rate_above(
    score: torch.Tensor, threshold: float, where: torch.Tensor | None = None
) -> torch.Tensor:
    """Share of the pixels of each image (of those with `where`, bool, same shape) whose score is >
    threshold; (batch,).
    """
    score, where = _masked(
        score, torch.ones_like(score, dtype=torch.bool) if where is None else where, "rate_above"
    )
    n = where.sum(1, dtype=torch.float64)
    if not bool((n > 0).all()):
        raise ValueError(
            f"rate_above needs a pixel of the mask in every image; image {int((n == 0).nonzero()[0])} has none."
        )
    return ((score > threshold) & where).sum(1) / n


class Mean(NamedTuple):
    """A mean and the ends of its interval."""

    mean: float
    low: float
    high: float

    @property
    def ci(self) -> list[float]:
        """[low, high], the form of `<name>_ci` in a record."""
        return [self.low, self.high]


def mean_ci(values, level: float = 0.95) -> Mean:
    """Mean of independent values with its Student-t interval, mean +- t_{n-1} s / sqrt(n).

    Images of one subject or seeds of one network are not independent; average within them first.
    One value has no
    interval: its ends are NaN.
    """
    values = _values(values, "mean_ci")
    mean = float(values.mean())
    if len(values) == 1:
        return Mean(mean, math.nan, math.nan)
    from scipy.stats import t

    half = float(
        t.ppf(0.5 + level / 2, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values))
    )
    return Mean(mean, mean - half, mean + half)


def bootstrap_ci(values, generator: torch.Generator, level: float = 0.95, n: int = 2000) -> Mean:
    """Mean of independent values with its percentile bootstrap interval: quantiles of the means of
    n resamples with replacement.

    No normality asked, unlike `mean_ci`, which stays the wider and safer one for few values: with
    10 of them a 95 % bootstrap interval holds the truth in about 90 % of the cases. One value has
    no interval: its ends are NaN.
    """
    values = _values(values, "bootstrap_ci")
    if len(values) == 1:
        return Mean(float(values[0]), math.nan, math.nan)
    drawn = (
        torch.randint(len(values), (n, len(values)), generator=generator, device=generator.device)
        .cpu()
        .numpy()
    )
    low, high = np.quantile(values[drawn].mean(1), [0.5 - level / 2, 0.5 + level / 2])
    return Mean(float(values.mean()), float(low), float(high))


def slope_loglog(x, y) -> float:
    """Least-squares slope of log y against log x: the p of y ~ x^p. Both positive, at least two
    different x.
    """
    x, y = (np.asarray(torch.as_tensor(t).detach().cpu(), dtype=np.float64) for t in (x, y))
    if x.shape != y.shape or not ((x > 0) & (y > 0)).all() or len(np.unique(x)) < 2:
        raise ValueError(
            f"slope_loglog expects as many positive y as x and two different x; got x = {x}, y = {y}."
        )
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def _comparable(x_rec, x):
    """Both as float64, magnitudes where either is complex."""
    _same_shape(x_rec, x)
    if x_rec.is_complex() or x.is_complex():
        x_rec, x = x_rec.abs(), x.abs()
    return x_rec.detach().to(torch.float64), x.detach().to(torch.float64)


def _interval(lower, upper, x):
    """All three as float64; an interval whose ends have crossed holds nothing and is refused."""
    _same_shape(lower, upper)
    lower, x = _comparable(lower, x)
    upper = upper.detach().to(torch.float64)
    if not bool((lower <= upper).all()):
        raise ValueError(
            "expected lower <= upper in every pixel; they cross, or are NaN. Exchange them, or look for the bug."
        )
    return lower, upper, x


def _masked(score, mask, name):
    """(batch, pixels) of both; NaN is neither above nor below anything, so it is refused."""
    _same_shape(score, mask)
    if mask.dtype != torch.bool or score.is_complex() or bool(score.isnan().any()):
        raise ValueError(
            f"{name} expects a real score without NaN and a bool mask; got {score.dtype} and {mask.dtype}. Take mask > 0.5."
        )
    return score.detach().flatten(1), mask.flatten(1)


def _values(values, name):
    values = np.asarray(torch.as_tensor(values).detach().cpu(), dtype=np.float64).ravel()
    if not len(values) or not np.isfinite(values).all():
        raise ValueError(
            f"{name} expects finite values, at least one; got {values}. Decide about the others first."
        )
    return values


def _same_shape(a, b):
    if a.shape != b.shape or a.ndim < 2:
        raise ValueError(
            f"expected two batches of the same shape (batch, ...); got {(*a.shape,)} and {(*b.shape,)}."
        )


def _flat_norm(t):
    return torch.linalg.vector_norm(t.flatten(1), dim=1)
