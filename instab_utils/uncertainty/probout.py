"""Mean-variance networks: a second output predicts the logarithm of the variance of the error."""

import copy

import torch
from torch import Tensor, nn

from .prediction import Prediction, gaussian_prediction


class MeanVariance(nn.Module):
    """x -> (mean, s) with variance = exp(s): a network with a second linear output.

    s reads the input of the network's last convolution. lower, upper = mean -+ 1.96 sqrt(variance).
    Make it by `from_network`, train it with `mean_variance_loss`.

    Args:
        net: its last nn.Conv2d, in the order of net.modules(), must be the one that runs last
            (DnCNN, LimitedAngleUNet, FBPConvNet). The second output has the kernel of that one.

    Raises:
        ValueError: for a network without convolution.

    Source: Oala et al., Sec. 2. The paper calls the second output the variance; in their code it is
    the logarithm, as here.
    """

    name = "probout"

    def __init__(self, net: nn.Module):
        super().__init__()
        convs = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d)]
        if not convs:
            raise ValueError(
                "MeanVariance expects a network with an nn.Conv2d as its last layer; "
                f"{type(net).__name__} has none."
            )
        self.net = net
        self.variance = copy.deepcopy(convs[-1])
        if self.variance.bias is None:
            zeros = self.variance.weight.new_zeros(self.variance.out_channels)
            self.variance.bias = nn.Parameter(zeros)

    @classmethod
    def from_network(
        cls, net: nn.Module, *, generator: torch.Generator | None = None
    ) -> "MeanVariance":
        """Return a trainable copy of a trained network with a new output.

        The output starts with a tenth of He's weights and the authors' bias of -3, so that `mean`
        is exactly the network, and the standard deviation about exp(-3 / 2) = 0.22.
        """
        model = cls(copy.deepcopy(net)).requires_grad_(True)
        new = model.variance
        with torch.no_grad():
            drawn = nn.init.kaiming_normal_(
                torch.empty(new.weight.shape), nonlinearity="relu", generator=generator
            )
            new.weight.copy_(0.1 * drawn)
            new.bias.fill_(-3.0)
        return model

    @property
    def generator(self) -> torch.Generator | None:
        """Source of the network's dropout masks in training; None where it has no dropout."""
        return getattr(self.net, "generator", None)

    @generator.setter
    def generator(self, generator: torch.Generator | None):
        if hasattr(self.net, "generator"):
            self.net.generator = generator

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, features = self.with_features(x)
        return mean, self.variance(features)

    def with_features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the reconstruction and the input of the network's last convolution."""
        seen = []
        last = [layer for layer in self.net.modules() if isinstance(layer, nn.Conv2d)][-1]
        with last.register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0])):
            mean = self.net(x)
        return mean, seen[0]

    def mean(self, x: Tensor) -> Tensor:
        """Return the reconstruction alone, differentiable, as an attack needs it."""
        return self.net(x)

    @torch.no_grad()
    def predict(self, x_in: Tensor) -> Prediction:
        mean, s = self(x_in)
        return gaussian_prediction(mean, (s / 2).exp(), s.exp())


def mean_variance_loss(
    mean: Tensor,
    log_variance: Tensor,
    x: Tensor,
    form: str = "derived",
    penalty: float = 1.0,
) -> Tensor:
    """Return the mean over all pixels of (x - mean)^2 exp(-s) + penalty s, s = log_variance.

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
        raise ValueError(f'mean_variance_loss expects form "derived" or "printed"; got {form!r}.')
    penalised = log_variance.abs() if form == "printed" else log_variance
    return ((x - mean).square() * torch.exp(-log_variance) + penalty * penalised).mean()
