"""DnCNN: a plain convolutional network that predicts the noise of an image."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..operators import LinearOperator
from .layers import Dropout, WithDropout, convolutions


class DnCNN(WithDropout):
    """Residual denoiser f(x) = x - net(x).

    net = conv, ReLU, ..., conv, all 3x3 with zero padding, no batch norm.

    Args:
        n_layers: number of convolutions.
        width: channels of the hidden layers.
        dropout: fraction of hidden activations set to zero in training mode, after the ReLU of
            convolutions 2, 4, ... (8 of 17 layers); the rest is scaled by 1 / (1 - dropout).
        generator: source of the initial weights (He normal, zero bias); None keeps PyTorch's
            default generator.

    Images (batch, 1, n, m) of any size, in [0, 1]; the output is not clipped.

    `DnCNN()` has the 555,137 parameters of the published sigma = 25 network, whose batch norm is
    merged into the convolutions (Zhang et al., IEEE TIP 2017); `DnCNN(width=128, dropout=0.05)` is
    the INN paper's denoiser (Oala et al., Table 2), 2,216,193 parameters. That paper does not say
    where the dropout layers are; the place above is ours. Dropout draws from `self.generator` where
    that is set, so that the same masks can be drawn again.
    """

    def __init__(
        self,
        n_layers: int = 17,
        width: int = 64,
        dropout: float = 0.0,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        if n_layers < 2:
            raise ValueError(f"DnCNN expects n_layers >= 2; got {n_layers}.")
        widths = [1, *[width] * (n_layers - 1), 1]
        self.convs = convolutions(widths)
        self.drop = Dropout(dropout)
        he_normal_(self, generator)

    def forward(self, x: Tensor) -> Tensor:
        hidden = x
        for number, conv in enumerate(self.convs[:-1], start=1):
            hidden = F.relu(conv(hidden))
            if number % 2 == 0:
                hidden = self.drop(hidden)
        return x - self.convs[-1](hidden)

    def reconstruct(self, y: Tensor, A: LinearOperator) -> Tensor:
        """Return f(y): what is measured is the noisy image, whatever A is."""
        return self(y)


def he_normal_(module: nn.Module, generator: torch.Generator | None = None) -> None:
    """Fill every convolution of `module` in place: weights N(0, 2 / fan_in), biases 0.

    He et al. 2015, for ReLU.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
            nn.init.zeros_(layer.bias)
