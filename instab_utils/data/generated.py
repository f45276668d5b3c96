"""Large training sets that are computed once, then mapped from a file."""

import math
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from .. import profiles, store
from ..operators import Radon
from ..store.files import places, replaced
from . import phantoms
from .images import one_of

# views x pixels of one projection matrix: building takes much more than keeping it
_GROUP_SIZE = 3.5e7


def ellipse_scans(
    n: int = 475, image_size: int = 512, n_views: int = 1000, subset: int = 20, split: str = "train"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return pairs (x_fbp, x_true), each (n, 1, N, N) float32: Ell-50's training set.

    Of a random phantom the exact bin-averaged sinogram at n_views angles over half a turn; x_true
    is the filtered back-projection of all views, x_fbp that of every `subset`-th. Not clipped.
    Computed once (at full size 17 s and 0.4 s a pair), then mapped from a file: memory is taken as
    pages are read. Phantom i is the same for any n, size and views.

    Source: Jin et al., IEEE TIP 2017; Antun et al., PNAS 2020, SI 2.4: 475 pairs at 512, 1000
    views, 50 kept.
    """
    one_of(split, "train", "validate", "test")
    if n < 1 or not 1 <= subset <= n_views:
        raise ValueError(
            "ellipse_scans expects n >= 1 and 1 <= subset <= n_views; "
            f"got {n}, {subset}, {n_views}."
        )

    def fill(x: np.ndarray) -> None:
        angles_deg = torch.arange(n_views, dtype=torch.float64) * 180 / n_views
        sparse = Radon(image_size, angles_deg[::subset])
        groups = _view_groups(n_views, math.ceil(n_views * image_size**2 / _GROUP_SIZE))
        dense = [(group, Radon(image_size, angles_deg[group])) for group in groups]
        generator = profiles.generator(0, f"ellipse scans {split}")
        for i in range(n):
            ellipses = phantoms.random_ellipses(1, 64, generator)[1][0]
            ellipses = ellipses[ellipses[:, 0] != 0]
            views = [  # few at a time stay in the processor's cache
                phantoms.ellipse_sinogram(ellipses, part, image_size=image_size, bin_average=True)
                for part in angles_deg.split(16)
            ]
            y = torch.cat(views, 2)
            x_true = sum(A.fbp(y[:, :, group], step_deg=180 / n_views) for group, A in dense)
            x[0, i] = sparse.fbp(y[:, :, ::subset])[0].numpy()
            x[1, i] = x_true[0].numpy()

    pairs = mapped(
        fill,
        (2, n, 1, image_size, image_size),
        function="ellipse_scans",
        arguments=[n, image_size, n_views, subset, split],
        version=1,
    )
    return pairs[0], pairs[1]


def _view_groups(n_views: int, n_groups: int) -> list[torch.Tensor]:
    """Return groups of views closed under theta -> 180 - theta and 90 - theta.

    `Radon` stores those in an eighth.
    """
    k = torch.arange(n_views)
    k = torch.minimum(k, n_views - k)
    k = torch.minimum(k, (n_views // 2 - k).abs())
    groups = [torch.nonzero(k % n_groups == g).flatten() for g in range(n_groups)]
    return [group for group in groups if len(group)]


def mapped(fill: Callable[[np.ndarray], None], shape: tuple[int, ...], **identity) -> torch.Tensor:
    """Return a float32 tensor that `fill` writes once into arrays/<key of `identity`>.npy.

    For what is too large to compress. A private copy-on-write mapping: writing into the tensor
    does not change the file. A truncated file is named in a RuntimeWarning and computed again; its
    values are not hashed at every start as those of `store.cached_arrays` are.
    """
    path = places("arrays")[0] / f"{store.key(**identity)}.npy"
    if path.is_file():
        try:
            return _read(path, shape)
        except (ValueError, EOFError) as reason:
            message = f"{path} is damaged: {reason}. It is made again."
            warnings.warn(message, RuntimeWarning, stacklevel=2)
    with replaced(path) as partial:
        array = np.lib.format.open_memmap(partial, mode="w+", dtype=np.float32, shape=shape)
        fill(array)
        array.flush()
    return _read(path, shape)


def _read(path: Path, shape: tuple[int, ...]) -> torch.Tensor:
    array = np.load(path, mmap_mode="c", allow_pickle=False)
    if array.shape != shape or array.dtype != np.float32:
        raise ValueError(f"expected float32 {shape}, found {array.dtype} {array.shape}")
    return torch.from_numpy(array)
