"""Ellipses: images that are known in closed form, together with their Radon transform.

An ellipse is a row (amplitude, a, b, x, y, angle_deg): half axes a (along `angle_deg`,
counter-clockwise) and b, centre (x, y), with x to the right and y up, in units of half the image's
side. A phantom is a sum of ellipses, a tensor (n_ellipses, 6); a batch of phantoms is (batch,
n_ellipses, 6).
"""

import math

import numpy as np
import torch

SHEPP_LOGAN = torch.tensor(
    [
        [1.0, 0.69, 0.92, 0, 0, 0],
        [-0.8, 0.6624, 0.874, 0, -0.0184, 0],
        [-0.2, 0.11, 0.31, 0.22, 0, -18],
        [-0.2, 0.16, 0.41, -0.22, 0, 18],
        [0.1, 0.21, 0.25, 0, 0.35, 0],
        [0.1, 0.046, 0.046, 0, 0.1, 0],
        [0.1, 0.046, 0.046, 0, -0.1, 0],
        [0.1, 0.046, 0.023, -0.08, -0.605, 0],
        [0.1, 0.023, 0.023, 0, -0.605, 0],
        [0.1, 0.023, 0.046, 0.06, -0.605, 0],
    ],
    dtype=torch.float64,
)
"""The modified (high-contrast) Shepp-Logan head of Toft, 1996, as in the INR paper's code."""


def raster(ellipses: torch.Tensor, image_size: int, oversample: int = 8) -> torch.Tensor:
    """Return the pixel averages of a phantom, (batch, 1, image_size, image_size) float32.

    x[i, j] = (1 / area) integral over pixel (i, j) of sum_e amplitude_e 1[ellipse e]: exact along
    rows, where an ellipse is an interval, and a mean over `oversample` lines down each pixel.
    """
    phantom = _phantoms(ellipses)
    half = image_size / 2
    edges = torch.arange(image_size + 1, dtype=torch.float64) - half
    y = half - (torch.arange(image_size * oversample, dtype=torch.float64) + 0.5) / oversample
    x = torch.zeros(len(phantom), image_size, image_size, dtype=torch.float64)
    for image, rows in zip(x, phantom):
        for amplitude, a, b, x0, y0, angle in rows.tolist():
            if amplitude == 0 or a == 0 or b == 0:
                continue
            a, b = a * half, b * half
            cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
            dy = y - y0 * half
            # p dx^2 + 2 q dx + r = 0: where the line at height dy meets the ellipse
            p = (cos / a) ** 2 + (sin / b) ** 2
            q = cos * sin * (1 / a**2 - 1 / b**2) * dy
            r = ((sin / a) ** 2 + (cos / b) ** 2) * dy.square() - 1
            root = (q.square() - p * r).clamp_min(0).sqrt()
            left = ((-q - root) / p + x0 * half)[:, None]
            right = ((-q + root) / p + x0 * half)[:, None]
            covered = torch.minimum(right, edges[1:]) - torch.maximum(left, edges[:-1])
            covered = covered.clamp_min(0)
            image += amplitude * covered.reshape(image_size, oversample, image_size).mean(1)
    return x[:, None].float()


def ellipse_sinogram(
    ellipses: torch.Tensor,
    angles_deg: torch.Tensor,
    n_detectors: int | None = None,
    image_size: int = 256,
    bin_average: bool = False,
) -> torch.Tensor:
    r"""Return exact line integrals in pixel units, (batch, 1, n_views, n_detectors) float32.

    p(theta, s) = sum_e amplitude 2 a b sqrt(w^2 - t^2) / w^2 for |t| < w,  with
    w^2 = a^2 cos^2(theta - angle) + b^2 sin^2(theta - angle),  t = s - x cos(theta) - y sin(theta).

    The geometry is that of `operators.Radon(image_size, angles_deg, n_detectors)`: s = x cos(theta)
    + y sin(theta) with y up, bins one pixel apart and centred.

    Args:
        angles_deg: (n_views,) degrees.
        n_detectors: default ceil(sqrt(2) image_size) made odd, as in `Radon`.
        bin_average: integrate over each unit bin in closed form, as a detector does, instead of
            sampling at its centre.
    """
    units = torch.tensor([1, *[image_size / 2] * 4, math.pi / 180], dtype=torch.float64)
    phantom = _phantoms(ellipses) * units
    amplitude, a, b, x0, y0, angle = (column[..., None, None] for column in phantom.unbind(-1))
    theta = torch.deg2rad(torch.as_tensor(angles_deg, dtype=torch.float64).flatten())[:, None]
    n_detectors = math.ceil(math.sqrt(2) * image_size) | 1 if n_detectors is None else n_detectors
    s = torch.arange(n_detectors, dtype=torch.float64) - (n_detectors - 1) / 2
    along, across = a * torch.cos(theta - angle), b * torch.sin(theta - angle)
    w = (along.square() + across.square()).sqrt().clamp_min(1e-30)
    t = s - x0 * torch.cos(theta) - y0 * torch.sin(theta)
    if bin_average:
        profile = w * (_half_disc((t + 0.5) / w) - _half_disc((t - 0.5) / w))
    else:
        profile = (1 - (t / w).square()).clamp_min(0).sqrt()
    return (amplitude * 2 * a * b / w * profile).sum(1)[:, None].float()


