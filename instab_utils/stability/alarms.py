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
) -> dict[str, Tensor]:
    """Return how the map u answers a failure, of each image.

    Args:
        before, after: u(x) of the clean and u(x') of the failed input, (batch, channels, n, m).
        f_after: f(x').
        usual: 95 % quantile of the mean of u over clean validation images.

    Returns:
        corr_error: Pearson correlation of u(x') with the error |f(x') - truth|.
        auroc: of u(x') against the mask, where there is one; auroc_clean: of u(x).
        rings, rings_clean: 1 where the mean of u(x'), of u(x) exceeds `usual`.
    """
    found = {
        "corr_error": metrics.pearson(after, (f_after - failure.x).abs()),
        "rings": (after.flatten(1).mean(1) > usual).double(),
        "rings_clean": (before.flatten(1).mean(1) > usual).double(),
    }
    if failure.mask is not None:
        found["auroc"] = metrics.auroc(after, failure.mask)
        found["auroc_clean"] = metrics.auroc(before, failure.mask)
    return found


def nested(scores: dict[str, object]) -> dict[str, dict[str, object]]:
    """Return the metrics of a record, by what they are of: "failed" or "clean" input, or "tv".

    rings_clean -> clean: rings; psnr_stable_db -> tv: psnr_db.
    """
    parts = {"failed": {}, "clean": {}, "tv": {}}
    for name, value in scores.items():
        if "_stable" in name:
            parts["tv"][name.replace("_stable", "")] = value
        elif "_clean" in name:
            parts["clean"][name.replace("_clean", "")] = value
        else:
            parts["failed"][name] = value
    return {part: columns for part, columns in parts.items() if columns}


def image_auroc(before: Tensor, after: Tensor) -> float:
    """Return P(mean u of a failure > mean u of a clean image), over all pairs of images."""
    values = torch.cat([u.flatten(1).mean(1) for u in (before, after)])
    failed = torch.arange(len(values)) >= len(before)
    return float(metrics.auroc(values[None], failed[None]))
