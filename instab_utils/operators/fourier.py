"""Sampled Fourier transforms: single-coil and multi-coil Cartesian or arbitrary-mask MRI."""

import copy

import torch
from torch import Tensor

from .base import LinearOperator, moved

AXES = (-2, -1)


def fft2(x: Tensor, centred: bool = False) -> Tensor:
    """Return the unitary 2-D DFT; `centred`: zero frequency in the middle of both domains."""
    if centred:
        return torch.fft.fftshift(fft2(torch.fft.ifftshift(x, AXES)), AXES)
    return torch.fft.fft2(x, norm="ortho")


def ifft2(y: Tensor, centred: bool = False) -> Tensor:
    """Return the inverse (= adjoint) of `fft2`."""
    if centred:
        return torch.fft.fftshift(ifft2(torch.fft.ifftshift(y, AXES)), AXES)
    return torch.fft.ifft2(y, norm="ortho")


class MaskedFourier(LinearOperator):
    """Single-coil MRI: y = M F x with the unitary DFT F and a 0/1 mask M.

    A A* = I on the sampled entries.

    Args:
        mask: (n, n) boolean or 0/1 tensor; True where k-space is measured. The zero frequency is at
            [0, 0] unless `centred`, then it is at [n // 2, n // 2].
        centred: use the centred transform fftshift F ifftshift (DAGAN, MRI-VN); Deep MRI is
            uncentred.

    Images are real or complex (batch, channels, n, n); measurements are complex of the same shape,
    exactly zero
    off the mask. The adjoint returns complex images: project yourself where an image is known to be
    real, and say so, because that projection gives a solver free conjugate samples. Memory: the
    mask only (n^2 floats).
    """

    is_complex = True

    def __init__(self, mask: Tensor, centred: bool = False):
        mask = torch.as_tensor(mask)
        if mask.ndim != 2:
            raise ValueError(
                f"MaskedFourier expects a mask of shape (n, n); got {tuple(mask.shape)}. "
                "For a set of lines use masks.lines_to_mask(lines, image_size)."
            )
        if not bool(((mask == 0) | (mask == 1)).all()):
            raise ValueError(
                "MaskedFourier expects a 0/1 mask; got other values. Threshold it first: mask > 0."
            )
        self.mask = mask.to(torch.float32)
        self.centred = centred
        self.image_shape = tuple(mask.shape)
        self._shifts = centred and any(n % 2 for n in self.image_shape)
        self._signs, self._weights = None, self.mask  # weights: what multiplies k-space
        if centred and not self._shifts:
            self._signs, middle = _alternating(self.image_shape, mask.device)
            self._weights = self.mask * self._signs * middle
        self._norm = 1.0 if bool(mask.any()) else 0.0  # M F has orthonormal rows

    def forward(self, x: Tensor) -> Tensor:
        self._check_image(x)
        return self._sample(_complex(x if self._signs is None else x * _as(self._signs, x)))

    def adjoint(self, y: Tensor) -> Tensor:
        self._check_image(y)
        x = self._spread(_complex(y))
        return x if self._signs is None else x * _as(self._signs, x)

    def _sample(self, x: Tensor) -> Tensor:
        """Return M F of an image that is already multiplied by the signs."""
        return fft2(x, self._shifts) * _as(self._weights, x)

    def _spread(self, y: Tensor) -> Tensor:
        """Return F* M y, still to be multiplied by the signs."""
        return ifft2(y * _as(self._weights, y), self._shifts)

    def pinv(self, y: Tensor) -> Tensor:
        """Return F* y, zero-filled: the exact pseudo-inverse, as A A* = I on the samples."""
        return self.adjoint(y)

    def to(self, device: torch.device | str) -> "MaskedFourier":
        other = copy.copy(self)  # a mask that is moved need not be checked again: that would wait
        other.mask, other._weights = moved(self.mask, device), moved(self._weights, device)
        if self._signs is not None:
            other._signs = moved(self._signs, device)
        return other

    @property
    def device(self) -> torch.device:
        return self.mask.device

    def __repr__(self):
        n, m = self.image_shape
        return f"MaskedFourier({n}x{m}, {100 * float(self.mask.mean()):.1f} % sampled)"


