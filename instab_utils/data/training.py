"""What a training makes of a pool of images: augmentation, patches, sparse-view pairs, complex
images.
"""

import math
import os
import secrets
import warnings
from collections.abc import Callable

import numpy as np
import torch

from .. import profiles, store
from ..operators import Radon
from ..store.files import places
from . import images, phantoms
from .coils import simulated_coils, smooth_phase

# views x pixels of one projection matrix: building takes much more than keeping it
_GROUP_SIZE = 3.5e7


def augment(
    x: torch.Tensor,
    generator: torch.Generator,
    dihedral: bool = True,
    max_rotation_deg: float = 10,
    zoom: float = 0.1,
    gamma: float = 0.2,
    shift: float = 0.05,
) -> torch.Tensor:
    r"""x -> x(M u + t)^g for every image of a batch, with its own M, t and g: (batch, channels, n,
    n) in [0, 1].

    M = a rotation by U[-max, max] degrees, times a zoom exp(U[-log(1 + zoom), log(1 + zoom)]),
    times one of the 8 symmetries of the square; t = U[-shift, shift] of the side in both
    directions; g = exp(U[-log(1 + gamma), ...]). One bilinear resampling, zero outside.

    Args:
        generator: of the CPU, wherever x is: same generator, same transformations. Each image takes
            7 numbers, whatever the ranges are.
        dihedral, max_rotation_deg, zoom, gamma, shift: ranges; 0 or False leaves out that part.
    """
    if x.ndim != 4 or x.shape[-1] != x.shape[-2] or not x.is_floating_point():
        raise ValueError(
            f"augment expects real square images (batch, channels, n, n); got {tuple(x.shape)} {x.dtype}."
        )
    turn, scale, flip, quarter, dx, dy, power = torch.rand(7, len(x), generator=generator)
    angle = math.radians(max_rotation_deg) * (2 * turn - 1)
    if dihedral:
        angle = angle + math.pi / 2 * (4 * quarter).floor()
    mirror = torch.where(flip < 0.5, -1.0, 1.0) if dihedral else torch.ones(len(x))
    scale = torch.exp(-math.log1p(zoom) * (2 * scale - 1))
    cos, sin = scale * angle.cos(), scale * angle.sin()
    theta = torch.stack(
        [mirror * cos, -sin, 2 * shift * (2 * dx - 1), mirror * sin, cos, 2 * shift * (2 * dy - 1)],
        -1,
    )
    grid = torch.nn.functional.affine_grid(
        theta.reshape(-1, 2, 3).to(x), x.shape, align_corners=False
    )
    x = torch.nn.functional.grid_sample(
        x, grid, mode="bilinear", padding_mode="zeros", align_corners=False
    ).clamp(0, 1)
    if gamma:
        x = x ** torch.exp(math.log1p(gamma) * (2 * power - 1)).to(x)[:, None, None, None]
    return x


