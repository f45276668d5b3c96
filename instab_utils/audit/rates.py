"""More and fewer samples than an operator has: views of the same span, nested masks."""

from collections.abc import Iterable

import torch

from .. import profiles
from ..operators import LinearOperator, MaskedFourier, Radon, measured_finely
from ..stability.more_samples import Rate
from .measurements import Measurements, readers_measurements
from .operators import normalised

SHARES = (0.5, 1.0, 1.5, 2.0, 4.0)


def automatic_rates(
    A: LinearOperator, measured: Measurements, seed: int
) -> tuple[list[Rate], str | None]:
    """Return rates of our own Radon and MaskedFourier, or none and why."""
    if isinstance(A, Radon):
        variants = views(A)
        why = "it has fewer than four views, or they are not evenly spread"
    elif isinstance(A, MaskedFourier):
        variants, why = nested_masks(A, seed), None
    else:
        variants = []
        why = f"nothing says how {A} would measure more; pass rates=[(share, operator), ...]"
    rates = []
    for share, n_samples, B in variants:
        with torch.no_grad():
            if B is A:
                y = measured.y
            elif measured.fine is not None:
                y = measured_finely(measured.fine, B)
            else:
                y = B(measured.x)
        rates.append(Rate(share, n_samples, B, y))
    return rates, None if rates else why


def readers_rates(rates: Iterable[tuple], measured: Measurements) -> list[Rate]:
    """Return the reader's (share, operator) or (share, operator, y) in order."""
    built = []
    for share, B, *y in rates:
        B = normalised(B, tuple(measured.x.shape[-2:]))
        with torch.no_grad():
            y = readers_measurements(B, y[0], len(measured.x)) if y else B(measured.x)
        n_samples = int(y[0].count_nonzero()) if y.is_complex() else y[0].numel()
        built.append(Rate(float(share), n_samples, B, y))
    return sorted(built, key=lambda rate: rate.share)


def views(A: Radon) -> list[tuple[float, int, Radon]]:
    """Return (share, number of views, operator) of the same span; none unless evenly spread."""
    angles = A.angles_deg.sort().values
    n = len(angles)
    if n < 4:
        return []
    step = float(angles[-1] - angles[0]) / (n - 1)
    if float((angles.diff() - step).abs().max()) > 0.01 * step:
        return []
    variants = []
    for share in SHARES:
        k = max(2, round(share * n))
        spread = angles[0] + torch.arange(k, dtype=torch.float64) * step * n / k
        B = A if share == 1 else Radon(A.image_size, spread, A.n_detectors).to(A.device)
        variants.append((k / n, k, B))
    return variants


def nested_masks(A: MaskedFourier, seed: int) -> list[tuple[float, int, MaskedFourier]]:
    """Return (share, number of lines or samples, operator), each mask inside the next, A one.

    Rows, columns or single samples, as the mask is made of. The centre comes first, the rest by a
    density that falls off: exponential races with it as their rate; those of A before all others.
    """
    mask = A.mask.bool().cpu()
    rows, columns = mask[:, :1], mask[:1]
    units = next((u for u in (rows, columns) if torch.equal(u.expand_as(mask), mask)), mask)
    frequencies = []
    for size in units.shape:
        frequency = torch.fft.fftfreq(size, dtype=torch.float64)
        frequencies.append((torch.fft.fftshift(frequency) if A.centred else frequency).square())
    distance = (frequencies[0][:, None] + frequencies[1]).flatten()
    kept = units.flatten()
    generator = profiles.generator(seed, "audit rates")
    races = torch.rand(len(kept), generator=generator, dtype=torch.float64)
    races = -races.clamp_min(1e-12).log() / (torch.exp(-distance / 0.02) + 0.1)
    order = torch.where(distance < 0.03**2, -1.0, races)
    rank = torch.where(kept, order, order + 1e9).argsort()
    n = int(kept.sum())
    counts = sorted({min(round(share * n), len(kept)) for share in SHARES})
    variants = []
    for k in counts:
        if k < 2:
            continue
        grown = torch.zeros(len(kept), dtype=torch.bool)
        grown[rank[:k]] = True
        grown = grown.view_as(units).expand_as(mask).clone()
        B = A if k == n else MaskedFourier(grown, A.centred).to(A.device)
        variants.append((k / n, k, B))
    return variants
