"""Pools of samples: mean, spread and quantiles of each pixel, and those of deep ensembles."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .prediction import Prediction


def from_samples(samples: Tensor) -> Prediction:
    """Return mean, unbiased variance and 2.5 and 97.5 % quantiles of samples, pixel by pixel.

    Quantiles rather than mean -+ 1.96 s: samples of a field pile up at 0 and 1.

    Args:
        samples: (n_samples, batch, channels, n, m).
    """
    if len(samples) < 2:
        raise ValueError(f"from_samples expects at least two samples; got {len(samples)}.")
    samples = samples.float()
    ends = torch.tensor([(1 - 0.95) / 2, (1 + 0.95) / 2], device=samples.device)
    lower, upper = torch.quantile(samples, ends, 0)
    return Prediction(samples.mean(0), samples.var(0), lower, upper)


def pooled(members: Sequence[Tensor], n_samples: int = 50) -> Tensor:
    """Return the samples of a deep ensemble: the first int(n_samples / N) of each of N members.

    Three members give 48 of 50 samples.

    Args:
        members: samples of each member, (at least n_samples / N, batch, ...), of the same images.

    Source: Lakshminarayanan et al. 2017 pool one Gaussian a member; the INR paper pools samples of
    members that have dropout themselves.
    """
    share = n_samples // max(len(members), 1)
    if share < 1 or any(len(samples) < share for samples in members):
        raise ValueError(
            f"pooled expects members with {max(share, 1)} samples each, {n_samples} in all; got "
            f"{[len(samples) for samples in members]}."
        )
    return torch.cat([samples[:share] for samples in members])
