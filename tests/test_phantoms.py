"""Phantoms against their closed forms, dense numerical integration, scikit-image and the Radon
operator.
"""

import math

import numpy as np
import pytest
import scipy.fft
import skimage.data
import torch

from instab_utils import data, operators
from instab_utils.data import phantoms
from instab_utils.profiles import generator

# off-centre, tilted, overlapping and partly negative: no flip or rotation maps it on itself
LOPSIDED = torch.tensor(
    [
        [1.0, 0.6, 0.3, 0.1, 0.2, 30.0],
        [-0.5, 0.2, 0.1, -0.3, 0.4, -70.0],
        [0.7, 0.1, 0.25, 0.4, -0.5, 10.0],
    ]
)
ANGLES = [0.0, 17.0, 45.0, 90.0, 133.0, 211.0]


def value_at(ellipses, x, y):
    """The phantom at points (x, y) in units of half the side, by the definition of an ellipse."""
    total = np.zeros(np.broadcast(x, y).shape)
    for amplitude, a, b, x0, y0, angle in ellipses.double().tolist():
        along = np.array([math.cos(math.radians(angle)), math.sin(math.radians(angle))])
        u = along[0] * (x - x0) + along[1] * (y - y0)
        v = -along[1] * (x - x0) + along[0] * (y - y0)
        total += amplitude * ((u / a) ** 2 + (v / b) ** 2 <= 1)
    return total


def test_sinogram_is_the_line_integral():
    n, n_detectors, step = 17, 25, 1e-3
    sinogram = phantoms.ellipse_sinogram(LOPSIDED, ANGLES, n_detectors, n)
    assert sinogram.shape == (1, 1, len(ANGLES), n_detectors) and sinogram.dtype == torch.float32
    along = np.arange(-n, n, step)
    s = (np.arange(n_detectors) - (n_detectors - 1) / 2)[:, None]
    for angle, view in zip(ANGLES, sinogram[0, 0].numpy()):
        cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        x, y = (s * cos - along * sin) / (n / 2), (s * sin + along * cos) / (n / 2)
        # each of the two ends of each chord is found to within one step
        np.testing.assert_allclose(view, value_at(LOPSIDED, x, y).sum(1) * step, atol=2 * 3 * step)


def test_bin_averages_have_the_same_mass_in_every_view():
    n = 15
    mass = float((math.pi * LOPSIDED[:, 0] * LOPSIDED[:, 1] * LOPSIDED[:, 2]).sum()) * (n / 2) ** 2
    views = phantoms.ellipse_sinogram(LOPSIDED, ANGLES, image_size=n, bin_average=True)
    assert views.shape[-1] == 23  # ceil(15 sqrt(2)) = 22, made odd
    np.testing.assert_allclose(views.double().sum(-1).numpy(), mass, rtol=1e-5)
    torch.testing.assert_close(
        phantoms.raster(LOPSIDED, n, oversample=64).sum().item(), mass, rtol=1e-3, atol=0
    )


def test_bin_averages_integrate_the_point_samples():
    fine = 101
    # the same object on finer bins
    many = phantoms.ellipse_sinogram(LOPSIDED, ANGLES, 25 * fine, 17 * fine)
    # back in units of the coarse pixel
    average = many.reshape(1, 1, len(ANGLES), 25, fine).mean(-1) / fine
    binned = phantoms.ellipse_sinogram(LOPSIDED, ANGLES, 25, 17, bin_average=True)
    torch.testing.assert_close(binned, average, rtol=1e-3, atol=1e-2)


