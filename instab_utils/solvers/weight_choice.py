"""The weight of TV or TGV, chosen on validation images; noise of a stated relative size."""

import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..operators import LinearOperator
from .driver import Solution, norm
from .total_variation import tv


def choose_weight(
    A: LinearOperator,
    x_validation: Tensor,
    weights: Sequence[float],
    noise_level: float = 0.0,
    generator: torch.Generator | None = None,
    y_validation: Tensor | None = None,
    solver: Callable[..., Solution] = tv,
    **options: object,
) -> tuple[float, dict[float, float]]:
    """Return the weight with the smallest mean ||x_w - x|| / ||x|| over validation images.

    Never choose it on test images.

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
    repeated = torch.tensor(weights).repeat_interleave(n_images)
    x = solver(A, y.repeat(len(weights), 1, 1, 1), repeated, **options).x
    errors = {
        weight: float((norm(x_w - x_validation) / norm(x_validation)).mean())
        for weight, x_w in zip(weights, x.split(n_images))
    }
    best = min(errors, key=errors.get)
    if len(errors) > 1 and best in (min(errors), max(errors)):
        warnings.warn(
            f"best weight {best:g} is an end of the grid {sorted(errors)}: widen the grid.",
            stacklevel=2,
        )
    return best, errors


def add_noise(y: Tensor, noise_level: float, generator: torch.Generator) -> Tensor:
    """Return y + e with e white Gaussian and ||e|| = noise_level ||y||.

    e is complex, and only where y != 0, if y is complex.
    """
    if generator is None:
        raise ValueError(
            "noise needs a torch.Generator: pass generator=profiles.generator(seed, 'noise')."
        )
    e = torch.randn(y.shape, generator=generator, dtype=y.dtype, device=generator.device)
    e = e.to(y.device)
    if y.is_complex():
        e = e * (y != 0)  # what a mask leaves out is not measured, hence has no noise
    return y + noise_level * norm(y) / norm(e) * e
