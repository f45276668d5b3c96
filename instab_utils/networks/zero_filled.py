"""A small U-Net that corrects zero-filled MRI with a variance, for a reader's own browser."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .cascade import to_channels, to_complex
from .dncnn import he_normal_
from .layers import PostProcessor, convolutions
from .unet import _relu_convs, _widths


class ZeroFilledUNet(PostProcessor):
    """f(x) = x + U-Net(x) on (real, imaginary) of the zero-filled image x = A* y.

    A third output is the log variance s. Level k has two 3x3 convolutions with ReLU and base_width
    2^k channels. Down: 2x2 mean. Up: nearest neighbour, then [skip, up] and two convolutions. Last
    a linear 1x1 convolution to (real, imaginary, s). Only convolution, ReLU, mean and repetition:
    each has an adjoint of one line, so that a browser can attack it with the exact gradient.
    Nothing enforces the data: a post-processor, unlike `Cascade`.

    Args:
        base_width, n_levels: of the U-Net.
        generator: source of the initial weights (He normal, zero bias; the last layer a tenth of
            it).

    Images complex (batch, 1, n, m), n and m divisible by 2^(n_levels - 1).
    """

    def __init__(
        self, base_width: int = 16, n_levels: int = 3, generator: torch.Generator | None = None
    ):
        super().__init__()
        widths = _widths("ZeroFilledUNet", base_width, n_levels)
        self.down = nn.ModuleList(convolutions([i, o, o]) for i, o in zip([2, *widths], widths))
        self.up = nn.ModuleList(convolutions([3 * w, w, w]) for w in reversed(widths[:-1]))
        self.last = nn.Conv2d(base_width, 3, 1)
        he_normal_(self, generator)
        with torch.no_grad():
            self.last.weight.mul_(0.1)

    def forward(self, x: Tensor) -> Tensor:
        return self.with_log_variance(x)[0]

    def with_log_variance(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return (image, s), exp(s) the expected |image - truth|^2 of a pixel.

        The network learnt it on its own errors.
        """
        hidden = to_channels(x)
        factor = 2 ** (len(self.down) - 1)
        if any(n % factor for n in hidden.shape[-2:]):
            raise ValueError(
                f"ZeroFilledUNet expects sides divisible by {factor}; got "
                f"{tuple(hidden.shape[-2:])}. Pad the image."
            )
        skips = []
        for level, pair in enumerate(self.down):
            hidden = _relu_convs(pair, F.avg_pool2d(hidden, 2) if level else hidden)
            skips.append(hidden)
        for pair, skip in zip(self.up, reversed(skips[:-1])):
            hidden = _relu_convs(
                pair, torch.cat([skip, F.interpolate(hidden, scale_factor=2, mode="nearest")], 1)
            )
        out = self.last(hidden)
        return x + to_complex(out[:, :2]), out[:, 2:]
