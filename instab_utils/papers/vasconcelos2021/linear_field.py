"""A field of which only the last layer is unknown: its posterior in closed form, and its chains."""

from dataclasses import dataclass
from functools import cached_property

import torch

from ... import profiles
from ...fields import FREE, Scan, phantom_scan
from ...networks import Fields
from ...uncertainty import hmc
from ...uncertainty.diagnostics import HMCResult


@dataclass(frozen=True)
class LinearField:
    """x = Phi theta and y = K theta + noise, K = A Phi, with theta ~ N(0, tau), all in float64.

    The columns of Phi are the features of a field, made orthogonal, of rms 1. Lengths are in units
    of the image's side.
    """

    n_views: int
    relative_sigma: float = 0.1  # noise, of rms(y)
    n_frequencies: int = 64
    n: int = 32

    @cached_property
    def scan(self) -> Scan:
        """Return the views of phantom 0."""
        return phantom_scan(FREE, self.n_views, self.n)

    @cached_property
    def phi(self) -> torch.Tensor:
        """Return Phi, (n^2, P)."""
        generator = profiles.generator(0, "linear field")
        field = Fields(4, 1, omega0=10.0, n_frequencies=self.n_frequencies, generator=generator)
        return torch.linalg.qr(field.features(self.n)[0].double())[0] * self.n

    @cached_property
    def K(self) -> torch.Tensor:
        """Return A Phi, (M, P)."""
        views = self.scan.A(self.phi.T.reshape(-1, 1, self.n, self.n).float())
        return views.flatten(1).double().T / self.n

    @property
    def y(self) -> torch.Tensor:
        """Return the rays, (M,)."""
        return self.scan.y.flatten().double() / self.n

    @property
    def sigma(self) -> torch.Tensor:
        """Return the noise in the units of y."""
        return self.relative_sigma * self.y.square().mean().sqrt()

    @property
    def tau(self) -> float:
        """Return the prior's variance of a weight."""
        return 0.25 / self.phi.shape[1]

    def posterior(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the mean (P,) and covariance (P, P) of theta given y."""
        K, sigma = self.K, self.sigma
        covariance = torch.linalg.inv(K.T @ K / sigma**2 + torch.eye(K.shape[1]).to(K) / self.tau)
        return covariance @ (K.T @ self.y) / sigma**2, covariance

    def chains(
        self, seed: int, n_samples: int, options: hmc.HMCOptions, at: str = "prior"
    ) -> HMCResult:
        """Return four chains from draws of the "prior" or "posterior", or all from the "mode"."""
        K, y, sigma, tau = self.K, self.y, self.sigma, self.tau
        precision = K.T @ K / sigma**2 + torch.eye(K.shape[1], dtype=K.dtype) / tau
        pull, rest = K.T @ y / sigma**2, y @ y / (2 * sigma**2)
        mean, covariance = self.posterior()
        generator = profiles.generator(seed, "linear chains")
        white = torch.randn(4, K.shape[1], generator=generator, dtype=torch.float64)
        start = {
            "prior": white * tau**0.5,
            "posterior": mean + white @ torch.linalg.cholesky(covariance).T,
            "mode": mean.repeat(4, 1),
        }[at]

        def log_density(theta):  # multiplied out
            return -(theta @ precision * theta).sum(1) / 2 + theta @ pull - rest

        return hmc.sample(log_density, start, n_samples, options, generator=generator)
