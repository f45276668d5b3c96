"""One training loop: seeds, schedules, validation, exact resume, errors that name the batch."""

import contextlib
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn
from tqdm import tqdm

from .. import profiles
from . import checkpoint as files
from .ipalm import IPALM
from .optimisers import SCHEDULES


class Diverged(FloatingPointError):
    """A loss or a gradient is not finite. The part concerned has the parameters before the step."""


@dataclass
class Part:
    """One optimiser's task: lower `loss(batch)` over its parameters, then call `project()`.

    A network has one part. A generator and its discriminator are two, which take turns within a
    step.
    """

    name: str
    optimiser: torch.optim.Optimizer
    loss: Callable[[object], torch.Tensor]
    project: Callable[[], None] | None = None
    clip_norm: float | None = None


@dataclass(frozen=True)
class Loop:
    """How long a training goes on, and how fast."""

    steps: int  # updates in all
    name: str = "training"  # for messages
    seed: int = 0  # of dropout masks
    schedule: str = (
        "cosine"  # one of `SCHEDULES`, a factor on every optimiser's first learning rate
    )
    every: int = 100  # steps between validations
    patience: int | None = None  # validations without a better one before it stops
    autocast: str = "auto"  # "auto", "bf16" or "fp32", see `precision`
    save_s: float = 60.0  # seconds between checkpoints


@dataclass
class History:
    """A row {"step", "loss", "validation_db", "seconds"} for every validation, and the best one."""

    curve: list[dict] = field(default_factory=list)
    best_step: int = 0
    best_db: float = -math.inf
    seconds: float = 0.0
    stopped: str = "all steps done"


def precision(device: torch.device, wanted: str = "auto") -> str:
    """Return "bf16" or "fp32".

    "auto" takes bfloat16 autocast where the hardware multiplies in it, so that it is free: CUDA
    from compute capability 8, CPUs with AVX-512 BF16 or AMX. Elsewhere it is up to 12 times slower.
    """
    if wanted != "auto":
        if wanted not in ("bf16", "fp32"):
            raise ValueError(f'precision expects "auto", "bf16" or "fp32"; got {wanted!r}.')
        return wanted
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp32"
    names = ("avx512_bf16", "amx_tile")
    supported = [getattr(torch.cpu, f"_is_{name}_supported", None) for name in names]
    return "bf16" if any(ask() for ask in supported if ask) else "fp32"


def fit(
    network: nn.Module,
    parts: list[Part],
    draw: Callable[[int], object],
    loop: Loop,
    validate: Callable[[], float] | None = None,
    checkpoint: Path | None = None,
    progress: bool | None = None,
) -> History:
    """Train `network` in place; it ends with the weights of its best validation, or the last ones.

    Step k uses only `draw(k)`, the learning rate of k and dropout masks drawn from (seed, k). So an
    interrupted run that goes on from its checkpoint ends, on the CPU with as many threads, with
    exactly the weights of one never interrupted.

    Args:
        network: everything that is trained (a generator and its discriminator as one
            nn.ModuleDict).
        parts: see `Part`; taken in turn within every step, on the same batch.
        draw: step -> batch. Must depend on the step alone.
        validate: () -> score in dB, larger is better, taken every `loop.every` steps and at the
            end, in evaluation mode.
        checkpoint: file to save to (about every `loop.save_s` seconds and at the end of a stop) and
            to go on from.
        progress: show a bar; None does, except while a book is built.

    Raises:
        Diverged: naming part, step and batch, if a loss or the gradient's norm is not finite.
    """
    device, steps = next(network.parameters()).device, loop.steps
    optimisers = [part.optimiser for part in parts]
    rates = [[group["lr"] for group in optimiser.param_groups] for optimiser in optimisers]
    droppers = [module for module in network.modules() if hasattr(module, "generator")]
    history, best, first = History(), None, 0
    if checkpoint is not None and checkpoint.is_file():
        first, kept, best = files.load(checkpoint, network, optimisers)
        history = History(**kept)
        first = steps if history.stopped != History.stopped else first
    started = time.perf_counter() - history.seconds
    saved, losses = time.perf_counter(), []
    shown = not os.environ.get("INSTAB_BOOK") if progress is None else progress
    look = {"initial": first, "disable": not shown, "unit": "step", "dynamic_ncols": True}
    bar = tqdm(range(first, steps), loop.name, steps, **look)
    network.train()
    try:
        for step in bar:
            batch, factor = draw(step), SCHEDULES[loop.schedule](step, steps)
            for module in droppers:
                module.generator = profiles.generator(loop.seed, f"dropout {step}", device)
            for part, part_rates in zip(parts, rates):
                for group, rate in zip(part.optimiser.param_groups, part_rates):
                    group["lr"] = rate * factor
                try:
                    value = _update(part, batch, device, loop.autocast)
                except Diverged as reason:
                    message = _explain(loop, part, str(reason), step, batch, checkpoint)
                    raise Diverged(message) from None
                if part is parts[0]:
                    losses.append(value)
            done = step + 1
            if done % loop.every == 0 or done == steps:
                seconds = time.perf_counter() - started
                row = {"step": done, "loss": sum(losses) / len(losses), "seconds": seconds}
                losses = []
                if validate is not None and _validated(network, validate, history, row):
                    best = {k: v.detach().clone() for k, v in network.state_dict().items()}
                history.curve.append(row)
                scores = {k: v for k, v in row.items() if k not in ("step", "seconds")}
                bar.set_postfix({k: f"{v:.4g}" for k, v in scores.items()})
                since = sum(r["step"] > history.best_step for r in history.curve)
                if loop.patience is not None and validate is not None and since >= loop.patience:
                    history.stopped = f"no better validation in {since} of them"
            history.seconds = time.perf_counter() - started
            stop = history.stopped != History.stopped
            # at a validation only: losses since the last one are not part of a checkpoint
            due = stop or time.perf_counter() - saved > loop.save_s
            if checkpoint is not None and done % loop.every == 0 and due:
                files.save(checkpoint, done, network, optimisers, history, best)
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


