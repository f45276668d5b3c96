"""Which tensors the scores take."""

import torch
from torch import Tensor


def same_shape(a: Tensor, b: Tensor) -> None:
    """Refuse all but two batches of one shape."""
    if a.shape != b.shape or a.ndim < 2:
        raise ValueError(
            f"expected two batches of the same shape (batch, ...); got {(*a.shape,)} and "
            f"{(*b.shape,)}."
        )


def comparable(x_rec: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return both as float64, magnitudes where either is complex."""
    same_shape(x_rec, x)
    if x_rec.is_complex() or x.is_complex():
        x_rec, x = x_rec.abs(), x.abs()
    return x_rec.detach().to(torch.float64), x.detach().to(torch.float64)


def interval(lower: Tensor, upper: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return all three as float64; refuse intervals whose ends cross."""
    same_shape(lower, upper)
    lower, x = comparable(lower, x)
    upper = upper.detach().to(torch.float64)
    if not bool((lower <= upper).all()):
        raise ValueError(
            "expected lower <= upper in every pixel; they cross, or are NaN. Exchange them, or "
            "look for the bug."
        )
    return lower, upper, x


def masked(score: Tensor, mask: Tensor | None, name: str) -> tuple[Tensor, Tensor]:
    """Return (batch, pixels) of both, all pixels by default; refuse NaN and images without any."""
    mask = torch.ones_like(score, dtype=torch.bool) if mask is None else mask
    same_shape(score, mask)
    if mask.dtype != torch.bool or score.is_complex() or bool(score.isnan().any()):
        raise ValueError(
            f"{name} expects a real score without NaN and a bool mask; got {score.dtype} and "
            f"{mask.dtype}. Take mask > 0.5."
        )
    mask = mask.flatten(1)
    if name != "auroc" and not bool(mask.any(1).all()):
        first = int((~mask.any(1)).nonzero()[0])
        raise ValueError(
            f"{name} needs a pixel of the mask in every image; image {first} has none."
        )
    return score.detach().flatten(1), mask
