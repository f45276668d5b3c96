"""One scan, one field: fit the weights to the views of that scan alone, then ask for samples."""

import contextlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch

from ..networks import Fields
from ..operators import LinearOperator, Radon
from ..training import Diverged
from ..uncertainty.bbb import BayesByBackprop

RATES = {"relu": 3e-3, "silu": 1e-2, "sine": 3e-3, "softplus": 1e-3, "tanh": 1e-2}
"""Adam's learning rate by activation for depths up to 3, times 3 / depth beyond. The paper gives
none; of 1e-3, 3e-3 and 1e-2 the best on validation phantom 2 after 400 steps (depth 3, width 64, 20
views; omega0 5, for sine 10). More leaves softplus, and silu and sine of depth 6, with nothing."""


@dataclass
class Fitting:
    """How a fit went."""

    # (recorded, K) ||A f - y|| / ||y|| of the pass that was trained on
    residual: torch.Tensor
    steps: list[int]  # of the records and frames
    seconds: float
    # images (K, 1, n, n) without dropout, at these steps
    frames: list[torch.Tensor] = field(default_factory=list)


def fit(
    fields: Fields | BayesByBackprop,
    A: LinearOperator,
    y: torch.Tensor,
    steps: int = 1200,
    lr: float | None = None,
    *,
    tv: float = 0.0,
    xi: float | torch.Tensor = 0.0,
    rho_lr: float = 0.03,
    decay: float = 0.3,
    generator: torch.Generator | None = None,
    record: Iterable[int] = (),
    callback: Callable[[int], None] | None = None,
) -> Fitting:
    r"""Adam on  1 / (2 M) ||A f - y||^2 / n^2  (+ tv TV(f)) (+ xi KL), summed over the K fields;
    each has the step of its own.

    M is the number of rays, and lengths are in units of the image's side, so that y is about 0.1
    (the mean of a column in the authors' projector): equation 1 of the paper.

    Args:
        fields: trained in place, with dropout if they have any; left in evaluation mode.
        y: (K, 1, n_views, n_detectors), or (1, ...) for K fields of one scan.
        lr: by default from `RATES`. It is constant, then falls linearly to 0 over the last `decay`
            of the steps.
        tv: factor of sum |grad f| / n^2, isotropic.
        xi, rho_lr: for BayesByBackprop, the factor of its KL, a number or K of them, and the
            learning rate of rho.
        generator: draws masks or weights.
        record: steps (from 0, before the first update, to `steps`) at which residual and frame are
            kept.
        callback: called with every step.

    Raises:
        Diverged: where the loss is not finite.
    """
    bayes = isinstance(fields, BayesByBackprop)
    shape, n = fields.fields if bayes else fields, A.image_shape[-1]
    lr = RATES[shape.activation] * min(1.0, 3 / shape.depth) if lr is None else lr
    unit = side(A)
    groups = (
        [{"params": [fields.mu], "lr": lr}, {"params": [fields.rho], "lr": rho_lr}]
        if bayes
        else [{"params": fields.parameters()}]
    )
    optimiser, schedule = adam(groups, lr, steps, decay)
    fields.generator, record = generator, sorted(set(record))
    result, start = Fitting(torch.zeros(0, shape.n_fields), record, 0.0), time.perf_counter()
    scale = y.flatten(1).norm(dim=1)
    for step in range(steps + 1):
        fields.train()
        image = fields.render(n)
        misfit = (A(image) - y).flatten(1)
        if step in record:
            result.residual = torch.cat(
                [result.residual, (misfit.detach().norm(dim=1) / scale)[None].cpu()]
            )
            with evaluating(fields), torch.no_grad():
                result.frames.append(fields.render(n).cpu())
        if step == steps:
            break
        loss = misfit.square().mean(1).sum() / (2 * unit**2)
        if tv:
            loss = loss + tv * total_variation(image) / n**2
        if bayes:
            loss = loss + (xi * fields.kl()).sum()
        if not torch.isfinite(loss):
            raise Diverged(
                f"{type(fields).__name__}: the loss is {loss.item()} at step {step} with lr={lr:g}. Take a smaller one."
            )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if callback is not None:
            callback(step)
    fields.eval()
    result.seconds = time.perf_counter() - start
    return result


def adam(parameters: Iterable, lr: float, steps: int, decay: float = 0.3):
    """(Adam, its schedule): lr, falling linearly to 0 over the last `decay` of the steps."""
    optimiser = torch.optim.Adam(parameters, lr, fused=True)
    return optimiser, torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min(1.0, (steps - step) / max(decay * steps, 1e-9))
    )


def side(A: LinearOperator) -> int:
    """What y is divided by, so that lengths are in units of the image's side: pixels for Radon, 1
    for a mean over columns.
    """
    return A.image_shape[-1] if isinstance(A, Radon) else 1


@torch.no_grad()
def samples(
    fields: Fields | BayesByBackprop,
    size: int,
    n_samples: int = 50,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Passes with dropout, or draws of the weights: (n_samples, K, 1, size, size); the one image
    again and again if neither.
    """
    fields.generator = generator
    if isinstance(fields, BayesByBackprop):
        return fields.samples(size, n_samples)
    with training(fields):
        return torch.stack([fields.render(size) for _ in range(n_samples)])


def total_variation(image: torch.Tensor) -> torch.Tensor:
    """sum over pixels of sqrt(d_x^2 + d_y^2 + 1e-12), of (K, 1, n, n); a number."""
    dx, dy = image[..., :-1, 1:] - image[..., :-1, :-1], image[..., 1:, :-1] - image[..., :-1, :-1]
    return (dx.square() + dy.square() + 1e-12).sqrt().sum()


@contextlib.contextmanager
def evaluating(net: torch.nn.Module, mode: bool = False):
    """`net` in evaluation mode inside, as it was afterwards."""
    before = net.training
    net.train(mode)
    try:
        yield net
    finally:
        net.train(before)


def training(net: torch.nn.Module):
    """`net` in training mode inside, as it was afterwards."""
    return evaluating(net, True)
