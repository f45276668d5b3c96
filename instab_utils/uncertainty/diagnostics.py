"""Whether chains of draws agree with one another, and how many independent draws theirs are worth."""

import math

import torch


def split_rhat(draws: torch.Tensor) -> torch.Tensor:
    """sqrt(((n - 1) / n W + B / n) / W) over half chains, of draws (chains, n, ...): (...). 1 if
    all halves agree; below 1.01 is good.

    W: mean variance within halves of n draws, B / n: variance of their means; of the draws' normal
    scores and of those of their distances from the median, the larger one, which sees chains that
    differ in spread alone and bears heavy tails. NaN for what never changes, inf where all chains
    stand still, each at its place. Vehtari et al. 2021.
    """

    def rhat(centre, spread):
        return (1 - 1 / spread.shape[1] + centre.var(0) / spread.var(1).mean(0)).sqrt()

    return torch.maximum(
        _of_halves(rhat, draws),
        _of_halves(rhat, (draws - draws.flatten(0, 1).median(0).values).abs()),
    )


def ess(draws: torch.Tensor) -> torch.Tensor:
    """m n / (1 + 2 sum_t rho_t), the effective number of draws (chains, n, ...) for their bulk:
    (...). NaN for what never changes.

    rho_t = 1 - (W - mean autocovariance) / (W (n - 1) / n + B / n) of normal scores in the m half
    chains, up to where a pair rho_2k + rho_2k+1 turns negative, no pair larger than the one before
    (Geyer). Vehtari et al. 2021.
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


def _of_halves(function, draws):
    """function(means (m, columns), deviations (m, n, columns)) of normal scores in half chains,
    4096 columns at a time.
    """
    if draws.ndim < 2 or draws.shape[1] < 4:
        raise ValueError(
            f"split_rhat and ess expect draws (chains, n, ...) with n >= 4; got {tuple(draws.shape)}."
        )
    found, half = [], draws.shape[1] // 2
    for x in draws.reshape(*draws.shape[:2], -1).split(4096, 2):
        values = torch.cat([x[:, :half], x[:, -half:]]).flatten(0, 1).T.contiguous()
        order = values.sort(1).values
        # ties share one
        ranks = (
            torch.searchsorted(order, values) + torch.searchsorted(order, values, right=True) + 1
        ).double() / 2
        scores = torch.special.ndtri((ranks - 0.375) / (values.shape[1] + 0.25)).T.reshape(
            -1, half, x.shape[2]
        )
        # so that a half that never changes has deviations of exactly zero
        shifted = scores - scores[:, :1]
        found.append(
            function(shifted.mean(1) + scores[:, 0], shifted - shifted.mean(1, keepdim=True))
        )
    return torch.cat(found).reshape(draws.shape[2:])
