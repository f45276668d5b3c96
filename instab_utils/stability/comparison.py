"""What every test compares: three methods on the same measurement, their images, their averages."""

from collections.abc import Callable

import torch
from torch import Tensor

from .. import metrics
from ..networks import Case

METHODS = ("network", "tv", "front_end")
"""The network (or shearlets), total variation and A^+, in records and tables."""


def methods(case: Case) -> dict[str, Callable[[Tensor], Tensor]]:
    """Return the three y -> x that are put to the same test, by `METHODS`."""
    return {"network": case.f, "tv": case.tv, "front_end": case.front_end}


def displayed(x: Tensor) -> Tensor:
    """Return what is looked at: the magnitude of a complex image, a real image as it is."""
    return x.abs() if x.is_complex() else x


def psnr(x_rec: Tensor, x: Tensor) -> float:
    """Return the PSNR in dB; real images are clipped to [0, 1] first, whatever made them."""
    if not x.is_complex():
        x_rec = displayed(x_rec).clamp(0, 1)
    return float(metrics.psnr_db(x_rec, x))


def summary(columns: dict[str, list[float]]) -> dict[str, object]:
    """Return the mean of every column over images with Student's interval, and the values."""
    means = {
        name: metrics.mean_ci(torch.tensor(values, dtype=torch.float64))
        for name, values in columns.items()
    }
    images = {
        f"{name}_images": [round(float(v), 6) for v in values] for name, values in columns.items()
    }
    return means | images
