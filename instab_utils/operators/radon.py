"""Parallel-beam Radon transform by Joseph's method, its exact adjoint, filtered back-projection."""

import copy
import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from .base import LinearOperator, check_batch
from .joseph import Folded, Full, count_entries, fold_factor
from .sparse import from_columns, linear, to_columns


class Radon(LinearOperator):
    r"""Line integrals y[v, k] = \int x along {(a, b): a cos(theta_v) + b sin(theta_v) = s_k}.

    Lengths are in pixels. Pixels are unit squares and the image covers [-n/2, n/2]^2, a to the
    right (columns) and b upwards (row 0 is the top); bins are one pixel apart, s_k = k -
    (n_detectors - 1) / 2. This is the geometry of ASTRA's parallel beam. Joseph's method: a ray
    crosses the rows (if |cos| >= |sin|, else the columns) once each, and takes a linear
    interpolation of the two nearest pixels there, times the length 1 / max(|cos|, |sin|) of the
    step.

    Args:
        image_size: n, for images (batch, channels, n, n), real or complex (the real and imaginary
            part apart).
        angles_deg: n_views projection angles in degrees, any set and order.
        n_detectors: bins per view; default ceil(sqrt(2) n) made odd, so that no object is cut and
            one bin is s = 0.

    A is kept in one of two ways. "csr" holds A and its exact transpose. "symmetric" holds only
    views folded into [0, 45] degrees and bins s >= 0, on an eighth of the image: 1/8 of the memory
    and 2 to 5 times faster for one image, if the angles are closed under 90 - theta and 180 -
    theta; half the memory for irregular ones. The attribute `storage` is "auto", which chooses at
    each call: folded up to 4 images (1 if irregular), and always from 400 pixels on. Nothing is
    built before it is needed; each storage is built once a dtype and device.

    Views (batch, channels, n_views, n_detectors). `adjoint` is the exact transpose (unfiltered
    back-projection), `pinv` is `fbp`. Differentiable to any order, under autocast (computed in
    float32 then), with torch.func too.

    Memory of "csr" in float32: about 14 n^2 n_views bytes for A and its transpose together (9.5 MB
    at 128 x 20 views, 95 MB at 256 x 50, 1.1 GB at 512 x 150), of "symmetric" an eighth (1.5, 13,
    160 MB), plus 64 n_views n_detectors; twice as much in float64. A call takes another 2 n^2 + 16
    n_views n_detectors floats an image, at most 4 at a time.

    Raises:
        ValueError: for images or views of the wrong shape, and where A has more than 2^31 entries.

    Source: P. M. Joseph, IEEE Trans. Med. Imaging 1 (1982) 192-196.
    """

    def __init__(
        self,
        image_size: int,
        angles_deg: Tensor | Sequence[float],
        n_detectors: int | None = None,
    ):
        angles = torch.as_tensor(angles_deg, dtype=torch.float64).detach().cpu().flatten()
        if len(angles) == 0 or not bool(torch.isfinite(angles).all()):
            raise ValueError(
                "Radon expects at least one finite angle in degrees, such as "
                "angles_deg=[0, 45, 90, 135]."
            )
        self.image_size = int(image_size)
        self.image_shape = (self.image_size, self.image_size)
        self.angles_deg = angles
        whole = math.ceil(math.sqrt(2) * self.image_size) | 1
        self.n_detectors = whole if n_detectors is None else int(n_detectors)
        if self.image_size < 1 or self.n_detectors < 1:
            raise ValueError(
                f"Radon expects positive sizes; got image_size={image_size}, "
                f"n_detectors={n_detectors}."
            )
        self.storage = "auto"
        self._fold = fold_factor(angles)
        self._entries = count_entries(self.image_size, angles)
        self._device = torch.device("cpu")
        self._built: dict[tuple, object] = {}

    @property
    def n_views(self) -> int:
        return len(self.angles_deg)

    @property
    def sinogram_shape(self) -> tuple[int, int]:
        return self.n_views, self.n_detectors

    @property
    def device(self) -> torch.device:
        return self._device

    def to(self, device: torch.device | str) -> "Radon":
        """Return the operator for images on `device`; matrices already built are shared."""
        other = copy.copy(self)
        other._device = torch.device(device)
        return other

    def forward(self, x: Tensor) -> Tensor:
        """Return A x, (batch, channels, n_views, n_detectors), of x (batch, channels, n, n)."""
        self._check_image(x)
        return linear(x, self._project, self._back_project)

    def adjoint(self, y: Tensor) -> Tensor:
        """Return A^T y, (batch, channels, n, n), of y (batch, channels, n_views, n_detectors)."""
        self._check_sinogram(y)
        return linear(y, self._back_project, self._project)

    def pinv(self, y: Tensor) -> Tensor:
        return self.fbp(y)

    def fbp(
        self,
        y: Tensor,
        filter: str | None = "ramp",
        measured: Tensor | Sequence[bool] | None = None,
        step_deg: float | None = None,
    ) -> Tensor:
        r"""Return x = step A^T (h * y), the discretised inversion formula over half a turn.

        h is the band-limited ramp sampled in space, h[0] = 1/4, h[k] = -1/(pi k)^2 for odd k, 0
        else (Ram-Lak); sampling |omega| in frequency instead would lose the mean. The other filters
        multiply it by their window.

        Args:
            y: views (batch, channels, n_views, n_detectors).
            filter: "ramp", "shepp-logan", "cosine", "hamming", "hann", or None for
                none.
            measured: boolean (n_views,): views that were measured, the others are taken as zero
                (`limited_angle`).
            step_deg: angle one view stands for; default 180 / n_views. A wedge of *zeroed* views
                keeps the default; if they were *deleted* from the operator's angles, pass the true
                step, such as 180 / 512.

        Returns:
            (batch, channels, n, n), in the units of x. Range not clipped.
        """
        self._check_sinogram(y)
        if measured is not None:
            measured = torch.as_tensor(measured, dtype=torch.bool, device=y.device)
            if tuple(measured.shape) != (self.n_views,):
                got = tuple(measured.shape)
                raise ValueError(f"fbp expects measured of shape ({self.n_views},); got {got}.")
            y = torch.where(measured[:, None], y, 0)
        if filter is not None:
            filtered = partial(self._filter, filter)
            y = linear(y, filtered, filtered)  # symmetric: its own transpose
        step = math.pi / self.n_views if step_deg is None else math.radians(step_deg)
        return self.adjoint(y * step)

    # -- the maps themselves, on tensors with any leading axes

    def _project(self, x: Tensor) -> Tensor:
        columns = to_columns(x)
        return from_columns(self._matrix(columns).forward(columns), x, self.sinogram_shape)

    def _back_project(self, y: Tensor) -> Tensor:
        columns = to_columns(y)
        return from_columns(self._matrix(columns).adjoint(columns), y, self.image_shape)

    def _filter(self, name: str, y: Tensor) -> Tensor:
        if y.is_complex():
            return torch.complex(self._filter(name, y.real), self._filter(name, y.imag))
        key = (name, y.dtype, y.device)
        if key not in self._built:
            self._built[key] = ramp_filter(self.n_detectors, name).to(y.device, y.dtype)
        response = self._built[key]
        length = 2 * (len(response) - 1)
        filtered = torch.fft.irfft(torch.fft.rfft(y, length) * response, length)
        return filtered[..., : self.n_detectors]

    def _matrix(self, columns: Tensor) -> "Full | Folded":
        name = self.storage if self.storage != "auto" else self._choose(columns.shape[1])
        key = (name, columns.dtype, columns.device)
        if key not in self._built:
            kind = {"csr": Full, "symmetric": Folded}[name]
            self._built[key] = kind(self.image_size, self.angles_deg, self.n_detectors, *key[1:])
        return self._built[key]

    def _choose(self, n_columns: int) -> str:
        """Return the faster storage by measurement, and the smaller one where A would pass 8 GB."""
        small_batch = n_columns <= self._fold or (self._fold > 2 and self.image_size >= 400)
        return "symmetric" if small_batch or self._entries > 2**29 else "csr"

    def _check_sinogram(self, y: Tensor) -> None:
        check_batch(self, "y", y, self.sinogram_shape)

    def __repr__(self):
        name = type(self).__name__
        return (
            f"{name}(image_size={self.image_size}, {self.n_views} views, {self.n_detectors} bins)"
        )


