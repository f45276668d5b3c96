"""Metrics against scikit-image, scipy and closed forms."""

import math

import numpy as np
import pytest
import scipy.stats
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from instab_utils import metrics


def images(seed, *shape, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_psnr_matches_scikit_image_image_by_image():
    x, x_rec = images(0, 3, 1, 15, 17).abs(), images(1, 3, 1, 15, 17)
    ours = metrics.psnr_db(x_rec, x)
    assert ours.shape == (3,)
    for i in range(3):
        theirs = peak_signal_noise_ratio(
            x[i].numpy(), x_rec[i].numpy(), data_range=float(x[i].max())
        )
        assert math.isclose(ours[i], theirs, rel_tol=1e-12)


def test_psnr_closed_forms():
    x = torch.full((1, 1, 5, 5), 2.0)
    assert math.isclose(metrics.psnr_db(x - 0.2, x), 20, rel_tol=1e-6)
    assert math.isclose(metrics.psnr_db(x - 0.2, x, peak=1), 20 * math.log10(5), rel_tol=1e-6)
    assert math.isinf(metrics.psnr_db(x, x))
    phase = torch.exp(1j * images(0, 1, 1, 5, 5))
    # magnitudes: a phase is no error
    assert metrics.psnr_db(x * phase, x.to(torch.complex128)) > 280
    # real images keep their sign
    assert math.isclose(metrics.psnr_db(-x, x), 20 * math.log10(0.5), rel_tol=1e-6)


def test_ssim_is_scikit_images_of_magnitudes():
    x, x_rec = (
        images(0, 2, 1, 15, 17, dtype=torch.complex128),
        images(1, 2, 1, 15, 17, dtype=torch.complex128),
    )
    for i, ours in enumerate(metrics.ssim(x_rec, x)):
        a, b = x[i, 0].abs().numpy(), x_rec[i, 0].abs().numpy()
        assert math.isclose(ours, structural_similarity(a, b, data_range=a.max()), rel_tol=1e-10)
    assert torch.allclose(metrics.ssim(x, x), torch.ones(2, dtype=torch.float64))


def test_relative_error_and_pearson():
    x, y = images(0, 4, 1, 7, 9), images(1, 4, 1, 7, 9)
    assert torch.allclose(
        metrics.relative_error(1.25 * x, x), torch.full((4,), 0.25, dtype=torch.float64)
    )
    for i in range(4):
        expected = scipy.stats.pearsonr(x[i].ravel().numpy(), y[i].ravel().numpy()).statistic
        assert math.isclose(metrics.pearson(x, y)[i], expected, rel_tol=1e-10)
    assert torch.allclose(metrics.pearson(3 * x + 5, y), metrics.pearson(x, y))
    assert torch.allclose(metrics.pearson(-x, y), -metrics.pearson(x, y))
    assert (metrics.pearson(torch.full_like(x, 0.1), y) == 0).all()


def test_mean_ci_is_scipys_t_interval_and_covers():
    values = images(0, 1, 10).ravel().numpy()
    mean, low, high = metrics.mean_ci(values)
    expected = scipy.stats.t.interval(0.95, 9, loc=values.mean(), scale=scipy.stats.sem(values))
    assert np.allclose((low, high), expected) and math.isclose(mean, values.mean())
    trials = np.random.default_rng(0).normal(3.0, 1.0, (500, 4))
    covered = sum(m.low < 3.0 < m.high for m in map(metrics.mean_ci, trials))
    assert 0.92 < covered / 500 < 0.98
    assert (
        math.isnan(metrics.mean_ci([1.0]).low)
        and metrics.mean_ci(torch.tensor([1.0, 3.0])).mean == 2
    )
    assert metrics.mean_ci([1.0, 3.0]).ci == [*metrics.mean_ci([1.0, 3.0])[1:]]


def test_coverage_is_two_sided():
    x = images(0, 3, 1, 101, 99)
    inside, below, above = metrics.coverage(torch.full_like(x, -1.0), torch.full_like(x, 2.0), x)
    normal = scipy.stats.norm
    for share, expected in (
        (inside, normal.cdf(2) - normal.cdf(-1)),
        (below, normal.cdf(-1)),
        (above, normal.sf(2)),
    ):
        assert share.shape == (3,) and share.dtype == torch.float64
        assert torch.allclose(share, torch.full_like(share, expected), atol=0.015)
    assert torch.allclose(inside + below + above, torch.ones_like(inside), rtol=1e-15)
    assert metrics.coverage(x, x, x).inside.tolist() == [1, 1, 1]  # both ends count
    one_sided = (x < 2.0).double().flatten(1).mean(1)
    assert (one_sided - inside > 0.1).all()  # what the published code would have said


def test_interval_score_closed_forms():
    half = scipy.stats.norm.ppf(0.975)
    x = images(0, 1, 1, 301, 303)
    lower, upper = torch.full_like(x, -half), torch.full_like(x, half)
    score = metrics.interval_score(lower, upper, x, 0.95)
    expected = 2 * half + 2 * 40 * (scipy.stats.norm.pdf(half) - half * 0.025)  # = 4 pdf(half) / a
    assert math.isclose(score, expected, rel_tol=0.01) and math.isclose(
        expected, 80 * scipy.stats.norm.pdf(half)
    )
    for other in (0.9, 1.1):  # the quantiles are the best ends
        assert score < metrics.interval_score(other * lower, other * upper, x, 0.95)
    one = torch.ones(1, 1, 2, 2)
    assert math.isclose(metrics.interval_score(0 * one, one, one / 2, 0.9), 1)
    assert math.isclose(metrics.interval_score(0 * one, one, one + 0.25, 0.9), 6)  # 1 + 20 * 0.25
    assert math.isclose(metrics.interval_score(one, one, one - 0.25, 0.95), 10, rel_tol=1e-12)


def test_gaussian_nll_is_scipys():
    mean, x, variance = (
        images(0, 2, 1, 9, 7),
        images(1, 2, 1, 9, 7),
        images(2, 2, 1, 9, 7).square() + 0.1,
    )
    expected = -scipy.stats.norm.logpdf(x, mean, variance.sqrt()).reshape(2, -1).mean(1)
    assert np.allclose(metrics.gaussian_nll(mean, variance, x, eps=0), expected)
    assert math.isclose(
        metrics.gaussian_nll(x, 0 * x, x)[0], 0.5 * math.log(2 * math.pi * 1e-6) + 0.5
    )
    v = torch.full((1, 1, 201, 203), 0.3, dtype=torch.float64)
    drawn = 0.3**0.5 * images(3, *v.shape)
    assert math.isclose(
        metrics.gaussian_nll(0 * v, v, drawn),
        0.5 * math.log(2 * math.pi * math.e * 0.3),
        abs_tol=0.01,
    )


def pairs_won(score, positive):
    a, b = score[positive][:, None], score[~positive][None]
    return ((a > b).double() + (a == b).double() / 2).mean()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("levels", [3, 40, None])
def test_auroc_counts_pairs_and_is_mann_whitneys_u(levels, dtype):
    score, positive = images(0, 4, 1, 9, 11, dtype=dtype), images(1, 4, 1, 9, 11) > 0.8
    if levels:
        score = (score * levels / 4).round()  # ties
    ours = metrics.auroc(score, positive)
    assert ours.dtype == torch.float64
    for i in range(4):
        inside, outside = (
            score[i][positive[i]].double().numpy(),
            score[i][~positive[i]].double().numpy(),
        )
        u = scipy.stats.mannwhitneyu(inside, outside).statistic
        assert math.isclose(ours[i], u / (len(inside) * len(outside)), rel_tol=1e-12)
        assert math.isclose(ours[i], pairs_won(score[i], positive[i]), rel_tol=1e-12)
    assert torch.allclose(metrics.auroc(3 * score + 1, positive), ours) and torch.allclose(
        metrics.auroc(-score, positive), 1 - ours
    )


def test_auroc_of_sure_and_of_silent_alarms():
    positive = images(0, 2, 1, 9, 9) > 0
    assert metrics.auroc(positive.float(), positive).tolist() == [1, 1]
    assert metrics.auroc(torch.full(positive.shape, 0.1), positive).tolist() == [0.5, 0.5]
    large = images(1, 1, 1, 501, 503) > 2.5  # ranks of 252003 pixels and their sums stay exact
    assert metrics.auroc(-large.float(), large).item() == 0


def test_rate_above():
    score = torch.arange(12.0).reshape(2, 1, 2, 3)
    assert metrics.rate_above(score, 4.0).tolist() == [1 / 6, 1]  # above, not at
    where = torch.tensor([[True, True, False], [False, False, True]]).expand(2, 1, 2, 3)
    assert torch.allclose(metrics.rate_above(score, 4.0, where), torch.tensor([1 / 3, 1]).double())


def covered_by_the_book(samples, x, delta, p):
    low, high = np.quantile(samples, [0.5 - p / 2, 0.5 + p / 2], axis=0)
    return ((low - delta < x) & (x < high + delta)).mean()


def test_reliability_level_by_level_and_image_by_image():
    samples, x = images(0, 7, 3, 1, 9, 11), images(1, 3, 1, 9, 11)
    samples[:, 1, :, :4] = 0  # exact zeros, as a phantom has
    x[1, :, :5] = 0
    where = images(2, 3, 1, 9, 11) > 0
    for delta in (0.0, 0.3):
        for mask in (None, where):
            levels, coverage = metrics.reliability(samples, x, delta, where=mask)
            assert levels.tolist() == pytest.approx(np.arange(20) / 20) and coverage.shape == (
                3,
                20,
            )
            for i in range(3):
                chosen = np.ones((1, 9, 11), bool) if mask is None else mask[i].numpy()
                drawn, truth = samples[:, i].numpy()[:, chosen], x[i].numpy()[chosen]
                expected = [covered_by_the_book(drawn, truth, delta, p) for p in levels.tolist()]
                assert coverage[i].tolist() == pytest.approx(expected, abs=1e-12)
            error = metrics.calibration_error(samples, x, delta, mask)
            assert torch.allclose(error, (coverage - levels).abs().sum(1) * 0.05, rtol=1e-12)
    one = metrics.reliability(samples, x, levels=[0.5, 0.9])
    assert torch.equal(one.coverage, metrics.reliability(samples, x).coverage[:, [10, 18]])
    # strict ends do not depend on the type: no pixel of ours lies on one
    single = metrics.reliability(samples.float(), x.float())
    assert single.coverage.dtype == torch.float64 and torch.equal(
        single.coverage, metrics.reliability(samples, x).coverage
    )


def test_tuned_calibration_error_tries_every_delta():
    samples, x = images(0, 6, 2, 1, 9, 9).abs() * 1e-3, images(1, 2, 1, 9, 9).abs() * 1e-2
    where = images(2, 2, 1, 9, 9) > 0
    deltas = [0.0, *np.logspace(-20, -1, 21)]
    for mask in (None, where):
        errors = torch.stack(
            [metrics.calibration_error(samples, x, delta, mask) for delta in deltas]
        )
        error, delta = metrics.tuned_calibration_error(samples, x, mask)
        assert torch.allclose(error, errors.amin(0), rtol=1e-12) and torch.allclose(
            delta, torch.tensor(deltas)[errors.argmin(0)]
        )
    assert (delta > 0).all()


def test_reliability_of_perfect_samples_is_closed_form():
    """x among n samples is at any place with probability 1 / (n + 1): central intervals of n = 41
    cover 40 p / 42.
    """
    drawn, n = images(0, 42, 2, 1, 90, 90), 41
    levels, coverage = metrics.reliability(drawn[:n], drawn[n])
    expected = levels * (n - 1) / (n + 1)
    assert ((coverage - expected).abs() <= 4.5 * (expected * (1 - expected) / 90**2).sqrt()).all()
    assert torch.allclose(
        metrics.calibration_error(drawn[:n], drawn[n]),
        torch.full((2,), 0.95 / 42).double(),
        atol=0.01,
    )
    # of uniform ones, between the samples too
    uniform = torch.from_numpy(scipy.stats.norm.cdf(images(1, 51, 1, 1, 150, 150)))
    levels, coverage = metrics.reliability(uniform[:50], uniform[50])
    expected = levels * 49 / 51
    assert (
        (coverage[0] - expected).abs() <= 4.5 * (expected * (1 - expected) / 150**2).sqrt()
    ).all()


def test_calibration_error_of_wrong_samples():
    drawn = images(0, 102, 1, 1, 60, 60)
    samples, x = drawn[:101], drawn[101]
    levels, wide = metrics.reliability(3 * samples, x)
    _, narrow = metrics.reliability(samples / 3, x)
    normal = scipy.stats.norm
    for coverage, factor in ((wide, 3), (narrow, 1 / 3)):
        expected = 2 * normal.cdf(factor * normal.ppf(0.5 + levels / 2)) - 1
        assert np.allclose(coverage[0], expected, atol=0.05)
    assert (wide[0, 1:] > levels[1:] + 0.03).all() and (narrow[0, 1:] < levels[1:]).all()
    constant = torch.full((50, 1, 1, 9, 9), 0.3)
    assert metrics.calibration_error(
        constant, torch.full((1, 1, 9, 9), 0.9)
    ).item() == pytest.approx(0.475)
    # strict ends: sure and right, and not covered
    assert metrics.calibration_error(constant, constant[0]).item() == pytest.approx(0.475)
    assert metrics.calibration_error(constant, constant[0], delta=1e-9).item() == pytest.approx(
        0.525
    )
    assert metrics.tuned_calibration_error(constant, constant[0])[1].item() == 0


def test_tuned_delta_covers_zeros_that_no_sample_reaches():
    """Half of the truth is 0 and the samples of it are small and positive: missed at delta = 0,
    unless x = 0 does not count.
    """
    drawn = images(0, 51, 1, 1, 80, 80)
    samples, x = 0.5 + 0.05 * drawn[:50], 0.5 + 0.05 * drawn[50]
    x[:, :, :40] = 0
    samples[:, :, :, :40] = 10 ** (images(1, 1, 1, 40, 80) * 3 - 6) * (
        1 + 0.1 * torch.sigmoid(drawn[:50, :, :, :40])
    )
    inside = metrics.calibration_error(samples, x, where=x > 0)
    untuned = metrics.calibration_error(samples, x)
    tuned, delta = metrics.tuned_calibration_error(samples, x)
    assert inside < 0.03 and math.isclose(untuned, 0.475 - (0.475 - 0.0186) / 2, abs_tol=0.01)
    assert tuned < 0.6 * untuned and 1e-10 < delta < 0.1


def test_bootstrap_ci_covers_and_agrees_with_the_closed_form():
    def generator(seed):
        return torch.Generator().manual_seed(seed)

    trials = np.random.default_rng(0).normal(3.0, 1.0, (300, 40))
    covered = [
        m.low < 3.0 < m.high
        for m in (metrics.bootstrap_ci(t, generator(i), n=400) for i, t in enumerate(trials))
    ]
    assert 0.90 < np.mean(covered) < 0.98
    values = trials[0]
    mean, low, high = metrics.bootstrap_ci(values, generator(1), level=0.8, n=20000)
    half = scipy.stats.norm.ppf(0.9) * values.std() / 40**0.5
    assert math.isclose(mean, values.mean()) and np.allclose(
        (low, high), (mean - half, mean + half), atol=0.03 * half
    )
    assert metrics.bootstrap_ci(values, generator(1)) == metrics.bootstrap_ci(
        torch.tensor(values), generator(1)
    )
    assert metrics.bootstrap_ci([2.0] * 5, generator(0)).ci == [2, 2] and math.isnan(
        metrics.bootstrap_ci([2.0], generator(0)).low
    )


def test_slope_of_a_power_law():
    x = torch.tensor([0.5, 1.0, 2.0, 7.0])
    assert math.isclose(metrics.slope_loglog(x, 3 * x**-1.5), -1.5, rel_tol=1e-6)


def test_refusals():
    x = images(0, 2, 1, 9, 9)
    with pytest.raises(ValueError, match="same shape"):
        metrics.psnr_db(x, x[:1])
    with pytest.raises(ValueError, match="all-zero"):
        metrics.psnr_db(x, 0 * x)
    with pytest.raises(ValueError, match="Add the axes"):
        metrics.ssim(x[0], x[0])
    with pytest.raises(ValueError, match="finite"):
        metrics.mean_ci([1.0, math.nan])
    with pytest.raises(ValueError, match="finite"):
        metrics.mean_ci([])
    with pytest.raises(ValueError, match="positive"):
        metrics.slope_loglog([1.0, 2.0], [0.0, 1.0])
    with pytest.raises(ValueError, match="bootstrap_ci expects finite"):
        metrics.bootstrap_ci([1.0, math.inf], torch.Generator())


def test_refusals_of_intervals_and_alarms():
    x, mask = images(0, 2, 1, 9, 9), images(1, 2, 1, 9, 9) > 0
    with pytest.raises(ValueError, match="cross"):
        metrics.coverage(x, x - 1, x)
    with pytest.raises(ValueError, match="same shape"):
        metrics.coverage(x, x + 1, x[:1])
    with pytest.raises(ValueError, match="level in"):
        metrics.interval_score(x, x, x, 95)
    with pytest.raises(ValueError, match="logarithm"):
        metrics.gaussian_nll(x, x, x)
    with pytest.raises(ValueError, match="image 1 has 0 and 81"):
        metrics.auroc(x, mask & torch.tensor([True, False])[:, None, None, None])
    with pytest.raises(ValueError, match="without NaN"):
        metrics.auroc(x.where(mask, math.nan), mask)
    with pytest.raises(ValueError, match="bool mask"):
        metrics.auroc(x, mask.float())
    with pytest.raises(ValueError, match="image 0 has none"):
        metrics.rate_above(x, 0.0, mask & torch.tensor([False, True])[:, None, None, None])
    with pytest.raises(ValueError, match="two or more real samples"):
        metrics.reliability(x, x)
    with pytest.raises(ValueError, match="image 1 has none"):
        metrics.tuned_calibration_error(
            torch.stack([x, x]), x, mask & torch.tensor([True, False])[:, None, None, None]
        )
