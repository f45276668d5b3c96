"""Bayes by backprop for fields: a Gaussian of its own for every weight, fitted by its gradient."""

import math

import torch
from torch import nn
from torch.nn import functional as F

from ..networks import Fields


class BayesByBackprop(nn.Module):
    r"""q(theta) = prod_i N(mu_i, s_i^2), s = log(1 + e^rho), of all weights and biases of K fields;
    prior N(0, prior_std^2) each.

    Minimises  E_q [data(theta)] + xi KL(q || prior),  KL = sum_i log(prior_std / s_i) + (s_i^2 +
    mu_i^2) / (2 prior_std^2) - 1/2 in closed form. With the data term of the paper, the mean over M
    rays of (y - A f)^2 / 2, this is xi times the evidence bound
    of a Gaussian likelihood of variance M xi: xi = 1e-10, 1e-5 and 0.1 mean sigma = 3.6e-4, 0.11
    and 11 at M = 1280, in units where a sinogram is about 0.1.

    Args:
        fields: where mu starts; their dropout is not used.
        prior_std: of every weight and bias, a number or K of them; 10, 100, 1000 in the paper.
        rho: where rho starts; not given in the paper, and with short trainings it decides the
            result.
        local: draw pre-activations instead of weights (Kingma et al. 2015): z = h mu + sqrt(h^2
            s^2) eps, one eps for each pixel. Less noise in the gradient; but as with masks "pixel",
            a draw is not a function of v. Draws of `samples` always are.

    Source: Blundell et al. 2015; C5 of the paper's appendix for the grid. The authors take the
    library Blitz, whose prior is a mixture and whose KL is estimated by the same draw.
    """

    def __init__(self, fields: Fields, prior_std=10.0, rho: float = -5.0, local: bool = False):
        super().__init__()
        self.fields, self.local = fields.requires_grad_(False).eval(), local
        mu = fields.flat()
        self.mu, self.rho = nn.Parameter(mu), nn.Parameter(torch.full_like(mu, rho))
        self.generator: torch.Generator | None = None
        self.register_buffer(
            "prior_std", torch.as_tensor(prior_std, dtype=mu.dtype).expand(len(mu))[:, None].clone()
        )
        if not bool((self.prior_std > 0).all()):
            raise ValueError(f"BayesByBackprop expects prior_std > 0; got {prior_std}.")

    @property
    def n_fields(self) -> int:
        return len(self.mu)

    @property
    def std(self) -> torch.Tensor:
        """s, (K, n_parameters)."""
        return F.softplus(self.rho)

    def kl(self) -> torch.Tensor:
        """KL(q || prior) of each field, (K,), in nats."""
        s, prior = self.std, self.prior_std
        return (
            torch.log(prior / s) + (s.square() + self.mu.square()) / (2 * prior.square()) - 0.5
        ).sum(1)

    def render(self, size: int) -> torch.Tensor:
        """One draw of each field, (K, 1, size, size), differentiable in mu and rho; the mean mu in
        evaluation mode.
        """
        if not self.training:
            return self.fields.render(size, self.mu)
        if self.local:
            return self._local(size)
        return self.fields.render(size, self.mu + self.std * self._noise(self.mu))

    @torch.no_grad()
    def samples(self, size: int, n_samples: int = 50) -> torch.Tensor:
        """Images of weights drawn from q, (n_samples, K, 1, size, size)."""
        return torch.stack(
            [
                self.fields.render(size, self.mu + self.std * self._noise(self.mu))
                for _ in range(n_samples)
            ]
        )

    def _local(self, size):
        means, variances = self.fields.unflatten(self.mu), self.fields.unflatten(self.std.square())
        h = self.fields.features(size)
        for i, ((w, b), (v_w, v_b)) in enumerate(zip(means, variances, strict=True)):
            h = self.fields.activate(h) if i else h
            z = torch.baddbmm(b, h, w)
            h = z + torch.baddbmm(v_b, h.square(), v_w).clamp_min(1e-20).sqrt() * self._noise(z)
        return h.sigmoid().mT.reshape(-1, 1, size, size)

    def _noise(self, like):
        return torch.randn(
            like.shape, generator=self.generator, device=like.device, dtype=like.dtype
        )


def likelihood_std(xi: float, n_rays: int) -> float:
    """sqrt(M xi): the noise of the Gaussian likelihood that a KL factor xi stands for, in units of
    the sinogram.
    """
    return math.sqrt(xi * n_rays)
