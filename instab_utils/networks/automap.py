"""AUTOMAP: k-space samples to image by two dense layers and a small convolutional autoencoder."""

import functools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..operators import MaskedFourier
from .layers import symmetric_pad

SCALE = 0.48
"""Units of the network's input: 0.48 times the unitary transform of an image in [0, 1]."""
MARGIN = 4


class AUTOMAP(nn.Module):
    """AUTOMAP, v (batch, 2m) -> image (batch, 1, n, n).

        h = W_2 tanh(W_1 v + b_1) + b_2, as an image, minus its mean;
        codes = ReLU(conv5(tanh(conv5(h padded symmetrically by 4))));
        z = conv7^T(codes), cropped to n x n;   f = z - mean(z) + mean of the image, read off v.

    The published loss compares images without their means, which leaves the mean of z untrained,
    and the published network returns z. Here z gets the mean of the measured image instead: the
    sample at frequency zero, v_0 / (0.48 n), so that f is comparable with x and differentiable in
    v. The loss loses nothing: subtract the means of f and x.

    Args:
        n, m, hidden, width: (128, 9855, 25000, 64) is the published network: 902,391,384 parameters
            in dense layers, 107,265 in convolutions.
        generator: source of the initial weights, on the network's device: dense layers
            U(+-1/sqrt(fan_in)), convolutions Xavier uniform, biases 0. None keeps PyTorch's default
            generator.
        device: of the parameters. The published size takes 3.6 GB; "meta" takes none, to count or
            to load into.

    v is made by `encode`. The published code transposes the image at the end; the dense layers
    learn either orientation, so we leave that out. Training multiplies v by U[0.99, 1.01] noise;
    that is left to the training.

    Raises:
        ValueError: for an input that is not (batch, 2m), or an image smaller than the padding.

    Zhu et al. 2018; Antun et al. 2020, SI 2.1 and the published code.
    """

    def __init__(
        self,
        n: int = 128,
        m: int = 9855,
        hidden: int = 25000,
        width: int = 64,
        generator: torch.Generator | None = None,
        device: str | torch.device | None = None,
    ):
        super().__init__()
        if n < MARGIN or not 1 <= m <= n * n:
            raise ValueError(
                f"AUTOMAP expects n >= {MARGIN} and 1 <= m <= n^2 samples; got n={n}, m={m}."
            )
        self.n, self.m = n, m
        device = device or torch.get_default_device()
        self.dense = nn.ModuleList(
            [
                # initialised once, below: it takes seconds
                nn.utils.skip_init(nn.Linear, 2 * m, hidden, device=device),
                nn.utils.skip_init(nn.Linear, hidden, n * n, device=device),
            ]
        )
        self.convs = nn.ModuleList(
            nn.Conv2d(i, width, 5, padding=2, device=device) for i in (1, width)
        )
        self.last = nn.ConvTranspose2d(width, 1, 7, padding=3, device=device)
        for layer in (*self.dense, *self.convs, self.last):
            if isinstance(layer, nn.Linear):
                bound = layer.in_features**-0.5
                nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
            else:
                nn.init.xavier_uniform_(layer.weight, generator=generator)
            nn.init.zeros_(layer.bias)

    def forward(self, v: Tensor, return_codes: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """Return the image; with `return_codes` the codes, too.

        The loss penalises the sum of the codes, (batch, width, n + 8, n + 8).
        """
        if v.ndim != 2 or v.shape[1] != 2 * self.m or v.is_complex():
            raise ValueError(
                f"AUTOMAP(m={self.m}) expects a real vector (batch, {2 * self.m}); got {v.dtype} "
                f"{tuple(v.shape)}. Use automap.encode(y, mask) with a mask of {self.m} samples."
            )
        hidden = self.dense[1](torch.tanh(self.dense[0](v)))
        image = (hidden - hidden.mean(1, keepdim=True)).reshape(-1, 1, self.n, self.n)
        codes = F.relu(self.convs[1](torch.tanh(self.convs[0](symmetric_pad(image, MARGIN)))))
        z = self.last(codes)[..., MARGIN:-MARGIN, MARGIN:-MARGIN]
        x_rec = z - z.mean((2, 3), keepdim=True) + (v[:, 0] / (SCALE * self.n))[:, None, None, None]
        return (x_rec, codes) if return_codes else x_rec

    def reconstruct(self, y: Tensor, A: MaskedFourier) -> Tensor:
        """Return f(v), v the real and imaginary parts of the samples, see `encode`."""
        return self(encode(y, A.mask))


def encode(y: Tensor, mask: Tensor) -> Tensor:
    """Return v = 0.48 (Re y, -Im y) on the mask, row by row.

    All real parts come first, then all imaginary parts with a minus.

    Args:
        y: k-space (batch, 1, n, n), complex, of the unitary transform with frequency zero at [0,
            0].
        mask: (n, n), True where sampled; it must hold frequency zero, which becomes v_0.

    Returns:
        (batch, 2m), m the number of samples; differentiable in y.

    At n = 128 the factor is the published 0.00375 on the transform without normalisation (0.00375 *
    128 = 0.48). We keep 0.48 at every n.

    Raises:
        ValueError: for another shape, real data, or a mask without frequency zero.
    """
    if (
        not y.is_complex()
        or y.ndim != 4
        or y.shape[1] != 1
        or mask.shape != y.shape[-2:]
        or y.shape[-2] != y.shape[-1]
    ):
        raise ValueError(
            "encode expects complex y (batch, 1, n, n) and mask (n, n); got "
            f"{y.dtype} {tuple(y.shape)} and {tuple(mask.shape)}."
        )
    samples = y.flatten(1)[:, _places(mask)]
    return SCALE * torch.cat([samples.real, -samples.imag], 1)


@functools.lru_cache(maxsize=4)  # of a mask, which never changes: a GPU has to be waited for
def _places(mask: Tensor) -> Tensor:
    """Return where the samples are in the flattened mask."""
    if not mask[0, 0]:
        raise ValueError(
            "encode expects a mask that holds frequency zero, at [0, 0]; got one that does not. A "
            "centred mask must be shifted first: torch.fft.ifftshift(mask)."
        )
    return mask.flatten().nonzero()[:, 0]
