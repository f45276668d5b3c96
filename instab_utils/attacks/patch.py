"""Targets of a targeted attack: a patch of noise, a dark square (Oala et al., section 3.2)."""

import math

import torch

from .vectors import normal

SIGMA = 25 / 255  # of the noise, which the paper does not give: that of its denoising task
DEPTH = 1.5  # of the dark square, in units of the image's mean


def patch_target(
    x_rec: torch.Tensor, kind: str, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return t = x_rec + SIGMA z ("noise") or x_rec - DEPTH mean(x_rec) ("dark") in one square.

    Elsewhere t = x_rec. Every image has its own random square, which its channels share. Its side
    for "noise" is the paper's 50 pixels, in images below 128 pixels 50 / 128 of the shorter side;
    for "dark" the paper's 50 of 512, that is 50 / 512 of it; at least 8. The dark square is
    softened by a Gaussian of standard deviation side / 25, the 2 pixels at 512 of the authors'
    code.

    Args:
        x_rec: (batch, channels, n, m) what the network makes of the unattacked inputs.
        kind: "noise", z standard normal: the paper's target for denoising; "dark": for
            limited-angle CT.
        generator: places and noise.

    Returns:
        (target, mask): (batch, channels, n, m), and boolean (batch, 1, n, m), True where the target
        differs by design: the square, widened by the blur. The dark square's negative values become
        min(x_rec), as in the authors' code.

    Raises:
        ValueError: an unknown kind.

    Source: Oala et al., section 3.2.
    """
    if kind not in ("noise", "dark"):
        raise ValueError(f"patch_target expects kind to be 'noise' or 'dark'; got {kind!r}.")
    batch, channels, n, m = x_rec.shape
    side = min(n, m)
    size = max(8, round(50 * (min(side / 128, 1) if kind == "noise" else side / 512)))
    blur = size / 25
    profile = x_rec.new_ones(1)
    if kind == "dark":
        reach = math.ceil(4 * blur)
        offsets = torch.arange(-reach, reach + 1).to(x_rec)
        profile = torch.exp(-0.5 * (offsets / blur) ** 2)
    kernel = (profile / profile.sum())[None, None]
    # a blurred square is the product of a blurred row and a blurred column
    lines = []
    for length in (n, m):
        first = torch.randint(
            length - size + 1, (batch, 1), generator=generator, device=generator.device
        )
        place = torch.arange(length, device=x_rec.device) - first.to(x_rec.device)
        inside = ((place >= 0) & (place < size)).to(x_rec)
        padding = kernel.shape[-1] // 2
        lines.append(torch.nn.functional.conv1d(inside[:, None], kernel, padding=padding))
    square = lines[0].transpose(1, 2)[:, None, :, :] * lines[1][:, None]
    mask = square > 0
    if kind == "noise":
        changed = x_rec + SIGMA * normal(None, x_rec, generator)
    else:
        changed = x_rec - DEPTH * x_rec.mean((1, 2, 3), keepdim=True) * square
        changed = torch.where(changed < 0, x_rec.amin((1, 2, 3), keepdim=True), changed)
    return torch.where(mask, changed, x_rec), mask
