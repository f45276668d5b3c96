"""Scans for fields: perturbed Shepp-Logan phantoms, a CT slice with noise, a measured tooth."""

import functools
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from .. import solvers
from ..data import demo, phantoms, tooth
from ..operators import LinearOperator, Radon, measured_finely

VALIDATION, TEST, FREE = (1, 2, 3, 4, 5), (6, 7, 8, 9, 10), 0
"""Ids of the phantoms: for every choice, for every result, and for looking at."""
RASTER = 512
"""Side at which an image exists before it is measured, at least; the authors' raster."""


class Scan(NamedTuple):
    """Measurements and what is known about the truth; a field sees A and y only."""

    name: str
    # (k, 1, n, n) truth in [0, 1]; of the tooth, a reference (may leave [0, 1])
    x: Tensor
    A: LinearOperator  # for the reconstruction
    y: Tensor  # (k, 1, n_views, n_detectors), in the units of A
    scale: float = 1.0  # x and y are so many times what was measured

    def to(self, device: torch.device) -> "Scan":
        """Return the scan on a device."""
        return self._replace(x=self.x.to(device), A=self.A.to(device), y=self.y.to(device))


def phantom_scan(
    ids=VALIDATION,
    n_views: int = 20,
    image_size: int = 64,
    crime: bool = False,
    added: Tensor | None = None,
) -> Scan:
    """Return noiseless views of the INR paper's phantoms, at angles linspace(0, 180, n_views + 1).

    The last angle is left out. The image is `phantoms.shepp_logan_family(id)`, clipped to [0, 1] on
    the authors' raster of 512 pixels (the next multiple of image_size; never below 2 image_size).
    Truth and data come from that raster: x is its mean over pixels, y its Radon transform with as
    many fine bins to one bin, averaged. Data and reconstruction never share a matrix, unless asked.

    Args:
        ids: phantoms, one or several; `VALIDATION`, `TEST`, `FREE`.
        crime: y = A x instead, the inverse crime of the authors' code, for comparison with it.
        added: (k, 1, m, m), drawn into the images before they are measured, then clipped again; m
            divides the raster.
    """
    ids = (ids,) if isinstance(ids, int) else tuple(ids)
    A = _operator(n_views, image_size)
    fine = torch.cat([_clipped(id, image_size) for id in ids])
    if added is not None:
        factor = fine.shape[-1] // added.shape[-1]
        added = added.repeat_interleave(factor, -1).repeat_interleave(factor, -2)
        fine = (fine + added).clamp(0, 1)
    x = _shrunk(fine, image_size)
    y = A(x) if crime else measured_finely(fine, A)
    return Scan(f"phantoms {', '.join(map(str, ids))}", x, A, y)


def aapm_scan(
    index: int = 0,
    n_views: int = 60,
    image_size: int = 128,
    snr_db: float = 40.0,
    generator: torch.Generator | None = None,
    split: str = "test",
) -> Scan:
    """Return views of an AAPM slice, measured on its 512 pixels, with white noise.

    Its sigma is rms(y) 10^(-snr_db / 20).

    Args:
        index: of the slice in its split; 4 test and 9 validation slices are public.
        generator: of the noise; without one there is none.

    Without the files it is a phantom of random ellipses, and the name says so.
    """
    slices, source = demo("ct", index + 1, RASTER, split)
    if index >= len(slices):
        raise ValueError(f"there are {len(slices)} {source}; got index={index}.")
    A, fine = _operator(n_views, image_size), slices[index : index + 1]
    y = measured_finely(fine, A)
    if generator is not None:
        sigma = y.square().mean().sqrt() * 10 ** (-snr_db / 20)
        y = y + sigma * torch.randn(y.shape, generator=generator, device=generator.device).to(y)
    return Scan(f"{source}, {index}", _shrunk(fine, image_size), A, y)


@functools.lru_cache(maxsize=4)
def tooth_scan(n_views: int = 20, binning: int = 4) -> Scan:
    """Return n_views of slice 0 of the measured tooth, evenly spaced, on 360 / binning pixels.

    Of its 180 degrees 20 views are every ninth one. There is no truth. x is a reference: filtered
    back-projection (ramp) of the whole scan, 181 views on 360 pixels, averaged over `binning`
    pixels; linear, so that no prior is in it, and not clipped. `scale` makes the largest value 1
    that SIRT with x >= 0 (100 iterations) finds in the n_views alone: nothing but these decides how
    y is scaled, and parts of x may exceed 1.
    """
    y = tooth(0, binning, 360 // binning)
    image_size = y.y.shape[-1]
    x = _shrunk(_tooth_reference(), image_size) * binning  # attenuation of a pixel's width
    kept = torch.arange(n_views) * 180 // n_views
    A, y = Radon(image_size, y.angles_deg[kept], image_size), y.y[:, :, kept]
    scale = 1 / float(solvers.sirt(A, y, 100, bounds=(0, None)).x.max())
    return Scan("tooth, slice 0", x * scale, A, y * scale, scale)


@functools.lru_cache(maxsize=1)
def _tooth_reference() -> Tensor:
    whole = tooth(0, 1, 360)
    return Radon(360, whole.angles_deg, 360).fbp(whole.y)


def interior(x: Tensor) -> Tensor:
    """Return where pixels lie strictly between 0 and 1.

    A sigmoid never reaches the ends, so that no interval of its samples holds them.
    """
    return (x > 0) & (x < 1)


def residual(A: LinearOperator, x: Tensor, y: Tensor) -> Tensor:
    """Return ||A x - y|| / ||y|| of each image, (k,)."""
    return (A(x) - y).flatten(1).norm(dim=1) / y.flatten(1).norm(dim=1)


@functools.lru_cache(maxsize=2)
def _operator(n_views: int, image_size: int) -> Radon:
    return Radon(image_size, np.linspace(0, 180, n_views, endpoint=False))


@functools.lru_cache(maxsize=16)
def _clipped(id: int, image_size: int) -> Tensor:
    side = image_size * max(2, -(-RASTER // image_size))
    return phantoms.raster(phantoms.shepp_logan_family(id), side).clamp(0, 1)


def _shrunk(fine: Tensor, image_size: int) -> Tensor:
    return avg_pool2d(fine, fine.shape[-1] // image_size)
