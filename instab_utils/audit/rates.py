"""More and fewer samples than an operator has: views of the same span, nested masks."""

import torch

from .. import profiles
from ..operators import LinearOperator, MaskedFourier, Radon, measured_finely
from ..stability.sampling import Rate
from .images import Measured, taken
from .operators import normalised

SHARES = (0.5, 1.0, 1.5, 2.0, 4.0)


def automatic(A: LinearOperator, m: Measured, seed: int) -> tuple[list[Rate], str | None]:
    """Rates of our own Radon and MaskedFourier, or none and why."""
    if isinstance(A, Radon):
        built = _views(A)
        why = (
            "it has fewer than four views, or they are not evenly spread" if built is None else None
        )
    elif isinstance(A, MaskedFourier):
        built, why = _masks(A, seed), None
    else:
        built, why = (
            None,
            f"nothing says how {A} would measure more; pass rates=[(share, operator), ...]",
        )
    rates = []
    for share, n_samples, B in built or ():
        with torch.no_grad():
            y = m.y if B is A else measured_finely(m.fine, B) if m.fine is not None else B(m.x)
        rates.append(Rate(share, n_samples, B, y))
    return rates, why


def given(rates, m: Measured) -> list[Rate]:
    """The reader's (share, operator) or (share, operator, y)."""
    found = []
    for share, B, *y in rates:
        B = normalised(B, tuple(m.x.shape[-2:]))
        with torch.no_grad():
            y = taken(B, y[0], len(m.x)) if y else B(m.x)
        found.append(
            Rate(float(share), int(y[0].count_nonzero()) if y.is_complex() else y[0].numel(), B, y)
        )
    return sorted(found, key=lambda rate: rate.share)


def _views(A):
    angles = A.angles_deg.sort().values
    n = len(angles)
    if n < 4:
        return None
    step = float(angles[-1] - angles[0]) / (n - 1)
    if float((angles.diff() - step).abs().max()) > 0.01 * step:
        return None
    found = []
    for share in SHARES:
        k = max(2, round(share * n))
        B = (
            A
            if share == 1
            else Radon(
                A.image_size,
                angles[0] + torch.arange(k, dtype=torch.float64) * step * n / k,
                A.n_detectors,
            ).to(A.device)
        )
        found.append((k / n, k, B))
    return found


def _masks(A, seed):
    """Rows, columns or single samples, as the mask is made of; what a smaller one has every larger
    one has, and A's is one of them.
    """
    mask = A.mask.bool().cpu()
    if bool((mask == mask[:, :1]).all()):
        units, spread = mask[:, 0], lambda kept: kept[:, None].expand_as(mask)
    elif bool((mask == mask[:1]).all()):
        units, spread = mask[0], lambda kept: kept[None].expand_as(mask)
    else:
        units, spread = mask.flatten(), lambda kept: kept.view_as(mask)
    n, total = int(units.sum()), len(units)
    axes = [len(units)] if len(units) != mask.numel() else mask.shape
    frequencies = [torch.fft.fftfreq(k, dtype=torch.float64) for k in axes]
    squares = [(torch.fft.fftshift(v) if A.centred else v).square() for v in frequencies]
    distance = squares[0] if len(squares) == 1 else (squares[0][:, None] + squares[1]).flatten()
    # the centre first, the rest by a density that falls off: exponential races with it as their
    # rate
    races = (
        torch.rand(total, generator=profiles.generator(seed, "audit rates"), dtype=torch.float64)
        .clamp_min(1e-12)
        .log()
        .neg()
    )
    order = torch.where(distance < 0.03**2, -1.0, races / (torch.exp(-distance / 0.02) + 0.1))
    rank = torch.where(units, order, order + 1e9).argsort()  # those of A's mask before all others
    found = []
    for share in SHARES:
        k = min(round(share * n), total)
        if k < 2 or any(k == c for _, c, _ in found):
            continue
        kept = torch.zeros(total, dtype=torch.bool)
        kept[rank[:k]] = True
        found.append(
            (k / n, k, A if k == n else MaskedFourier(spread(kept).clone(), A.centred).to(A.device))
        )
    return found
