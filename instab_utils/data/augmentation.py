"""What training makes of images: random symmetries, rotations, zooms; patches."""

import math

import torch

ROTATION_DEG = 10  # at most
ZOOM = 0.1
GAMMA = 0.2
SHIFT = 0.05  # of the side


def augment(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    r"""Return x(M u + t)^g for every image of a batch (batch, channels, n, n) in [0, 1].

    Each image has its own M, t and g: M = a rotation by U[-10, 10] degrees, times a zoom
    exp(U[-log(1 + ZOOM), log(1 + ZOOM)]), times one of the 8 symmetries of the square; t =
    U[-SHIFT, SHIFT] of the side in both directions; g = exp(U[-log(1 + GAMMA), ...]).
    One bilinear resampling, zero outside.

    Args:
        generator: of the CPU, wherever x is: same generator, same transformations. Each image takes
            7 numbers.
    """
    if x.ndim != 4 or x.shape[-1] != x.shape[-2] or not x.is_floating_point():
        raise ValueError(
            "augment expects real square images (batch, channels, n, n); "
            f"got {tuple(x.shape)} {x.dtype}."
        )
    turn, scale, flip, quarter, dx, dy, power = torch.rand(7, len(x), generator=generator)
    angle = math.radians(ROTATION_DEG) * (2 * turn - 1) + math.pi / 2 * (4 * quarter).floor()
    mirror = torch.where(flip < 0.5, -1.0, 1.0)
    scale = torch.exp(-math.log1p(ZOOM) * (2 * scale - 1))
    cos, sin = scale * angle.cos(), scale * angle.sin()
    dx, dy = 2 * SHIFT * (2 * dx - 1), 2 * SHIFT * (2 * dy - 1)
    theta = torch.stack([mirror * cos, -sin, dx, mirror * sin, cos, dy], -1).reshape(-1, 2, 3)
    grid = torch.nn.functional.affine_grid(theta.to(x), x.shape, align_corners=False)
    x = torch.nn.functional.grid_sample(x, grid, align_corners=False).clamp(0, 1)
    return x ** torch.exp(math.log1p(GAMMA) * (2 * power - 1)).to(x)[:, None, None, None]


class Patches:
    """Square patches on a grid of images of one size, cut when they are asked for.

    Patch number ((i * rows) + r) * columns + c is images[i, :, r stride : r stride + size, c stride
    : ...]: with 180 pixels, size 40 and stride 10 there are 15^2 an image, 82,800 for the 368
    training images, 90,000 for all 400.

    Args:
        images: (n, channels, height, width), float in [0, 1].

    Source: the training set of Zhang et al., IEEE TIP 2017 (DnCNN), at one scale.
    """

    def __init__(self, images: torch.Tensor, size: int = 40, stride: int = 10):
        # a view: (n, channels, r, c, size, size)
        self._windows = images.unfold(2, size, stride).unfold(3, size, stride)
        self._grid = (len(images), *self._windows.shape[2:4])

    def __len__(self) -> int:
        return math.prod(self._grid)

    def take(self, indices: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        """Return patches (batch, channels, size, size), float32 in [0, 1].

        With a generator each is under one of 8 symmetries.
        """
        indices = torch.as_tensor(indices, dtype=torch.long).flatten()
        _, rows, columns = self._grid
        place = indices.to(self._windows.device)
        x = self._windows[place // (rows * columns), :, place // columns % rows, place % columns]
        x = x.float()
        if generator is None:
            return x
        symmetries = torch.randint(8, (len(x),), generator=generator).to(x.device)
        for k in range(1, 8):
            chosen = symmetries == k
            x[chosen] = symmetry(x[chosen], k)
        return x


def symmetry(x: torch.Tensor, k: int) -> torch.Tensor:
    """Return x under symmetry k = 0 to 7 of the square.

    k mod 4 quarter turns, then a mirror image for k >= 4.
    """
    x = torch.rot90(x, k % 4, (-2, -1))
    return x.flip(-1) if k >= 4 else x
