"""Batched vector arithmetic: one norm, one inner product, one random vector for each image."""

from collections.abc import Callable

import torch


def forward_of(A) -> Callable[[torch.Tensor], torch.Tensor]:
    return getattr(A, "A", A)  # deepinv's physics(x) adds noise, physics.A(x) does not


def normal(shape, like, generator):
    shape = like.shape if shape is None else shape
    return torch.randn(shape, generator=generator, dtype=like.dtype, device=generator.device).to(
        like.device
    )


def norm(t: torch.Tensor) -> torch.Tensor:
    return torch.linalg.vector_norm(t.flatten(1), dim=1)


def dot(a, b):
    return (a.conj() * b).real.flatten(1).sum(1)


def like(value, x):
    """(batch,) values shaped to multiply x."""
    return value.reshape(-1, *[1] * (x.ndim - 1))


def unit(t):
    return t / like(norm(t).clamp_min(torch.finfo(t.real.dtype).tiny), t)
