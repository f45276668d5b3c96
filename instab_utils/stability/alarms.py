"""Scores of an uncertainty map as an alarm of failures."""

from typing import NamedTuple

import torch
from torch import Tensor

from .. import metrics

CONTRAST = 0.3  # of the details that an alarm has to find


class Failure(NamedTuple):
    """Inputs after a failure, the truth behind them, and the place of the failure if it has one."""

    kind: str
    amount: float
    x_in: Tensor
    x: Tensor
    mask: Tensor | None


def scores(
    before: Tensor, after: Tensor, f_after: Tensor, failure: Failure, usual: float
) -> dict[str, dict[str, Tensor]]:
    """Return how the map u answers a failure, of each image: "failed" and "clean" input.

    Args:
        before, after: u(x) of the clean and u(x') of the failed input, (batch, channels, n, m).
        f_after: f(x').
        usual: 95 % quantile of the mean of u over clean validation images.

    Returns:
        corr_error: Pearson correlation of u(x') with the error |f(x') - truth|; "failed" only.
        auroc: of u(x'), of u(x) against the mask, where there is one.
        rings: 1 where the mean of u(x'), of u(x) exceeds `usual`.
    """
    parts = {"failed": {"corr_error": metrics.pearson(after, (f_after - failure.x).abs())}}
    for part, u in (("failed", after), ("clean", before)):
        columns = parts.setdefault(part, {})
        columns["rings"] = (u.flatten(1).mean(1) > usual).double()
        if failure.mask is not None:
            columns["auroc"] = metrics.auroc(u, failure.mask)
    return parts


def image_auroc(before: Tensor, after: Tensor) -> float:
    """Return P(mean u of a failure > mean u of a clean image), over all pairs of images."""
    values = torch.cat([u.flatten(1).mean(1) for u in (before, after)])
    failed = torch.arange(len(values), device=values.device) >= len(before)
    return float(metrics.auroc(values[None], failed[None]))
