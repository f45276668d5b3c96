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
        theirs = peak_signal_noise_ratio(x[i].numpy(), x_rec[i].numpy(), data_range=float(x[i].max()))
        assert math.isclose(ours[i], theirs, rel_tol=1e-12)


def test_psnr_closed_forms():
    x = torch.full((1, 1, 5, 5), 2.0)
    assert math.isclose(metrics.psnr_db(x - 0.2, x), 20, rel_tol=1e-6)
    assert math.isinf(metrics.psnr_db(x, x))
    phase = torch.exp(1j * images(0, 1, 1, 5, 5))
    assert metrics.psnr_db(x * phase, x.to(torch.complex128)) > 280  # magnitudes: a phase is no error
    assert math.isclose(metrics.psnr_db(-x, x), 20 * math.log10(0.5), rel_tol=1e-6)  # real images keep their sign


def test_ssim_is_scikit_images_of_magnitudes():
    x, x_rec = images(0, 2, 1, 15, 17, dtype=torch.complex128), images(1, 2, 1, 15, 17, dtype=torch.complex128)
    for i, ours in enumerate(metrics.ssim(x_rec, x)):
        a, b = x[i, 0].abs().numpy(), x_rec[i, 0].abs().numpy()
        assert math.isclose(ours, structural_similarity(a, b, data_range=a.max()), rel_tol=1e-10)
    assert torch.allclose(metrics.ssim(x, x), torch.ones(2, dtype=torch.float64))


def test_relative_error_and_pearson():
    x, y = images(0, 4, 1, 7, 9), images(1, 4, 1, 7, 9)
    assert torch.allclose(metrics.relative_error(1.25 * x, x), torch.full((4,), 0.25, dtype=torch.float64))
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
    assert math.isnan(metrics.mean_ci([1.0]).low) and metrics.mean_ci(torch.tensor([1.0, 3.0])).mean == 2
    assert metrics.mean_ci([1.0, 3.0]).ci == [*metrics.mean_ci([1.0, 3.0])[1:]]


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
