"""Batches of the trainings, and the images that validate them."""

from collections.abc import Callable

import torch
from torch import Tensor

from .. import data, profiles
from ..operators import Identity, LinearOperator
from ..operators.base import moved
from .plan import Plan
from .tasks import Task, views, with_phase

N_VALIDATION = 8
Draw = Callable[[int], tuple[Tensor, Tensor, LinearOperator]]


def batches(recipe: Plan, what: Task) -> tuple[Draw, str]:
    """Return draw(step) -> (measurements y, ground truth x, operator), and what the images are.

    ell-50 draws filtered back-projections for y, behind the identity.
    """
    if recipe.denoises:
        return _patches(recipe, what)
    return (_scans if recipe.name == "ell-50" else _images)(recipe, what)


def validation(recipe: Plan, what: Task) -> tuple[Tensor, Tensor, LinearOperator]:
    """Return (y, x, operator) of images that no network is trained or tested on."""
    if recipe.name == "ell-50":
        n_views, keep = views(recipe.name, recipe.image_size)
        y, x = data.ellipse_scans(N_VALIDATION, recipe.image_size, n_views, keep, "validate")
        return y.to(what.A.device), x.to(what.A.device), Identity()
    stream = "deep-mri" if what.fresh_masks else recipe.name
    generator = profiles.generator(0, f"{stream} validation")
    size = 96 if recipe.denoises else what.pool_size
    kind = "ct" if what.kind == "mixed" else what.kind
    images, _ = data.pool(what.own or kind, size, "validate", N_VALIDATION)
    images = with_phase(what, images, generator)
    return what.measure(images, None if what.fresh_masks else generator)


def _stream(recipe: Plan, step: int) -> torch.Generator:
    return profiles.generator(recipe.seed, f"{recipe.name} batch {step}")


def _patches(recipe: Plan, what: Task) -> tuple[Draw, str]:
    pool, source = data.pool("natural", None, "train", recipe.n_train)
    patches = data.Patches(pool, recipe.image_size)

    def draw(step):
        generator = _stream(recipe, step)
        chosen = torch.randint(len(patches), (recipe.batch_size,), generator=generator)
        return what.measure(patches.take(chosen, generator), generator)

    return draw, f"{len(patches):,} patches of {source}"


def _scans(recipe: Plan, what: Task) -> tuple[Draw, str]:
    n_views, keep = views(recipe.name, recipe.image_size)
    x_fbp, x_true = data.ellipse_scans(recipe.n_train, recipe.image_size, n_views, keep, "train")

    def draw(step):
        generator = _stream(recipe, step)
        i = torch.randint(len(x_true), (recipe.batch_size,), generator=generator)
        # of image and scan alike
        flips = [axis for axis in (-1, -2) if torch.rand((), generator=generator) < 0.5]
        x_in, x = (moved(images[i].flip(flips), what.A.device) for images in (x_fbp, x_true))
        return x_in, x, Identity()

    about = f"FBP of {n_views // keep} and of {n_views} views"
    return draw, f"{len(x_true)} phantoms of random ellipses, {about}"


def _images(recipe: Plan, what: Task) -> tuple[Draw, str]:
    pool, source = data.pool(recipe.pool or what.kind, what.pool_size, "train", recipe.n_train)

    def draw(step):
        generator = _stream(recipe, step)
        x = pool[torch.randint(len(pool), (recipe.batch_size,), generator=generator)]
        if recipe.augment and not x.is_complex():
            x = data.augment(x, generator)
        if what.kind == "mr":
            x = x / x.abs().amax((1, 2, 3), keepdim=True).clamp_min(1e-3)
        x = with_phase(what, x, generator)
        y, x, A = what.measure(x, generator)
        # multiplicative noise U[0.99, 1.01] on every real and imaginary part
        if recipe.name == "automap":
            noise = torch.empty(2, *y.shape).uniform_(0.99, 1.01, generator=generator)
            noise = moved(noise, y.device)
            y = torch.complex(y.real * noise[0], y.imag * noise[1])
        return y, x, A

    return draw, source