def _update(part: Part, batch: object, device: torch.device, autocast: str) -> float:
    """One step of a part; returns its loss. Raises Diverged("the loss is nan")."""
    part.optimiser.zero_grad(set_to_none=True)
    low = precision(device, autocast) == "bf16"
    cast = torch.autocast(device.type, torch.bfloat16) if low else contextlib.nullcontext()
    # enabled: a network may be asked for, and so trained, within torch.no_grad()
    with torch.enable_grad(), cast:
        loss = part.loss(batch)
    value = float(loss.detach())
    if not math.isfinite(value):
        raise Diverged(f"loss of {part.name!r} is {value}")
    weights = [w for group in part.optimiser.param_groups for w in group["params"]]
    if isinstance(part.optimiser, IPALM):  # takes its own gradients
        part.optimiser.step(lambda: part.loss(batch))
    else:
        loss.backward()
        limit = math.inf if part.clip_norm is None else part.clip_norm
        norm = float(nn.utils.clip_grad_norm_(weights, limit))
        if not math.isfinite(norm):
            raise Diverged(f"gradient of {part.name!r} is {norm}")
        part.optimiser.step()
    # fused steps do not, and tables made of weights are kept by their version
    for w in weights:
        torch.autograd.graph.increment_version(w)
    if part.project is not None:
        part.project()
    return value


def _validated(network: nn.Module, validate: Callable, history: History, row: dict) -> bool:
    """Put the score into `row`; True, and noted in `history`, if it is the best so far."""
    network.eval()
    with torch.no_grad():
        row["validation_db"] = float(validate())
    network.train()
    better = row["validation_db"] > history.best_db  # never true of nan
    if better:
        history.best_db, history.best_step = row["validation_db"], row["step"]
    return better


def _explain(loop: Loop, part: Part, what: str, step: int, batch, checkpoint) -> str:
    batch = batch if isinstance(batch, (tuple, list)) else [batch]
    tensors = [t for t in batch if isinstance(t, torch.Tensor)]
    finite = all(bool(torch.isfinite(t).all()) for t in tensors)
    ranges = [f"{tuple(t.shape)} with magnitudes up to {t.abs().max():.3g}" for t in tensors]
    cure = "The batch itself is not finite: look at what draws it"
    if finite:
        cure = "Lower the learning rate or set clip_norm"
    kept = ""
    if checkpoint is not None and checkpoint.is_file():
        kept = f"; the last checkpoint is {checkpoint}"
    return (
        f"{loop.name}: the {what} at step {step} of {loop.steps}, on batch draw({step}): "
        f"{', '.join(ranges)}. {cure}. The parameters of {part.name!r} are those from before this "
        f"step{kept}."
    )
