"""Controls of an attack: amplification of any r, random twins of it, r with Gaussian noise."""

from collections.abc import Callable

import torch

from .vectors import forward_of, like, norm, normal, unit


def amplification(f: Callable, A: object, x: torch.Tensor, r: torch.Tensor) -> torch.Tensor:
    """Return ||f(A(x + r)) - f(Ax)|| / ||r||, (batch,)."""
    forward = forward_of(A)
    with torch.no_grad():
        y = forward(x)
        return norm(f(y + forward(r)) - f(y)) / norm(r)


def random_twin(r: torch.Tensor, generator: torch.Generator, n: int | None = None) -> torch.Tensor:
    """Return Gaussian perturbations with each image's norm, support and type (real, complex) of r.

    Args:
        r: (batch, ...) perturbation.
        generator: random numbers.
        n: number of twins; the result then has shape (n, *r.shape), and r's own shape for None.
    """
    shape = r.shape if n is None else (n, *r.shape)
    noise = normal(shape, r, generator) * (r != 0)
    flat = noise.reshape(-1, *r.shape)
    tiny = torch.finfo(r.real.dtype).tiny
    scale = norm(r) / torch.stack([norm(twin) for twin in flat]).clamp_min(tiny)
    return (flat * scale.reshape(*scale.shape, *[1] * (r.ndim - 1))).reshape(shape)


def gaussian_plus(
    r: torch.Tensor, A: object, generator: torch.Generator, fraction: float = 0.25
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (r + v, v) with v = A* e, e Gaussian in measurement space, ||v|| = fraction ||r||.

    Reconstruct f(A(x + r + v)) for the test and f(A(x + v)) for its control. A real r gets the real
    part of A* e.
    Source: Antun et al., PNAS 2020, Fig. 2 (fraction 1/4).
    """
    e = normal(None, forward_of(A)(r), generator)
    v = (getattr(A, "adjoint", None) or A.A_adjoint)(e)
    v = v if r.is_complex() or not v.is_complex() else v.real
    v = unit(v.to(r.dtype)) * like(fraction * norm(r), r)
    return r + v, v
