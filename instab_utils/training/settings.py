"""A trained network at work: test images, their measurements, its reconstruction."""

import torch

from .. import profiles, store
from ..networks import Reconstructor
from ..networks.settings import Setting
from .recipes import Recipe, recipe
from .tasks import task, test_images


def setting(
    name: str | Recipe,
    n_images: int = 4,
    seed: int = 0,
    split: str = "test",
    device: str | torch.device = "cpu",
    image_size: int | None = None,
) -> Setting:
    """y = A x + noise on images that no training has seen, and f with its shipped weights (trained
    first if need be).

    The published networks on the same tasks are in `networks.settings.setting`.

    Args:
        name: one of `NAMES`, for its standard recipe of this `seed`; or a `Recipe`.
        n_images: at most; CT has 4 test slices, MR 10.
        split: "test", or "validate" for choosing the parameters of what is compared with the
            network.
        image_size: another size than the network was trained at; AUTOMAP and DAGAN have only their
            own.

    Returns:
        Setting(name, title, task, A, x, y, f, source); f(y) is an image like x.
    """
    how = name if isinstance(name, Recipe) else recipe(name, seed=seed)
    trained = store.load_or_train(how, device=device)
    natural = how.name == "dncnn"
    what = task(how.name, image_size or (180 if natural else how.image_size), device)
    images, source = test_images(what, n_images, split)
    generator = (
        None if how.name == "deep-mri" else profiles.generator(seed, f"{how.name} {split} noise")
    )
    y, x, A = what.measure(images, generator)
    return Setting(
        how.name,
        what.title,
        what.task,
        A,
        x,
        y,
        Reconstructor(trained.network, A, how.name),
        source,
    )
