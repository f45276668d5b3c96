"""Means with intervals, and slopes: the numbers of every record."""

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike


class Mean(NamedTuple):
    """A mean and the ends of its interval."""

    mean: float
    low: float
    high: float

    @property
    def ci(self) -> list[float]:
        """[low, high], the form of `<name>_ci` in a record."""
        return [self.low, self.high]


def mean_ci(values: ArrayLike, level: float = 0.95) -> Mean:
    """Return the mean of independent values with its Student-t interval.

    The interval is mean +- t_{n-1} s / sqrt(n). Images of one subject or seeds of one network are
    not independent; average within them first. One value has no interval: its ends are NaN.
    """
    values = _values(values, "mean_ci")
    mean = float(values.mean())
    if len(values) == 1:
        return Mean(mean, math.nan, math.nan)
    from scipy.stats import t

    error = values.std(ddof=1) / math.sqrt(len(values))
    half = float(t.ppf(0.5 + level / 2, len(values) - 1) * error)
    return Mean(mean, mean - half, mean + half)


def bootstrap_ci(
    values: ArrayLike, generator: torch.Generator, level: float = 0.95, n: int = 2000
) -> Mean:
    """Return the mean of independent values with its percentile bootstrap interval.

    Its ends are quantiles of the means of n resamples with replacement. No normality is assumed,
    unlike `mean_ci`, which stays the wider and safer one for few values: with 10 of them a 95 %
    bootstrap interval holds the truth in about 90 % of the cases. One value has no interval: its
    ends are NaN.
    """
    values = _values(values, "bootstrap_ci")
    if len(values) == 1:
        return Mean(float(values[0]), math.nan, math.nan)
    shape = (n, len(values))
    drawn = torch.randint(len(values), shape, generator=generator, device=generator.device)
    means = values[drawn.cpu().numpy()].mean(1)
    low, high = np.quantile(means, [0.5 - level / 2, 0.5 + level / 2])
    return Mean(float(values.mean()), float(low), float(high))


def slope_loglog(x: ArrayLike, y: ArrayLike) -> float:
    """Return the least-squares slope of log y against log x: the p of y ~ x^p, all positive."""
    x, y = _array(x), _array(y)
    if x.shape != y.shape or not ((x > 0) & (y > 0)).all() or len(np.unique(x)) < 2:
        raise ValueError(
            f"slope_loglog expects as many positive y as x and two different x; got x = {x}, "
            f"y = {y}."
        )
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def _values(values: ArrayLike, name: str) -> np.ndarray:
    values = _array(values).ravel()
    if not len(values) or not np.isfinite(values).all():
        raise ValueError(
            f"{name} expects finite values, at least one; got {values}. Decide about the others "
            "first."
        )
    return values


def _array(values: ArrayLike) -> np.ndarray:
    return np.asarray(torch.as_tensor(values).detach().cpu(), dtype=np.float64)
