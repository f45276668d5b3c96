"""How near a reconstruction is to the image."""

import numpy as np
import torch
from torch import Tensor

from .checks import comparable, same_shape


def psnr_db(x_rec: Tensor, x: Tensor, peak: float | None = None) -> Tensor:
    """Return PSNR = 10 log10(peak^2 / mean (|x_rec| - |x|)^2) per image, in dB.

    Args:
        x_rec: (batch, ...) reconstructions, real or complex.
        x: reference of the same shape.
        peak: default max |x| of each image; 1 for all images in the INR paper.

    Returns:
        (batch,) float64 tensor; inf for a perfect image.

    Magnitudes are compared where either is complex, real values as they are. Antun et al. say
    magnitudes, but their code takes the complex difference and the peak of the reconstruction; we
    take what they say, and the peak of x.
    """
    x_rec, x = comparable(x_rec, x)
    largest = x.abs().flatten(1).amax(1)
    peak = largest if peak is None else torch.full_like(largest, peak)
    if not bool((peak > 0).all()):
        raise ValueError(
            "psnr_db: the peak of the reference is 0 for an all-zero image. Leave it out."
        )
    return 10 * torch.log10(peak.square() / (x_rec - x).square().flatten(1).mean(1))


def ssim(x_rec: Tensor, x: Tensor) -> Tensor:
    """Return the structural similarity of magnitudes per image, (batch,).

    scikit-image's, with a 7x7 window and data range max |x|. Channels are averaged. Images (batch,
    channels, n, m), n and m at least 7.
    """
    from skimage.metrics import structural_similarity

    x_rec, x = comparable(x_rec, x)
    if x.ndim != 4:
        raise ValueError(
            f"ssim expects (batch, channels, n, m); got {tuple(x.shape)}. "
            "Add the axes: x[None, None]."
        )
    scores = []
    for image, truth in zip(x_rec.cpu().numpy(), x.cpu().numpy(), strict=True):
        peak = float(np.abs(truth).max())
        scores.append(structural_similarity(truth, image, data_range=peak, channel_axis=0))
    return torch.tensor(scores, dtype=torch.float64)


def relative_error(x_rec: Tensor, x: Tensor) -> Tensor:
    """Return ||x_rec - x|| / ||x|| per image, (batch,), of the complex difference where complex."""
    same_shape(x_rec, x)
    return _flat_norm(x_rec - x) / _flat_norm(x)


def pearson(u: Tensor, v: Tensor) -> Tensor:
    """Return the Pearson correlation of the pixels of u and v, per image, (batch,).

    The correlation is undefined for a constant map; 0 (no alarm, no information) is our choice, so
    count such maps.
    """
    same_shape(u, v)
    u, v = (t.to(torch.float64).flatten(1) for t in (u, v))
    # not by the variance: it is round-off, not 0
    constant = (u.amax(1) == u.amin(1)) | (v.amax(1) == v.amin(1))
    u, v = u - u.mean(1, keepdim=True), v - v.mean(1, keepdim=True)
    norms = (_flat_norm(u) * _flat_norm(v)).where(~constant, 1.0)
    return torch.where(constant, 0.0, (u * v).sum(1) / norms)


def _flat_norm(t: Tensor) -> Tensor:
    return torch.linalg.vector_norm(t.flatten(1), dim=1)
