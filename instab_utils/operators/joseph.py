"""Joseph's matrix of line integrals, in full or folded by the symmetries of the square."""

import math
from collections.abc import Callable

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from .sparse import sparse_pair

INT32_LIMIT = 2**31 - 1
CHUNK = 4
# degrees: angles given in float32 fold like the exact ones, at less than 1e-4 of a pixel
ANGLE_ROUND_OFF = 2e-5


def bins(n_detectors: int) -> Tensor:
    """Return signed distances of the bin centres from the axis of rotation, in pixels."""
    return torch.arange(n_detectors, dtype=torch.float64) - (n_detectors - 1) / 2


def count_entries(image_size: int, angles_deg: Tensor) -> int:
    """Return a bound on the non-zeros of A: two where a ray crosses a row (column) of pixels."""
    angles = torch.deg2rad(angles_deg)
    step = torch.maximum(angles.cos().abs(), angles.sin().abs())
    return int((2 * image_size * ((image_size + 1) * step + 1)).sum())


def fold_factor(angles_deg: Tensor) -> int:
    """Return views per stored view: 4 for sets closed under 90 - theta, 180 - theta; at least 1."""
    return math.ceil(len(angles_deg) / len(_fold(angles_deg.numpy(), 1)[0]))


def joseph(image_size: int, angles_deg: Tensor, s: Tensor) -> scipy.sparse.csr_array:
    """Return Joseph's matrix, float64 CSR: rows (view, bin), columns (pixel row, column)."""
    entries = count_entries(image_size, angles_deg)
    if entries > INT32_LIMIT:
        raise ValueError(
            f"the Radon matrix of {len(angles_deg)} views of a {image_size} x {image_size} image "
            f"has about {entries:.1e} entries; int32 indices allow 2.1e9. Split the views over "
            "several operators."
        )
    centre = (image_size - 1) / 2
    # the coordinate that steps pixel by pixel
    along = torch.arange(image_size, dtype=torch.float64) - centre
    index = torch.arange(image_size, dtype=torch.int32)
    columns, values, counts = [], [], []
    for theta in torch.deg2rad(angles_deg).tolist():
        cos, sin = math.cos(theta), math.sin(theta)
        if abs(cos) >= abs(sin):  # step over rows (b = -along), interpolate between columns
            position = (s[:, None] + along * sin) / cos + centre
            stride_along, stride_across = image_size, 1
        # step over columns (a = along), interpolate between rows (b upwards)
        else:
            position = (along * cos - s[:, None]) / sin + centre
            stride_along, stride_across = 1, image_size
        first = position.floor()
        across = torch.stack([first, first + 1], -1)
        weight = 1 - (position[..., None] - across).abs()
        inside = (across >= 0) & (across < image_size) & (weight > 0)
        pixel = across.to(torch.int32) * stride_across + (index * stride_along)[:, None]
        columns.append(pixel[inside].numpy())
        values.append((weight[inside] / max(abs(cos), abs(sin))).numpy())
        counts.append(inside.sum((1, 2)).numpy())
    row_ends = np.concatenate([[0], np.cumsum(np.concatenate(counts))]).astype(np.int32)
    shape = (len(angles_deg) * len(s), image_size**2)
    return scipy.sparse.csr_array(
        (np.concatenate(values), np.concatenate(columns), row_ends), shape=shape
    )


class Full:
    """A and A^T as they are."""

    def __init__(
        self,
        image_size: int,
        angles_deg: Tensor,
        n_detectors: int,
        dtype: torch.dtype,
        device: torch.device,
    ):
        matrix = joseph(image_size, angles_deg, bins(n_detectors))
        self.rays, self.rays_transpose = sparse_pair(matrix, dtype, device)

    def forward(self, columns: Tensor) -> Tensor:
        return self.rays @ columns

    def adjoint(self, columns: Tensor) -> Tensor:
        return self.rays_transpose @ columns


