"""A second output: the network says how large its error will be, and learns that from its errors in
training.
"""

import copy

import torch
from torch import nn

from .prediction import Prediction


class MeanVariance(nn.Module):
    """x -> (mean, s): a network, and a second linear output that reads what its last convolution
    reads; variance = exp(s).

    lower, upper = mean -+ 1.96 sqrt(variance). Make it by `from_network`, train it with
    `gaussian_nll`.

    Args:
        net: its last nn.Conv2d, in the order of net.modules(), must be the one that runs last
            (DnCNN, LimitedAngleUNet, FBPConvNet). The second output has the kernel of that one.

    Raises:
        ValueError: for a network without convolution.

    Oala et al., section 2. The paper calls the second output the variance; in their code it is the
    logarithm, as here.
    """

    name = "probout"

    def __init__(self, net: nn.Module):
        super().__init__()
        convs = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d)]
        if not convs:
            raise ValueError(
                f"MeanVariance expects a network with an nn.Conv2d as its last layer; {type(net).__name__} has none."
            )
        self.net, self.variance = net, copy.deepcopy(convs[-1])
        if self.variance.bias is None:
            self.variance.bias = nn.Parameter(
                self.variance.weight.new_zeros(self.variance.out_channels)
            )

    @classmethod
    def from_network(
        cls,
        net: nn.Module,
        *,
        variance_init: float = -3.0,
        generator: torch.Generator | None = None,
    ) -> "MeanVariance":
        """A copy of a trained network, all of it trainable, with a new output: a tenth of He's
        weights, bias `variance_init`.

        At the start `mean` is exactly the network, and the standard deviation about
        exp(variance_init / 2): 0.22 for the authors' -3.
        """
        model = cls(copy.deepcopy(net)).requires_grad_(True)
        new = model.variance
        with torch.no_grad():
            drawn = nn.init.kaiming_normal_(
                torch.empty(new.weight.shape), nonlinearity="relu", generator=generator
            )
            new.weight.copy_(0.1 * drawn)
            new.bias.fill_(variance_init)
        return model

    @property
    def generator(self) -> torch.Generator | None:
        """Source of the network's dropout masks in training; None where it has no dropout."""
        return getattr(self.net, "generator", None)

    @generator.setter
    def generator(self, generator: torch.Generator | None):
        if hasattr(self.net, "generator"):
            self.net.generator = generator

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mean, features = self.with_features(x)
        return mean, self.variance(features)

    def with_features(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The reconstruction, and what the network's last convolution reads."""
        seen = []
        last = [layer for layer in self.net.modules() if isinstance(layer, nn.Conv2d)][-1]
        with last.register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0])):
            mean = self.net(x)
        return mean, seen[0]

    def mean(self, x: torch.Tensor) -> torch.Tensor:
        """The reconstruction alone, differentiable: what an attack on it needs."""
        return self.net(x)

    @torch.no_grad()
    def predict(self, x_in: torch.Tensor, spread: str = "variance") -> Prediction:
        """spread: "variance", as in the paper, "std" or "log": s itself, which may be negative."""
        mean, s = self(x_in)
        std = (s / 2).exp()
        spreads = {"variance": s.exp(), "std": std, "log": s}
        if spread not in spreads:
            raise ValueError(
                f'MeanVariance.predict expects spread "variance", "std" or "log"; got {spread!r}.'
            )
        return Prediction(mean, spreads[spread], mean - 1.96 * std, mean + 1.96 * std)


def gaussian_nll(
    mean: torch.Tensor,
    log_variance: torch.Tensor,
    x: torch.Tensor,
    form: str = "derived",
    penalty: float = 1.0,
) -> torch.Tensor:
    """Mean over all pixels of (x - mean)^2 exp(-s) + penalty s, s = log_variance; a scalar.

    - "derived": as above. Where many pixels share an s it is least at exp(s) = E (x - mean)^2 /
      penalty. penalty = 1 is twice the negative log-likelihood of a Gaussian, up to a constant. The
      authors' code has 3: variances a third of the squared error, intervals too short by the square
      root of 3, maps of the same order.
    - "printed": (x - mean)^2 exp(-s) + penalty |s|, as in the paper. It falls with s for all s < 0,
      and from s = 0 on it rises where E (x - mean)^2 < penalty: for images in [0, 1] the optimum is
      a variance of 1 everywhere, whatever the error.

    Args:
        mean, log_variance, x: same shape.

    Raises:
        ValueError: for another form.
    """
    if form not in ("derived", "printed"):
        raise ValueError(f'gaussian_nll expects form "derived" or "printed"; got {form!r}.')
    penalised = log_variance.abs() if form == "printed" else log_variance
    return ((x - mean).square() * torch.exp(-log_variance) + penalty * penalised).mean()
