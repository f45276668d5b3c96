"""Test 3: more samples. A stable method gets better with them; a network trained at one rate need
not.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch

from .. import profiles, solvers, training
from ..data import phantoms, simulated_coils
from ..operators import (
    LinearOperator,
    MaskedFourier,
    MultiCoilFourier,
    Radon,
    limited_angle,
    masks,
    measured_finely,
)
from ..training.cases import NOISE, SOLVERS
from .worst import psnr, save, stored

BEYOND = 1.5  # times the training rate: what counts as more samples
BEYOND_WEDGE = 1.1  # of the limited-angle U-Net, which has 5 / 6 of all views: 1.2 is all there is
MARGIN_DB = 0.5  # least mean change that is called one
EXCLUDED = {
    "automap": "its first layer has one weight for every sample: no other number fits",
    "dncnn": "a denoiser measures every pixel once",
    "dncnn-published": "a denoiser measures every pixel once",
}
ACCELERATIONS = (14, 10, 8, 6, 5, 4, 3, 2.5, 2)  # Deep MRI, nested; the paper has 14 to 2
PERCENT = (5, 10, 20, 30, 40, 50)  # DAGAN; the paper has 1 %, too
FRACTIONS = (0.10, 0.15, 0.20, 0.25, 0.30, 0.35, 0.50)  # MRI-VN
# Ell-50, Med-50: every k-th view of all; trained at 20
EVERY = (60, 40, 30, 25, 20, 16, 12, 10, 8, 5, 4, 2)
WEDGES_DEG = (60, 45, 30, 20, 10, 0)  # limited-angle U-Net; trained at 30


class Rate(NamedTuple):
    """One sampling pattern: its share of the training's samples, and the test images measured with
    it.
    """

    share: float
    n_samples: int
    A: LinearOperator
    y: torch.Tensor


def rates(name: str, profile: str = "standard") -> Iterator[Rate]:
    """From few to many samples, the same images; masks of Deep MRI and views of CT grow, those of
    MRI-VN and DAGAN do not.
    """
    case = training.case(name, profile)
    n, x = case.A.image_shape[-1], case.x
    kind = SOLVERS.get(name, name).removesuffix("-published")
    if kind == "deep-mri":
        allowed = [a for a in ACCELERATIONS if int(n / a) >= 8]
        grown = masks.nested_lines(n, allowed, generator=profiles.generator(0, "nested masks"))
        for acceleration, mask in grown.items():
            A = MaskedFourier(mask)
            yield Rate(3 / acceleration, int(mask[:, 0].sum()), A, A(x))
    elif kind == "dagan":
        for percent in PERCENT:
            mask = masks.gaussian_lines(
                percent, n, generator=profiles.generator(0, f"dagan mask {percent}")
            )
            A = MaskedFourier(mask, centred=True)
            yield Rate(percent / 20, int(mask[0].sum()), A, A(x))
    elif kind == "mri-vn":
        coils = simulated_coils(15, n)
        for fraction in FRACTIONS:
            try:
                mask = masks.uniform_lines(fraction, n, n_centre=round(28 * n / 368))
            except ValueError:  # too few lines for a centre of that width
                continue
            A = MultiCoilFourier(mask, coils)
            y = solvers.add_noise(A(x), NOISE[name], profiles.generator(0, "more samples noise"))
            yield Rate(fraction / 0.30, int(mask[0].sum()), A, y)
    else:
        yield from _views(kind, n, len(x))


def _views(kind, n, n_images):
    """Radon: the raster is twice as fine, as in training; random ellipses have closed forms."""
    what = training.task(kind, n)
    images, _ = training.test_images(what, n_images)
    total = n if kind == "unet-limited" else training.views(kind, n)[0]
    every = torch.arange(total, dtype=torch.float64) * 180 / total
    if kind == "ell-50":
        full = phantoms.ellipse_sinogram(images, every, what.A.n_detectors, n, bin_average=True)
    else:
        full = measured_finely(images, Radon(n, every))
    n_trained = what.A.n_views
    for step in WEDGES_DEG if kind == "unet-limited" else EVERY:
        if kind == "unet-limited":
            kept = limited_angle(total, step).nonzero()[:, 0] if step else torch.arange(total)
        else:
            kept = torch.arange(0, total, step)
        if len(kept) >= 3:
            yield Rate(len(kept) / n_trained, len(kept), Radon(n, every[kept]), full[:, :, kept])


@torch.no_grad()
def rows(name: str, profile: str = "standard") -> list[dict]:
    """The record of test 3 for a subject (none for `EXCLUDED`): PSNR at every rate, and the verdict
    on network and TV.

    psnr_db, psnr_stable_db, psnr_front_end_db: means over images at each of `share` (of the
    training's samples); change_db: of each image, the mean over rates of at least BEYOND
    (BEYOND_WEDGE) minus the PSNR at the training's rate; verdict: see `verdict`, as 1 (improves), 0
    (stagnates), -1 (degrades). TV has one weight for all rates; its data term is divided by
    ||A||^2.
    """
    if name in EXCLUDED:
        return []
    least = BEYOND_WEDGE if name == "unet-limited" else BEYOND
    found = stored("more_samples", name, profile, beyond=least)
    if found:
        return found[-1:]
    case = training.case(name, profile)
    n_iter = 2 * case.tv_iterations
    table = {"": [], "stable_": [], "front_end_": []}
    shares, counts = [], []
    for rate in rates(name, profile):
        shares.append(round(rate.share, 4))
        counts.append(rate.n_samples)
        answers = {
            "": case.behind(rate.A, rate.y),
            "front_end_": rate.A.pinv(rate.y),
            "stable_": solvers.tv(rate.A, rate.y, case.tv_weight, n_iter=n_iter, tol=1e-3).x,
        }
        for m, x_rec in answers.items():
            table[m].append([psnr(x_rec[i : i + 1], case.x[i : i + 1]) for i in range(len(case.x))])
    columns, extra = {}, {"share": shares, "n_samples": counts}
    at, beyond = (
        min(range(len(shares)), key=lambda k: abs(shares[k] - 1)),
        [k for k, s in enumerate(shares) if s >= least],
    )
    for m, values in table.items():
        values = torch.tensor(values, dtype=torch.float64)  # (rates, images)
        extra[f"psnr_{m}db"] = values.mean(1)
        if beyond:
            change = values[beyond].mean(0) - values[at]
            columns[f"{m}change_db"] = change.tolist()
            extra[f"{m}verdict"] = verdict(change)
    parameters = {"tv_weight": case.tv_weight, "beyond": least, "margin_db": MARGIN_DB}
    return [save("more_samples", case, profile, parameters, columns, extra)]


def verdict(change_db: torch.Tensor) -> int:
    """1 improves, -1 degrades: the mean change is MARGIN_DB or more, and twice its standard error;
    else 0, stagnates.
    """
    mean = float(change_db.mean())
    error = float(change_db.std() / len(change_db) ** 0.5) if len(change_db) > 1 else 0.0
    return 0 if abs(mean) < max(MARGIN_DB, 2 * error) else 1 if mean > 0 else -1
