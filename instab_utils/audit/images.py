"""What is measured: the reader's images, or ours where there are none, in the form the tests take;
and their measurements.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch.nn.functional import avg_pool2d, interpolate

from .. import data, solvers
from ..operators import Identity, LinearOperator, Radon, measured_finely
from ..operators.adapter import _External
from .function import AuditError
from .operators import Flat, Pair


class Measured(NamedTuple):
    """Images, measurements, and what to call them."""

    x: torch.Tensor  # (n, 1, h, w)
    y: torch.Tensor  # (n, ...) of four axes
    fine: torch.Tensor | None  # images on the finer raster that y was measured from
    source: str


def kind_of(A: LinearOperator, x: torch.Tensor | None = None) -> str:
    """Which of our images suit an operator: "natural" for denoising, "mr" for complex images, "ct"."""
    if isinstance(A, Identity):
        return "natural"
    return "mr" if A.is_complex and (x is None or x.is_complex()) else "ct"


def tensor(values, what: str) -> torch.Tensor:
    """An array or tensor as float32 or complex64."""
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
            str(values.dtype),
            "Scale grey values to [0, 1]: x / 255.",
        )
    return values.detach().to(torch.complex64 if values.is_complex() else torch.float32)


def images(A: LinearOperator, x) -> tuple[torch.Tensor, int]:
    """x as (n, 1, h, w) and how many times finer than A's raster it is.

    Raises:
        AuditError: another shape, a NaN, an all-zero image, grey values outside [0, 1].
    """
    x, shape = tensor(x, "x"), tuple(A.image_shape)
    if x.ndim in (2, 3):
        x = x.reshape(-1, 1, *x.shape[-2:])
    finer = (
        x.shape[-1] // shape[-1]
        if x.ndim == 4 and isinstance(A, Radon) and x.shape[-1] % shape[-1] == 0
        else 1
    )
    if (
        x.ndim != 4
        or x.shape[1] != 1
        or not len(x)
        or tuple(x.shape[-2:]) != tuple(finer * n for n in shape)
    ):
        cure = "Crop or resample them (audit.files.load_images(paths, image_size) does)."
        raise AuditError(
            "the shape of x",
            f"(n, 1, {shape[0]}, {shape[1]}), as {A} takes it",
            str(tuple(x.shape)),
            cure,
        )
    if x.is_complex() and not A.is_complex:
        raise AuditError(
            "the type of x", f"real images, as {A} is real", "complex ones", "Take x.abs()."
        )
    for i, image in enumerate(x):
        if not bool(torch.isfinite(image.abs()).all()):
            raise AuditError(
                f"image {i + 1}", "finite values", "NaN or infinity", "Repair or leave it out."
            )
        if not bool(image.abs().amax() > 0):
            raise AuditError(
                f"image {i + 1}",
                "an image that is not 0 everywhere",
                "an all-zero image",
                "Leave it out: perturbations are measured relative to ||x||.",
            )
    low, high = (0.0, float(x.abs().max())) if x.is_complex() else (float(x.min()), float(x.max()))
    # a little over is how some phantoms and zero-mean scalings come; PSNR has peak 1 all the same
    if low < -0.25 or high > 1.25:
        raise AuditError(
            "the range of x",
            "grey values in [0, 1], where PSNR and contrasts are measured",
            f"[{low:.4g}, {high:.4g}]",
            "Scale: (x - low) / (high - low); wrap a network that wants other units: lambda y: net(y * s) / s.",
        )
    return x.to(A.device), finer


def ours(A: LinearOperator, n: int, split: str, kind: str) -> tuple[torch.Tensor, int, str]:
    """Our images for an operator, at twice its raster for CT: (x, how many times finer, source)."""
    shape, finer = A.image_shape, 2 if isinstance(A, Radon) and kind == "ct" else 1
    side = max(shape)
    with_pool = data.demo(kind, n, max(16, finer * side), split)
    x, source = with_pool
    want = tuple(finer * m for m in shape)
    if tuple(x.shape[-2:]) != want:
        parts = (x.real, x.imag) if x.is_complex() else (x,)
        parts = [
            interpolate(p, want, mode="bilinear", antialias=True, align_corners=False)
            for p in parts
        ]
        x = torch.complex(*parts) if x.is_complex() else parts[0]
    return x.to(A.device), finer, source


def measured(
    A: LinearOperator,
    x: torch.Tensor,
    finer: int,
    noise: float,
    generator: torch.Generator,
    source: str,
) -> Measured:
    """y = A x + e, ||e|| = noise ||y||; from the finer raster where x is on one, and x averaged
    onto A's.
    """
    fine = x if finer > 1 else None
    with torch.no_grad():
        y = measured_finely(x, A) if finer > 1 else A(x)
    x = avg_pool2d(x, finer) if finer > 1 else x
    if noise:
        y = torch.cat([solvers.add_noise(one, noise, generator) for one in y.split(1)])
    return Measured(x, y, fine, source)


def taken(A: LinearOperator, y, n: int) -> torch.Tensor:
    """Measurements that the reader gives, as (n, ...) of four axes.

    Raises:
        AuditError: for another shape than A gives, and values that are not finite.
    """
    y = tensor(y, "y")
    with torch.no_grad():
        ideal = A(torch.ones((1, 1, *A.image_shape), device=A.device))
    inner = A.inner if isinstance(A, Flat) else A
    shapes = [tuple(ideal.shape[1:])]
    if isinstance(A, Flat):
        shapes.append(tuple(A.shape))
    if isinstance(inner, _External) and A.is_complex and not y.is_complex() and y.ndim == 4:
        y = torch.view_as_complex(y.movedim(1, -1).contiguous())[:, None]
    if isinstance(inner, Pair) and inner.single and tuple(y.shape) == inner.y_shape:
        y = y[None]
    if len(y) != n or tuple(y.shape[1:]) not in shapes:
        raise AuditError(
            "the shape of y",
            f"{(n, *shapes[-1])}: one measurement an image, as {A} makes them",
            str(tuple(y.shape)),
            "Check the order of the axes, and whether A is the operator that measured y.",
        )
    if not bool(torch.isfinite(y.abs()).all()):
        raise AuditError(
            "y", "finite values", "NaN or infinity", "Repair or leave those measurements out."
        )
    return y.reshape(n, *ideal.shape[1:]).to(A.device, ideal.dtype)
