"""From a recipe to trained weights: the network, its losses, its batches, its validation."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from .. import data, metrics, profiles
from ..networks import (
    AUTOMAP,
    Cascade,
    DnCNN,
    FBPConvNet,
    LimitedAngleUNet,
    VariationalNetwork,
    dagan,
    dagan_losses,
)
from ..networks.automap import encode
from . import loop
from .recipes import Recipe
from .tasks import Task, task, views

CLASSES = {
    "dncnn": DnCNN,
    "unet-limited": LimitedAngleUNet,
    "ell-50": FBPConvNet,
    "med-50": FBPConvNet,
    "automap": AUTOMAP,
    "dagan": dagan.Generator,
    "deep-mri": Cascade,
    "mri-vn": VariationalNetwork,
}
N_VALIDATION = 8


@dataclass
class Job:
    """A training ready to run: `loop.fit(job.trained, job.parts, job.draw, validate=job.validate,
    ...)`.
    """

    network: nn.Module  # what is kept
    trained: nn.Module  # what is trained: the same, or with a discriminator
    parts: list[loop.Part]
    draw: Callable[[int], tuple]
    validate: Callable[[], float]
    source: str


def build(recipe: Recipe, device: str | torch.device | None = None) -> nn.Module:
    """The network of a recipe with its initial weights on `device` (default the CPU), in the faster
    memory layout there.

    That is channels-last, but for FBPConvNet on a CPU, whose group norm is slow in it: 20 % of a
    training step.
    """
    net = CLASSES[recipe.name](
        **recipe.architecture, generator=profiles.generator(recipe.seed, f"{recipe.name} weights")
    )
    device = torch.device(device or "cpu")
    nchw = isinstance(net, FBPConvNet) and device.type == "cpu"
    return net.to(device, memory_format=torch.contiguous_format if nchw else torch.channels_last)


def job(recipe: Recipe, device: str | torch.device = "cpu") -> Job:
    """The training of `recipe`, its data in memory."""
    net = build(recipe, device)
    what = task(recipe.name, recipe.image_size, device)
    draw, source = batches(recipe, what)
    loss = _LOSSES.get(recipe.name, _squared)
    part = loop.Part(
        recipe.name,
        _optimiser(recipe, net),
        lambda batch: loss(net, *batch),
        getattr(net, "project_", None),
        recipe.clip_norm,
    )
    trained, parts = (
        (net, [part]) if recipe.name != "dagan" else _adversaries(recipe, net, part, device)
    )
    return Job(net, trained, parts, draw, _validation(recipe, net, what), source)


def train(
    recipe: Recipe,
    device: str | torch.device | None = None,
    checkpoint: Path | None = None,
    progress: bool | None = None,
    **options,
) -> tuple[nn.Module, dict]:
    """Train as the recipe says, going on from `checkpoint` if it exists; returns the network, best
    weights, and its card.

    Args:
        device: default CUDA where there is one.
        options: further arguments of `loop.fit`.

    Raises:
        loop.Diverged: where the loss is not finite.
    """
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    work = job(recipe, device)
    history = loop.fit(
        work.trained,
        work.parts,
        work.draw,
        steps=recipe.steps,
        name=recipe.name,
        seed=recipe.seed,
        schedule=recipe.schedule,
        validate=work.validate,
        every=recipe.every,
        patience=recipe.patience,
        checkpoint=checkpoint,
        progress=progress,
        **options,
    )
    # weights are shipped as float16 where validation says that it costs less than 0.05 dB
    exact = {k: v.clone() for k, v in work.network.state_dict().items()}
    work.network.load_state_dict(
        {k: v.half().float() if v.is_floating_point() else v for k, v in exact.items()}
    )
    with torch.no_grad():
        rounded = work.validate()
    half = history.best_db - rounded < 0.05
    if not half:
        work.network.load_state_dict(exact)
    n_weights = sum(w.numel() for w in work.network.parameters())
    card = {
        "architecture": f"{type(work.network).__name__}({_arguments(recipe.architecture)}), {n_weights:,} parameters",
        "data": work.source,
        "steps": history.best_step,
        "seed": recipe.seed,
        "licence": "MIT",
        "validation": {
            "psnr_db": rounded if half else history.best_db,
            "float32_psnr_db": history.best_db,
        },
        "recipe": dataclasses.asdict(recipe),
        "key": recipe.key,
        "half": half,
        "curve": history.curve,
        "seconds": history.seconds,
        "stopped": history.stopped,
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "precision": loop.precision(device, options.get("autocast", "auto")),
    }
    return work.network.eval().requires_grad_(False), card


# -- batches


def batches(recipe: Recipe, what: Task) -> tuple[Callable[[int], tuple], str]:
    """draw(step) -> (measurements y, ground truth x, operator), and what the images are; ell-50
    draws FBPs for y.
    """
    size, seed = recipe.batch_size, recipe.seed

    def stream(step):
        return profiles.generator(seed, f"{recipe.name} batch {step}")

    def chosen(n, generator):
        return torch.randint(n, (size,), generator=generator)

    if recipe.name == "dncnn":
        pool, source = data.pool("natural", None, "train", recipe.n_train)
        patches = data.Patches(pool, recipe.image_size)

        def draw(step):
            generator = stream(step)
            return what.measure(patches.take(chosen(len(patches), generator), generator), generator)

        return draw, f"{len(patches):,} patches of {source}"
    if recipe.name == "ell-50":
        n_views, keep = views(recipe.name, recipe.image_size)
        x_fbp, x_true = data.ellipse_scans(
            recipe.n_train, recipe.image_size, n_views, keep, "train"
        )

        def draw(step):
            generator = stream(step)
            i = chosen(len(x_true), generator)
            # of image and scan alike
            flips = [axis for axis in (-1, -2) if torch.rand((), generator=generator) < 0.5]
            return (*(x[i].flip(flips).to(what.A.device) for x in (x_fbp, x_true)), what.A)

        return (
            draw,
            f"{len(x_true)} phantoms of random ellipses, FBP of {n_views // keep} and of {n_views} views",
        )
    pool, source = data.pool(recipe.pool or what.kind, what.pool_size, "train", recipe.n_train)

    def draw(step):
        generator = stream(step)
        x = pool[chosen(len(pool), generator)]
        if recipe.augment:
            x = data.augment(x, generator)
        if what.kind == "mr":
            x = x / x.amax((1, 2, 3), keepdim=True).clamp_min(1e-3)
            x = x if recipe.name in ("automap", "dagan") else data.mr_training(x, generator)
        y, x, A = what.measure(x, generator)
        # multiplicative noise U[0.99, 1.01] on every real and imaginary part
        if recipe.name == "automap":
            noise = torch.empty(2, *y.shape).uniform_(0.99, 1.01, generator=generator).to(y.device)
            y = torch.complex(y.real * noise[0], y.imag * noise[1])
        return y, x, A

    return draw, source


# -- losses: (network, measurements or input, ground truth, operator) -> scalar


def _squared(net, y, x, A):
    """Mean squared error of whatever the network makes of y; |.|^2 of complex differences."""
    return (net.reconstruct(y, A) - x).abs().square().mean()


def _post_processing(net, x_in, x, A):
    return (net(x_in) - x).square().mean()


def _sparse_codes(net, y, x, A):
    """Mean over the batch of ||f - x||^2 without means, + 1e-4 sum |codes|, a pixel."""
    x_rec, codes = net(encode(y, A.mask), return_codes=True)
    difference = x_rec - x
    difference = difference - difference.mean((2, 3), keepdim=True)
    return (difference.square().sum() + 1e-4 * codes.abs().sum()) / x.numel()


def _magnitudes(net, y, x, A):
    """mean over the batch of sum (|u|_eps - |x|_eps)^2, a pixel, |u|_eps = sqrt(|u|^2 + 1e-12)."""
    u, v = ((z.abs().square() + 1e-12).sqrt() for z in (net(y, A), x))
    return (u - v).square().mean()


_LOSSES = {"ell-50": _post_processing, "automap": _sparse_codes, "mri-vn": _magnitudes}


def _adversaries(recipe, net, generator_part, device):
    """DAGAN: the generator lowers 15 nmse + 0.1 frequency + 0.0025 perceptual + adversarial, the
    discriminator its own.
    """
    rival = dagan.Discriminator(
        recipe.image_size,
        recipe.architecture["base_width"],
        generator=profiles.generator(recipe.seed, "dagan discriminator"),
    ).to(device)
    features = dagan_losses.vgg_features()
    features = features if features is None else features.to(device)
    weight = dagan_losses.WEIGHTS

    def pair(batch):
        y, x, A = batch
        return net(2 * A.adjoint(y).abs() - 1), 2 * x - 1

    def generator_loss(batch):
        x_rec, x = pair(batch)
        total = weight["nmse"] * dagan_losses.nmse(x_rec, x) + weight[
            "frequency"
        ] * dagan_losses.frequency_loss(x_rec, x)
        if features is not None:
            total = total + weight["perceptual"] * dagan_losses.perceptual(x_rec, x, features)
        return total + weight["adversarial"] * dagan_losses.adversarial(rival(x_rec), True)

    def rival_loss(batch):
        with torch.no_grad():
            x_rec, x = pair(batch)
        return dagan_losses.adversarial(rival(x), True) + dagan_losses.adversarial(
            rival(x_rec), False
        )

    generator_part.loss = generator_loss
    rival_part = loop.Part("discriminator", _optimiser(recipe, rival), rival_loss)
    return nn.ModuleDict({"network": net, "rival": rival}), [generator_part, rival_part]


def _optimiser(recipe: Recipe, module: nn.Module) -> torch.optim.Optimizer:
    """FBPConvNet's biases and gains learn twice as fast; MRI-VN's filters, activations and steps
    are blocks of their own.
    """
    groups, options = list(module.parameters()), dict(recipe.options)
    if recipe.optimiser == "clipped-sgd":
        groups = [
            {"params": [w for w in groups if w.ndim > 1]},
            {"params": [w for w in groups if w.ndim == 1], "lr": 2 * recipe.lr},
        ]
    elif recipe.optimiser == "ipalm":
        groups = [{"params": [w for w in groups if w.ndim == n]} for n in (4, 2, 1)]
        options["project"] = module.project_
    return loop.optimiser(recipe.optimiser, groups, recipe.lr, **options)


# -- validation


def _validation(recipe: Recipe, net: nn.Module, what: Task):
    """() -> mean PSNR in dB over fixed validation images, none of them used for training or
    testing.
    """
    generator = profiles.generator(0, f"{recipe.name} validation")
    if recipe.name == "ell-50":
        n_views, keep = views(recipe.name, recipe.image_size)
        y, x = data.ellipse_scans(N_VALIDATION, recipe.image_size, n_views, keep, "validate")
        y, x, A = y.to(what.A.device), x.to(what.A.device), what.A
    else:
        size = 96 if recipe.name == "dncnn" else what.pool_size
        own = recipe.pool if recipe.pool in ("aapm", "fastmri") else None
        kind = own or ("ct" if what.kind == "mixed" else what.kind)
        images, _ = data.pool(kind, size, "validate", N_VALIDATION)
        if recipe.name in ("deep-mri", "mri-vn"):
            images = data.mr_training(images, generator)
        y, x, A = what.measure(images, None if recipe.name == "deep-mri" else generator)

    def validate() -> float:
        x_rec = net(y) if recipe.name == "ell-50" else net.reconstruct(y, A)
        return float(metrics.psnr_db(x_rec if x.is_complex() else x_rec.float(), x).mean())

    return validate


def _arguments(architecture: dict) -> str:
    return ", ".join(f"{k}={v!r}" for k, v in architecture.items())
