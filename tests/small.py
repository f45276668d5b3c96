"""Small images and operators, double precision, that the tests of the solvers share."""

import torch

from instab_utils.operators import Identity, MaskedFourier, MultiCoilFourier, Radon


def random(*shape, seed=0, complex_=False):
    dtype = torch.complex128 if complex_ else torch.float64
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def blocks(n, batch=1):
    """Positive images of two levels, different in each element of the batch."""
    x = torch.full((batch, 1, n, n), 0.1, dtype=torch.float64)
    for b in range(batch):
        x[b, :, 3 + b : 9, 4:11] = 1.0
    return x


def mask(n, m=None, fraction=0.5, seed=3, centre=True):
    """Random samples, with the lowest frequency or without."""
    sampled = torch.rand(n, m or n, generator=torch.Generator().manual_seed(seed)) < fraction
    sampled[0, 0] = centre
    return sampled


def coils(sampled):
    maps = random(3, *sampled.shape, seed=5, complex_=True)
    return MultiCoilFourier(sampled, maps / maps.abs().square().sum(0).sqrt())


def operators(n, sampled=None):
    """One of each kind."""
    sampled = mask(n) if sampled is None else sampled
    return {
        "identity": Identity(n),
        "mask": MaskedFourier(sampled),
        "coils": coils(sampled),
        "radon": Radon(n, torch.arange(8) * 22.5),
    }
