"""Image quality, intervals of means, and slopes: the numbers of every record."""

import math
from typing import NamedTuple

import numpy as np
import torch


def psnr_db(x_rec: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """PSNR = 10 log10(peak^2 / mean (|x_rec| - |x|)^2), peak = max |x|, per image, in dB.

    Args:
        x_rec: (batch, ...) reconstructions, real or complex.
        x: reference of the same shape.

    Returns:
        (batch,) float64 tensor; inf for a perfect image.

    Magnitudes are compared where either is complex, real values as they are. Antun et al. say magnitudes, but their
    code takes the complex difference and the peak of the reconstruction; we take what they say, and the peak of x.
    """
    x_rec, x = _comparable(x_rec, x)
    peak = x.abs().flatten(1).amax(1)
    if not bool((peak > 0).all()):
        raise ValueError("psnr_db: the peak of the reference is 0 for an all-zero image. Leave it out.")
    return 10 * torch.log10(peak.square() / (x_rec - x).square().flatten(1).mean(1))


def ssim(x_rec: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Structural similarity of magnitudes, scikit-image's with a 7x7 window and data range max |x|; (batch,).

    Channels are averaged. Images (batch, channels, n, m), n and m at least 7.
    """
    from skimage.metrics import structural_similarity

    x_rec, x = _comparable(x_rec, x)
    if x.ndim != 4:
        raise ValueError(f"ssim expects (batch, channels, n, m); got {tuple(x.shape)}. Add the axes: x[None, None].")
    return torch.tensor([
        structural_similarity(truth, image, data_range=float(np.abs(truth).max()), channel_axis=0)
        for image, truth in zip(x_rec.cpu().numpy(), x.cpu().numpy(), strict=True)
    ], dtype=torch.float64)


def relative_error(x_rec: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """||x_rec - x|| / ||x|| per image, of the complex difference where complex; (batch,)."""
    _same_shape(x_rec, x)
    return _flat_norm(x_rec - x) / _flat_norm(x)


def pearson(u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Pearson correlation of the pixels of u and v, per image, (batch,); 0 where either is constant.

    The correlation is undefined for a constant map; 0 (no alarm, no information) is our choice, so count such maps.
    """
    _same_shape(u, v)
    u, v = (t.to(torch.float64).flatten(1) for t in (u, v))
    constant = (u.amax(1) == u.amin(1)) | (v.amax(1) == v.amin(1))  # not by the variance: it is round-off, not 0
    u, v = u - u.mean(1, keepdim=True), v - v.mean(1, keepdim=True)
    return torch.where(constant, 0.0, (u * v).sum(1) / (_flat_norm(u) * _flat_norm(v)).where(~constant, 1.0))


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

    Images of one subject or seeds of one network are not independent; average within them first. One value has no
    interval: its ends are NaN.
    """
    values = np.asarray(torch.as_tensor(values).detach().cpu(), dtype=np.float64).ravel()
    if not len(values) or not np.isfinite(values).all():
        raise ValueError(f"mean_ci expects finite values, at least one; got {values}. Decide about the others first.")
    mean = float(values.mean())
    if len(values) == 1:
        return Mean(mean, math.nan, math.nan)
    from scipy.stats import t

    half = float(t.ppf(0.5 + level / 2, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values)))
    return Mean(mean, mean - half, mean + half)


def slope_loglog(x, y) -> float:
    """Least-squares slope of log y against log x: the p of y ~ x^p. Both positive, at least two different x."""
    x, y = (np.asarray(torch.as_tensor(t).detach().cpu(), dtype=np.float64) for t in (x, y))
    if x.shape != y.shape or not ((x > 0) & (y > 0)).all() or len(np.unique(x)) < 2:
        raise ValueError(f"slope_loglog expects as many positive y as x and two different x; got x = {x}, y = {y}.")
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def _comparable(x_rec, x):
    """Both as float64, magnitudes where either is complex."""
    _same_shape(x_rec, x)
    if x_rec.is_complex() or x.is_complex():
        x_rec, x = x_rec.abs(), x.abs()
    return x_rec.detach().to(torch.float64), x.detach().to(torch.float64)


def _same_shape(a, b):
    if a.shape != b.shape or a.ndim < 2:
        raise ValueError(f"expected two batches of the same shape (batch, ...); got {(*a.shape,)} and {(*b.shape,)}.")


def _flat_norm(t):
    return torch.linalg.vector_norm(t.flatten(1), dim=1)
