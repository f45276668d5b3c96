"""The weight of TV, chosen on validation images; noise of a stated relative size."""

import warnings

import torch

from .base import norm
from .tv import tv


def choose_weight(A, x_validation, weights, noise_level=0.0, generator=None, measure=None, **options):
    """The weight with the smallest mean ||x_w - x|| / ||x|| over validation images, never over test images.

    Args:
        A: operator to reconstruct with.
        x_validation: (batch, channels, n, n) images.
        weights: candidates, tried as `tv(A, y, w, **options)`.
        noise_level: ||e|| / ||A x|| of white Gaussian noise added to every measurement; needs `generator` if > 0.
        measure: operator (or function) that makes the data; default A. Give a finer one to avoid the inverse crime.

    Returns:
        (weight, errors): the best weight and {weight: mean relative error}. Warns if it lies at an end of the grid.
    """
    y = (measure or A)(x_validation)
    y = add_noise(y, noise_level, generator) if noise_level else y
    errors = {}
    for weight in weights:
        x = tv(A, y, weight, **options).x
        errors[weight] = float((norm(x - x_validation) / norm(x_validation)).mean())
    best = min(errors, key=errors.get)
    if len(errors) > 1 and best in (min(errors), max(errors)):
        warnings.warn(f"best weight {best:g} is an end of the grid {sorted(errors)}: widen the grid.", stacklevel=2)
    return best, errors


def add_noise(y, noise_level, generator):
    """y + e with e white Gaussian (complex if y is, on the sampled entries of a mask) and ||e|| = noise_level ||y||."""
    if generator is None:
        raise ValueError("noise needs a torch.Generator: pass generator=profiles.generator(seed, 'noise').")
    e = torch.randn(y.shape, generator=generator, dtype=y.dtype, device=generator.device).to(y.device)
    if y.is_complex():
        e = e * (y != 0)
    return y + noise_level * norm(y) / norm(e) * e
