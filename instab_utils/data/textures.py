"""Images made here where no files exist: dead leaves for photographs, complex head-like slices for MR."""

import math

import torch

from . import phantoms
from .coils import smooth_phase


def dead_leaves(n: int, image_size: int, generator: torch.Generator, n_leaves: int = 600) -> torch.Tensor:
    """Natural-like images, (n, 1, image_size, image_size): discs that occlude each other, grey levels U[0, 1].

    Radii follow the density r^-3 between 1 pixel and a third of the image, which gives edges, flat parts and a power
    spectrum near 1 / f^2 as in photographs; every leaf carries a fine grating of low contrast.

    Source: Lee, Mumford, Huang, IJCV 41 (2001).
    """
    def uniform(*shape):
        return torch.rand(*shape, generator=generator)

    pixel = torch.arange(image_size, dtype=torch.float32) + 0.5
    images = torch.full((n, 1, image_size, image_size), 0.5)
    low, high = 1.0, image_size / 3
    for image in images[:, 0]:
        radius = 1 / torch.sqrt(low**-2 - uniform(n_leaves) * (low**-2 - high**-2))
        place = uniform(n_leaves, 2) * image_size
        for r, (x, y), (grey, turn, wave) in zip(radius.tolist(), place.tolist(), uniform(n_leaves, 3).tolist()):
            dx, dy = pixel[None, :] - x, pixel[:, None] - y
            cover = (r + 0.5 - torch.hypot(dx, dy)).clamp(0, 1)  # one pixel of soft edge
            along = dx * math.cos(math.pi * turn) + dy * math.sin(math.pi * turn)
            leaf = grey + 0.08 * torch.cos(2 * math.pi * along / (3 + 9 * wave))
            image.mul_(1 - cover).add_(cover * leaf)
    return images.clamp(0, 1)


def mr_like(image_size: int, generator: torch.Generator, n: int = 1) -> torch.Tensor:
    """Complex MR-like images, (n, 1, image_size, image_size) complex64 with max |x| = 1.

    x = m exp(i phi): m a bright rim around a head with 7 to 14 tissue ellipses and fine smooth texture, zero outside
    the head; phi from `smooth_phase`.
    """
    head = torch.tensor([[0.9, 0.72, 0.92, 0, 0, 0], [-0.45, 0.66, 0.86, 0, 0, 0]], dtype=torch.float64)
    _, ellipses = phantoms.random_ellipses(n, 8, generator)
    tissue = ellipses * torch.tensor([0.4, 0.6, 0.6, 0.6, 0.6, 1], dtype=torch.float64)
    tissue[:, ::2, 0] *= -0.8
    magnitude = phantoms.raster(torch.cat([head.expand(n, 2, 6), tissue], 1), image_size).clamp_min(0)
    texture = torch.randn(n, 1, image_size, image_size, generator=generator)
    texture = torch.nn.functional.avg_pool2d(texture, 3, 1, 1, count_include_pad=False)
    magnitude = magnitude * (1 + 0.1 * texture).clamp_min(0)
    phase = torch.stack([smooth_phase(image_size, generator)[None] for _ in range(n)])
    return torch.polar(magnitude / magnitude.amax((-2, -1), keepdim=True), phase)
