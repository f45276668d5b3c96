"""Draw images where no files exist: dead leaves for photographs, head-like slices for MR."""

import math

import torch

from . import phantoms
from .coils import with_smooth_phase


def dead_leaves(
    n: int, image_size: int, generator: torch.Generator, n_layers: float = 6.0
) -> torch.Tensor:
    """Return natural-like images, (n, 1, image_size, image_size): discs that occlude each other.

    Grey levels are U[0, 1]; radii follow the density r^-3 between 1/50 and 1/3 of the side, which
    gives edges, flat parts and a power spectrum near 1 / f^2 as in photographs; every leaf carries
    a fine grating of low contrast. Leaves fall until their area is `n_layers` times the image's.

    Source: Lee, Mumford, Huang, IJCV 41 (2001).
    """
    low, high = image_size / 50, image_size / 3
    mean_square = 2 * math.log(high / low) / (low**-2 - high**-2)
    n_leaves = math.ceil(n_layers * image_size**2 / (math.pi * mean_square))
    pixel = torch.arange(image_size, dtype=torch.float32) + 0.5
    images = torch.full((n, 1, image_size, image_size), 0.5)
    for image in images[:, 0]:
        leaves = torch.rand(6, n_leaves, generator=generator)
        leaves[0] = 1 / (low**-2 - leaves[0] * (low**-2 - high**-2)).sqrt()
        leaves[1:3] *= image_size
        for r, x, y, grey, turn, wave in leaves.T.tolist():
            rows, columns = (slice(max(0, int(c - r - 1)), int(c + r + 2)) for c in (y, x))
            dx, dy = pixel[None, columns] - x, pixel[rows, None] - y
            cover = (r + 0.5 - torch.hypot(dx, dy)).clamp(0, 1)  # one pixel of soft edge
            along = dx * math.cos(math.pi * turn) + dy * math.sin(math.pi * turn)
            leaf = grey + 0.08 * torch.cos(2 * math.pi * along / (3 + 9 * wave))
            image[rows, columns] += cover * (leaf - image[rows, columns])
    return images.clamp(0, 1)


def mr_like(image_size: int, generator: torch.Generator, n: int = 1) -> torch.Tensor:
    """Return MR-like images, (n, 1, image_size, image_size) complex64 with max |x| = 1.

    x = m exp(i phi): m a bright rim around a head with 7 to 14 tissue ellipses and fine smooth
    texture, zero outside the head; phi from `smooth_phase`.
    """
    head = torch.tensor(
        [[0.9, 0.72, 0.92, 0, 0, 0], [-0.45, 0.66, 0.86, 0, 0, 0]], dtype=torch.float64
    )
    _, ellipses = phantoms.random_ellipses(n, 8, generator)
    tissue = ellipses * torch.tensor([0.4, 0.6, 0.6, 0.6, 0.6, 1], dtype=torch.float64)
    tissue[:, ::2, 0] *= -0.8
    ellipses = torch.cat([head.expand(n, 2, 6), tissue], 1)
    magnitude = phantoms.raster(ellipses, image_size).clamp_min(0)
    texture = torch.randn(n, 1, image_size, image_size, generator=generator)
    texture = torch.nn.functional.avg_pool2d(texture, 3, 1, 1, count_include_pad=False)
    magnitude = magnitude * (1 + 0.1 * texture).clamp_min(0)
    return with_smooth_phase(magnitude / magnitude.amax((-2, -1), keepdim=True), generator)
