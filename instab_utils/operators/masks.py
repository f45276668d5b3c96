"""Sampling patterns of the Fourier experiments, with the line counts of the papers' code.

Every function returns a boolean tensor (n, m), True where k-space is measured. `centred=True` puts
the zero frequency at [n // 2, m // 2], `centred=False` at [0, 0]; the defaults are those of the
networks the patterns belong to. Random ones take a `torch.Generator` (on the CPU) and nothing else,
so a seed gives the same mask everywhere.
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from .base import as_shape

AUTOMAP_FRACTION = 9855 / 128**2
"""Fraction sampled by AUTOMAP ("60 %"): 9855 of 128 x 128."""

N_CENTRE = 8  # middle rows of Deep MRI's masks, always sampled

DAGAN_LINES = {
    1: (4, 0, 22),
    5: (14, 2, 7),
    10: (24, 5, 46),
    20: (56, 10, 44),
    30: (75, 13, 59),
    40: (105, 18, 58),
    50: (127, 24, 62),
}
"""DAGAN's 1-D Gaussian masks of 256 columns: nominal percent -> columns, half-width of the centre
block, column sd.
"""


def lines_to_mask(
    lines: Tensor | list[int],
    image_size: int | tuple[int, int],
    axis: int = 0,
    centred: bool = True,
) -> Tensor:
    """Return the mask whose `lines` along `axis` are fully sampled: axis 0 is rows, 1 columns.

    Args:
        lines: boolean (n,) or integer indices of the sampled lines.
        image_size: n, or (n, m).
        axis: the axis that the line numbers count along (the phase-encode direction).
        centred: True leaves the lines where they are; False takes lines counted with the zero
            frequency at n // 2 and moves it to 0 (ifftshift), for `MaskedFourier(mask)` without
            `centred`.
    """
    shape = as_shape(image_size)
    n = shape[axis]
    lines = torch.as_tensor(lines)
    if lines.dtype != torch.bool:
        if lines.numel() and not 0 <= int(lines.min()) <= int(lines.max()) < n:
            raise ValueError(f"lines_to_mask expects lines 0..{n - 1}; got {lines.tolist()}.")
        lines = (torch.arange(n)[:, None] == lines).any(1)
    if lines.shape != (n,):
        raise ValueError(
            f"lines_to_mask expects {n} booleans along axis {axis}; got {tuple(lines.shape)}."
        )
    lines = lines if centred else torch.fft.ifftshift(lines)
    return (lines[:, None] if axis == 0 else lines[None]).expand(shape).clone()


def variable_density_lines(
    image_size: int | tuple[int, int] = 256,
    acceleration: float = 3,
    *,
    generator: torch.Generator,
    centred: bool = False,
) -> Tensor:
    """Return Deep MRI's mask: int(n / acceleration) rows of a Gaussian plus constant density.

    Rows are drawn without replacement along axis 0 from exp(-(i - n/2)^2 / (2 (n/10)^2)) + 1 / (2
    acceleration). The 8 middle rows are always sampled and count. 256 rows: 85 at
    acceleration 3, 64 at 4. The zero frequency is at [0, 0] unless `centred`, as Deep MRI has it.

    Source: Schlemper et al., IEEE TMI 2018, their code's `cartesian_mask` with sample_n = 8.
    """
    masks = nested_lines(image_size, (acceleration,), generator=generator, centred=centred)
    return masks[acceleration]


def nested_lines(
    image_size: int | tuple[int, int] = 256,
    accelerations: Iterable[float] = range(14, 1, -1),
    *,
    generator: torch.Generator,
    centred: bool = False,
) -> dict[float, Tensor]:
    """Return masks of `variable_density_lines` that grow: each keeps the rows of the one before.

    {acceleration: mask}, from the highest to the lowest (14, ..., 2 in Antun et al., Fig. 5).
    """
    shape = as_shape(image_size)
    n = shape[0]
    offset = torch.arange(n, dtype=torch.float64) - n / 2
    sampled = torch.zeros(n, dtype=torch.bool)
    sampled[int(n / 2 - N_CENTRE / 2) : int(n / 2 + N_CENTRE / 2)] = True
    masks = {}
    for acceleration in sorted(accelerations, reverse=True):
        missing = int(n / acceleration) - int(sampled.sum())
        if missing < 0:
            raise ValueError(
                f"acceleration {acceleration} leaves {int(n / acceleration)} of {n} rows, fewer "
                f"than the centre's {N_CENTRE}. Lower the acceleration."
            )
        density = torch.exp(-0.5 * (offset / (n / 10)) ** 2) + 1 / (2 * acceleration)
        sampled = sampled.clone()
        sampled[_draw(density.masked_fill(sampled, 0), missing, generator)] = True
        masks[acceleration] = lines_to_mask(sampled, shape, axis=0, centred=centred)
    return masks


def gaussian_lines(
    percent: int = 20, image_size: int = 256, *, generator: torch.Generator
) -> Tensor:
    """Return DAGAN's mask: full columns, a centre block, the rest drawn with a Gaussian density.

    `percent` is nominal: 1, 5, 10, 20, 30, 40, 50 give exactly 4, 14, 24, 56, 75, 105, 127 of 256
    columns (scaled to other sizes), with the block widths and column spreads of the published
    files. The files themselves are not reproduced, nor are they nested. Centred, as DAGAN has it.
    """
    if percent not in DAGAN_LINES:
        raise ValueError(
            f"gaussian_lines expects percent in {', '.join(map(str, DAGAN_LINES))}; got {percent}."
        )
    n_lines, half_width, spread = (value * image_size / 256 for value in DAGAN_LINES[percent])
    n_lines, half_width = round(n_lines), round(half_width)
    offset = torch.arange(image_size, dtype=torch.float64) - image_size // 2
    sampled = offset.abs() <= half_width
    density = torch.exp(-0.5 * (offset / spread) ** 2).masked_fill(sampled, 0)
    sampled[_draw(density, n_lines - int(sampled.sum()), generator)] = True
    return lines_to_mask(sampled, image_size, axis=1)


def uniform_lines(
    fraction: float = 0.15,
    image_size: tuple[int, int] = (640, 368),
    n_centre: int | None = None,
) -> Tensor:
    """Return MRI-VN's equidistant mask: n_centre + 1 middle columns and every k-th on either side.

    k is rounded per side, so that the count is a little above `fraction`: 5, 10, 15, 20, 25, 30,
    35, 50 % give 20, 38, 58, 78, 97, 114, 142, 198 of 368 columns. Deterministic. `n_centre` is 28,
    and 14 at 5 % and below.

    Source: the test code of Antun et al.; the paper prints 28 centre lines, the code samples 29.
    """
    shape = as_shape(image_size)
    m = shape[1]
    n_centre = (14 if fraction <= 0.05 else 28) if n_centre is None else n_centre
    outside = math.ceil(m * fraction) - n_centre
    if outside < 2:
        raise ValueError(
            f"uniform_lines expects at least two lines outside the centre; {fraction} of {m} "
            f"columns with n_centre={n_centre} leaves {outside}. Lower n_centre."
        )
    start, stop = int(m / 2 - n_centre / 2), int(m / 2 + n_centre / 2)
    left = torch.arange(0, start, round(start / math.ceil(outside / 2)))
    right = torch.arange(stop + 2, m, round((m - stop) / (outside // 2)))
    lines = torch.cat([left, torch.arange(start, stop + 1), right])
    return lines_to_mask(lines, shape, axis=1)


def poisson_disk(
    image_size: int = 128,
    fraction: float = AUTOMAP_FRACTION,
    *,
    generator: torch.Generator,
) -> Tensor:
    """Return a variable-density Poisson disk: no kept point is nearer to another than slope * |k|.

    Points come in random order; |k| is the distance from the zero frequency, [0, 0], which is
    always kept, in units of n / 2, and the slope is bisected to the largest that leaves at least
    round(fraction n^2) points; the surplus is dropped at random, so the count is exact: 9855 of
    128 x 128 by default, as for AUTOMAP, whose own mask is not reproduced.
    """
    n, target = image_size, round(fraction * image_size**2)
    if not 1 <= target <= n * n:
        raise ValueError(f"poisson_disk expects 0 < fraction <= 1; got {fraction}.")
    order = torch.randperm(n * n, generator=generator).tolist()
    centre = n // 2
    order.remove(centre * n + centre)
    order.insert(0, centre * n + centre)
    low, high = 0.0, 2.0  # the count falls with the slope: low keeps enough points
    while len(_throw(order, n, high)) >= target:
        low, high = high, 2 * high
    for _ in range(8):
        middle = (low + high) / 2
        low, high = (middle, high) if len(_throw(order, n, middle)) >= target else (low, middle)
    kept = torch.tensor(_throw(order, n, low))
    # never the zero frequency
    drop = 1 + torch.randperm(len(kept) - 1, generator=generator)[: len(kept) - target]
    mask = torch.zeros(n * n, dtype=torch.bool)
    mask[kept] = True
    mask[kept[drop]] = False
    return torch.fft.ifftshift(mask.view(n, n))


def _throw(order: list[int], n: int, slope: float) -> list[int]:
    """Return the points of `order` that are slope * |k| or more away from every one kept before."""
    taken = bytearray(n * n)
    offsets = sorted(
        (a * a + b * b, a, b)
        for a in range(-n, n + 1)
        for b in range(-n, n + 1)
        if 0 < a * a + b * b <= 2 * slope**2
    )
    kept = []
    for point in order:
        row, column = divmod(point, n)
        reach = slope**2 * ((row - n // 2) ** 2 + (column - n // 2) ** 2) / (n / 2) ** 2
        for distance, a, b in offsets:
            if distance >= reach:
                taken[point] = 1
                kept.append(point)
                break
            if 0 <= row + a < n and 0 <= column + b < n and taken[(row + a) * n + column + b]:
                break
        else:
            taken[point] = 1
            kept.append(point)
    return kept


def _draw(density: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Return `count` different indices, drawn one by one with probability ~ `density`."""
    if count == 0:
        return torch.empty(0, dtype=torch.long)
    return torch.multinomial(density, count, replacement=False, generator=generator)
