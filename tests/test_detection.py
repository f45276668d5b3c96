"""Detection scores against scipy, brute-force counts and predictions whose answer is known."""

import math

import numpy as np
import pytest
import scipy.ndimage
import torch

from instab_utils import metrics
from instab_utils.uncertainty import detection
from instab_utils.uncertainty.prediction import Prediction


def randn(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def prediction(spread, mean=0.0):
    mean = torch.zeros_like(spread) + mean
    return Prediction(mean, spread, mean - spread / 2, mean + spread / 2)


def half_mask(batch=2, n=15, m=17):
    mask = torch.zeros(batch, 1, n, m, dtype=torch.bool)
    mask[..., : m // 2] = True
    return mask


@pytest.mark.parametrize("size", [1, 3, 7, 13])
def test_averaged_is_scipys_uniform_filter(size):
    u = randn(0, 2, 3, 15, 8)
    ours = detection.averaged(u, size)
    assert ours.shape == u.shape and ours.dtype == u.dtype
    for b in range(2):
        for c in range(3):
            assert np.allclose(
                ours[b, c], scipy.ndimage.uniform_filter(u[b, c].numpy(), size, mode="mirror")
            )


def test_averaged_refuses():
    with pytest.raises(ValueError, match="odd size"):
        detection.averaged(randn(0, 1, 1, 9, 9), 4)
    with pytest.raises(ValueError, match="n and m > 4"):
        detection.averaged(randn(0, 1, 1, 9, 4), 9)
    with pytest.raises(ValueError, match="add the axes"):
        detection.averaged(randn(0, 9, 9))


def test_alarm_has_no_sign_and_is_averaged_after_the_difference():
    before, after = (prediction(randn(i, 2, 1, 9, 9).abs()) for i in (0, 1))
    change = (after.spread - before.spread).abs()
    assert torch.equal(detection.alarm(before, after), change) and torch.equal(
        detection.alarm(after, before), change
    )
    assert torch.equal(detection.alarm(before, after, average=3), detection.averaged(change, 3))
    swapped = (detection.averaged(after.spread, 3) - detection.averaged(before.spread, 3)).abs()
    assert not torch.allclose(detection.alarm(before, after, average=3), swapped)


def test_threshold_keeps_its_rate_exactly():
    rate = detection.FALSE_ALARM_RATE
    u = randn(0, 4, 1, 10, 10).abs()
    limit = detection.threshold(u)
    assert math.isclose(metrics.rate_above(u.reshape(1, -1), limit), rate, abs_tol=1e-12)
    ties = (2 * u).round()
    limit = detection.threshold(ties)
    assert (ties > limit).double().mean() <= rate < (ties >= limit).double().mean()
    constant = torch.full((1, 1, 3, 3), 0.5)
    assert (constant > detection.threshold(constant)).sum() == 0


def test_threshold_refuses():
    for u in (torch.ones(0), torch.tensor([1.0, math.nan])):
        with pytest.raises(ValueError, match="at least one spread, none NaN"):
            detection.threshold(u)


def test_twin_scores_of_a_perfect_of_a_blind_and_of_a_random_alarm():
    mask = half_mask(3, 61, 60)
    reference, quiet = mask.double(), randn(0, *mask.shape).abs()
    perfect = detection.twin_scores(
        prediction(quiet), prediction(quiet + 0.01 * reference), reference, mask
    )
    assert (
        torch.allclose(perfect["pearson_r"], torch.ones(3).double())
        and (perfect["auroc"] == 1).all()
    )
    assert perfect["constant"].tolist() == [0, 0, 0]
    blind = detection.twin_scores(prediction(quiet), prediction(quiet), reference, mask)
    assert [blind[k].tolist() for k in ("pearson_r", "auroc", "constant")] == [
        [0] * 3,
        [0.5] * 3,
        [1] * 3,
    ]
    random = detection.twin_scores(
        prediction(quiet), prediction(randn(1, *mask.shape).abs()), reference, mask
    )
    assert (random["pearson_r"].abs() < 0.07).all() and ((random["auroc"] - 0.5).abs() < 0.04).all()
    assert all(score.shape == (3,) and score.dtype == torch.float64 for score in random.values())


def test_averaging_helps_against_a_region():
    mask = half_mask(2, 41, 40)
    before, after = (
        prediction(randn(0, *mask.shape).abs()),
        prediction((randn(1, *mask.shape) * (1 + mask)).abs()),
    )
    plain, boxed = (
        detection.twin_scores(before, after, mask.double(), mask, average) for average in (1, 7)
    )
    assert (boxed["pearson_r"] > plain["pearson_r"] + 0.3).all() and (
        boxed["auroc"] > plain["auroc"] + 0.2
    ).all()


def test_pearson_does_not_see_a_collapsed_interval():
    mask, x = half_mask(), randn(0, 2, 1, 15, 17)
    honest, collapsed = (tuple(prediction(c * (4 + k * mask)) for k in (0, 1)) for c in (1.0, 1e-4))
    scores = [
        detection.twin_scores(*pair, mask.double(), mask)["pearson_r"]
        for pair in (honest, collapsed)
    ]
    assert torch.allclose(*scores)
    assert (
        detection.calibration(honest[1], x)["coverage"].min() > 0.9
        and detection.calibration(collapsed[1], x)["coverage"].max() < 0.1
    )


def test_lone_scores_count_pixels():
    mask = half_mask(1, 3, 4)
    u = torch.tensor([[3.0, 2, 2, 0], [3, 1, 1, 0], [3, 1, 1, 0]]).reshape(1, 1, 3, 4)
    scores = detection.lone_scores(u, mask, limit=1.5)
    assert math.isclose(scores["detection_rate"], 4 / 6) and math.isclose(
        scores["false_alarm_rate_outside"], 1 / 6
    )
    inside, outside = u[mask].tolist(), u[~mask].tolist()
    wins = sum((a > b) + (a == b) / 2 for a in inside for b in outside)
    assert math.isclose(scores["auroc_lone"], wins / 36)


def test_a_threshold_keeps_its_rate_on_images_like_those_it_was_set_on():
    limit = detection.threshold(randn(0, 8, 1, 40, 40).abs())
    scores = detection.lone_scores(randn(1, 8, 1, 40, 40).abs(), half_mask(8, 40, 40), limit)
    for name in ("detection_rate", "false_alarm_rate_outside"):
        assert abs(scores[name].mean() - 0.05) < 0.01


def test_calibration_of_a_gaussian_that_knows_its_errors():
    sigma = 0.02 + 0.2 * torch.rand(
        3, 1, 81, 83, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    x = 0.5 + sigma * randn(1, *sigma.shape)
    mean = torch.full_like(x, 0.5)
    scores = detection.calibration(
        Prediction(mean, sigma, mean - 1.96 * sigma, mean + 1.96 * sigma), x
    )
    assert all(score.shape == (3,) and score.dtype == torch.float64 for score in scores.values())
    assert (scores["coverage"] - 0.95).abs().max() < 0.01 and (
        scores["below"] - scores["above"]
    ).abs().max() < 0.01
    assert torch.allclose(scores["width"], 2 * 1.96 * sigma.flatten(1).mean(1))
    assert (scores["corr_error"] > 0.3).all()
    # covers as well, knows nothing
    constant = Prediction(mean, 0 * mean + 0.3, mean - 0.3, mean + 0.3)
    blunt = detection.calibration(constant, x)
    assert blunt["coverage"].min() > 0.94 and blunt["corr_error"].tolist() == [0, 0, 0]
    assert (scores["interval_score"] < blunt["interval_score"]).all()
