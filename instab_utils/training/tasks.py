"""The inverse problem of each trained network: operator, measurement, images."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from .. import data, profiles
from ..data import phantoms
from ..operators import (
    Identity,
    LinearOperator,
    MaskedFourier,
    MultiCoilFourier,
    Radon,
    limited_angle,
    masks,
    measured_finely,
)
from ..operators.base import as_shape, moved
from .plan import Plan

TITLES = {
    "dncnn": "DnCNN",
    "dncnn-tuned": "DnCNN, published weights tuned with dropout",
    "unet-limited": "limited-angle U-Net",
    "ell-50": "Ell-50",
    "med-50": "Med-50",
    "automap": "AUTOMAP",
    "dagan": "DAGAN",
    "deep-mri": "Deep MRI",
    "mri-vn": "MRI-VN",
}
NAMES = tuple(TITLES)
SIGMA = 25 / 255
"""Noise of the denoising task, on images in [0, 1]."""


@dataclass(frozen=True)
class Task:
    """One inverse problem at one image size.

    `measure(images, generator)` -> (y, x, A): measurements, ground truth, and the operator that
    measured (a fresh mask where training draws one). `images` come from the pool `kind` at
    `pool_size` pixels: CT is measured on a grid twice as fine, so that no network and no solver
    profits from having the scanner's own matrix; the square images of a rectangle have its shorter
    side, and are continued by zeros.
    """

    name: str
    task: str
    image_size: int | tuple[int, int]
    A: LinearOperator
    kind: str
    pool_size: int | tuple[int, int]
    measure: Callable[[Tensor, torch.Generator], tuple[Tensor, Tensor, LinearOperator]]
    complex_images: bool = False  # magnitudes get a synthetic phase
    fresh_masks: bool = False  # `measure` draws one from its generator
    own: str | None = None  # in place of `kind`: "aapm" or "fastmri", the reader's own images


def task(
    name: str | Plan,
    image_size: int | tuple[int, int] | None = None,
    device: str | torch.device | None = None,
) -> Task:
    """Return the task of one network; device: see `profiles.default_device`.

    - dncnn, dncnn-tuned: A = I, noise of 25/255, not clipped (the detection experiments of the INN
      paper clip).
    - unet-limited: as many views over 180 degrees as pixels a side, without a wedge of 30 degrees;
      noiseless.
    - ell-50, med-50: every 20th of 1000 views at 512 pixels, and in proportion at other sizes;
      noiseless. ell-50's sinograms are closed forms of random ellipses, med-50's those of pictures.
    - automap: single-coil, 60 % of k-space on a Poisson disk. dagan: 20 % Gaussian lines. Both:
      real images.
    - deep-mri, zero-filled-unet: single-coil, acceleration 3, complex images; training draws a new
      mask for every batch.
    - mri-vn: 15 simulated coils, 30 % equidistant lines, complex images with max |A* y| = 1. With
      a pair (rows, columns) and the reader's fastMRI the coils are those of a training scan.

    Args:
        name: of a network; or a recipe, whose size, sampling and pool of the reader's own it has.
        image_size: pixels a side; of mri-vn also (rows, columns). None: that of the recipe.

    Raises:
        ValueError: for an unknown name, a name without a size, or a pair for another network.
    """
    image_size = getattr(name, "image_size", None) if image_size is None else image_size
    pool, sampling = getattr(name, "pool", None), getattr(name, "sampling", None)
    own = pool if pool in data.LOCAL_KINDS else None
    name = getattr(name, "name", name)
    name = name.replace("_", "-")
    if name not in _TASKS:
        raise ValueError(f"no network is called {name!r}; expected one of {', '.join(_TASKS)}.")
    if image_size is None:
        raise ValueError(f"task({name!r}) expects an image_size; give one, or a recipe.")
    device = profiles.default_device(device)
    if name == "mri-vn":
        return _parallel(as_shape(image_size), device, sampling or 0.30, own)
    if not isinstance(image_size, int):
        raise ValueError(
            f"{name} expects square images and one image_size; got {image_size}. Only mri-vn takes "
            "(rows, columns)."
        )
    return replace(_TASKS[name](name, image_size, device), own=own)


def test_images(of: Task, n: int, split: str = "test") -> tuple[Tensor, str]:
    """Return at most n images that `of.measure` takes, unseen in training, and what they are.

    For ell-50 they are tables of ellipses (n, 14, 6).
    """
    if of.name == "ell-50":
        generator = profiles.generator(0, f"ell-50 {split} phantoms")
        return phantoms.random_ellipses(n, 64, generator)[1], "random ellipses"
    if of.own is not None:
        x, source = data.pool(of.own, of.pool_size, split, n)
        generator = profiles.generator(0, f"{of.name} {split} phase")
        return with_phase(of, x, generator), source
    kind = {"mixed": "ct", "mr": "mr", "natural": "natural"}[of.kind]
    x, source = data.demo(kind, n, of.pool_size, split)
    if of.kind != "mr" or of.complex_images:
        return x, source
    return x.abs(), source.replace(", with a synthetic smooth phase", "").replace(
        " with a smooth phase", ""
    )


def with_phase(of: Task, x: Tensor, generator: torch.Generator) -> Tensor:
    """Return x; magnitudes with a synthetic phase where the task has complex images."""
    needed = of.complex_images and not x.is_complex()
    return data.with_smooth_phase(x, generator) if needed else x


def views(name: str, image_size: int) -> tuple[int, int]:
    """Return (n, k): ell-50 and med-50 keep every k-th of n views, (1000, 20) at 512 pixels."""
    return 20 * round(image_size * 50 / 512), 20


def _denoising(name, n, device):
    def measure(x, generator):
        x = moved(x, device)
        return x + SIGMA * moved(torch.randn(x.shape, generator=generator), device), x, A

    A = Identity(n).to(device)
    return Task(name, "denoising", n, A, "natural", n, measure)


def _ct(name, n, device):
    if name == "unet-limited":
        angles = (torch.arange(n, dtype=torch.float64) * 180 / n)[limited_angle(n, 30)]
    else:
        n_views, keep = views(name, n)
        angles = torch.arange(0, n_views, keep, dtype=torch.float64) * 180 / n_views
    A = Radon(n, angles).to(device)

    def measure(images, generator):
        images = moved(images, device)
        return measured_finely(images, A), avg_pool2d(images, 2), A

    def measure_ellipses(ellipses, generator):
        y = phantoms.ellipse_sinogram(ellipses, angles, A.n_detectors, n, bin_average=True)
        return moved(y, device), moved(phantoms.raster(ellipses, n), device), A

    if name == "ell-50":
        return Task(name, "ct_sparse", n, A, "ellipses", n, measure_ellipses)
    return Task(
        name, "ct_limited" if name == "unet-limited" else "ct_sparse", n, A, "mixed", 2 * n, measure
    )


def _single_coil(name, n, device):
    if name == "automap":
        mask = masks.poisson_disk(n, generator=profiles.generator(0, f"automap mask {n}"))
    elif name == "dagan":
        mask = masks.gaussian_lines(20, n, generator=profiles.generator(0, f"dagan mask {n}"))
    else:
        mask = masks.variable_density_lines(n, 3, generator=profiles.generator(0, "deep-mri mask"))
    A = MaskedFourier(mask, centred=name == "dagan").to(device)
    fresh = name in ("deep-mri", "zero-filled-unet")

    def measure(x, generator):
        x, B = moved(x, device), A
        if fresh and generator is not None:
            B = MaskedFourier(masks.variable_density_lines(n, 3, generator=generator)).to(device)
        return B(x), x, B

    return Task(name, "mri_single", n, A, "mr", n, measure, complex_images=fresh, fresh_masks=fresh)


def _parallel(shape, device, sampling, own):
    mask = masks.uniform_lines(sampling, shape, n_centre=round(28 * shape[1] / 368))
    square = shape[0] == shape[1]
    raw = own == "fastmri" and not square
    coils = data.fastmri_coils(shape) if raw else data.simulated_coils(15, shape)
    A = MultiCoilFourier(mask, coils).to(device)
    size = shape[0] if square else shape
    pool_size = shape if raw else min(shape)

    def measure(x, generator):
        x = moved(data.framed(x, shape), device)
        x = x / A.adjoint(A(x)).abs().amax((1, 2, 3), keepdim=True)
        return A(x), x, A

    return Task(
        "mri-vn", "mri_parallel", size, A, "mr", pool_size, measure, complex_images=True, own=own
    )


_TASKS = {
    "dncnn": _denoising,
    "dncnn-tuned": _denoising,
    "unet-limited": _ct,
    "ell-50": _ct,
    "med-50": _ct,
    "automap": _single_coil,
    "dagan": _single_coil,
    "deep-mri": _single_coil,
    "zero-filled-unet": _single_coil,
    "mri-vn": _parallel,
}
