"""Losses of the trainings: (network, measurements, ground truth, operator) -> scalar.

Measurements are what `batches` draws; ell-50's are filtered back-projections behind the identity.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..networks.automap import encode
from ..operators import LinearOperator

VARIANCE_SHARE = 3e-4
"""Weight of the log-likelihood, about -6, of "zero-filled-unet"; squared errors are about 1e-3."""
DAGAN_WEIGHTS = {"nmse": 15.0, "frequency": 0.1, "adversarial": 1.0}


def squared_error(network: nn.Module, y: Tensor, x: Tensor, A: LinearOperator) -> Tensor:
    """Return the mean of |network.reconstruct(y, A) - x|^2."""
    return (network.reconstruct(y, A) - x).abs().square().mean()


def sparse_codes(network: nn.Module, y: Tensor, x: Tensor, A: LinearOperator) -> Tensor:
    """Return sum |f - x|^2 without means + 1e-4 sum |codes|, a pixel: AUTOMAP's loss."""
    x_rec, codes = network(encode(y, A.mask), return_codes=True)
    difference = x_rec - x
    difference = difference - difference.mean((2, 3), keepdim=True)
    return (difference.square().sum() + 1e-4 * codes.abs().sum()) / x.numel()


def magnitudes(network: nn.Module, y: Tensor, x: Tensor, A: LinearOperator) -> Tensor:
    """Return the mean of (|u| - |x|)^2, |z| = sqrt(z^2 + 1e-12): the loss of MRI-VN."""
    u, v = ((z.abs().square() + 1e-12).sqrt() for z in (network(y, A), x))
    return (u - v).square().mean()


def with_log_variance(network: nn.Module, y: Tensor, x: Tensor, A: LinearOperator) -> Tensor:
    """Return the mean of |x_rec - x|^2 + VARIANCE_SHARE (|x_rec - x|^2 exp(-s) + s).

    x_rec is constant in the second part: the image is that of least squares, and s, the second
    output, learns the squared error that it makes.
    """
    x_rec, s = network.with_log_variance(A.pinv(y))
    error = (x_rec - x).abs().square()
    return error.mean() + VARIANCE_SHARE * (error.detach() * (-s).exp() + s).mean()


LOSSES = {
    "automap": sparse_codes,
    "mri-vn": magnitudes,
    "zero-filled-unet": with_log_variance,
}
"""Losses by network, where it is not `squared_error`."""


# -- DAGAN, images (batch, 1, n, n) in [-1, 1]


def nmse(x_rec: Tensor, x: Tensor) -> Tensor:
    """Return the mean over the batch of ||x - x_rec|| / ||x||; not squared, despite its name."""
    return ((x - x_rec).flatten(1).norm(dim=1) / x.flatten(1).norm(dim=1)).mean()


def frequency_loss(x_rec: Tensor, x: Tensor) -> Tensor:
    """Return the mean squared difference of |FFT2((x + 1) / 2)|, not normalised."""
    return F.mse_loss(_spectrum(x_rec), _spectrum(x))


def _spectrum(x: Tensor) -> Tensor:
    # no transform in half precision
    x = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
    return torch.fft.fft2((x + 1) / 2).abs()


def adversarial(logits: Tensor, real: bool) -> Tensor:
    """Return the sigmoid cross-entropy of the discriminator's logits against "all real" or not.

    Generator: adversarial(D(x_rec), True). Discriminator: adversarial(D(x), True) +
    adversarial(D(x_rec), False).
    """
    return F.softplus(-logits if real else logits).mean()


def generator_loss(x_rec: Tensor, x: Tensor, logits: Tensor) -> Tensor:
    """Return 15 nmse + 0.1 frequency + adversarial of the discriminator's logits of x_rec.

    Yang et al. 2018 and their code; the SI of Antun et al. 2020 prints squared errors. Their fourth
    term, 0.0025 times a distance of VGG16's features, needs weights that we may not ship.
    """
    weight = DAGAN_WEIGHTS
    total = weight["nmse"] * nmse(x_rec, x) + weight["frequency"] * frequency_loss(x_rec, x)
    return total + weight["adversarial"] * adversarial(logits, True)
