"""Diagnostics of Markov chains: R-hat, effective sample size, energies and an exact identity."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class HMCResult:
    """Draws and traces of all chains, on the CPU.

    "iterations": all after the warm-up, n times `thin`.
    """

    theta: Tensor | None  # (chains, n, P)
    tracked: Tensor | None  # (chains, n, ...)
    log_density: Tensor  # (chains, n): -U at the draws
    virial: Tensor  # (chains, n): theta . grad U at the draws
    # (chains, iterations): H at the end of a trajectory minus H at its start; inf if not finite
    energy_error: Tensor
    warmup_log_density: Tensor  # (chains, n_warmup)
    step_size: Tensor  # (chains,)
    mass: Tensor  # (P,), the diagonal
    n_gradients: int  # a chain; one evaluation gives all chains theirs
    seconds: float

    # (chains,): mean of min(1, exp(-energy error))
    accept = property(lambda self: torch.exp(-self.energy_error.clamp_min(0)).mean(1))
    # (chains, iterations), or not finite
    divergent = property(lambda self: self.energy_error > 1000)


def split_rhat(draws: Tensor) -> Tensor:
    """Return split R-hat of draws (chains, n, ...): (...), 1 if all half chains agree.

    sqrt(((n - 1) / n W + B / n) / W) over half chains; below 1.01 is good. W is the mean variance
    within halves of n draws, B / n the variance of their means. The larger one of two is returned:
    of the draws' normal scores, and of those of their distances from the median, which sees chains
    that differ in spread alone and bears heavy tails. NaN for what never changes, inf where all
    chains stand still, each at its place.

    Source: Vehtari et al. 2021.
    """

    def rhat(centre, spread):
        return (1 - 1 / spread.shape[1] + centre.var(0) / spread.var(1).mean(0)).sqrt()

    return torch.maximum(
        _of_halves(rhat, draws),
        _of_halves(rhat, (draws - draws.flatten(0, 1).median(0).values).abs()),
    )


def ess(draws: Tensor) -> Tensor:
    """Return the effective number of draws (chains, n, ...) for their bulk: (...).

    m n / (1 + 2 sum_t rho_t), NaN for what never changes. With normal scores in m half chains
    of n draws, rho_t = 1 - (W - mean autocovariance) / (W (n - 1) / n + B / n), up to where a pair
    rho_2k + rho_2k+1 turns negative, no pair larger than the one before (Geyer).

    Source: Vehtari et al. 2021.
    """

    def effective(centre, spread):
        m, n = spread.shape[:2]
        power = torch.fft.rfft(spread, 2 << (n - 1).bit_length(), 1).abs().square()
        covariance = torch.fft.irfft(power, dim=1)[:, :n].mean(0) / n
        total = covariance[0] + centre.var(0)
        rho = 1 - (covariance[0] * n / (n - 1) - covariance) / total
        rho[0] = torch.where(total > 0, 1.0, math.nan)
        pairs = rho[: n // 2 * 2].unflatten(0, (-1, 2)).sum(1)
        length = 2 * (pairs.cummin(0).values * (pairs > 0).cumprod(0)).sum(0) - 1
        return m * n / length.clamp_min(1 / math.log10(m * n))

    return _of_halves(effective, draws)


def _of_halves(function: Callable, draws: Tensor) -> Tensor:
    """Apply function(means, deviations) to the normal scores of half chains.

    Means are (m, columns), deviations (m, n, columns); 4096 columns at a time.
    """
    if draws.ndim < 2 or draws.shape[1] < 4:
        raise ValueError(
            "split_rhat and ess expect draws (chains, n, ...) with n >= 4; got "
            f"{tuple(draws.shape)}."
        )
    from scipy.stats import rankdata

    found, half = [], draws.shape[1] // 2
    for x in draws.reshape(*draws.shape[:2], -1).split(4096, 2):
        values = torch.cat([x[:, :half], x[:, -half:]]).flatten(0, 1)
        ranks = torch.from_numpy(rankdata(values, axis=0))  # ties share one
        scores = torch.special.ndtri((ranks - 0.375) / (len(values) + 0.25))
        scores = scores.view(-1, half, x.shape[2])
        # so that a half that never changes has deviations of exactly zero
        shifted = scores - scores[:, :1]
        found.append(
            function(shifted.mean(1) + scores[:, 0], shifted - shifted.mean(1, keepdim=True))
        )
    return torch.cat(found).reshape(draws.shape[2:])


def virial(theta: Tensor, grad: Tensor) -> Tensor:
    """Return theta . grad U, (...), of (..., P).

    Its mean over exp(-U) is P exactly, where theta exp(-U) vanishes at infinity.
    """
    return (theta * grad).sum(-1, dtype=torch.float64)


def summary(result: HMCResult, draws: Tensor | None = None) -> dict[str, float | None]:
    """Return the diagnostics of a run as numbers for a record; None where one does not exist.

    R-hat and ESS are of `draws` (chains, n, ...), by default what was tracked, else theta; *_u: of
    U. u_first, u_second: mean U in the first and second half of the draws, u_drift: their
    difference in standard errors. virial_ratio: mean theta . grad U over P, 1 in equilibrium.
    n_constant components of the draws never change, and are left out.
    """
    if draws is None:
        draws = result.theta if result.tracked is None else result.tracked
    u, n_parameters = -result.log_density, len(result.mass)
    half = u.shape[1] // 2
    first, second = u[:, :half].mean(), u[:, -half:].mean()
    rhats, sizes = split_rhat(draws).flatten(), ess(draws).flatten()
    numbers = {
        "rhat_max": rhats.nanquantile(1),
        "rhat_median": rhats.nanmedian(),
        "ess_min": sizes.nanquantile(0),
        "ess_median": sizes.nanmedian(),
        "n_constant": sizes.isnan().sum(),
        "rhat_u": split_rhat(u),
        "ess_u": ess(u),
        "u_first": first,
        "u_second": second,
        "u_drift": (second - first) / (2 * u.std() / ess(u).sqrt()),
        "virial_ratio": result.virial.mean() / n_parameters,
        "virial_error": result.virial.std() / ess(result.virial).sqrt() / n_parameters,
        "accept": result.accept.mean(),
        "accept_min": result.accept.min(),
        "divergences": result.divergent.sum(),
        "energy_error": result.energy_error.abs().median(),
        "step_size": result.step_size.mean(),
        "n_gradients": result.n_gradients,
        "seconds": result.seconds,
    }
    return {name: float(v) if math.isfinite(v) else None for name, v in numbers.items()}
