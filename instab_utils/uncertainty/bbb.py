"""Bayes by backprop for fields: a Gaussian for every weight, fitted by its gradient."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..networks import Fields
from ..networks.inr import Generators, streams


class BayesByBackprop(nn.Module):
    r"""q(theta) = prod_i N(mu_i, s_i^2), s = log(1 + e^rho), of all weights and biases of K fields.

    Minimises  E_q [data(theta)] + xi KL(q || prior)  with prior N(0, prior_std^2) each and
    KL = sum_i log(prior_std / s_i) + (s_i^2 + mu_i^2) / (2 prior_std^2) - 1/2  in closed form. With
    the data term of the paper, the mean over M rays of (y - A f)^2 / 2, this is xi times the
    evidence bound of a Gaussian likelihood of variance M xi: xi = 1e-10, 1e-5 and 0.1 mean sigma =
    3.6e-4, 0.11 and 11 at M = 1280, in units where a sinogram is about 0.1.

    Args:
        fields: where mu starts; their dropout is not used.
        prior_std: of every weight and bias, a number or K of them; 10, 100, 1000 in the paper.
        rho: where rho starts; not given in the paper, and with short trainings it decides the
            result.

    Source: Blundell et al. 2015; C5 of the paper's appendix for the grid. The authors take the
    library Blitz, whose prior is a mixture and whose KL is estimated by the same draw.
    """

    def __init__(self, fields: Fields, prior_std=10.0, rho: float = -5.0):
        super().__init__()
        self.fields = fields.requires_grad_(False).eval()
        mu = fields.flat()
        self.mu, self.rho = nn.Parameter(mu), nn.Parameter(torch.full_like(mu, rho))
        self.generator: Generators = None
        prior_std = torch.as_tensor(prior_std, dtype=mu.dtype, device=mu.device)
        self.register_buffer("prior_std", prior_std.expand(len(mu))[:, None].clone())
        if not bool((self.prior_std > 0).all()):
            raise ValueError(f"BayesByBackprop expects prior_std > 0; got {prior_std}.")

    def train(self, mode: bool = True) -> "BayesByBackprop":
        """Draw weights in training mode; the fields' own dropout stays off."""
        super().train(mode)
        self.fields.eval()
        return self

    @property
    def std(self) -> Tensor:
        """Return s, (K, n_parameters)."""
        return F.softplus(self.rho)

    def kl(self) -> Tensor:
        """Return KL(q || prior) of each field, (K,), in nats."""
        s, prior = self.std, self.prior_std
        square = (s.square() + self.mu.square()) / (2 * prior.square())
        return (torch.log(prior / s) + square - 0.5).sum(1)

    def render(self, size: int) -> Tensor:
        """Return the images of one draw, (K, 1, size, size); of the mean mu in evaluation mode.

        Differentiable in mu and rho.
        """
        mu = self.mu
        if not self.training:
            return self.fields.render(size, mu)
        noise = torch.empty_like(mu)
        for rows, generator in zip(noise.chunk(len(sources := streams(self.generator))), sources):
            rows.normal_(generator=generator)
        return self.fields.render(size, mu + self.std * noise)


def likelihood_std(xi: float, n_rays: int) -> float:
    """Return sqrt(M xi), the noise of the Gaussian likelihood that a KL factor xi stands for.

    In units of the sinogram.
    """
    return math.sqrt(xi * n_rays)
