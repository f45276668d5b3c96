"""What an attack is compared with: the amplification of any r, random twins of it, r with Gaussian
noise on top.
"""

import torch

from .vectors import forward_of, like, norm, normal, unit


def amplification(f, A, x: torch.Tensor, r: torch.Tensor) -> torch.Tensor:
    """||f(A(x + r)) - f(Ax)|| / ||r||, (batch,)."""
    forward = forward_of(A)
    with torch.no_grad():
        y = forward(x)
        return norm(f(y + forward(r)) - f(y)) / norm(r)


def random_twin(r: torch.Tensor, generator: torch.Generator, n: int | None = None) -> torch.Tensor:
    """Gaussian perturbations with, image by image, the norm, the support and the type (real,
    complex) of r.

    Args:
        r: (batch, ...) perturbation.
        generator: random numbers.
        n: number of twins; the result then has shape (n, *r.shape), and r's own shape for None.
    """
    shape = r.shape if n is None else (n, *r.shape)
    noise = normal(shape, r, generator) * (r != 0)
    flat = noise.reshape(-1, *r.shape)
    scale = norm(r) / torch.stack([norm(twin) for twin in flat]).clamp_min(
        torch.finfo(r.real.dtype).tiny
    )
    return (flat * scale.reshape(*scale.shape, *[1] * (r.ndim - 1))).reshape(shape)


def gaussian_plus(r: torch.Tensor, A, generator: torch.Generator, fraction: float = 0.25):
    """(r + v, v) with v = A* e, e Gaussian in measurement space, rescaled to ||v|| = fraction
    ||r||.

    Reconstruct f(A(x + r + v)) for the test and f(A(x + v)) for its control. A real r gets the real
    part of A* e.
    Source: Antun et al., PNAS 2020, Fig. 2 (fraction 1/4).
    """
    e = normal(None, forward_of(A)(r), generator)
    v = (getattr(A, "adjoint", None) or A.A_adjoint)(e)
    v = v if r.is_complex() or not v.is_complex() else v.real
    v = unit(v.to(r.dtype)) * like(fraction * norm(r), r)
    return r + v, v
