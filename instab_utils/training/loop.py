"""One training loop: seeds, schedules, validation, exact resume, and a stop that names the batch
when a loss is NaN.
"""

import contextlib
import math
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn
from tqdm import tqdm

from .. import profiles
from . import checkpoint as files
from .ipalm import IPALM

SCHEDULES: dict[str, Callable[[int, int], float]] = {
    "constant": lambda step, steps: 1.0,
    "cosine": lambda step, steps: (
        min(1.0, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * step / steps))
    ),
    "decay": lambda step, steps: 0.5 * (1 + math.cos(math.pi * step / steps)),
    "halving": lambda step, steps: 0.5 ** (3 * step // steps),
    "rising": lambda step, steps: 10 ** (min(0.0, 5 * step / steps - 1)),
}
"""Factor of the learning rate at a step. "decay" is a cosine, "cosine" warms up over 100 steps
before it; "halving" halves it after each
third (DAGAN: every 5 of 15 epochs); "rising" is FBPConvNet's: from a tenth, logarithmically, to the
full rate after a fifth (20 of 101)."""


class Diverged(FloatingPointError):
    """A loss or a gradient is not finite. The parameters of the part concerned are those before the
    step.
    """


@dataclass
class Part:
    """What one optimiser does: `loss(batch)` is lowered over the optimiser's parameters, then
    `project()` is called.

    A network has one part. A generator and its discriminator are two, which take turns within a
    step.
    """

    name: str
    optimiser: torch.optim.Optimizer
    loss: Callable[[object], torch.Tensor]
    project: Callable[[], None] | None = None
    clip_norm: float | None = None


@dataclass
class History:
    """What happened: `curve` has a row {"step", "loss", "validation_db", "seconds"} for every
    validation.
    """

    curve: list[dict] = field(default_factory=list)
    best_step: int = 0
    best_db: float = -math.inf
    seconds: float = 0.0
    stopped: str = "all steps done"


def precision(device: torch.device, wanted: str = "auto") -> str:
    """ "bf16" or "fp32". "auto" takes bfloat16 autocast where the hardware multiplies in it, and so
    where it is free: CUDA from compute capability 8, CPUs with AVX-512 BF16 or AMX. Elsewhere it is
    up to 12 times slower."""
    if wanted != "auto":
        if wanted not in ("bf16", "fp32"):
            raise ValueError(f'precision expects "auto", "bf16" or "fp32"; got {wanted!r}.')
        return wanted
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp32"
    has = [
        getattr(torch.cpu, f"_is_{name}_supported", lambda: False)()
        for name in ("avx512_bf16", "amx_tile")
    ]
    return "bf16" if any(has) else "fp32"


def optimiser(
    kind: str, parameters: Iterable[nn.Parameter], lr: float, **options
) -> torch.optim.Optimizer:
    """Adam, RMSprop or SGD of PyTorch in their fastest form, or "clipped-sgd", FBPConvNet's, or
    "ipalm", MRI-VN's.

    Raises:
        ValueError: for an unknown kind.
    """
    parameters = list(parameters)
    if kind == "adam":
        return torch.optim.Adam(parameters, lr, fused=True, **options)
    if kind == "rmsprop":
        return torch.optim.RMSprop(parameters, lr, foreach=True, **options)
    if kind == "sgd":
        return torch.optim.SGD(parameters, lr, fused=True, **options)
    if kind == "clipped-sgd":
        return ClippedSGD(parameters, lr, **options)
    if kind == "ipalm":
        return IPALM(parameters, lr, **options)
    raise ValueError(
        f'optimiser expects "adam", "rmsprop", "sgd", "clipped-sgd" or "ipalm"; got {kind!r}.'
    )


class ClippedSGD(torch.optim.Optimizer):
    """v <- momentum v - g - decay w;  w <- w + clip(lr v, -limit, limit): the update is clipped,
    not the gradient.

    As in the training code of Jin et al. 2017 (FBPConvNet), where it is called gradient clipping.
    """

    def __init__(
        self,
        parameters,
        lr: float,
        momentum: float = 0.99,
        limit: float = 1e-2,
        weight_decay: float = 0.0,
    ):
        super().__init__(
            parameters,
            {"lr": lr, "momentum": momentum, "limit": limit, "weight_decay": weight_decay},
        )

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for w in (w for w in group["params"] if w.grad is not None):
                v = self.state[w].setdefault("velocity", torch.zeros_like(w))
                v.mul_(group["momentum"]).sub_(w.grad).sub_(w, alpha=group["weight_decay"])
                w.add_((group["lr"] * v).clamp_(-group["limit"], group["limit"]))


