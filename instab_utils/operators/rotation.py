"""The projector of the INR papers' code: turn the image, take the mean of its columns."""

import math

import numpy as np
import scipy.sparse

from .base import LinearOperator
from .joseph import bins
from .radon import Radon
from .sparse import sparse_pair


class Rotation(LinearOperator):
    r"""y[v, k] = 1/n sum_t x(s_k cos(theta_v) - t sin(theta_v), s_k sin(theta_v) + t cos(theta_v)),
    s and t on the n pixels.

    The image is turned about its centre with bilinear interpolation, zero outside, and averaged
    down its columns: n bins, and n y is about the line integral of `Radon(n, angles_deg, n)`, whose
    geometry, signs, shapes and types these are. Corners turn out of sight, so that images should be
    zero outside the inscribed disc. `adjoint` is the exact transpose, `pinv` filtered
    back-projection. Not a kind of `Radon`: its views are not in pixel units, and other libraries do
    not have it.

    Args:
        image_size: n, for images (batch, channels, n, n), real or complex (the real and imaginary
            part apart).
        angles_deg: n_views projection angles in degrees, any set and order.

    Memory in float32: about 30 n^2 n_views bytes for A and its transpose together (2.5 MB at 64 x
    20 views, 39 MB at 256 x 20), as `Radon` in full, and some three times that while they are
    built, at the first call.

    Source: Vasconcelos, He, Teh, and the code of the article of 2023 (sum / sidelength).
    """

    def __init__(self, image_size: int, angles_deg):
        radon = Radon(image_size, angles_deg, image_size)
        self.image_size = self.n_detectors = radon.image_size
        self.image_shape, self.angles_deg = radon.image_shape, radon.angles_deg
        self._device, self._built = radon.device, {}

    n_views, sinogram_shape, device, to = (
        Radon.n_views,
        Radon.sinogram_shape,
        Radon.device,
        Radon.to,
    )
    forward, adjoint, _project, _back_project = (
        Radon.forward,
        Radon.adjoint,
        Radon._project,
        Radon._back_project,
    )
    fbp, _filter, _check_sinogram = Radon.fbp, Radon._filter, Radon._check_sinogram

    def pinv(self, y):
        """Filtered back-projection of n y; the adjoint has the other 1/n of the units. Corners,
        which views miss, are wrong.
        """
        return self.fbp(y * self.image_size**2)

    def _matrix(self, columns):
        key = (columns.dtype, columns.device)
        if key not in self._built:
            self._built[key] = _Turned(self.image_size, self.angles_deg, *key)
        return self._built[key]

    def __repr__(self):
        return f"Rotation(image_size={self.image_size}, {self.n_views} views)"


class _Turned:
    """A and its transpose as they are."""

    def __init__(self, n, angles_deg, dtype, device):
        views = [_view(n, math.radians(angle)) for angle in angles_deg.tolist()]
        self.rays, self.rays_transpose = sparse_pair(
            scipy.sparse.vstack(views, format="csr"), dtype, device
        )

    def forward(self, columns):
        return self.rays @ columns

    def adjoint(self, columns):
        return self.rays_transpose @ columns


def _view(n: int, theta: float) -> scipy.sparse.csr_array:
    """One view as a matrix (n bins, n^2 pixels); each sample is a mean of the four pixels around
    it.
    """
    s = bins(n).numpy()
    column = s[:, None] * math.cos(theta) - s * math.sin(theta) + (n - 1) / 2
    row = (n - 1) / 2 - s[:, None] * math.sin(theta) - s * math.cos(theta)
    ray, pixel, weight = [], [], []
    for i in (np.floor(row), np.floor(row) + 1):
        for j in (np.floor(column), np.floor(column) + 1):
            value = (1 - np.abs(row - i)) * (1 - np.abs(column - j)) / n
            inside = (i >= 0) & (i < n) & (j >= 0) & (j < n) & (value > 0)
            ray.append(np.nonzero(inside)[0])
            pixel.append((i * n + j)[inside].astype(np.int32))
            weight.append(value[inside])
    entries = np.concatenate(weight), (np.concatenate(ray).astype(np.int32), np.concatenate(pixel))
    return scipy.sparse.coo_array(entries, shape=(n, n * n)).tocsr()