def test_raster_averages_over_pixels():
    n, fine = 15, 64
    places = (np.arange(n * fine) + 0.5) / (n * fine) * 2 - 1
    dense = (
        value_at(LOPSIDED, places[None, :], -places[:, None]).reshape(n, fine, n, fine).mean((1, 3))
    )
    image = phantoms.raster(LOPSIDED, n, oversample=fine)
    assert image.shape == (1, 1, n, n) and image.dtype == torch.float32
    np.testing.assert_allclose(image[0, 0].numpy(), dense, atol=0.02)
    errors = [
        (phantoms.raster(LOPSIDED, n, oversample=k)[0, 0].double().numpy() - dense) for k in (1, 16)
    ]
    assert np.abs(errors[1]).max() < 0.2 * np.abs(errors[0]).max()


def test_raster_of_a_disc_has_its_area():
    disc = torch.tensor([[1.0, 0.5, 0.5, 0, 0, 0]])
    assert phantoms.raster(disc, 33).sum().item() == pytest.approx(math.pi * 16.5**2 / 4, rel=1e-3)


def test_x_is_to_the_right_and_y_up():
    image = phantoms.raster(torch.tensor([[1.0, 0.1, 0.1, 0.6, 0.3, 0]]), 20)[0, 0]
    row, column = divmod(int(image.argmax()), 20)
    assert (row, column) in [(6, 15), (6, 16), (7, 15), (7, 16)]


@pytest.mark.parametrize("n, bound", [(64, 0.03), (128, 0.015)])
def test_radon_of_the_raster_approaches_the_closed_form(n, bound):
    angles = torch.arange(0, 180, 7.5)
    exact = phantoms.ellipse_sinogram(LOPSIDED, angles, image_size=n)
    computed = operators.Radon(n, angles)(phantoms.raster(LOPSIDED, n))
    assert (computed - exact).norm() < bound * exact.norm()


def test_shepp_logan_is_that_of_scikit_image():
    ours = phantoms.raster(phantoms.SHEPP_LOGAN, 400)[0, 0].numpy()
    theirs = skimage.data.shepp_logan_phantom()
    same = [(np.abs(image - theirs) < 0.01).mean() for image in (ours, ours[:, ::-1], ours[::-1])]
    # they differ along edges only, and no flip comes as near
    assert same[0] > 0.975 and max(same[1:]) < 0.94


def test_shepp_logan_family_takes_its_numbers_in_sequence():
    random = np.random.RandomState(0)
    for id in range(4):
        noise = random.normal(size=(10, 6)) / 20
        moved = phantoms.shepp_logan_family(id)
        expected = phantoms.SHEPP_LOGAN.numpy() + noise * [1, 1, 1, 1, 1, 180 / np.pi]
        expected[:, 1:3] = np.abs(expected[:, 1:3])
        np.testing.assert_allclose(moved.numpy(), expected, atol=1e-12)
    with pytest.raises(ValueError, match="from 0; got -1"):
        phantoms.shepp_logan_family(-1)


def test_random_ellipses_are_images_of_their_ellipses():
    images, ellipses = phantoms.random_ellipses(5, 33, generator(0, "ellipses"))
    again, _ = phantoms.random_ellipses(5, 33, generator(0, "ellipses"))
    other, _ = phantoms.random_ellipses(5, 33, generator(1, "ellipses"))
    assert torch.equal(images, again) and not torch.equal(images, other)
    assert images.min() == 0 and torch.equal(images.amax((1, 2, 3)), torch.ones(5))
    torch.testing.assert_close(phantoms.raster(ellipses, 33), images)
    assert all(7 <= count <= 14 for count in (ellipses[..., 0] > 0).sum(1).tolist())
    centre, largest = ellipses[..., 3:5].norm(dim=-1), ellipses[..., 1:3].amax(-1)
    # so a detector as wide as the image sees it whole
    assert (centre + largest <= 0.95 + 1e-9).all()
    views = phantoms.ellipse_sinogram(
        ellipses, [0, 60, 120], n_detectors=33, image_size=33, bin_average=True
    )
    torch.testing.assert_close(
        views.sum(-1), images.sum((2, 3))[..., None].expand(5, 1, 3), rtol=2e-3, atol=0
    )


