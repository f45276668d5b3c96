"""Everything the stability test is put to: a network at work, the stable solver and the linear
front end on the same measurement.
"""

import functools
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from .. import metrics, profiles, solvers, store, training
from ..networks import settings
from ..networks.settings import Setting
from ..operators import Identity

PUBLISHED = ("deep-mri-published", "mri-vn-published", "dncnn-published")
SOLVERS = {"shearlets-mri": "deep-mri-published", "shearlets-ct": "med-50"}
"""Re-weighted shearlets, the stable method of Antun et al., are put to the same tests on the data
of these networks.
"""
NAMES = (
    "deep-mri",
    "mri-vn",
    "automap",
    "dagan",
    "ell-50",
    "med-50",
    "dncnn",
    "unet-limited",
    *PUBLISHED,
    *SOLVERS,
)
FEWER = {"mri-vn": 2, "mri-vn-published": 2, "shearlets-mri": 2, "shearlets-ct": 2}
"""Test images at most: fifteen coils and ten layers of large filters, or thirty iterations, cost
ten times what the others do.
"""
NOISE = {"mri-vn": 0.02, "mri-vn-published": 0.02}
"""||e|| / ||y|| of white noise in the measurement. Fifteen coils and no noise leave TV nothing to
do, and no network a chance.
"""


@dataclass(frozen=True)
class Size:
    """How much work a profile does."""

    image_size: int | None  # of the published networks; None: that of ours
    n_images: int  # test images, at most
    n_iter: int  # of a solver
    unrolled: int  # iterations of the solver that is attacked through them
    ascent: int  # steps of an attack
    restarts: int
    strengths: tuple[float, ...]  # ||r|| / ||x||
    n_twins: int


SIZES = {
    "smoke": Size(32, 1, 20, 4, 4, 1, (0.01, 0.05), 2),
    "standard": Size(128, 4, 300, 60, 40, 2, (0.005, 0.01, 0.02, 0.05), 4),
    "paper": Size(256, 10, 1000, 200, 200, 5, (0.005, 0.01, 0.02, 0.03, 0.05, 0.08), 16),
}


@dataclass(frozen=True)
class Subject(Setting):
    """y = A x (+ noise), the network f, and beside it a stable solver and the linear front end; all
    map y to images like x.
    """

    stable: Callable[[torch.Tensor], torch.Tensor]  # total variation, to the end
    # the same through a fixed, small number of iterations: differentiable
    unrolled: Callable[[torch.Tensor], torch.Tensor]
    weight: float  # of TV, chosen on validation images

    def front_end(self, y: torch.Tensor) -> torch.Tensor:
        """A^+ y: what the scanner's geometry does by itself; zero-filling, filtered
        back-projection, nothing.
        """
        return self.A.pinv(y)

    @property
    def attacked(self) -> torch.Tensor:
        """Where r is added: to the image; a denoiser's image is its measurement, noise included."""
        return self.y if isinstance(self.A, Identity) else self.x


def of(
    name: str, profile: str = "standard", split: str = "test", n_images: int | None = None
) -> Setting:
    """The network called `name` on images that it has not seen: ours by its name, a published one
    by "<name>-published".

    One of `SOLVERS` is no network: shearlets with the default settings; what the raster alone makes
    of ||A x - y|| / ||y||, measured on validation images, is their noise level.

    Raises:
        ValueError: for another name.
        DataUnavailable: for published weights that are neither on disk nor to be had.
    """
    if name not in NAMES:
        raise ValueError(f"no network is called {name!r}; expected one of {', '.join(NAMES)}.")
    size = SIZES[profile]
    n_images = n_images or min(size.n_images, FEWER.get(name, size.n_images))
    if name in SOLVERS:
        validation, found = (
            of(SOLVERS[name], profile, "validate", 2),
            of(SOLVERS[name], profile, split, n_images),
        )
        level = float(metrics.relative_error(validation.A(validation.x), validation.y).mean())
        return replace(
            found,
            name=name,
            title=title(name),
            f=functools.partial(shearlets, found.A, noise_level=level),
        )
    if name in PUBLISHED:
        found = settings.setting(
            name.removesuffix("-published"), n_images, size.image_size, split=split
        )
    else:
        found = training.setting(training.recipe(name, profile), n_images, split=split)
    if name in NOISE:
        y = solvers.add_noise(
            found.y, NOISE[name], profiles.generator(0, f"stability noise {split}")
        )
        found = replace(found, y=y, source=f"{found.source}, {100 * NOISE[name]:g} % noise")
    return found


@functools.lru_cache(maxsize=16)
def subject(name: str, profile: str = "standard", n_images: int | None = None) -> Subject:
    """One subject; TV's weight is the best on validation images of `training.comparison.WEIGHTS`."""
    found, size = of(name, profile, n_images=n_images), SIZES[profile]
    weight = tv_weight(name, profile)

    def tv(y, n_iter=size.n_iter, tol=1e-3):
        return solvers.tv(found.A, y, weight, n_iter=n_iter, tol=tol).x

    of_setting = {**vars(found), "name": name, "title": title(name)}
    return Subject(
        **of_setting,
        stable=tv,
        unrolled=functools.partial(tv, n_iter=size.unrolled, tol=0.0),
        weight=weight,
    )


def title(name: str) -> str:
    """ "Deep MRI" of the network that was trained here, "Deep MRI, published" of its authors'
    weights.
    """
    if name in SOLVERS:
        return f"Shearlets, {name.removeprefix('shearlets-').upper()} (no network)"
    return training.TITLES[name.removesuffix("-published")] + (
        ", published" if name in PUBLISHED else ""
    )


def shearlets(A, y: torch.Tensor, noise_level: float) -> torch.Tensor:
    """The image alone, y first after A: what a subject's f is."""
    return solvers.shearlet(A, y, noise_level=noise_level).x


@functools.cache
def tv_weight(name: str, profile: str = "standard") -> float:
    """The weight of TV for this task, from validation images of other subjects; a recorded choice
    is not made again.
    """
    recorded = store.records(experiment="structure", network=name, profile=profile)
    if recorded:
        return recorded[-1]["parameters"]["tv_weight"]
    validation = of(SOLVERS.get(name, name), profile, "validate", 2)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "best weight .* is an end of the grid")
        return solvers.choose_weight(
            validation.A,
            validation.x,
            training.comparison.WEIGHTS[validation.task],
            y_validation=validation.y,
            n_iter=SIZES[profile].n_iter // 2,
        )[0]
