"""A network beside its input and beside total variation, on the same measurements."""

from typing import NamedTuple

import torch
from torch import Tensor

from .. import data, metrics, solvers
from ..networks import Case
from .cases import TV_WEIGHTS, case, recorded_tv_weight
from .recipes import Recipe

BATCH = 8  # images a network or solver call


class Comparison(NamedTuple):
    """Images and scores of "input", "TV" and "network" on the same test measurements."""

    case: Case
    images: dict[str, Tensor]
    psnr_db: dict[str, Tensor]  # (n_images,) each
    ssim: dict[str, Tensor]
    tv_weight: float
    tv_gap: float  # largest relative duality gap of the TV images

    @property
    def at_end(self) -> bool:
        """True where the TV weight is the least or the largest of `TV_WEIGHTS`."""
        tried = TV_WEIGHTS[self.case.task]
        return self.tv_weight in (min(tried), max(tried))

    def gain_db(self, over: str = "TV") -> metrics.Mean:
        """Return the network's mean gain over "TV" or "input", paired, with its 95 % interval."""
        return metrics.mean_ci(self.psnr_db["network"] - self.psnr_db[over])

    def metrics(self) -> dict[str, object]:
        """Return the metrics of a record of the experiment "reconstruct"."""
        ways = {"network": "network", "tv": "TV", "front_end": "input"}
        scores = {
            method: {
                "psnr_db": metrics.mean_ci(self.psnr_db[way]),
                "ssim": metrics.mean_ci(self.ssim[way]),
            }
            for method, way in ways.items()
        }
        scores["tv"] |= {"weight": self.tv_weight, "duality_gap": self.tv_gap}
        return {
            **scores,
            "gain_over_front_end_db": self.gain_db("input"),
            "gain_over_tv_db": self.gain_db("TV"),
            "n_images": len(self.psnr_db["TV"]),
        }


@torch.no_grad()
def compare(
    name: str | Recipe,
    n_images: int = 4,
    seed: int = 0,
    n_iter: int = 300,
    image_size: int | None = None,
    n_validation: int = 4,
) -> Comparison:
    """Reconstruct the same test measurements three ways.

    - "input": what the network starts from, A.pinv(y): the noisy image, filtered back-projection,
      zero-filled.
    - "TV": total variation of at most `n_iter` iterations; its weight chosen on `n_validation`
      validation images, or as recorded. MR images are solved as complex ones: nothing is projected
      onto real images.
    - "network": of the recipe, with its shipped weights.

    Images are clipped to [0, 1] where they are real: every method knows the range. PSNR and SSIM
    are of magnitudes.

    Args:
        name, seed, image_size: as in `case`; n_images at most.
    """
    options = dict(seed=seed, image_size=image_size, noise=0.0, tv=False)
    test = case(name, n_images=n_images, **options)
    tv_weight = recorded_tv_weight(
        lambda: case(name, n_images=n_validation, split="validate", **options),
        n_iter // 2,
        task=test.task,
        network=test.name,
        seed=seed,
        profile=name.profile if isinstance(name, Recipe) else "standard",
        parameters={
            "n_validation": n_validation,
            "n_iter": n_iter // 2,
            "image_size": test.x.shape[-1],
            "phantoms": data.situation() == "phantoms",
        },
    )
    answers, gap = [], 0.0
    for y in test.y.split(BATCH):
        solution = solvers.tv(test.A, y, tv_weight, n_iter=n_iter)
        gap = max(gap, float(solution.gap.max()))
        answers.append({"input": test.front_end(y), "TV": solution.x, "network": test.f(y)})
    images = {way: torch.cat([answer[way] for answer in answers]) for way in answers[0]}
    if not test.x.is_complex():
        images = {k: (x.abs() if x.is_complex() else x).clamp(0, 1) for k, x in images.items()}
    return Comparison(
        test,
        images,
        {k: metrics.psnr_db(x, test.x) for k, x in images.items()},
        {k: metrics.ssim(x, test.x) for k, x in images.items()},
        tv_weight,
        gap,
    )