def test_wrong_ellipses_are_refused():
    with pytest.raises(ValueError, match=r"amplitude, a, b, x, y, angle_deg.*got \(3, 5\)"):
        phantoms.raster(torch.zeros(3, 5), 16)


@pytest.mark.parametrize("n_coils, image_size", [(1, 15), (4, 17), (8, 64)])
def test_simulated_coils_have_unit_energy(n_coils, image_size):
    maps = data.simulated_coils(n_coils, image_size)
    assert maps.shape == (n_coils, image_size, image_size) and maps.dtype == torch.complex64
    torch.testing.assert_close(maps.abs().square().sum(0), torch.ones(image_size, image_size))
    assert (maps[:, 1:] - maps[:, :-1]).abs().max() < 8 / image_size  # smooth


def test_coil_maps_are_found_from_the_centre():
    n, true = 96, data.simulated_coils(6, 96)
    image = data.mr_like(n, generator(0, "coils"))
    noise = torch.randn(6, n, n, dtype=torch.complex64, generator=generator(0, "noise"))
    mask = torch.rand(n, n, generator=generator(0, "mask")) < 0.2
    mask[36:60, 36:60] = True
    full = operators.MultiCoilFourier(torch.ones(n, n), true, centred=True)(image)[0]
    y = (full + 0.001 * noise) * mask
    found = data.estimate_coil_maps(y, 24)
    torch.testing.assert_close(found.abs().square().sum(0), torch.ones(n, n))
    inside = image[0, 0].abs() > 0.1
    # 1 where they agree up to the phase that the image takes up
    agreement = (found.conj() * true).sum(0).abs()
    assert agreement[inside].min() > 0.98
    assert (found - true).abs()[:, inside].max() > 0.1  # and that phase is not nothing here


def test_coil_maps_need_a_full_centre():
    y = torch.ones(2, 32, 32, dtype=torch.complex64)
    y[:, 14] = 0
    with pytest.raises(
        ValueError, match="12 x 12 centre of k-space is only 92 % sampled.*smaller n_calibration"
    ):
        data.estimate_coil_maps(y, 12)
    with pytest.raises(ValueError, match="n_calibration=40"):
        data.estimate_coil_maps(y, 40)


def test_smooth_phase_is_smooth_and_has_no_constant():
    phase = data.smooth_phase(65, generator(3, "phase"), strength_rad=1.5)
    assert phase.abs().max().item() == pytest.approx(1.5) and abs(phase.mean().item()) < 1e-6
    spectrum = np.abs(scipy.fft.dctn(phase.double().numpy(), norm="ortho"))
    assert spectrum[4:].max() < 1e-5 and spectrum[:, 4:].max() < 1e-5


def test_mr_like_is_complex_with_zero_background():
    x = data.mr_like(33, generator(0, "mr"), n=3)
    assert x.shape == (3, 1, 33, 33) and x.dtype == torch.complex64
    torch.testing.assert_close(x.abs().amax((1, 2, 3)), torch.ones(3))
    assert x[..., 0, 0].abs().max() == 0 and x.imag.abs().max() > 0.1
    assert not torch.equal(x[0], x[1])


def test_dead_leaves_have_the_spectrum_of_photographs():
    """Power falls as f^-p with p near 2; white noise has 0, a smooth ramp more than 4."""
    slopes = []
    for image in data.dead_leaves(4, 128, generator(0, "leaves"))[:, 0].numpy():
        assert image.min() >= 0 and image.max() <= 1 and image.std() > 0.1
        window = np.hanning(128)[:, None] * np.hanning(128)
        power = np.abs(np.fft.fft2((image - image.mean()) * window)) ** 2
        f = np.hypot(np.fft.fftfreq(128)[:, None], np.fft.fftfreq(128))
        low, high = [power[(f > a) & (f < 2 * a)].mean() for a in (0.04, 0.16)]
        slopes.append(math.log(low / high) / math.log(4))
    assert 1.5 < np.mean(slopes) < 3
