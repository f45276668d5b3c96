"""Images and measurements of an audit: the reader's, or ours, in the form the tests take."""

from typing import NamedTuple

import numpy as np
import torch
from torch.nn.functional import avg_pool2d, interpolate

from .. import data, solvers
from ..operators import Identity, LinearOperator, Radon, measured_finely
from ..operators.adapter import _External
from .errors import AuditError
from .operators import Flat, inner, is_single


class Measurements(NamedTuple):
    """Images and what was measured of them."""

    x: torch.Tensor
    """(n, 1, h, w)."""
    y: torch.Tensor
    """(n, ...) of four axes."""
    fine: torch.Tensor | None
    """The images on the finer raster that y was measured from."""
    source: str

    @property
    def finer(self) -> int:
        """Return how many times finer than x the measured raster is."""
        return 1 if self.fine is None else self.fine.shape[-1] // self.x.shape[-1]


def kind_of(A: LinearOperator, x: torch.Tensor | None = None) -> str:
    """Return which of our images suit an operator: "natural" (denoising), "mr" (complex), "ct"."""
    if isinstance(A, Identity):
        return "natural"
    return "mr" if A.is_complex and (x is None or x.is_complex()) else "ct"


def tensor(values, what: str) -> torch.Tensor:
    """Return an array or tensor as float32 or complex64."""
    if not isinstance(values, torch.Tensor):
        try:
            values = torch.from_numpy(np.ascontiguousarray(values))
        except TypeError:
            raise AuditError(
                what,
                "a tensor or an array of numbers",
                type(values).__name__,
                "Convert it: numpy.asarray.",
            ) from None
    if not (values.is_floating_point() or values.is_complex()):
        raise AuditError(
            f"the type of {what}",
            "floating-point or complex numbers",
            values.dtype,
            "Scale grey values to [0, 1]: x / 255.",
        )
    return values.detach().to(torch.complex64 if values.is_complex() else torch.float32)


def readers_images(A: LinearOperator, x) -> torch.Tensor:
    """Return x as (n, 1, k h, k w), k > 1 where it is finer than the raster of `Radon`.

    Raises:
        AuditError: another shape, a NaN, an all-zero image, grey values outside [0, 1].
    """
    x, (h, w) = tensor(x, "x"), A.image_shape
    if x.ndim in (2, 3):
        x = x.reshape(-1, 1, *x.shape[-2:])
    k = x.shape[-1] // w if isinstance(A, Radon) and x.shape[-1] % w == 0 else 1
    if x.ndim != 4 or not len(x) or tuple(x.shape[1:]) != (1, k * h, k * w):
        raise AuditError(
            "the shape of x",
            f"(n, 1, {h}, {w}), as {A} takes it",
            tuple(x.shape),
            "Crop or resample them (audit.load_images(paths, image_size) does).",
        )
    if x.is_complex() and not A.is_complex:
        expected = f"real images, as {A} is real"
        raise AuditError("the type of x", expected, "complex ones", "Take x.abs().")
    for i, image in enumerate(x, 1):
        if not bool(torch.isfinite(image).all()):
            got = "NaN or infinity"
            raise AuditError(f"image {i}", "finite values", got, "Repair or leave it out.")
        if not bool(image.any()):
            raise AuditError(
                f"image {i}",
                "an image that is not 0 everywhere",
                "an all-zero image",
                "Leave it out: perturbations are measured relative to ||x||.",
            )
    low, high = (0.0, float(x.abs().max())) if x.is_complex() else map(float, x.aminmax())
    # some phantoms and zero-mean scalings reach a little over; PSNR has peak 1 all the same
    if low < -0.25 or high > 1.25:
        raise AuditError(
            "the range of x",
            "grey values in [0, 1], where PSNR and contrasts are measured",
            f"[{low:.4g}, {high:.4g}]",
            "Scale: (x - low) / (high - low); "
            "wrap a network that wants other units: lambda y: net(y * s) / s.",
        )
    return x.to(A.device)


def our_images(A: LinearOperator, n: int, split: str, kind: str) -> tuple[torch.Tensor, str]:
    """Return our images for an operator, at twice its raster for CT, and their source."""
    finer = 2 if isinstance(A, Radon) and kind == "ct" else 1
    shape = tuple(finer * side for side in A.image_shape)
    x, source = data.demo(kind, n, max(16, *shape), split)
    if tuple(x.shape[-2:]) != shape:
        options = dict(mode="bilinear", antialias=True, align_corners=False)
        parts = (x.real, x.imag) if x.is_complex() else (x,)
        parts = [interpolate(part, shape, **options) for part in parts]
        x = torch.complex(*parts) if x.is_complex() else parts[0]
    return x.to(A.device), source


def measure(
    A: LinearOperator, x: torch.Tensor, noise: float, generator: torch.Generator, source: str
) -> Measurements:
    """Return y = A x + e, ||e|| = noise ||y||, beside x averaged onto A's raster."""
    finer = x.shape[-1] // A.image_shape[-1]
    fine = x if finer > 1 else None
    with torch.no_grad():
        y = A(x) if fine is None else measured_finely(fine, A)
    x = x if fine is None else avg_pool2d(fine, finer)
    if noise:
        y = torch.cat([solvers.add_noise(one, noise, generator) for one in y.split(1)])
    return Measurements(x, y, fine, source)


def readers_measurements(A: LinearOperator, y, n: int) -> torch.Tensor:
    """Return given measurements as (n, ...) of four axes.

    Raises:
        AuditError: for another shape than A gives, and values that are not finite.
    """
    y = tensor(y, "y")
    with torch.no_grad():
        ideal = A(torch.ones((1, 1, *A.image_shape), device=A.device))
    shape = tuple(A.shape) if isinstance(A, Flat) else tuple(ideal.shape[1:])
    complex_channels = isinstance(inner(A), _External) and A.is_complex and y.ndim == 4
    if complex_channels and not y.is_complex():
        y = torch.view_as_complex(y.movedim(1, -1).contiguous())[:, None]
    if is_single(A) and tuple(y.shape) == inner(A).y_shape:
        y = y[None]
    if len(y) != n or tuple(y.shape[1:]) not in (shape, tuple(ideal.shape[1:])):
        raise AuditError(
            "the shape of y",
            f"{(n, *shape)}: one measurement an image, as {A} makes them",
            tuple(y.shape),
            "Check the order of the axes, and whether A is the operator that measured y.",
        )
    if not bool(torch.isfinite(y).all()):
        cure = "Repair or leave those measurements out."
        raise AuditError("y", "finite values", "NaN or infinity", cure)
    return y.reshape(n, *ideal.shape[1:]).to(A.device, ideal.dtype)