def ramp_filter(n_detectors: int, name: str = "ramp") -> Tensor:
    """Return the frequency response of the band-limited ramp times a window.

    It is meant for real FFTs of 2 (len - 1) >= 2 n_detectors - 1. The ramp is the transform of its
    spatial samples, so its mean is right; windows as in scikit-image's iradon.
    """
    length = 1 << max(6, (2 * n_detectors - 1).bit_length())
    k = torch.arange(length, dtype=torch.float64)
    k = torch.minimum(k, length - k)
    kernel = torch.where(k % 2 == 1, -1 / (math.pi * k.clamp_min(1)) ** 2, torch.zeros_like(k))
    kernel[0] = 0.25
    response = torch.fft.rfft(kernel).real
    frequency = torch.linspace(0, 0.5, length // 2 + 1, dtype=torch.float64)  # cycles per bin
    windows = {
        "ramp": torch.ones_like(frequency),
        "shepp-logan": torch.sinc(frequency),
        "cosine": torch.cos(math.pi * frequency),
        "hamming": 0.54 + 0.46 * torch.cos(2 * math.pi * frequency),
        "hann": 0.5 + 0.5 * torch.cos(2 * math.pi * frequency),
    }
    if name not in windows:
        raise ValueError(f"fbp expects filter None or one of {', '.join(windows)}; got {name!r}.")
    return response * windows[name]


def limited_angle(n_views: int, wedge_deg: float) -> Tensor:
    """Return which of n_views views over [0, 180) are measured: a wedge around angle 0 is not.

    Half of the wedge is taken off each end: the first floor(w) and the last ceil(w) views, w =
    wedge/2 * n_views/180. With 512 views and 30 degrees 42 + 43 views go and 427 are kept, the
    limited-angle CT of Oala et al.
    """
    if not 0 <= wedge_deg < 180:
        raise ValueError(f"limited_angle expects 0 <= wedge_deg < 180; got {wedge_deg}.")
    half = wedge_deg / 2 * n_views / 180
    measured = torch.ones(n_views, dtype=torch.bool)
    measured[: math.floor(half)] = False
    measured[n_views - math.ceil(half) :] = False
    return measured
