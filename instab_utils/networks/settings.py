"""The task each published network is tested on: real images, its operator, its measurements, its
reconstruction.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from .. import data, profiles
from ..operators import Identity, LinearOperator, MaskedFourier, MultiCoilFourier, masks
from . import pretrained

TITLES = {"deep-mri": "Deep MRI", "mri-vn": "MRI-VN", "dncnn": "DnCNN"}
NAMES = tuple(TITLES)
SIGMA = 25 / 255
"""Noise of the denoising task, on images in [0, 1]."""
UNTOUCHED = (6, 7, 8, 9, 5, 2, 1)
"""MR slices that are reported; step and momentum of the attacks were tuned on slices 0, 3 and 4."""


@dataclass(frozen=True)
class Setting:
    """y = A x + noise and the network f that answers it; x (n_images, 1, n, n), complex for MRI."""

    name: str
    title: str
    task: str
    A: LinearOperator
    x: torch.Tensor
    y: torch.Tensor
    f: Callable[[torch.Tensor], torch.Tensor]
    source: str


def setting(
    name: str,
    n_images: int = 1,
    image_size: int = 256,
    seed: int = 0,
    split: str = "test",
    fraction: float = 0.30,
) -> Setting:
    """The setting of one published network.

    - deep-mri: single-coil MRI at acceleration 3 (the paper's), a mask drawn from `seed`;
      noiseless; image peak 1.
    - mri-vn: 15 simulated coils, equidistant lines and a full centre, `fraction` of all; noiseless;
      scaled so that max |A* y| = 1, as the network was trained. Its knees are not public: heads
      stand in, and that is a shift.
    - dncnn: A = I with noise of sigma 25/255, clipped to [0, 1]; natural images, 180 x 180 at most.

    Args:
        name: "deep-mri", "mri-vn" or "dncnn", with underscores or hyphens.
        fraction: nominal share of the lines that mri-vn samples; Antun et al. test at 0.15.
        split: "test", or "validate" for choosing the parameters of what is compared with the
            network.

    Raises:
        ValueError: for an unknown name.
        DataUnavailable: where the weights are neither on disk nor to be had.
    """
    name = name.replace("_", "-")
    if name not in NAMES:
        raise ValueError(
            f"no published network is called {name!r}; expected one of {', '.join(NAMES)}."
        )
    if name == "dncnn":
        image_size = min(image_size, 180)
        x, source = data.demo("natural", n_images, image_size, split)
        A = Identity(image_size)
        noise = torch.randn(x.shape, generator=profiles.generator(seed, f"denoising noise {split}"))
        y = (x + SIGMA * noise).clamp(0, 1)
        return Setting(
            name,
            TITLES[name],
            "denoising",
            A,
            x,
            y,
            pretrained.reconstructor("dncnn-25", A),
            source,
        )
    x, source = data.demo("mr", 10, image_size, split)
    x = x[[i for i in UNTOUCHED if i < len(x)][:n_images]]
    if name == "deep-mri":
        mask = masks.variable_density_lines(
            image_size, 3, generator=profiles.generator(seed, "deep-mri mask")
        )
        A = MaskedFourier(mask)
        return Setting(
            name, TITLES[name], "mri_single", A, x, A(x), pretrained.reconstructor(name, A), source
        )
    mask = masks.uniform_lines(fraction, image_size, n_centre=round(28 * image_size / 368))
    A = MultiCoilFourier(mask, data.simulated_coils(15, image_size))
    x = x / A.adjoint(A(x)).abs().amax((1, 2, 3), keepdim=True)
    source += ", 15 simulated coils"
    return Setting(
        name, TITLES[name], "mri_parallel", A, x, A(x), pretrained.reconstructor(name, A), source
    )