def random_ellipses(
    n: int, image_size: int, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return n phantoms: images (n, 1, image_size, image_size) of maximum 1, ellipses (n, 14, 6).

    7 to 14 ellipses each (fewer: rows of zeros), half axes U[0.05, 0.45], any angle, inside the
    disc of radius 0.95, amplitudes U[0.2, 1] divided by the image's maximum. The family stands for
    Ell-50's training set; Jin et al. (IEEE TIP 2017) do not give theirs, so the counts and sizes
    are those of Genzel et al. (robust-nets).
    """

    def uniform(low, high):
        return low + (high - low) * torch.rand(n, 14, generator=generator, dtype=torch.float64)

    a = uniform(0.05, 0.45)
    b = uniform(0.05, 0.45)
    amplitude = uniform(0.2, 1)
    angle_deg = uniform(0, 180)
    radius = (0.95 - torch.maximum(a, b)) * uniform(0, 1).sqrt()
    turn = uniform(0, 2 * math.pi)
    count = torch.randint(7, 15, (n, 1), generator=generator)
    amplitude = amplitude * (torch.arange(14) < count)
    x, y = radius * turn.cos(), radius * turn.sin()
    ellipses = torch.stack([amplitude, a, b, x, y, angle_deg], -1)
    images = raster(ellipses, image_size)
    peak = images.amax((1, 2, 3))
    ellipses[..., 0] /= peak[:, None]
    return images / peak[:, None, None, None], ellipses


def shepp_logan_family(id: int) -> torch.Tensor:
    """Return the INR paper's perturbed Shepp-Logan phantom number `id`, ellipses (10, 6).

    SHEPP_LOGAN (angle in radians) + N(0, 1) / 20 on every parameter, drawn in sequence from
    RandomState(0): phantom `id` takes the numbers 60 id to 60 id + 59. Ids 1 to 5 are validation, 6
    to 10 test, 0 is free.

    The sum of ellipses can leave [0, 1]; the authors clip the image, to which the closed-form
    sinogram does not belong: use `raster` and its `ellipse_sinogram` unclipped, or clip and project
    with an operator. Half axes that come out negative count by their absolute value, as in the
    authors' squares. They render 512 samples with both ends included and resize to 256; `raster`
    averages over pixels.

    Source: Vasconcelos, He, Teh (section 2, Data); order of draws from bobby-he/uncertainr.
    """
    if id < 0:
        raise ValueError(
            f"shepp_logan_family expects an id from 0; got {id}. Validation 1-5, test 6-10."
        )
    noise = np.random.RandomState(0).standard_normal((id + 1, 10, 6))[id] / 20
    table = SHEPP_LOGAN.numpy().copy()
    table[:, 5] = np.deg2rad(table[:, 5])
    table += noise
    table[:, 1:3] = np.abs(table[:, 1:3])
    table[:, 5] = np.rad2deg(table[:, 5])
    return torch.from_numpy(table)


def _half_disc(u: torch.Tensor) -> torch.Tensor:
    """Return the antiderivative of sqrt(1 - u^2), constant outside [-1, 1]."""
    u = u.clamp(-1, 1)
    return (u * (1 - u.square()).sqrt() + u.asin()) / 2


def _phantoms(ellipses: torch.Tensor) -> torch.Tensor:
    ellipses = torch.as_tensor(ellipses, dtype=torch.float64).detach().cpu()
    if ellipses.ndim not in (2, 3) or ellipses.shape[-1] != 6:
        raise ValueError(
            "ellipses are rows (amplitude, a, b, x, y, angle_deg): a tensor (n_ellipses, 6) or "
            f"(batch, n_ellipses, 6); got {tuple(ellipses.shape)}."
        )
    return ellipses if ellipses.ndim == 3 else ellipses[None]
