"""U-Nets that correct a filtered back-projection: the limited-angle network and FBPConvNet."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .dncnn import he_normal_
from .layers import Dropout, PostProcessor, WithDropout, convolutions


class LimitedAngleUNet(WithDropout, PostProcessor):
    """The limited-angle U-Net: no batch norm, no residual.

    Dropout stands after every pooling and every concatenation.

    Level k has two 3x3 convolutions with ReLU and base_width 2^k channels. Down: 2x2 max-pool,
    dropout. Up: nearest up-sampling, 2x2 convolution with ReLU that halves the channels, [skip,
    up], dropout, two 3x3 convolutions with ReLU. Last a linear 1x1 convolution.

    Args:
        base_width, n_levels: (64, 5) is the published network, 31,030,593 parameters.
        dropout: fraction of elements set to zero in training mode; Keras' `rate`, so 0.7 keeps 30
            per cent.
        generator: source of the initial weights (He normal, zero bias); None keeps PyTorch's
            default generator.

    Images (batch, 1, n, m) in [0, 1], n and m divisible by 2^(n_levels - 1); the output is not
    clipped. Dropout draws from `net.generator` where that is set, so that the same masks can be
    drawn again.

    The 2x2 convolution is Keras' "same": zeros at the bottom and at the right only.

    Raises:
        ValueError: for an image that cannot be halved n_levels - 1 times.

    Oala et al., Table 2 and the authors' code; the paper's 0.7 is the dropped, not the kept
    fraction.
    """

    def __init__(
        self,
        base_width: int = 64,
        n_levels: int = 5,
        dropout: float = 0.7,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        widths = _widths("LimitedAngleUNet", base_width, n_levels)
        self.down = nn.ModuleList(convolutions([i, o, o]) for i, o in zip([1, *widths], widths))
        self.up = nn.ModuleList(nn.Conv2d(2 * w, w, 2) for w in reversed(widths[:-1]))
        self.merge = nn.ModuleList(convolutions([2 * w, w, w]) for w in reversed(widths[:-1]))
        self.last = nn.Conv2d(base_width, 1, 1)
        self.drop = Dropout(dropout)
        he_normal_(self, generator)

    def features(self, x: Tensor) -> Tensor:
        """Return the input of the last convolution, (batch, base_width, n, m), >= 0.

        A second output reads it, too.
        """
        _require_divisible(self, x, len(self.down))
        skips = []
        for level, pair in enumerate(self.down):
            if level:
                x = self.drop(F.max_pool2d(x, 2))
            x = _relu_convs(pair, x)
            skips.append(x)
        for up, pair, skip in zip(self.up, self.merge, reversed(skips[:-1])):
            x = F.relu(up(F.pad(F.interpolate(x, scale_factor=2, mode="nearest"), (0, 1, 0, 1))))
            x = _relu_convs(pair, self.drop(torch.cat([skip, x], 1)))
        return x

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.features(x))


class FBPConvNet(PostProcessor):
    """The network of Ell-50 and Med-50: f(x) = x + U-Net(x).

    Every 3x3 convolution is followed by normalisation and ReLU.

    Level 0 has three convolutions of base_width channels, level k two of base_width 2^k. Down: 2x2
    max-pool. Up: 3x3 transposed convolution of stride 2 that halves the channels, normalisation,
    ReLU, [skip, up], two convolutions. Last a linear 1x1 convolution.

    Normalisation is (x - mean) / sqrt(var + 1e-4) times a gain plus a bias, mean and biased
    variance over the pixels of one image and one channel, in training and in evaluation. The
    published network is trained and tested with batches of one image and batch norm that never uses
    its moving averages: the same thing. Taken per image it does not depend on what else is in the
    batch.

    Args:
        base_width, n_levels: (64, 5) is published: 34,549,121 parameters in convolutions, 13,824 in
            normalisations.
        init: "published", N(0, 0.01^2) and zero bias, or "he", He normal in the hidden
            convolutions. The normalisations make f independent of the scale of the hidden weights,
            up to their 1e-4; but smaller weights turn further in a step of the same size. In 150
            steps of Adam on toy images in [0, 1] the published start was ahead at rates up to 3e-3
            and level at 1e-2. In both, f starts close to the identity: the last convolution is
            small.
        generator: source of the initial weights; None keeps PyTorch's default generator.

    Images (batch, 1, n, m), n and m divisible by 2^(n_levels - 1) and larger; the output is not
    clipped.

    The transposed convolution is MatConvNet's with crop [0 1 0 1]: 2n + 1 pixels without the last
    row and column.

    Raises:
        ValueError: for an image that cannot be halved n_levels - 1 times, or is a single pixel
            then.

    Jin et al. 2017 and their code; Antun et al. 2020, SI 2.4.
    """

    def __init__(
        self,
        base_width: int = 64,
        n_levels: int = 5,
        init: str = "published",
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        if init not in ("published", "he"):
            raise ValueError(f'FBPConvNet expects init "published" or "he"; got {init!r}.')
        widths = _widths("FBPConvNet", base_width, n_levels)
        self.down = nn.ModuleList(
            _normalised_convs([i, *[o] * (2 if k else 3)])
            for k, (i, o) in enumerate(zip([1, *widths], widths))
        )
        self.up = nn.ModuleList(
            _normalised(_CroppedTransposed(2 * w, w, 3, stride=2)) for w in reversed(widths[:-1])
        )
        self.merge = nn.ModuleList(_normalised_convs([2 * w, w, w]) for w in reversed(widths[:-1]))
        self.last = nn.Conv2d(base_width, 1, 1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                if init == "he" and layer is not self.last:
                    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
                else:
                    nn.init.normal_(layer.weight, 0, 0.01, generator=generator)
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        _require_divisible(self, x, len(self.down), smallest=2)
        hidden, skips = x, []
        for level, convs in enumerate(self.down):
            hidden = convs(F.max_pool2d(hidden, 2) if level else hidden)
            skips.append(hidden)
        for up, convs, skip in zip(self.up, self.merge, reversed(skips[:-1])):
            hidden = convs(torch.cat([skip, up(hidden)], 1))
        return self.last(hidden) + x


class _CroppedTransposed(nn.ConvTranspose2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[..., :-1, :-1]


def _normalised(conv):
    # one group a channel is instance norm; this implementation is the faster one on a CPU
    return nn.Sequential(
        conv, nn.GroupNorm(conv.out_channels, conv.out_channels, eps=1e-4), nn.ReLU()
    )


def _normalised_convs(widths):
    return nn.Sequential(*map(_normalised, convolutions(widths)))


def _relu_convs(convs, x):
    for conv in convs:
        x = F.relu(conv(x))
    return x


def _widths(name, base_width, n_levels):
    if base_width < 1 or n_levels < 1:
        raise ValueError(
            f"{name} expects base_width >= 1 and n_levels >= 1; got {base_width} and {n_levels}."
        )
    return [base_width * 2**level for level in range(n_levels)]


def _require_divisible(net, x, n_levels, smallest=1):
    factor, name = 2 ** (n_levels - 1), type(net).__name__
    if x.ndim != 4 or x.shape[1] != 1:
        raise ValueError(f"{name} expects x of shape (batch, 1, n, m); got {tuple(x.shape)}.")
    if any(n % factor or n < 1 for n in x.shape[-2:]):
        raise ValueError(
            f"{name}(n_levels={n_levels}) expects sides divisible by {factor}; got "
            f"{tuple(x.shape[-2:])}. Pad or crop the image, or take fewer levels."
        )
    if x.shape[-2] * x.shape[-1] < smallest * factor**2:
        raise ValueError(
            f"{name}(n_levels={n_levels}) expects more than {factor} x {factor} pixels: the "
            "statistics of its lowest level need two or more; got "
            f"{tuple(x.shape[-2:])}. Take fewer levels."
        )
