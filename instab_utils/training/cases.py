"""Cases of this package: every network, published or trained here, on images it never saw."""

import functools
import warnings
from collections.abc import Callable

import torch

from .. import data, metrics, profiles, solvers, store
from ..networks import pretrained
from ..networks.cases import Case
from ..operators import LinearOperator
from .recipes import Recipe, recipe
from .tasks import TITLES, Task, task, test_images

PUBLISHED = ("deep-mri-published", "mri-vn-published", "dncnn-published")
SOLVERS = {"shearlets-mri": "deep-mri-published", "shearlets-ct": "med-50"}
"""Re-weighted shearlets, the stable method of Antun et al., on the data of these networks."""
CASES = (
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
"""Names that `case` takes."""
SLOW = ("mri-vn", "mri-vn-published", *SOLVERS)
"""Fifteen coils or thirty iterations cost ten times more: these are tested on fewer images."""
NOISE = {"mri-vn": 0.02, "mri-vn-published": 0.02}
"""||e|| / ||y|| of white noise in the measurement: without it fifteen coils need no regulariser."""
UNTOUCHED = (6, 7, 8, 9, 5, 2, 1)
"""MR slices that published networks are tested on; attacks were tuned on slices 0, 3 and 4."""
TV_WEIGHTS = {
    "denoising": (0.03, 0.05, 0.08, 0.12, 0.2),
    "ct_limited": (3e-6, 1e-5, 3e-5, 1e-4, 3e-4),
    "ct_sparse": (1e-5, 3e-5, 1e-4, 3e-4, 1e-3),
    "mri_single": (1e-4, 1e-3, 3e-3, 1e-2, 3e-2),
    "mri_parallel": (1e-7, 1e-6, 1e-5, 1e-4, 1e-3),
}
"""Weights of total variation that are tried on validation images, by task.

Data without noise want the smallest one; below it nothing changes.
"""
TV_WEIGHT_VERSION = 1  # raised when the choice changes


def case(
    name: str | Recipe,
    profile: str = "standard",
    n_images: int | None = None,
    seed: int = 0,
    split: str = "test",
    image_size: int | None = None,
    noise: float | None = None,
    tv: bool = True,
) -> Case:
    """Return one case: images that no training has seen, their measurements, and what answers.

    All on `profiles.default_device()`; random numbers are drawn on the CPU, the same for each.

    - A network trained here ("ell-50"): its task (see `task`), its shipped weights, trained first
      if need be.
    - A published one ("deep-mri-published"): Deep MRI at acceleration 3, a mask drawn from `seed`,
      noiseless; MRI-VN with 15 simulated coils and 30 % equidistant lines, max |A* y| = 1; DnCNN
      with noise of 25/255, clipped to [0, 1], at 180 pixels at most.
    - Shearlets with default settings ("shearlets-ct"): their noise level is the mean
      ||A x - y|| / ||y|| on two validation images, which is what the finer raster makes of it.

    Args:
        name: one of `CASES`, underscores accepted; or a `Recipe`.
        n_images: at most; None: as many as the profile tests, see
            `profiles.STAGES["stability"]`. CT has 4 test slices, MR 10.
        seed: of weights, masks and noise.
        split: "test", or "validate" for choosing parameters of what is compared with a network.
        image_size: another size than the profile's; AUTOMAP and DAGAN have only their own.
        noise: ||e|| / ||y|| of white noise that is added to y; None: `NOISE`.
        tv: find the weight of total variation; False leaves it out.

    Raises:
        ValueError: for an unknown name.
        DataUnavailable: for published weights that are neither on disk nor can be downloaded.
    """
    key = name.name if isinstance(name, Recipe) else name.replace("_", "-")
    name = name if isinstance(name, Recipe) else key
    if key not in CASES:
        raise ValueError(f"no network is called {key!r}; expected one of {', '.join(CASES)}.")
    size = profiles.stage("stability", profile)
    n_images = n_images or (size.n_images_slow if key in SLOW else size.n_images)
    data_of = SOLVERS.get(key, key)
    if data_of in PUBLISHED:
        parts = _published(data_of, n_images, seed, split, image_size or size.image_size)
    else:
        how = name if isinstance(name, Recipe) else recipe(data_of, profile, seed)
        parts = _trained(how, n_images, seed, split, image_size)
    if key in SOLVERS:
        parts |= _shearlets(data_of, profile)
    noise = NOISE.get(key, 0.0) if noise is None else noise
    if noise:
        generator = profiles.generator(0, f"stability noise {split}")
        parts["y"] = solvers.add_noise(parts["y"], noise, generator)
        parts["source"] += f", {100 * noise:g} % noise"
    return Case(
        name=key,
        title=title(key),
        tv_weight=_tv_weight(name, profile, image_size, parts["task"]) if tv else None,
        tv_iterations=size.n_iter,
        unrolled_iterations=size.unrolled,
        **parts,
    )


def title(name: str) -> str:
    """Return the name in print: "Deep MRI", and "Deep MRI, published" of its authors' weights."""
    if name in SOLVERS:
        return f"Shearlets, {name.removeprefix('shearlets-').upper()} (no network)"
    published = ", published" if name in PUBLISHED else ""
    return TITLES[name.removesuffix("-published")] + published


def _trained(how: Recipe, n_images: int, seed: int, split: str, image_size: int | None) -> dict:
    network = store.load_or_train(how).network
    what = task(how, image_size or (180 if how.denoises else None))
    images, source = test_images(what, n_images, split)
    generator = profiles.generator(seed, f"{how.name} {split} noise")
    measured = what.measure(images, None if how.name == "deep-mri" else generator)
    return _parts(network, what, measured, source) | {"originals": images}


def _published(name: str, n_images: int, seed: int, split: str, image_size: int) -> dict:
    kind = name.removesuffix("-published")
    if kind == "dncnn":
        what = task(kind, min(image_size, 180))
        images, source = test_images(what, n_images, split)
        y, x, A = what.measure(images, profiles.generator(seed, f"denoising noise {split}"))
        return _parts(pretrained.network("dncnn-25"), what, (y.clamp(0, 1), x, A), source)
    what = task(kind, image_size)
    images, source = data.demo("mr", 10, what.pool_size, split)
    images = images[[i for i in UNTOUCHED if i < len(images)][:n_images]]
    source += ", 15 simulated coils" if kind == "mri-vn" else ""
    measured = what.measure(images, profiles.generator(seed, "deep-mri mask"))
    return _parts(pretrained.network(kind), what, measured, source)


def _parts(network: torch.nn.Module, what: Task, measured: tuple, source: str) -> dict:
    """Return the fields of a case that its network and its measurement decide, on one device."""
    y, x, A = measured
    network.to(x.device)
    elsewhere = None
    # at other rates than that of its training MRI-VN is shown max |A* y| = 1, too
    if what.name == "mri-vn":
        elsewhere = functools.partial(network.reconstruct, normalise=True)
    answers = dict(network=network, reconstruct=network.reconstruct, elsewhere=elsewhere)
    return dict(task=what.task, A=A, x=x, y=y, source=source, **answers)


def _shearlets(data_of: str, profile: str) -> dict:
    validation = case(data_of, profile, 2, split="validate", tv=False)
    level = float(metrics.relative_error(validation.A(validation.x), validation.y).mean())

    def reconstruct(y: torch.Tensor, A: LinearOperator) -> torch.Tensor:
        return solvers.shearlet(A, y, noise_level=level).x

    return dict(network=None, reconstruct=reconstruct, elsewhere=None)


def choose_tv_weight(validation: Case, n_iter: int) -> float:
    """Return the weight of `TV_WEIGHTS` whose images are nearest to those of a validation case."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "best weight .* is an end of the grid")
        weight, _ = solvers.choose_weight(
            validation.A,
            validation.x,
            TV_WEIGHTS[validation.task],
            y_validation=validation.y,
            n_iter=n_iter,
        )
    return weight


def recorded_tv_weight(validation: Callable[[], Case], n_iter: int, **identity: object) -> float:
    """Return the best weight on the case that `validation()` builds, as recorded or chosen now."""

    def choose() -> dict:
        built = validation()
        return {"tv_weight": choose_tv_weight(built, n_iter), "n_images": len(built.x)}

    about = dict(version=TV_WEIGHT_VERSION, experiment="tv_weight", method="tv")
    return store.cached(choose, **about, **identity)["metrics"]["tv_weight"]


def _tv_weight(name: str | Recipe, profile: str, image_size: int | None, task_name: str) -> float:
    data_of = name if isinstance(name, Recipe) else SOLVERS.get(name, name)
    options = {} if image_size is None else {"image_size": image_size}
    return recorded_tv_weight(
        lambda: case(data_of, profile, 2, split="validate", tv=False, **options),
        profiles.stage("stability", profile).n_iter // 2,
        task=task_name,
        network=data_of.name if isinstance(data_of, Recipe) else data_of,
        seed=0,
        profile=profile,
        parameters=options,
        inputs=[data_of.key] if isinstance(data_of, Recipe) else [],
    )
