"""How well a map of scores points at pixels."""

import torch
from torch import Tensor

from .checks import masked


def auroc(score: Tensor, positive: Tensor) -> Tensor:
    """Return the area under the ROC curve, per image, (batch,).

    P(score of a positive pixel > score of a negative one) + P(equal) / 2.

    Args:
        score: (batch, ...) real, larger means more alarming; only the order counts.
        positive: bool, the same shape; every image needs pixels of both kinds.

    By average ranks (Mann-Whitney). 0.5 is chance, and exactly what a constant map gets. It does
    not depend on how rare the positive pixels are: among few of them an alarm of AUROC 0.9 can
    still be wrong most of the time.
    """
    score, positive = masked(score, positive, "auroc")
    n_positive = positive.sum(1, dtype=torch.float64)
    n_negative = positive.shape[1] - n_positive
    for i, (p, n) in enumerate(zip(n_positive, n_negative, strict=True)):
        if p == 0 or n == 0:
            raise ValueError(
                f"auroc needs positive and negative pixels in every image; image {i} has {p:.0f} "
                f"and {n:.0f}."
            )
    rank_sums = []
    for values, chosen in zip(score, positive, strict=True):
        _, level, count = values.unique(return_inverse=True, return_counts=True)
        count = count.to(torch.float64)
        ranks = count.cumsum(0) - (count - 1) / 2  # the mean rank of equal values, from 1
        rank_sums.append(ranks[level][chosen].sum())
    wins = torch.stack(rank_sums) - n_positive * (n_positive + 1) / 2
    return wins / (n_positive * n_negative)


def rate_above(score: Tensor, threshold: float, where: Tensor | None = None) -> Tensor:
    """Return the share of pixels (of those with `where`) with score > threshold, (batch,)."""
    score, where = masked(score, where, "rate_above")
    return ((score > threshold) & where).sum(1) / where.sum(1, dtype=torch.float64)
