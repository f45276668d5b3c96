"""From a recipe to trained weights and their card."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from .. import metrics, profiles
from ..networks import (
    AUTOMAP,
    Cascade,
    DnCNN,
    FBPConvNet,
    LimitedAngleUNet,
    VariationalNetwork,
    ZeroFilledUNet,
    dagan,
    pretrained,
)
from .batch_sources import batches, validation
from .loop import Loop, Part, compiled, fit, precision
from .losses import LOSSES, adversarial, generator_loss, squared_error
from .optimisers import optimiser
from .plan import Plan
from .tasks import task

CLASSES = {
    "dncnn": DnCNN,
    "dncnn-tuned": DnCNN,
    "unet-limited": LimitedAngleUNet,
    "ell-50": FBPConvNet,
    "med-50": FBPConvNet,
    "automap": AUTOMAP,
    "dagan": dagan.Generator,
    "deep-mri": Cascade,
    "mri-vn": VariationalNetwork,
    "zero-filled-unet": ZeroFilledUNet,
}
COMPILED = ("dncnn", "unet-limited", "ell-50", "med-50", "dagan")
"""Networks of real convolutions, whose compiled losses are the same.

Not those with Fourier transforms: their complex products are not compiled, and MRI-VN's line search
compares losses with and without gradients, which compilation rounds differently.
"""
COMPILED_STEPS = 5000
"""Compiling takes about a minute, a step some 20 ms."""
ROUNDING_DB = 0.05
"""Weights are kept as float16 where that costs less on validation images."""


@dataclass
class Training:
    """A training ready to run: what is trained, by which losses, on which batches."""

    network: nn.Module  # what is kept
    parts: list[Part]
    draw: Callable[[int], tuple]  # step -> batch
    source: str  # what the batches are
    validate: Callable[[], float] | None = None  # PSNR in dB, larger is better
    trained: nn.Module | None = None  # if it is more than what is kept: with a discriminator
    finish: Callable[[], None] | None = None  # called after the last step
    score: Callable[[], dict] | None = None  # of the card, where it is not the PSNR
    half: bool | None = None  # kept as float16; None: as the PSNR decides


def build(recipe: Plan, device: str | torch.device | None = None) -> nn.Module:
    """Return the network of a recipe with its initial weights, in the faster memory layout.

    That is channels-last, but for FBPConvNet on a CPU, whose group norm is slow in it (20 % of a
    training step), and for the small U-Net of the page in the browser.
    """
    generator = profiles.generator(recipe.seed, f"{recipe.name} weights")
    network = CLASSES[recipe.name](**recipe.architecture, generator=generator)
    device = profiles.default_device(device)
    plain = isinstance(network, ZeroFilledUNet)
    plain = plain or (isinstance(network, FBPConvNet) and device.type == "cpu")
    layout = torch.contiguous_format if plain else torch.channels_last
    return network.to(device, memory_format=layout)


def prepare(recipe: Plan, device: str | torch.device | None = None) -> Training:
    """Return the training of `recipe`, its data in memory; see `profiles.default_device`.

    It starts from weights drawn from the seed, or from the published ones that the recipe names.
    """
    device = profiles.default_device(device)
    network = build(recipe, device)
    if recipe.init is not None:
        network.load_state_dict(pretrained.network(recipe.init).state_dict())
    what = task(recipe, device=device)
    draw, source = batches(recipe, what)
    loss = LOSSES.get(recipe.name, squared_error)
    part = Part(
        recipe.name,
        _optimiser(recipe, network),
        lambda batch: loss(network, *batch),
        getattr(network, "project_", None),
        recipe.clip_norm,
    )
    y, x, A = validation(recipe, what)

    def validate() -> float:
        x_rec = network.reconstruct(y, A)
        return float(metrics.psnr_db(x_rec if x.is_complex() else x_rec.float(), x).mean())

    training = Training(network, [part], draw, source, validate)
    if recipe.name == "dagan":
        _add_discriminator(training, recipe, device)
    return training


def train(
    recipe: Plan,
    device: str | torch.device | None = None,
    checkpoint: Path | None = None,
    progress: bool | None = None,
    compile: bool | None = None,
    **options,
) -> tuple[nn.Module, dict]:
    """Return the network with its best weights, trained as the recipe says, and its card.

    Args:
        device: see `profiles.default_device`.
        checkpoint: file to go on from and to save to, see `fit`.
        compile: run the network through `torch.compile`; None: on CUDA, networks of `COMPILED` that
            train long enough to gain what compiling costs.
        options: further fields of `Loop`.

    Raises:
        Diverged: where the loss is not finite.
    """
    training = prepare(recipe, device)
    loop = Loop(
        steps=recipe.steps,
        name=recipe.name,
        seed=recipe.seed,
        schedule=recipe.schedule,
        every=recipe.every,
        patience=recipe.patience,
        **options,
    )
    if compile is None:
        on_gpu = next(training.network.parameters()).device.type == "cuda"
        compile = on_gpu and recipe.name in COMPILED and recipe.steps >= COMPILED_STEPS
    with compiled(training.network, compile):
        return train_and_record(recipe, training, loop, checkpoint, progress)


def train_and_record(
    spec,
    training: Training,
    loop: Loop,
    checkpoint: Path | None = None,
    progress: bool | None = None,
    about: str | None = None,
) -> tuple[nn.Module, dict]:
    """Run a training; return its network, frozen and in evaluation mode, and its card.

    Args:
        spec: a dataclass with `key`: everything that decides the weights.
        about: the network in words; None: its class, arguments and number of parameters.
    """
    network = training.network
    device = next(network.parameters()).device
    history = fit(
        training.trained or network,
        training.parts,
        training.draw,
        loop,
        validate=training.validate,
        checkpoint=checkpoint,
        progress=progress,
    )
    if training.finish is not None:
        training.finish()
    half, score = training.half, training.score
    if half is None:
        half, scores = _rounded(training, history.best_db)
    else:
        scores = score() if score else {"psnr_db": _validated(training)}
    n_weights = sum(w.numel() for w in network.parameters())
    card = {
        "architecture": about or f"{_described(network, spec)}, {n_weights:,} parameters",
        "data": training.source,
        "steps": history.best_step or loop.steps,
        "seed": loop.seed,
        "licence": "MIT",
        "validation": scores,
        "recipe": dataclasses.asdict(spec),
        "key": spec.key,
        "half": half,
        "curve": history.curve,
        "seconds": history.seconds,
        "stopped": history.stopped,
        "torch": torch.__version__,
        "device": profiles.device_name(device),
        "precision": precision(device, loop.autocast),
    }
    return network.eval().requires_grad_(False), card


def _described(network: nn.Module, spec) -> str:
    arguments = ", ".join(f"{k}={v!r}" for k, v in spec.architecture.items())
    return f"{type(network).__name__}({arguments})"


@torch.no_grad()
def _validated(training: Training) -> float:
    training.network.eval()
    return training.validate()


def _rounded(training: Training, exact_db: float) -> tuple[bool, dict]:
    """Round weights to float16 if that costs less than ROUNDING_DB; return (rounded, scores)."""
    network = training.network
    exact = {k: v.clone() for k, v in network.state_dict().items()}
    rounded = {k: v.half().float() if v.is_floating_point() else v for k, v in exact.items()}
    network.load_state_dict(rounded)
    rounded_db = _validated(training)
    half = exact_db - rounded_db < ROUNDING_DB
    if not half:
        network.load_state_dict(exact)
    return half, {"psnr_db": rounded_db if half else exact_db, "float32_psnr_db": exact_db}


def _add_discriminator(training: Training, recipe: Plan, device: str | torch.device) -> None:
    """DAGAN: generator and discriminator take turns within a step, each with its own loss."""
    network = training.network
    random = profiles.generator(recipe.seed, "dagan discriminator")
    base_width = recipe.architecture["base_width"]
    rival = dagan.Discriminator(recipe.image_size, base_width, generator=random).to(device)

    def pair(batch):
        y, x, A = batch
        return network(2 * A.adjoint(y).abs() - 1), 2 * x - 1

    def loss(batch):
        x_rec, x = pair(batch)
        return generator_loss(x_rec, x, rival(x_rec))

    def rival_loss(batch):
        with torch.no_grad():
            x_rec, x = pair(batch)
        return adversarial(rival(x), True) + adversarial(rival(x_rec), False)

    training.parts[0].loss = loss
    training.parts.append(Part("discriminator", _optimiser(recipe, rival), rival_loss))
    training.trained = nn.ModuleDict({"network": network, "rival": rival})


def _optimiser(recipe: Plan, module: nn.Module) -> torch.optim.Optimizer:
    """Return the optimiser of a recipe.

    FBPConvNet's biases and gains learn twice as fast; MRI-VN's filters, activations and steps are
    blocks of their own.
    """
    weights, options = list(module.parameters()), dict(recipe.options)
    if recipe.optimiser == "clipped-sgd":
        kernels = [w for w in weights if w.ndim > 1]
        vectors = [w for w in weights if w.ndim == 1]
        weights = [{"params": kernels}, {"params": vectors, "lr": 2 * recipe.lr}]
    elif recipe.optimiser == "ipalm":
        weights = [{"params": [w for w in weights if w.ndim == n]} for n in (4, 2, 1)]
        options["project"] = module.project_
    return optimiser(recipe.optimiser, weights, recipe.lr, **options)
