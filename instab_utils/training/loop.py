"""One training loop: seeds, schedules, validation, exact resume, errors that name the batch."""

import contextlib
import functools
import math
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
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
    """A loss or a gradient is not finite. All parameters are those from before the step."""


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
    save_s: float = 60.0  # seconds between checkpoints; 20 times what one takes, if that is more


@dataclass
class History:
    """A row {"step", "loss", "validation_db", "seconds"} for every validation, and the best one."""

    curve: list[dict] = field(default_factory=list)
    best_step: int = 0
    best_db: float = -math.inf
    seconds: float = 0.0
    stopped: str = "all steps done"
    losses: list[float] = field(default_factory=list)  # since the last validation


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
        draw: step -> batch. Must depend on the step alone: on a GPU it is called in a thread, while
            the step before runs.
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
    saved, pause = time.perf_counter(), loop.save_s
    shown = not os.environ.get("INSTAB_BOOK") if progress is None else progress
    look = {"initial": first, "disable": not shown, "unit": "step", "dynamic_ncols": True}
    batches = _batches(draw, range(first, steps), ahead=device.type == "cuda")
    bar = tqdm(batches, loop.name, steps, **look)
    network.train()
    try:
        for step, batch in bar:
            factor = SCHEDULES[loop.schedule](step, steps)
            for module in droppers:
                module.generator = profiles.generator(loop.seed, f"dropout {step}", device)
            for optimiser, own_rates in zip(optimisers, rates):
                for group, rate in zip(optimiser.param_groups, own_rates):
                    group["lr"] = rate * factor
            try:
                with profiles.tf32(loop.autocast != "fp32"):
                    history.losses.append(_step(network, parts, batch, device, loop.autocast))
            except Diverged as reason:
                message = _explain(loop, str(reason), step, batch, checkpoint)
                raise Diverged(message) from None
            done = step + 1
            if done % loop.every == 0 or done == steps:
                seconds = time.perf_counter() - started
                loss = sum(history.losses) / len(history.losses)
                row = {"step": done, "loss": loss, "seconds": seconds}
                history.losses = []
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
            if checkpoint is not None and (stop or time.perf_counter() - saved > pause):
                start = time.perf_counter()
                files.save(checkpoint, done, network, optimisers, history, best)
                saved = time.perf_counter()
                # billions of weights take a while; 0 saves after every step
                pause = loop.save_s and max(loop.save_s, 20 * (saved - start))
            if stop:
                break
    finally:
        bar.close()
        batches.close()
        for module in droppers:
            module.generator = None
    if best is not None:
        network.load_state_dict(best)
    network.eval()
    return history


@contextlib.contextmanager
def compiled(network: nn.Module, wanted: bool = True, backend: str = "inductor") -> Iterator[None]:
    """Compile the network's forward within a `with` block, in training mode only.

    Where that cannot be done (no compiler, a function that `torch.compile` does not take) it runs
    as it is. Validations have other shapes: they are not compiled.
    """
    if not wanted:
        yield
        return
    import torch._dynamo  # a second

    plain = network.forward
    fast = torch.compile(plain, dynamic=False, backend=backend)
    network.forward = lambda *inputs: (fast if network.training else plain)(*inputs)
    try:
        with torch._dynamo.config.patch(suppress_errors=True):
            yield
    finally:
        del network.forward


def _batches(
    draw: Callable[[int], object], steps: range, ahead: bool
) -> Iterator[tuple[int, object]]:
    """Yield (step, draw(step)); ahead: the next one is drawn in a thread while one is used."""
    if not ahead:
        yield from ((step, draw(step)) for step in steps)
        return
    with ThreadPoolExecutor(1) as thread:
        following = thread.submit(draw, steps[0]) if steps else None
        for step in steps:
            batch = following.result()
            if step + 1 in steps:
                following = thread.submit(draw, step + 1)
            yield step, batch


def _step(
    network: nn.Module, parts: list[Part], batch: object, device: torch.device, autocast: str
) -> float:
    """Take one step of every part; return the loss of the first.

    Losses and gradients' norms leave the device together, before the step of the last part, because
    the device is idle until they have arrived. Raises Diverged("loss of 'toy' is nan").
    """
    # the other parts have taken their steps by then
    before = {k: v.clone() for k, v in network.state_dict().items()} if len(parts) > 1 else None
    found = []
    for part in parts:
        weights = [w for group in part.optimiser.param_groups for w in group["params"]]
        line_search = isinstance(part.optimiser, IPALM)  # the only part of its training
        if line_search:
            values = [(part.optimiser.step(functools.partial(part.loss, batch)), 0.0)]
        else:
            found.append(_gradient(part, weights, batch, device, autocast))
            values = torch.stack(found).tolist() if part is parts[-1] else []
        for (loss, norm), of in zip(values, parts):
            if not math.isfinite(loss + norm):
                if before is not None:
                    network.load_state_dict(before)
                what = ("gradient", norm) if math.isfinite(loss) else ("loss", loss)
                raise Diverged(f"{what[0]} of {of.name!r} is {what[1]}")
        if not line_search:
            part.optimiser.step()
        # fused steps do not, and tables made of weights are kept by their version
        for w in weights:
            torch.autograd.graph.increment_version(w)
        if part.project is not None:
            part.project()
    return values[0][0]


def _gradient(
    part: Part, weights: list, batch: object, device: torch.device, autocast: str
) -> torch.Tensor:
    """Put the gradient into the weights, clipped; return (loss, norm of the gradient)."""
    part.optimiser.zero_grad(set_to_none=True)
    low = precision(device, autocast) == "bf16"
    cast = torch.autocast(device.type, torch.bfloat16) if low else contextlib.nullcontext()
    # enabled: a network may be asked for, and so trained, within torch.no_grad()
    with torch.enable_grad(), cast:
        loss = part.loss(batch)
    loss.backward()
    limit = math.inf if part.clip_norm is None else part.clip_norm
    return torch.stack([loss.detach(), nn.utils.clip_grad_norm_(weights, limit)])


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


def _explain(loop: Loop, what: str, step: int, batch, checkpoint) -> str:
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
        f"{', '.join(ranges)}. {cure}. All parameters are those from before this step{kept}."
    )