def fit(
    network: nn.Module,
    parts: list[Part],
    draw: Callable[[int], object],
    *,
    steps: int,
    name: str = "training",
    seed: int = 0,
    schedule: str = "cosine",
    validate: Callable[[], float] | None = None,
    every: int = 100,
    patience: int | None = None,
    autocast: str = "auto",
    checkpoint: Path | None = None,
    save_s: float = 60.0,
    progress: bool | None = None,
) -> History:
    """Train `network` in place; afterwards it has the weights of its best validation (the last ones
    without any).

    Step k uses only `draw(k)`, the learning rate of k and dropout masks drawn from (seed, k). So an
    interrupted run that goes on from its checkpoint ends, on the CPU with as many threads, with
    exactly the weights of one never interrupted.

    Args:
        network: everything that is trained (a generator and its discriminator as one
            nn.ModuleDict).
        parts: see `Part`; taken in turn within every step, on the same batch.
        draw: step -> batch. Must depend on the step alone.
        steps: updates in all.
        schedule: one of `SCHEDULES`, a factor on every optimiser's first learning rate.
        validate: () -> score in dB, larger is better, taken every `every` steps and at the end, in
            evaluation mode.
        patience: stop after that many validations without a better one; None never.
        autocast: "auto", "bf16" or "fp32", see `precision`.
        checkpoint: file to save to (about every `save_s` seconds and at the end of a stop) and to
            go on from.
        progress: show a bar; None does, except while a book is built.

    Raises:
        Diverged: naming part, step and batch, if a loss or the gradient's norm is not finite.
    """
    device = next(network.parameters()).device
    low = precision(device, autocast) == "bf16"
    rates = [[group["lr"] for group in part.optimiser.param_groups] for part in parts]
    droppers = [module for module in network.modules() if hasattr(module, "generator")]
    history, best, first = History(), None, 0
    if checkpoint is not None and checkpoint.is_file():
        first, history, best = files.load(checkpoint, network, [part.optimiser for part in parts])
        first = steps if history.stopped != History.stopped else first
    total, n_total, started, saved = (
        0.0,
        0,
        time.perf_counter() - history.seconds,
        time.perf_counter(),
    )
    shown = not os.environ.get("INSTAB_BOOK") if progress is None else progress
    bar = tqdm(
        range(first, steps),
        name,
        steps,
        initial=first,
        disable=not shown,
        unit="step",
        dynamic_ncols=True,
    )
    network.train()
    try:
        for step in bar:
            batch = draw(step)
            for module in droppers:
                module.generator = profiles.generator(seed, f"dropout {step}", device)
            for part, part_rates in zip(parts, rates):
                for group, rate in zip(part.optimiser.param_groups, part_rates):
                    group["lr"] = rate * SCHEDULES[schedule](step, steps)
                part.optimiser.zero_grad(set_to_none=True)
                # enabled: a network may be asked for, and so trained, within torch.no_grad()
                with (
                    torch.enable_grad(),
                    torch.autocast(device.type, torch.bfloat16)
                    if low
                    else contextlib.nullcontext(),
                ):
                    loss = part.loss(batch)
                if not math.isfinite(value := float(loss.detach())):
                    raise Diverged(
                        _explain(name, "loss", part, value, step, steps, batch, checkpoint)
                    )
                weights = [w for group in part.optimiser.param_groups for w in group["params"]]
                if isinstance(part.optimiser, IPALM):  # takes its own gradients
                    part.optimiser.step(lambda part=part, batch=batch: part.loss(batch))
                else:
                    loss.backward()
                    norm = float(
                        nn.utils.clip_grad_norm_(
                            weights, math.inf if part.clip_norm is None else part.clip_norm
                        )
                    )
                    if not math.isfinite(norm):
                        raise Diverged(
                            _explain(name, "gradient", part, norm, step, steps, batch, checkpoint)
                        )
                    part.optimiser.step()
                # fused steps do not, and tables made of weights are kept by their version
                for w in weights:
                    torch.autograd.graph.increment_version(w)
                if part.project is not None:
                    part.project()
                if part is parts[0]:
                    total, n_total = total + value, n_total + 1
            done = step + 1
            if done % every == 0 or done == steps:
                row = {
                    "step": done,
                    "loss": total / n_total,
                    "seconds": time.perf_counter() - started,
                }
                total, n_total = 0.0, 0
                if validate is not None:
                    network.eval()
                    with torch.no_grad():
                        row["validation_db"] = float(validate())
                    network.train()
                    if row["validation_db"] > history.best_db:
                        history.best_db, history.best_step = row["validation_db"], done
                        best = {k: v.detach().clone() for k, v in network.state_dict().items()}
                history.curve.append(row)
                bar.set_postfix(
                    {k: f"{v:.4g}" for k, v in row.items() if k not in ("step", "seconds")}
                )
                since = sum(r["step"] > history.best_step for r in history.curve)
                if patience is not None and validate is not None and since >= patience:
                    history.stopped = f"no better validation in {since} of them"
            history.seconds = time.perf_counter() - started
            stop = history.stopped != History.stopped
            # at a validation only: sums of losses since the last one are not part of a checkpoint
            if (
                checkpoint is not None
                and done % every == 0
                and (stop or time.perf_counter() - saved > save_s)
            ):
                files.save(
                    checkpoint, done, network, [part.optimiser for part in parts], history, best
                )
                saved = time.perf_counter()
            if stop:
                break
    finally:
        bar.close()
        for module in droppers:
            module.generator = None
    if best is not None:
        network.load_state_dict(best)
    network.eval()
    return history


def _explain(name, what, part, value, step, steps, batch, checkpoint) -> str:
    tensors = [
        t
        for t in (batch if isinstance(batch, (tuple, list)) else [batch])
        if isinstance(t, torch.Tensor)
    ]
    finite = all(bool(torch.isfinite(t).all()) for t in tensors)
    ranges = ", ".join(
        f"{tuple(t.shape)} with magnitudes up to {t.abs().max():.3g}" for t in tensors
    )
    cure = (
        "Lower the learning rate or set clip_norm"
        if finite
        else "The batch itself is not finite: look at what draws it"
    )
    kept = (
        f"; the last checkpoint is {checkpoint}"
        if checkpoint is not None and checkpoint.is_file()
        else ""
    )
    return (
        f"{name}: the {what} of {part.name!r} is {value} at step {step} of {steps}, on batch draw({step}): {ranges}. "
        f"{cure}. The parameters of {part.name!r} are those from before this step{kept}."
    )
