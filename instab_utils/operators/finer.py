"""Measurements of images that have more pixels than the reconstruction will have."""

from torch import Tensor

from .radon import Radon


def measured_finely(images: Tensor, A: Radon) -> Tensor:
    """Return views of images on a finer raster, as A's bins would measure them: no inverse crime.

    y[v, k] = mean over the width of bin k of the line integrals through the finer pixels, by
    `Radon` with as many finer bins.

    Args:
        images: (batch, channels, k n, k n) on A's device, k = 1, 2, ... and n = A.image_size.
        A: the operator of the reconstruction.

    Returns:
        (batch, channels, n_views, n_detectors) in A's units. A keeps the finer operator, as its own
        matrices.

    Raises:
        ValueError: for images of another shape.
    """
    n, n_detectors = A.image_size, A.n_detectors
    if images.ndim != 4 or images.shape[-1] % n or images.shape[-2] != images.shape[-1]:
        raise ValueError(
            f"measured_finely expects images (batch, channels, k * {n}, k * {n}), k a whole "
            f"number; got {tuple(images.shape)}. Interpolate them to such a raster first."
        )
    finer = images.shape[-1] // n
    key = ("finer", finer, A.device)
    if key not in A._built:
        A._built[key] = Radon(finer * n, A.angles_deg, finer * n_detectors).to(A.device)
    y = A._built[key](images)
    return y.unflatten(-1, (n_detectors, finer)).mean(-1) / finer
