"""Joseph's matrix of line integrals, in full or folded by the symmetries of the square."""

import math

import numpy as np
import scipy.sparse
import torch

from .sparse import sparse_pair

INT32_LIMIT = 2**31 - 1


def bins(n_detectors: int) -> torch.Tensor:
    """Signed distances of the bin centres from the axis of rotation, pixels."""
    return torch.arange(n_detectors, dtype=torch.float64) - (n_detectors - 1) / 2


def count_entries(image_size: int, angles_deg: torch.Tensor) -> int:
    """Upper bound on the non-zeros of A: two pixels for each crossing of a ray with a row (column) of pixels."""
    angles = torch.deg2rad(angles_deg)
    step = torch.maximum(angles.cos().abs(), angles.sin().abs())
    return int((2 * image_size * ((image_size + 1) * step + 1)).sum())


def joseph(image_size: int, angles_deg: torch.Tensor, s: torch.Tensor) -> scipy.sparse.csr_array:
    """Joseph's matrix, float64 CSR with rows (view, bin) and columns (pixel row, pixel column); see `Radon`."""
    entries = count_entries(image_size, angles_deg)
    if entries > INT32_LIMIT:
        raise ValueError(
            f"the Radon matrix of {len(angles_deg)} views of a {image_size} x {image_size} image has about "
            f"{entries:.1e} entries; int32 indices allow 2.1e9. Use storage='symmetric', which needs an eighth of "
            "them, or split the views over several operators."
        )
    centre = (image_size - 1) / 2
    along = torch.arange(image_size, dtype=torch.float64) - centre  # the coordinate that steps pixel by pixel
    index = torch.arange(image_size, dtype=torch.int32)
    columns, values, counts = [], [], []
    for theta in torch.deg2rad(angles_deg).tolist():
        cos, sin = math.cos(theta), math.sin(theta)
        if abs(cos) >= abs(sin):  # step over rows (b = -along), interpolate between columns
            position = (s[:, None] + along * sin) / cos + centre
            stride_along, stride_across = image_size, 1
        else:                     # step over columns (a = along), interpolate between rows (b upwards)
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
    return scipy.sparse.csr_array((np.concatenate(values), np.concatenate(columns), row_ends), shape=shape)


class Full:
    """A and A^T as they are."""

    def __init__(self, image_size, angles_deg, n_detectors, dtype, device):
        matrix = joseph(image_size, angles_deg, bins(n_detectors))
        self.matrix, self.transpose = sparse_pair(matrix, dtype, device)

    def forward(self, columns):
        return self.matrix @ columns

    def adjoint(self, columns):
        return self.transpose @ columns


class Folded:
    r"""A folded by the eight symmetries g of the square: (A x)[theta, s] = (B (x o g))[phi, |s|].

    phi in [0, 45] degrees and g depend on (theta, sign s). A pixel is p = h p0 with p0 in one eighth of the image, so
    with X[p0, c] = x(c p0) and the entries of B sorted by h,  (B (x o g))[r] = sum_h (B_h X)[r, g h]:  one sparse
    product with eight columns that reads every pixel once, then a sum over h, which is a product with a 0/1 table.
    """

    def __init__(self, image_size, angles_deg, n_detectors, dtype, device):
        n = image_size
        turn = _square_symmetries(torch.arange(n * n).view(n, n)).flatten(1).numpy()  # turn[g, p] = g p
        representatives, orbit_of = np.unique(turn.min(0), return_inverse=True)
        element_of = np.empty(n * n, dtype=np.int32)
        for h in range(8):
            element_of[turn[h, representatives]] = h  # a pixel on an axis of symmetry has several h: any one will do

        phi, row, element = _fold(angles_deg.numpy(), n_detectors)
        base = joseph(n, torch.from_numpy(phi), bins(n_detectors)[n_detectors // 2:]).tocoo()
        folded = scipy.sparse.csr_array(
            (base.data, (base.row * 8 + element_of[base.col], orbit_of[base.col].astype(np.int32))),
            shape=(base.shape[0] * 8, len(representatives)),
        )
        self.matrix, self.transpose = sparse_pair(folded, dtype, device)
        self.orbit = torch.from_numpy(turn[:, representatives].T.copy()).flatten().to(device)  # (p0, c) -> pixel
        self.pick = torch.from_numpy(row * 8 + element).flatten().to(device)                   # (view, bin) -> (r, g)
        small = _square_symmetries(torch.arange(9).view(3, 3)).flatten(1)
        product = [[int((small == small[g][small[h]]).all(1).nonzero()) for h in range(8)] for g in range(8)]
        table = torch.zeros(8, 8, 8)
        for g in range(8):
            for h in range(8):
                table[g, h, product[g][h]] = 1
        self.table = table.view(8, 64).to(device, dtype)
        self.n_rows, self.n_pixels = base.shape[0], n * n

    def forward(self, columns):
        k = columns.shape[1]
        parts = self.matrix @ columns[self.orbit].view(-1, 8 * k)          # (r h, c k)
        views = self.table @ parts.view(self.n_rows, 64, k)                # (r, g, k)
        return views.view(-1, k)[self.pick]

    def adjoint(self, columns):
        k = columns.shape[1]
        views = columns.new_zeros(self.n_rows * 8, k).index_add_(0, self.pick, columns)
        parts = self.table.T @ views.view(self.n_rows, 8, k)               # (r, h c, k)
        copies = self.transpose @ parts.view(-1, 8 * k)                    # (p0, c k)
        return columns.new_zeros(self.n_pixels, k).index_add_(0, self.orbit, copies.view(-1, k))


def _square_symmetries(x: torch.Tensor) -> torch.Tensor:
    """x o g for the eight g = R^q S^m: q quarter turns R: (a, b) -> (-b, a), m = 0, 1 swaps S: (a, b) -> (b, a)."""
    turned = [torch.rot90(x, -q, (-2, -1)) for q in range(4)]
    return torch.stack(turned + [t.flip(-2, -1).mT for t in turned])


def _fold(angles_deg: np.ndarray, n_bins: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """phi in [0, 45] without repeats; and for every (view, bin) its row (phi, |s|) and its symmetry of the square."""
    negative = np.arange(n_bins) < n_bins // 2
    turned = np.mod(angles_deg[:, None] + 180.0 * negative, 360.0)  # (theta, -s) is (theta + 180, s)
    quarter, rest = np.divmod(turned, 90.0)
    swap = rest > 45
    folded = np.round(np.where(swap, 90 - rest, rest), 11)  # 1e-11 degrees: only round-off is merged
    phi, view = np.unique(folded, return_inverse=True)
    half = n_bins - n_bins // 2  # bins with s >= 0
    distance = np.abs(np.arange(n_bins) - (n_bins - 1) / 2)
    row = view.reshape(folded.shape) * half + (distance - distance.min()).round().astype(np.int64)
    return phi, row, (quarter.astype(np.int64) % 4) + 4 * swap
