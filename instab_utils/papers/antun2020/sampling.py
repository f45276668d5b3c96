"""Sampling patterns of test 3, from few to many samples, for every kind of measurement."""

from collections.abc import Iterator

import torch

from ... import profiles, solvers, training
from ...data import phantoms
from ...networks import Case
from ...operators import (
    MaskedFourier,
    MultiCoilFourier,
    Radon,
    limited_angle,
    masks,
    measured_finely,
)
from ...stability.more_samples import Rate
from ...training.cases import NOISE, SOLVERS

BEYOND_WEDGE = 1.1  # of the limited-angle U-Net, which has 5 / 6 of all views: 1.2 is the most
EXCLUDED = {
    "automap": "its first layer has one weight for every sample: no other number fits",
    "dncnn": "a denoiser measures every pixel once",
    "dncnn-published": "a denoiser measures every pixel once",
}
ACCELERATIONS = (14, 10, 8, 6, 5, 4, 3, 2.5, 2)  # Deep MRI, nested; the paper has 14 to 2
PERCENT = (5, 10, 20, 30, 40, 50)  # DAGAN; the paper has 1 %, too
FRACTIONS = (0.10, 0.15, 0.20, 0.25, 0.30, 0.35, 0.50)  # MRI-VN
EVERY = (60, 40, 30, 25, 20, 16, 12, 10, 8, 5, 4, 2)  # Ell-50, Med-50: k-th view; trained at 20
WEDGES_DEG = (60, 45, 30, 20, 10, 0)  # limited-angle U-Net; trained at 30


def rates(case: Case) -> Iterator[Rate]:
    """Yield the rates of a case, the same images at each.

    Masks of Deep MRI and views of CT are nested, those of MRI-VN and DAGAN are not.
    """
    kind = SOLVERS.get(case.name, case.name).removesuffix("-published")
    patterns = {"deep-mri": _nested_lines, "dagan": _gaussian_lines, "mri-vn": _uniform_lines}
    if kind in patterns:
        yield from patterns[kind](case)
    else:
        yield from _views(kind, case)


def _nested_lines(case: Case) -> Iterator[Rate]:
    n = case.A.image_shape[-1]
    allowed = [a for a in ACCELERATIONS if int(n / a) >= 8]
    generator = profiles.generator(0, "nested masks")
    for acceleration, mask in masks.nested_lines(n, allowed, generator=generator).items():
        A = MaskedFourier(mask).to(case.x.device)
        yield Rate(3 / acceleration, int(mask[:, 0].sum()), A, A(case.x))


def _gaussian_lines(case: Case) -> Iterator[Rate]:
    for percent in PERCENT:
        generator = profiles.generator(0, f"dagan mask {percent}")
        mask = masks.gaussian_lines(percent, case.A.image_shape[-1], generator=generator)
        A = MaskedFourier(mask, centred=True).to(case.x.device)
        yield Rate(percent / 20, int(mask[0].sum()), A, A(case.x))


def _uniform_lines(case: Case) -> Iterator[Rate]:
    shape = case.A.image_shape
    patterns = {}
    for fraction in FRACTIONS:
        try:
            mask = masks.uniform_lines(fraction, shape, n_centre=round(28 * shape[1] / 368))
        except ValueError:  # too few lines for a centre of that width
            continue
        patterns[fraction] = mask
    trained = next(f for f, mask in patterns.items() if torch.equal(mask, case.A.mask.cpu() > 0))
    for fraction, mask in patterns.items():
        A = MultiCoilFourier(mask.to(case.x.device), case.A.coil_maps)
        generator = profiles.generator(0, "more samples noise")
        y = solvers.add_noise(A(case.x), NOISE[case.name], generator)
        yield Rate(fraction / trained, int(mask[0].sum()), A, y)


def _views(kind: str, case: Case) -> Iterator[Rate]:
    """Yield views of CT, measured on a finer grid as in training; ellipses by their closed form."""
    n, images, device = case.A.image_size, case.originals, case.x.device
    total = n if kind == "unet-limited" else training.views(kind, n)[0]
    angles_deg = torch.arange(total, dtype=torch.float64) * 180 / total
    if kind == "ell-50":
        full = phantoms.ellipse_sinogram(
            images, angles_deg, case.A.n_detectors, n, bin_average=True
        )
    else:
        full = measured_finely(images.to(device), Radon(n, angles_deg).to(device))
    if kind == "unet-limited":
        subsets = [
            limited_angle(total, wedge).nonzero()[:, 0] if wedge else torch.arange(total)
            for wedge in WEDGES_DEG
        ]
    else:
        subsets = [torch.arange(0, total, step) for step in EVERY]
    for kept in subsets:
        if len(kept) >= 3:
            share = len(kept) / case.A.n_views
            A = Radon(n, angles_deg[kept]).to(device)
            yield Rate(share, len(kept), A, full[:, :, kept].to(device))