class MultiCoilFourier(LinearOperator):
    """Parallel MRI: y_c = M F (S_c x), A* y = sum_c conj(S_c) F* (M y_c).

    Args:
        mask: (n, m) 0/1 tensor.
        coil_maps: complex (n_coils, n, m). With sum_c |S_c|^2 = 1 (the usual normalisation) ||A||
            <= 1.
        centred: as in `MaskedFourier`; MRI-VN uses the centred transform.

    Images (batch, 1, n, m), measurements (batch, n_coils, n, m) complex. Memory: n_coils * n * m
    complex64, and batch * n_coils * n * m complex for the coil images of one call. `pinv` is the
    zero-filled A* y divided by sum_c |S_c|^2 where that is positive: the least-squares image of
    fully sampled data.
    """

    is_complex = True

    def __init__(self, mask: Tensor, coil_maps: Tensor, centred: bool = True):
        self._single = MaskedFourier(mask, centred)
        coil_maps = torch.as_tensor(coil_maps)
        if coil_maps.ndim != 3 or tuple(coil_maps.shape[1:]) != self._single.image_shape:
            raise ValueError(
                "MultiCoilFourier expects coil_maps of shape (n_coils, "
                f"{', '.join(map(str, self._single.image_shape))}) to match its mask; "
                f"got {tuple(coil_maps.shape)}."
            )
        self.coil_maps = _complex(coil_maps)
        self.centred = centred
        self.image_shape = self._single.image_shape
        self._energy = self.coil_maps.abs().square().sum(0)
        signs = self._single._signs
        self._weights = (
            self.coil_maps if signs is None else self.coil_maps * _as(signs, self.coil_maps)
        )

    @property
    def mask(self) -> Tensor:
        return self._single.mask

    @property
    def n_coils(self) -> int:
        return self.coil_maps.shape[0]

    @property
    def device(self) -> torch.device:
        return self.coil_maps.device

    def forward(self, x: Tensor) -> Tensor:
        self._check_image(x)
        if x.shape[1] != 1:
            raise ValueError(
                f"{self} expects one image channel (batch, 1, n, m); got {tuple(x.shape)}."
            )
        return self._single._sample(_complex(x) * self._maps(x))

    def adjoint(self, y: Tensor) -> Tensor:
        self._check_image(y)
        if y.shape[1] != self.n_coils:
            raise ValueError(
                f"{self} expects y with {self.n_coils} coils on axis 1; got {tuple(y.shape)}."
            )
        return (self._maps(y).conj() * self._single._spread(_complex(y))).sum(1, keepdim=True)

    def pinv(self, y: Tensor) -> Tensor:
        energy = self._energy.to(y.device)
        x = self.adjoint(y)
        return torch.where(energy > 0, x / energy.clamp_min(1e-12).to(x.real.dtype), 0)

    def to(self, device: torch.device | str) -> "MultiCoilFourier":
        other = copy.copy(self)
        other._single = self._single.to(device)
        for name in ("coil_maps", "_energy", "_weights"):
            setattr(other, name, moved(getattr(self, name), device))
        return other

    def _maps(self, x: Tensor) -> Tensor:
        wide = x.dtype in (torch.float64, torch.complex128)
        return self._weights.to(x.device, torch.complex128 if wide else torch.complex64)

    def __repr__(self):
        n, m = self.image_shape
        percent = 100 * float(self.mask.mean())
        return f"MultiCoilFourier({self.n_coils} coils, {n}x{m}, {percent:.1f} % sampled)"


def _alternating(shape: tuple[int, int], device) -> tuple[Tensor, int]:
    """Return s = (-1)^(i + j), c = (-1)^(n/2 + m/2); for even sizes fftshift F ifftshift = c s F s.

    exp(-2 pi i (k - n/2) (j - n/2) / n) = exp(-2 pi i k j / n) (-1)^k (-1)^j (-1)^(n/2): products,
    which merge with the mask and the coil maps, in place of four copies.
    """
    i, j = (torch.arange(n, device=device) for n in shape)
    return (1 - 2 * ((i[:, None] + j) % 2)).to(torch.float32), (-1) ** (sum(shape) // 2)


def _as(values: Tensor, x: Tensor) -> Tensor:
    """Return real values on the device and in the precision of x."""
    return values.to(
        x.device, torch.float64 if x.dtype in (torch.float64, torch.complex128) else torch.float32
    )


def _complex(x: Tensor) -> Tensor:
    """Return x as complex64 or complex128; no FFT runs in half precision."""
    if x.is_complex():
        return x
    if x.dtype == torch.float64:
        return x.to(torch.complex128)
    return x.to(torch.float32).to(torch.complex64)
