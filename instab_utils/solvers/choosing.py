"""The weight of TV or TGV, chosen on validation images; noise of a stated relative size."""

import warnings

import torch

from .base import norm
from .tv import tv


def choose_weight(
    A,
    x_validation,
    weights,
    noise_level=0.0,
    generator=None,
    y_validation=None,
    solver=tv,
    **options,
):
    """The weight with the smallest mean ||x_w - x|| / ||x|| over validation images, never over test
    images.

    Args:
        A: operator to reconstruct with.
        x_validation: (batch, channels, n, n) images.
        weights: candidates, all tried in one batch: `solver(A, y, weights, **options)`.
        noise_level: ||e|| / ||y|| of white Gaussian noise added to every measurement; needs
            `generator` if > 0.
        y_validation: measurements of x_validation; default A(x_validation). Give those of a finer
            operator to avoid the inverse crime.
        solver: `tv`, or `tgv`.

    Returns:
        (weight, errors): the best weight and {weight: mean relative error}. Warns if it lies at an
        end of the grid.
    """
    y = A(x_validation) if y_validation is None else y_validation
    y = add_noise(y, noise_level, generator) if noise_level else y
    weights = [float(weight) for weight in weights]
    n_images = len(x_validation)
    each = torch.tensor(weights).repeat_interleave(n_images)
    x = solver(A, y.repeat(len(weights), 1, 1, 1), each, **options).x.unflatten(
        0, (len(weights), n_images)
    )
    errors = {
        w: float((norm(x_w - x_validation) / norm(x_validation)).mean())
        for w, x_w in zip(weights, x)
    }
    best = min(errors, key=errors.get)
    if len(errors) > 1 and best in (min(errors), max(errors)):
        warnings.warn(
            f"best weight {best:g} is an end of the grid {sorted(errors)}: widen the grid.",
            stacklevel=2,
        )
    return best, errors


def add_noise(y, noise_level, generator):
    """y + e with e white Gaussian and ||e|| = noise_level ||y||; complex, and only where y != 0, if
    y is complex.
    """
    if generator is None:
        raise ValueError(
            "noise needs a torch.Generator: pass generator=profiles.generator(seed, 'noise')."
        )
    e = torch.randn(y.shape, generator=generator, dtype=y.dtype, device=generator.device).to(
        y.device
    )
    if y.is_complex():
        e = e * (y != 0)  # what a mask leaves out is not measured, hence has no noise
    return y + noise_level * norm(y) / norm(e) * e
