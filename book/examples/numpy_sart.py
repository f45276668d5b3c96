"""scikit-image's SART, NumPy alone: it has no gradient, so the search only asks for images."""

import math

import numpy as np
import torch
from skimage.transform import iradon_sart

from instab_utils import audit, profiles
from instab_utils.data import phantoms
from instab_utils.operators import Radon


def sart(y: np.ndarray, angles_deg: np.ndarray, image_size: int, sweeps: int = 2) -> np.ndarray:
    """Reconstruct (batch, 1, n_views, n_detectors) -> (batch, 1, n, n).

    scikit-image takes (n_detectors, n_views) and turns the other way.
    """
    start = (y.shape[-1] - image_size) // 2
    images = []
    for sinogram in y[:, 0]:
        x = None
        for _ in range(sweeps):
            x = iradon_sart(
                sinogram.T.astype(float), theta=angles_deg, image=x, clip=(0.0, math.inf)
            )
        images.append(x[start : start + image_size, start : start + image_size])
    return np.stack(images)[:, None]


def main(profile="standard", budget_s=120, image_size=64, n_views=30, folder=None):
    angles = torch.arange(n_views) * 180 / n_views
    A = Radon(image_size, angles)
    # finer than A: no inverse crime
    x = phantoms.random_ellipses(1, 2 * image_size, profiles.generator(0, "examples"))[0]
    return audit.run(
        lambda y: sart(y, angles.numpy(), image_size),
        A,
        x,
        name="scikit-image's SART",
        budget_s=budget_s,
        folder=folder,
        options=audit.AuditOptions(profile=profile, source="random ellipses", public=True),
    )


if __name__ == "__main__":
    print(main()["summary"])
