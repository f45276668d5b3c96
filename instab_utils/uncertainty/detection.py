"""Uncertainty as an alarm: how well the map of an estimator, or its change, tells where a reconstruction has gone wrong."""

import torch
from torch.nn.functional import avg_pool2d, pad


def averaged(u: torch.Tensor, size: int = 7) -> torch.Tensor:
    """(1 / size^2) sum of u over the size x size box around each pixel, reflected at the borders (edge not repeated).

    Args:
        u: (batch, channels, n, m) maps, n and m larger than size // 2.
        size: odd side of the box; 1 leaves u as it is.

    An alarm asked against a region (a binary mask) gains by any smoothing, whatever it is an alarm of: give every detector
    the same box before comparing them.
    """
    half = size // 2
    if size < 1 or size % 2 == 0:
        raise ValueError(f"averaged expects an odd size >= 1; got {size}.")
    if u.ndim != 4 or min(u.shape[-2:]) <= half:
        raise ValueError(f"averaged(size={size}) expects (batch, channels, n, m), n and m > {half}; got {(*u.shape,)}. Take a smaller size.")
    return avg_pool2d(pad(u, (half,) * 4, mode="reflect"), size, stride=1)
