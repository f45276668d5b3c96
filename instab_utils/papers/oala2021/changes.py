"""Test images of the detection experiment, and the two ways to change them."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from ... import attacks, profiles, shifts, training
from ...data import phantoms
from ...uncertainty import fits
from ...uncertainty.prediction import parts
from ..kept import kept

NETWORKS = {"denoising": "dncnn", "ct_limited": "unet-limited"}
PHANTOMS = "phantoms of random ellipses"  # beside the slices of patients, where these are at hand
SPECKS = (0.05, 0.10)  # shares of the pixels, salt and pepper together


class ImageGroup(NamedTuple):
    """Inputs of a network, and the truth; `remeasure(images)` gives inputs of changed originals."""

    name: str
    x_in: Tensor
    x: Tensor
    originals: Tensor
    remeasure: Callable[[Tensor], Tensor]

    def first(self, n: int) -> "ImageGroup":
        """Return the first n images."""
        return self._replace(x_in=self.x_in[:n], x=self.x[:n], originals=self.originals[:n])


class Change(NamedTuple):
    """Changed inputs, where they were changed, and how strongly."""

    experiment: str  # "adv_detect" or "art_detect"
    kind: str  # "patch", "salt and pepper" or "dove"
    amount: float
    x_in: Tensor
    mask: Tensor
    target: Tensor | None = None  # of the attack: the reconstruction that it aims at

    def first(self, n: int) -> "Change":
        """Return the change of the first n images."""
        return self._replace(x_in=self.x_in[:n], mask=self.mask[:n], target=self.target[:n])


def image_groups(task: str, profile: str, split: str = "test") -> list[ImageGroup]:
    """Return the images of a task: BSD68 centres; AAPM slices and, for testing, phantoms."""
    size = profiles.stage("detection", profile)
    recipe = training.recipe(NETWORKS[task], profile)
    n_images = size.n_images if split == "test" else size.n_validation
    image_size = size.image_size if task == "denoising" else recipe.image_size
    problem = training.task(recipe, image_size)
    originals, source = training.test_images(problem, n_images, split)
    named = {source: originals}
    if task == "ct_limited" and split == "test" and not source.startswith("phantom"):
        generator = profiles.generator(0, "detection phantoms")
        ellipses = phantoms.random_ellipses(n_images, 64, generator)[1]
        named[PHANTOMS] = phantoms.raster(ellipses, problem.pool_size)

    def remeasure(originals):
        # the same noise each time
        y, _, A = problem.measure(originals, profiles.generator(0, f"detection {split} noise"))
        return fits.network_input(task, A, y)

    groups = []
    for name, originals in named.items():
        originals = originals.to(problem.A.device)
        _, x, _ = problem.measure(originals, profiles.generator(0, "unused"))
        groups.append(ImageGroup(name, remeasure(originals), x, originals, remeasure))
    return groups


def adversarial(task: str, f: Callable, group: ImageGroup, profile: str) -> Change:
    """Return AdvDetect's inputs: f draws a patch of noise or (CT) a dark square that is not there.

    min ||f(x') - t||^2 + lambda ||x' - x||^2 over x' in a box, by L-BFGS-B.
    """
    x_in = group.x_in
    with torch.no_grad():
        x_rec = f(x_in)
    kind, penalty = ("noise", 0.5) if task == "denoising" else ("dark", 0.0)
    generator = profiles.generator(0, f"patch {group.name}")
    target, mask = attacks.patch_target(x_rec, kind, generator)
    n_evaluations = profiles.stage("detection", profile).n_evaluations
    options = dict(penalty=penalty, box=box(x_in), n_evaluations=n_evaluations)
    pairs = zip(parts(x_in), parts(target), strict=True)
    x_adv = [attacks.targeted(f, x, t, **options).x_adv for x, t in pairs]
    return Change("adv_detect", "patch", penalty, torch.cat(x_adv), mask, target)


def attacked(task: str, f: Callable, key: str, group: ImageGroup, profile: str) -> Change:
    """Return `adversarial`, found once for the weights of f with this key."""
    n_evaluations = profiles.stage("detection", profile).n_evaluations

    def find():
        found = adversarial(task, f, group, profile)._asdict()
        return {name: found[name] for name in ("amount", "x_in", "mask", "target")}

    about = dict(task=task, key=key, images=group.name, n_evaluations=n_evaluations)
    found = kept("attack", (group.x_in, group.x), find, **about)
    return Change("adv_detect", "patch", **found)


def box(x_in: Tensor) -> tuple[float, float]:
    """Return the range of attacked inputs, [0, 1]; wider where x_in is (FBP leaves it)."""
    return min(0.0, float(x_in.min())), max(1.0, float(x_in.max()))


def shifted(task: str, group: ImageGroup) -> Iterator[Change]:
    """Yield ArtDetect's inputs: salt and pepper in one half, or a dove in the patient."""
    if task == "denoising":
        for amount in SPECKS:
            generator = profiles.generator(0, f"salt and pepper {group.name}")
            shift = shifts.salt_and_pepper_half(group.x_in, group.x, generator, amount=amount)
            yield Change("art_detect", "salt and pepper", amount, shift.x.clamp(0, 1), shift.mask)
    else:
        shift = shifts.dove(group.originals, profiles.generator(0, f"dove {group.name}"))
        mask = avg_pool2d(shift.mask.float(), 2) > 0.5
        yield Change("art_detect", "dove", 0.0, group.remeasure(shift.x), mask)