class Patches:
    """Square patches on a grid of images of one size, cut when they are asked for and never all at
    once.

    Patch number ((i * rows) + r) * columns + c is images[i, :, r stride : r stride + size, c stride
    : ...]: with 180 pixels, size 40 and stride 10 there are 15^2 an image, 82,800 for the 368
    training images, 90,000 for all 400.

    Args:
        images: (n, channels, height, width), float in [0, 1], or uint8, which is divided by 255
            when taken.

    Source: the training set of Zhang et al., IEEE TIP 2017 (DnCNN), at one scale.
    """

    def __init__(self, images: torch.Tensor, size: int = 40, stride: int = 10):
        if images.ndim != 4 or min(images.shape[-2:]) < size or stride < 1:
            raise ValueError(
                f"Patches expects images (n, channels, height, width) of at least {size} pixels and "
                f"stride >= 1; got {tuple(images.shape)} and stride={stride}."
            )
        # a view: (n, channels, r, c, size, size)
        self._windows = images.unfold(2, size, stride).unfold(3, size, stride)
        self._grid = (len(images), *self._windows.shape[2:4])

    def __len__(self) -> int:
        return math.prod(self._grid)

    def take(self, indices, generator: torch.Generator | None = None) -> torch.Tensor:
        """Patches (batch, channels, size, size) float32 in [0, 1]; each under one of 8 symmetries
        with a generator.
        """
        indices = torch.as_tensor(indices, dtype=torch.long).flatten()
        if len(indices) and not (int(indices.min()) >= 0 and int(indices.max()) < len(self)):
            raise ValueError(
                f"patches are numbered 0 to {len(self) - 1}; got {int(indices.min())} to {int(indices.max())}."
            )
        _, rows, columns = self._grid
        place = indices.to(self._windows.device)
        x = self._windows[place // (rows * columns), :, place // columns % rows, place % columns]
        x = x.float() / 255 if x.dtype == torch.uint8 else x.float()
        if generator is None:
            return x
        which = torch.randint(8, (len(x),), generator=generator).to(x.device)
        for k in range(1, 8):
            chosen = which == k
            x[chosen] = symmetry(x[chosen], k)
        return x


def symmetry(x: torch.Tensor, k: int) -> torch.Tensor:
    """One of the 8 symmetries of the square, k = 0 to 7: k mod 4 quarter turns, then a mirror image
    for k >= 4.
    """
    x = torch.rot90(x, k % 4, (-2, -1))
    return x.flip(-1) if k >= 4 else x


def ellipse_scans(
    n: int = 475, image_size: int = 512, n_views: int = 1000, subset: int = 20, split: str = "train"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Pairs (x_fbp, x_true), each (n, 1, N, N) float32: Ell-50's way to learn sparse-view CT
    without any picture.

    Of a random phantom the exact bin-averaged sinogram at n_views angles over half a turn; x_true
    is the filtered back-projection of all views, x_fbp that of every `subset`-th. Not clipped. Made
    once (at full size 17 s and 0.4 s a
    pair), then mapped from a file: memory is taken as pages are read. Phantom i is the same for any
    n, size and views.

    Source: Jin et al., IEEE TIP 2017; Antun et al., PNAS 2020, SI 2.4: 475 pairs at 512, 1000
    views, 50 kept.
    """
    images._one_of(split, "train", "validate", "test")
    if n < 1 or not 1 <= subset <= n_views:
        raise ValueError(
            f"ellipse_scans expects n >= 1 and 1 <= subset <= n_views; got {n}, {subset}, {n_views}."
        )

    def fill(x):
        angles_deg = torch.arange(n_views, dtype=torch.float64) * 180 / n_views
        sparse = Radon(image_size, angles_deg[::subset])
        groups = _view_groups(n_views, math.ceil(n_views * image_size**2 / _GROUP_SIZE))
        dense = [(group, Radon(image_size, angles_deg[group])) for group in groups]
        generator = profiles.generator(0, f"ellipse scans {split}")
        for i in range(n):
            ellipses = phantoms.random_ellipses(1, 64, generator)[1][0]
            ellipses = ellipses[ellipses[:, 0] != 0]
            y = torch.cat(
                [
                    phantoms.ellipse_sinogram(
                        ellipses, part, image_size=image_size, bin_average=True
                    )
                    # few views at a time stay in the processor's cache
                    for part in angles_deg.split(16)
                ],
                2,
            )
            x[0, i] = sparse.fbp(y[:, :, ::subset])[0].numpy()
            x[1, i] = sum(A.fbp(y[:, :, group], step_deg=180 / n_views) for group, A in dense)[
                0
            ].numpy()

    pairs = mapped(
        fill,
        (2, n, 1, image_size, image_size),
        function="ellipse_scans",
        arguments=[n, image_size, n_views, subset, split],
        version=1,
    )
    return pairs[0], pairs[1]


def _view_groups(n_views: int, n_groups: int) -> list[torch.Tensor]:
    """Views in groups closed under theta -> 180 - theta and 90 - theta, which `Radon` stores in an
    eighth.
    """
    k = torch.arange(n_views)
    k = torch.minimum(k, n_views - k)
    k = torch.minimum(k, (n_views // 2 - k).abs())
    groups = [torch.nonzero(k % n_groups == g).flatten() for g in range(n_groups)]
    return [group for group in groups if len(group)]


def mapped(fill: Callable[[np.ndarray], None], shape: tuple[int, ...], **identity) -> torch.Tensor:
    """A float32 tensor that `fill` writes once into arrays/<key of `identity`>.npy: for what is too
    large to compress.

    A private copy-on-write mapping: nobody's slip changes the file. A truncated file is named in a
    RuntimeWarning and made again; its values are not hashed at every start as those of
    `store.cached_arrays` are.
    """
    path = places("arrays")[0] / f"{store.key(**identity)}.npy"
    if path.is_file():
        try:
            return _read(path, shape)
        except (ValueError, EOFError) as reason:
            warnings.warn(
                f"{path} is damaged: {reason}. It is made again.", RuntimeWarning, stacklevel=2
            )
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        array = np.lib.format.open_memmap(partial, mode="w+", dtype=np.float32, shape=shape)
        fill(array)
        array.flush()
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return _read(path, shape)


def _read(path, shape: tuple[int, ...]) -> torch.Tensor:
    array = np.load(path, mmap_mode="c", allow_pickle=False)
    if array.shape != shape or array.dtype != np.float32:
        raise ValueError(f"expected float32 {shape}, found {array.dtype} {array.shape}")
    return torch.from_numpy(array)


def mr_training(
    x: torch.Tensor, generator: torch.Generator, n_coils: int | None = None
) -> torch.Tensor:
    """Complex images x exp(i phi) of magnitudes (batch, 1, n, n), each with a fresh `smooth_phase`
    phi.

    With n_coils the images as that many simulated coils see them, (batch, n_coils, n, n).
    """
    phase = torch.stack([smooth_phase(x.shape[-1], generator)[None] for _ in range(len(x))]).to(x)
    complex_images = torch.polar(x, phase)
    return (
        complex_images
        if n_coils is None
        else complex_images * simulated_coils(n_coils, x.shape[-1]).to(x.device)
    )
