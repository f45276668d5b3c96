"""DAGAN: an adversarially trained U-Net that removes the aliasing of a zero-filled MR image."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..operators import LinearOperator


class Generator(nn.Module):
    """f(x) = clip(x + tanh(U-Net(x)), -1, 1), the published variant with refinement.

    Down: 4x4 convolutions of stride 2 to a single pixel, leaky ReLU (slope 0.2), batch norm before
    it except in the first and in the last. Up: 4x4 transposed convolutions of stride 2, batch norm,
    ReLU; the next one reads [up, skip]. Last a 1x1 convolution. Gradients are zero where the clip
    acts.

    Args:
        image_size: a power of two >= 4; log2(image_size) levels each way. At 256, down 1 2 4 8 8 8
            8 8 and up 8 16 16 16 4 2 1 1 times base_width; other sizes have fewer or more of the 8
            down and of the 16 up.
        base_width: 64 is published: 98,574,337 parameters in convolutions.
        generator: source of the initial weights: convolutions N(0, 0.01^2) truncated at two
            deviations, zero biases, gains of the batch norms N(1, 0.02^2). None keeps PyTorch's
            default generator.

    Images (batch, 1, image_size, image_size) in [-1, 1]. Evaluation uses running statistics (decay
    0.9). The first convolution has its leaky ReLU since the authors' correction of July 2019; the
    network of Antun et al. had none.

    Raises:
        ValueError: for another image size.

    Yang et al. 2018 and their code; Antun et al. 2020, SI 2.2.
    """

    def __init__(
        self,
        image_size: int = 256,
        base_width: int = 64,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        n_levels = _levels("Generator", image_size, 4)
        down = [base_width * min(2**k, 8) for k in range(n_levels)]
        up = [base_width * f for f in (8, *[16] * (n_levels - 5), 4, 2, 1, 1)[-n_levels:]]
        self.image_size = image_size
        self.down = nn.ModuleList(
            _halving(i, o, norm=0 < k < n_levels - 1)
            for k, (i, o) in enumerate(zip([1, *down], down))
        )
        skips = [0, *down[-2::-1]]  # the innermost one reads the bottleneck alone
        self.up = nn.ModuleList(
            _block(nn.ConvTranspose2d(i + s, o, 4, stride=2, padding=1), nn.ReLU())
            for i, s, o in zip([down[-1], *up], skips, up)
        )
        self.last = nn.Conv2d(base_width, 1, 1)
        _initialise(
            self,
            lambda weight: nn.init.trunc_normal_(weight, 0, 0.01, -0.02, 0.02, generator=generator),
            generator,
        )

    def forward(self, x: Tensor) -> Tensor:
        _require_shape(self, x)
        hidden, skips = x, []
        for block in self.down:
            hidden = block(hidden)
            skips.append(hidden)
        hidden = self.up[0](hidden)
        for block, skip in zip(self.up[1:], skips[-2::-1]):
            hidden = block(torch.cat([hidden, skip], 1))
        out = torch.tanh(self.last(hidden))
        return (x + out).clamp(-1, 1)

    def reconstruct(self, y: Tensor, A: LinearOperator) -> Tensor:
        """Return (f(2 |A* y| - 1) + 1) / 2, a magnitude in [0, 1]."""
        return (self(2 * A.adjoint(y).abs() - 1) + 1) / 2


class Discriminator(nn.Module):
    """Logit (batch, 1) of "x is a fully sampled image".

    x (batch, 1, image_size, image_size) in [-1, 1].

    4x4 convolutions of stride 2 down to 4 x 4 pixels, 1x1 convolutions to 16 and 8 base_width, a
    residual block (1x1, 3x3, 3x3 with 2, 2, 8 base_width), one dense layer. Batch norm after every
    convolution but the first, leaky ReLU (slope 0.2), except after the 8 base_width and inside the
    sum.

    Args:
        image_size: a power of two >= 8. At 256, 1 2 4 8 16 32 times base_width; one convolution
            less for every halving, so that the dense layer reads 4 x 4 pixels at any size.
        base_width: 64 is published.
        generator: source of the initial weights, N(0, 0.02^2), gains N(1, 0.02^2); None is
            PyTorch's default.

    Raises:
        ValueError: for another image size.

    Yang et al. 2018 and their code.
    """

    def __init__(
        self, image_size: int = 256, base_width: int = 64, generator: torch.Generator | None = None
    ):
        super().__init__()
        n_down = _levels("Discriminator", image_size, 8) - 2
        down = [base_width * min(2**k, 32) for k in range(n_down)]
        self.image_size = image_size
        w = base_width

        # convolutions before a batch norm have no bias here: the norm would take it away again
        def conv(n_in, n_out, size, leaky=True):
            layer = nn.Conv2d(n_in, n_out, size, padding=size // 2, bias=False)
            return _block(layer, nn.LeakyReLU(0.2) if leaky else None)

        halvings = (
            _halving(i, o, norm=k > 0, bias=k == 0)
            for k, (i, o) in enumerate(zip([1, *down], down))
        )
        narrowings = conv(down[-1], 16 * w, 1), conv(16 * w, 8 * w, 1, leaky=False)
        self.down = nn.Sequential(*halvings, *narrowings)
        self.residual = nn.Sequential(
            conv(8 * w, 2 * w, 1), conv(2 * w, 2 * w, 3), conv(2 * w, 8 * w, 3, leaky=False)
        )
        self.last = nn.Linear(16 * 8 * base_width, 1)
        _initialise(
            self, lambda weight: nn.init.normal_(weight, 0, 0.02, generator=generator), generator
        )

    def forward(self, x: Tensor) -> Tensor:
        _require_shape(self, x)
        hidden = self.down(x)
        return self.last(F.leaky_relu(hidden + self.residual(hidden), 0.2).flatten(1))


def _halving(n_in, n_out, norm, bias=True):
    conv = nn.Conv2d(n_in, n_out, 4, stride=2, padding=1, bias=bias)
    return _block(conv, nn.LeakyReLU(0.2), norm)


def _block(conv, activation=None, norm=True):
    layers = [
        conv,
        nn.BatchNorm2d(conv.out_channels) if norm else None,
        activation,
    ]
    return nn.Sequential(*(layer for layer in layers if layer is not None))


def _initialise(net, fill, generator):
    for layer in net.modules():
        if getattr(getattr(layer, "weight", None), "is_meta", False):
            continue  # no memory to fill: a network to count
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1, 0.02, generator=generator)
        elif isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            fill(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def _levels(name, image_size, smallest):
    if image_size < smallest or image_size & (image_size - 1):
        raise ValueError(
            f"{name} expects image_size, a power of two >= {smallest}; got {image_size}."
        )
    return image_size.bit_length() - 1


def _require_shape(net, x):
    if x.ndim != 4 or tuple(x.shape[1:]) != (1, net.image_size, net.image_size):
        raise ValueError(
            f"{type(net).__name__}(image_size={net.image_size}) expects x of shape (batch, 1, "
            f"{net.image_size}, {net.image_size}); got {tuple(x.shape)}. Pad or resample it, or "
            "build the network for that size."
        )
