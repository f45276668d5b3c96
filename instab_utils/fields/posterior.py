"""Posterior of a field: its density given one scan, and point estimates of the same model."""

import torch
from torch import Tensor

from .. import profiles
from ..networks import Fields
from . import fitting
from .scans import Scan


class Posterior:
    r"""The log density of a field's weights given one scan, up to constants.

    -U(theta) = -||A f_theta - y||^2 / (2 sigma^2) - sum_i theta_i^2 fan_in_i / (2 tau)

    Args:
        fields: one field: its frequencies and shape count, its weights do not.
        scan: one image's views; y in units of the image's side, as in `fitting.fit_fields`.
        sigma: relative to rms(y).
    """

    def __init__(self, fields: Fields, scan: Scan, sigma: float, tau: float = 2.0):
        device = fields.frequencies.device
        self.fields, self.size = fields.requires_grad_(False).eval(), scan.x.shape[-1]
        self.scan = scan.to(device)
        self.unit = fitting.side(scan.A)
        self.sigma = sigma * float((scan.y / self.unit).square().mean().sqrt())
        precision = [
            torch.full(((fan_in + 1) * fan_out,), fan_in / tau)
            for fan_in, fan_out in fields.shapes[::2]
        ]
        self.prior_precision = torch.cat(precision).to(device)

    def image(self, theta: Tensor) -> Tensor:
        """Return the images (chains, 1, n, n) of theta (chains, P)."""
        return self.fields.render(self.size, theta)

    def log_density(
        self,
        theta: Tensor,
        anchor: Tensor | float = 0.0,
        noise: Tensor | float = 0.0,
    ) -> Tensor:
        """Return -U, (chains,), summed in float64; anchor and noise as in `descend`."""
        misfit = (self.scan.A(self.image(theta)) - self.scan.y) / self.unit - noise
        data = misfit.flatten(1).square().sum(1, dtype=torch.float64) / (2 * self.sigma**2)
        prior = ((theta - anchor).square() * self.prior_precision).sum(1, dtype=torch.float64) / 2
        return -data - prior

    @profiles.tf32(False)
    def descend(
        self,
        theta: Tensor,
        steps: int,
        lr: float = 3e-3,
        anchor: Tensor | float = 0.0,
        noise: Tensor | float = 0.0,
    ) -> Tensor:
        """Return theta after Adam on U, each row by itself: point estimates of the same model.

        Args:
            anchor: centre of the prior, like theta.
            noise: added to y / unit, (chains, 1, n_views, n_detectors).

        With a draw of the prior and a draw of the likelihood's noise the minimum of a
        linear model is a draw of its posterior (sample, then optimise: Matthews et al. 2017); of a
        field it is a start in the right place.
        """
        theta = theta.clone().requires_grad_()
        optimiser, schedule = fitting.adam([theta], lr, steps)
        for _ in range(steps):
            optimiser.zero_grad()
            u = -self.log_density(theta, anchor, noise)
            (u * self.sigma**2 / self.scan.y[0].numel()).sum().backward()
            optimiser.step()
            schedule.step()
        return theta.detach()