class Folded:
    r"""A folded by the eight symmetries g of the square: (A x)[theta, s] = (B (x o g))[phi, |s|].

    phi in [0, 45] degrees and g depend on (theta, sign s). A pixel is p = h p0 with p0 in one
    eighth of the image, so with X[p0, c] = x[c p0] and the entries of B sorted by h,

        (B (x o g))[r] = sum_h (B_h X)[r, g h] :

    one sparse product with eight columns that reads every pixel once, then a second that sums eight
    numbers a ray.
    """

    def __init__(
        self,
        image_size: int,
        angles_deg: Tensor,
        n_detectors: int,
        dtype: torch.dtype,
        device: torch.device,
    ):
        n = image_size
        # turn[g, p] = g p
        turn = _square_symmetries(torch.arange(n * n).view(n, n)).flatten(1).numpy()
        pixels, orbit_of = np.unique(turn.min(0), return_inverse=True)
        element_of = np.empty(n * n, dtype=np.int32)
        for h in range(8):
            # a pixel on an axis of symmetry has several h: any one will do
            element_of[turn[h, pixels]] = h
        phi, row, element = _fold(angles_deg.numpy(), n_detectors)
        base = joseph(n, torch.from_numpy(phi), bins(n_detectors)[n_detectors // 2 :]).tocoo()
        rays = scipy.sparse.csr_array(
            (base.data, (base.row * 8 + element_of[base.col], orbit_of[base.col].astype(np.int32))),
            shape=(base.shape[0] * 8, len(pixels)),
        )
        # entry (r, h, c = g h) of the first product belongs to the ray (r, g)
        product = _products()
        parts = row.reshape(-1, 1) * 64 + np.arange(8) * 8 + product[element.reshape(-1)]
        ends = np.arange(len(parts) + 1, dtype=np.int32) * 8
        sums = scipy.sparse.csr_array(
            (np.ones(parts.size), parts.ravel().astype(np.int32), ends),
            shape=(len(parts), base.shape[0] * 64),
        )
        ray_of_part = product.argsort(0).T  # [h, c] = g
        orbit = turn[:, pixels].T.ravel()  # (p0, c) -> pixel c p0
        copy_of = np.empty(n * n, dtype=np.int64)
        copy_of[orbit] = np.arange(len(orbit))
        # further copies of pixels on the axes
        again = np.flatnonzero(copy_of[orbit] != np.arange(len(orbit)))
        self.rays, self.rays_transpose = sparse_pair(rays, dtype, device)
        self.sums = sparse_pair(sums, dtype, device)[0]
        self.n_rows = base.shape[0]
        self.ray, self.ray_of_part, self.orbit, self.copy_of, self.again, self.pixel_again = (
            torch.from_numpy(np.ascontiguousarray(index, dtype=np.int64)).flatten().to(device)
            for index in (row * 8 + element, ray_of_part, orbit, copy_of, again, orbit[again])
        )

    def forward(self, columns: Tensor) -> Tensor:
        return self._in_chunks(self._forward, columns)

    def adjoint(self, columns: Tensor) -> Tensor:
        return self._in_chunks(self._adjoint, columns)

    def _in_chunks(self, apply: Callable[[Tensor], Tensor], columns: Tensor) -> Tensor:
        """Apply to at most CHUNK images at a time: the octant's eight copies stay cached."""
        if columns.shape[1] <= CHUNK:
            return apply(columns)
        return torch.cat([apply(part.contiguous()) for part in columns.split(CHUNK, 1)], 1)

    def _forward(self, columns: Tensor) -> Tensor:
        k = columns.shape[1]
        parts = self.rays @ columns.index_select(0, self.orbit).view(-1, 8 * k)  # (r h, c k)
        return self.sums @ parts.view(-1, k)

    def _adjoint(self, columns: Tensor) -> Tensor:
        k = columns.shape[1]
        rays = columns.new_zeros(self.n_rows * 8, k).index_add_(0, self.ray, columns)
        parts = rays.view(-1, 8, k).index_select(1, self.ray_of_part)
        copies = (self.rays_transpose @ parts.view(-1, 8 * k)).view(-1, k)
        image = copies.index_select(0, self.copy_of)
        return image.index_add_(0, self.pixel_again, copies.index_select(0, self.again))


def _square_symmetries(x: Tensor) -> Tensor:
    """Return x o g for the eight g = R^q S^m.

    q quarter turns R: (a, b) -> (-b, a), m = 0, 1 swaps S: (a, b) -> (b, a).
    """
    turned = [torch.rot90(x, -q, (-2, -1)) for q in range(4)]
    return torch.stack(turned + [t.flip(-2, -1).mT for t in turned])


def _products() -> np.ndarray:
    """Return products[g, h], the number of the symmetry g h, read off a 3 x 3 image."""
    small = _square_symmetries(torch.arange(9).view(3, 3)).flatten(1)
    return (small[:, small][:, :, None] == small).all(-1).int().argmax(-1).numpy()


def _fold(angles_deg: np.ndarray, n_bins: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return phi in [0, 45] without repeats, and the row (phi, |s|) and symmetry of each bin."""
    negative = np.arange(n_bins) < n_bins // 2
    # (theta, -s) is (theta + 180, s)
    turned = np.mod(angles_deg[:, None] + 180.0 * negative, 360.0)
    quarter, rest = np.divmod(turned, 90.0)
    swap = rest > 45
    folded = np.where(swap, 90 - rest, rest)
    each, which = np.unique(folded, return_inverse=True)
    group = np.cumsum(np.diff(each, prepend=each[0]) > ANGLE_ROUND_OFF)
    phi = np.bincount(group, each) / np.bincount(group)
    view = group[which]
    half = n_bins - n_bins // 2  # bins with s >= 0
    distance = np.abs(np.arange(n_bins) - (n_bins - 1) / 2)
    row = view.reshape(folded.shape) * half + (distance - distance.min()).round().astype(np.int64)
    return phi, row, (quarter.astype(np.int64) % 4) + 4 * swap
