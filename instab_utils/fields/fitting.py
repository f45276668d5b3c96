"""Fit the weights of fields to the views of their scans, and draw samples of them."""

import contextlib
import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..networks import Fields
from ..networks.inr import Generators, masked_activation
from ..operators import LinearOperator, Radon
from ..training import Diverged
from ..uncertainty.bbb import BayesByBackprop

RATES = {"relu": 3e-3, "silu": 1e-2, "sine": 3e-3, "softplus": 1e-3, "tanh": 1e-2}
"""Adam's learning rate by activation for depths up to 3, times 3 / depth beyond.

The paper gives none. Of 1e-3, 3e-3 and 1e-2 the best on validation phantom 2 after 400 steps (depth
3, width 64, 20 views; omega0 5, for sine 10). A larger rate leaves softplus, and silu and sine of
depth 6, untrained.
"""
RHO_RATE = 0.03
"""Learning rate of rho in Bayes by backprop."""
DECAY = 0.3
"""Share of the steps, at the end, in which learning rates fall linearly to zero."""
COMPILED_STEPS = 500
"""Shorter fits are not compiled, which takes 5 to 30 s an activation."""
CHECKED = 50
"""Every so many steps the loss is read, for which the CPU waits for a GPU."""


@dataclass
class Fitting:
    """How a fit went."""

    steps: list[int]  # of the records and frames
    residual: Tensor  # (recorded, K): ||A f - y|| / ||y|| of the pass that was trained on
    seconds: float = 0.0
    # images (K, 1, n, n) without dropout, at these steps
    frames: list[Tensor] = field(default_factory=list)


def fit_fields(
    fields: Fields | BayesByBackprop,
    A: LinearOperator,
    y: Tensor,
    steps: int = 1200,
    lr: float | None = None,
    *,
    xi: float | Tensor = 0.0,
    generator: Generators = None,
    record: Iterable[int] = (),
) -> Fitting:
    r"""Minimise  1 / (2 M) ||A f - y||^2 / n^2  (+ xi KL)  by Adam, each of K fields by itself.

    M is the number of rays, and lengths are in units of the image's side, so that y is about 0.1
    (the mean of a column in the authors' projector): equation 1 of the paper.

    Args:
        fields: trained in place, with dropout if they have any; left in evaluation mode.
        y: (K, 1, n_views, n_detectors), or (1, ...) for K fields of one scan.
        lr: by default from `RATES`. It is constant, then falls to 0 over the last `DECAY`.
        xi: for BayesByBackprop, the factor of its KL, a number or K of them.
        generator: draws masks or weights; a list of K, one a field, makes what a field draws
            independent of its neighbours.
        record: steps (from 0, before the first update, to `steps`) at which residual and frame are
            kept.

    Raises:
        Diverged: where the loss is not finite; read every `CHECKED` steps and at the last one, as
            it stays so.
    """
    bayes = isinstance(fields, BayesByBackprop)
    network, n = fields.fields if bayes else fields, A.image_shape[-1]
    if lr is None:
        lr = RATES[network.activation] * min(1.0, 3 / network.depth)
    groups = [{"params": fields.parameters()}]
    if bayes:
        groups = [{"params": [fields.mu]}, {"params": [fields.rho], "lr": RHO_RATE}]
    optimiser, schedule = adam(groups, lr, steps)
    fields.generator, record = generator, sorted(set(record))
    result, start = Fitting(record, torch.zeros(0, network.n_fields)), time.perf_counter()
    scale = y.flatten(1).norm(dim=1)
    with fused(network, y.is_cuda and network.n_fields > 1 and steps >= COMPILED_STEPS):
        for step in range(steps + 1):
            fields.train()
            misfit = (A(fields.render(n)) - y).flatten(1)
            if step in record:
                residual = misfit.detach().norm(dim=1) / scale
                result.residual = torch.cat([result.residual, residual[None].cpu()])
                with torch.no_grad():
                    result.frames.append(fields.eval().render(n).cpu())
            if step == steps:
                break
            loss = misfit.square().mean(1).sum() / (2 * side(A) ** 2)
            if bayes:
                loss = loss + (xi * fields.kl()).sum()
            checked = (step + 1) % CHECKED == 0 or step + 1 == steps
            if checked and not math.isfinite(value := loss.item()):
                raise Diverged(
                    f"{type(fields).__name__}: the loss is {value} at step {step} or before, with "
                    f"lr={lr:g}. Take a smaller one."
                )
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    fields.eval()
    result.seconds = time.perf_counter() - start
    return result


@contextlib.contextmanager
def fused(fields: Fields, wanted: bool, backend: str = "inductor") -> Iterator[None]:
    """Compile the activation and the mask of a stack to one operation, within a `with` block.

    Then 13 instead of 21 arrays of the size of a layer's output pass through a GPU's memory in a
    step of a layer, which takes longer than its products up to a width of 1024. Masks of pixels
    only, one compilation an activation. Where it cannot be compiled it runs as it is.
    """
    if not wanted or not fields.drops or fields.masks != "pixel":
        yield
        return
    import torch._dynamo  # a second

    fields._masked = torch.compile(masked_activation, dynamic=True, backend=backend)
    try:
        with torch._dynamo.config.patch(suppress_errors=True):
            yield
    finally:
        fields._masked = masked_activation


def adam(parameters: Iterable, lr: float, steps: int):
    """Return Adam and its schedule: lr, falling to 0 over the last `DECAY` of the steps."""

    def share(step):
        return min(1.0, (steps - step) / max(DECAY * steps, 1e-9))

    optimiser = torch.optim.Adam(parameters, lr, fused=True)
    return optimiser, torch.optim.lr_scheduler.LambdaLR(optimiser, share)


def side(A: LinearOperator) -> int:
    """Return what y is divided by, so that lengths are in units of the image's side.

    It is n for Radon, whose unit is the pixel, and 1 for a mean over columns.
    """
    return A.image_shape[-1] if isinstance(A, Radon) else 1


@torch.no_grad()
def samples(
    fields: Fields | BayesByBackprop,
    size: int,
    n_samples: int = 50,
    generator: Generators = None,
) -> Tensor:
    """Return images of passes with dropout, or of drawn weights: (n_samples, K, 1, size, size).

    A field that has neither gives the one image again and again.
    """
    fields.generator, before = generator, fields.training
    fields.train()
    drawn = torch.stack([fields.render(size) for _ in range(n_samples)])
    fields.train(before)
    return drawn
