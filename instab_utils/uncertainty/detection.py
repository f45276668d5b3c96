"""Detection scores: how well an uncertainty map, or its change, marks a wrong reconstruction."""

import math

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad

from .. import metrics
from .prediction import Prediction

FALSE_ALARM_RATE = 0.05  # of `threshold`


def averaged(u: Tensor, size: int = 7) -> Tensor:
    """Return the mean of u over the size x size box around each pixel.

    Images are reflected at the borders (edge not repeated).

    Args:
        u: (batch, channels, n, m) maps, n and m larger than size // 2.
        size: odd side of the box; 1 leaves u as it is.

    Smoothing raises the score of any alarm against a region (a binary mask): give every detector
    the same box before comparing them.
    """
    half = size // 2
    if size < 1 or size % 2 == 0:
        raise ValueError(f"averaged expects an odd size >= 1; got {size}.")
    if u.ndim != 4 or min(u.shape[-2:]) <= half:
        raise ValueError(
            f"averaged(size={size}) expects (batch, channels, n, m), n and m > {half}; "
            f"got {(*u.shape,)}. Take a smaller size, or add the axes."
        )
    return avg_pool2d(pad(u, (half,) * 4, mode="reflect"), size, stride=1)


def alarm(before: Prediction, after: Prediction, average: int = 1) -> Tensor:
    """Return |u(x') - u(x)|, `averaged` over boxes of side `average`: (batch, channels, n, m).

    `before` belongs to the clean input x, `after` to the changed x'; both from one estimator, in
    the same state (for dropout: the same masks, or this is mostly the noise of sampling).
    """
    return averaged((after.spread - before.spread).abs(), average)


def threshold(spreads: Tensor) -> float:
    """Return the smallest u that at most 5 % of the pixels exceed: the 95 % quantile.

    Args:
        spreads: maps of clean images that are not test images, any shape, averaged as the maps that
            will be compared with the threshold.

    The rate is kept over these pixels together, not in each image, and on other images only as far
    as they resemble these.
    """
    n = spreads.numel()
    if not n or bool(spreads.isnan().any()):
        raise ValueError(f"threshold expects at least one spread, none NaN; got {n}.")
    rank = n - math.floor(FALSE_ALARM_RATE * n)
    return float(spreads.detach().flatten().kthvalue(rank).values)


def twin_scores(
    before: Prediction,
    after: Prediction,
    reference: Tensor,
    mask: Tensor,
    average: int = 1,
) -> dict[str, Tensor]:
    """Return the INN paper's scores, with the clean twin x of a changed input x' at hand.

    Args:
        before, after: predictions from x and from x'.
        reference: (batch, channels, n, m): AdvDetect |Phi(x) - Phi(x')|, ArtDetect the binary mask
            as float.
        mask: bool, same shape: where the input was changed.
        average: side of the box that averages the alarm.

    Returns:
        Each (batch,) float64.
        pearson_r: Pearson correlation of the alarm |u(x') - u(x)| and the reference; 0 for a
            constant alarm.
        auroc: area under the ROC curve of the alarm against the mask.
        constant: 1 where the alarm is constant, 0 elsewhere; report how many there were.

    Limits: in use there is no clean twin (see `lone_scores`). Pearson has no scale: intervals of a
    ten-thousandth of the error that cover nothing can score as well as calibrated ones, so report
    `calibration` beside it. A change of uncertainty partly repeats the change of the input, so
    compare with null detectors.
    """
    u = alarm(before, after, average)
    flat = u.flatten(1)
    return {
        "pearson_r": metrics.pearson(u, reference),
        "auroc": metrics.auroc(u, mask),
        "constant": (flat.amax(1) == flat.amin(1)).to(torch.float64),
    }


def lone_scores(u: Tensor, mask: Tensor, limit: float) -> dict[str, Tensor]:
    """Return the scores of u(x') alone, without the clean twin.

    Args:
        u: (batch, channels, n, m) map u(x') of the changed input, `averaged` if that is asked for.
        mask: bool, (batch, channels, n, m): where the input was changed; some pixels are, some are
            not.
        limit: from `threshold`, of maps averaged alike.

    Returns:
        Each (batch,) float64.
        auroc_lone: area under the ROC curve of u(x') against the mask.
        detection_rate: share of the pixels of the mask with u > limit.
        false_alarm_rate_outside: the same share outside the mask.

    A network reaches beyond the mask by half its receptive field, so pixels just outside are
    changed too and count as false alarms.
    """
    return {
        "auroc_lone": metrics.auroc(u, mask),
        "detection_rate": metrics.rate_above(u, limit, mask),
        "false_alarm_rate_outside": metrics.rate_above(u, limit, ~mask),
    }


def calibration(prediction: Prediction, x: Tensor) -> dict[str, Tensor]:
    """Return how the interval and the spread of a prediction relate to its error.

    Args:
        prediction: of an estimator.
        x: (batch, channels, n, m) the truth.

    Returns:
        Each (batch,) float64.
        coverage, below, above: shares of pixels with x inside, below and above [lower, upper].
        width: mean of upper - lower.
        corr_error: Pearson correlation of spread and |mean - x|; 0 for a constant spread.
        interval_score: Winkler's score for 95 %, in the units of x; 40 |error| for an interval
            without width.

    Report coverage together with width: an interval as wide as the grey scale covers everything.
    Only Gaussian intervals claim 95 %; an interval network claims no level.
    """
    inside, below, above = metrics.coverage(prediction.lower, prediction.upper, x)
    width = (prediction.upper - prediction.lower).to(torch.float64).flatten(1).mean(1)
    return {
        "coverage": inside,
        "below": below,
        "above": above,
        "width": width,
        "corr_error": metrics.pearson(prediction.spread, (prediction.mean - x).abs()),
        "interval_score": metrics.interval_score(prediction.lower, prediction.upper, x, level=0.95),
    }
