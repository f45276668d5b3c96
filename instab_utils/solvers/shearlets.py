"""A discrete shearlet transform: wedges of the frequency plane, a Parseval frame, by FFT."""

import math

import torch
from torch import Tensor


class Shearlets:
    r"""Psi_j x = F^-1 (W_j F x), with real, even windows and sum_j W_j^2 = 1.

    Hence Psi* Psi = 1 and ||Psi x|| = ||x||. Band 0 is a low-pass; each further band is a wedge: a
    shell between two squares of the frequency plane, doubling from scale to scale, times a range of
    slopes. All bands keep the n x m grid of the image (no decimation), so that coefficients move
    with the image. Filters are real: real images have real coefficients.

    Args:
        image_size: n, or (n, m); even or odd.
        levels: directions of each scale, coarse to fine: a scale of level k has 2^(k + 2) wedges
            over half a turn. (1, 1, 2) gives 33 bands, (0, 0, 1, 1) 25. The innermost low-pass ends
            at 2^(1 - len(levels)) * 2/3 of Nyquist.

    Attributes:
        n_bands: with the low-pass, which is the first; then scale by scale from coarse to fine, and
            counter-clockwise from the columns' axis within a scale.

    Memory: the windows, n_bands * n * m complex numbers (half for real images), once per precision
    and device.

    Raises:
        ValueError: for an empty or negative level, sizes below 2, and images of another size.

    Source: Kutyniok, Lim, Reisenhofer, ShearLab 3D, ACM TOMS 42 (2016), for cones and numbers of
    directions; Haeuser and Steidl, arXiv:1202.1773, for Meyer windows on both cones. We depart from
    ShearLab, whose filters are compactly supported in space and whose frame is not tight. On rows
    and columns at Nyquist, which are their own mirror image, a slope has no sign: there W^2 is
    averaged over both signs, without which real images would lose the exact adjoint.
    """

    def __init__(self, image_size: int | tuple[int, int], levels: tuple[int, ...] = (1, 1, 2)):
        shape = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
        if min(shape) < 2:
            raise ValueError(
                f"Shearlets expects image_size n or (n, m), both >= 2; got {image_size}."
            )
        if not levels or not set(levels) <= set(range(7)):
            raise ValueError(
                f"Shearlets expects levels of integers 0 .. 6, such as (1, 1, 2); got {levels}."
            )
        self.image_shape = shape
        self.levels = tuple(levels)
        self._windows = _windows(shape, self.levels)
        self.n_bands = len(self._windows)
        self._built: dict[tuple, Tensor] = {}

    def analysis(self, x: Tensor) -> Tensor:
        """Return Psi x, (batch, channels, n_bands, n, m), of x (batch, channels, n, m)."""
        self._check(x, 4)
        return self.image(self.windows(x) * self.spectrum(x)[:, :, None], x)

    def synthesis(self, c: Tensor) -> Tensor:
        """Return Psi* c, (batch, channels, n, m): the adjoint and a left inverse of Psi."""
        self._check(c, 5)
        spectra, windows = self.spectrum(c), self.windows(c)
        total = spectra[:, :, 0] * windows[0]
        for j in range(1, self.n_bands):
            total = torch.addcmul(total, spectra[:, :, j], windows[j])
        return self.image(total, c)

    def spectrum(self, x: Tensor) -> Tensor:
        """Return F x: all frequencies of complex images, columns 0 .. m // 2 of real ones."""
        return torch.fft.fft2(x) if x.is_complex() else torch.fft.rfft2(x)

    def image(self, spectrum: Tensor, like: Tensor) -> Tensor:
        """Return the image behind a spectrum, real or complex as `like` is."""
        if like.is_complex():
            return torch.fft.ifft2(spectrum)
        return torch.fft.irfft2(spectrum, self.image_shape)

    def windows(self, like: Tensor) -> Tensor:
        """Return the windows W_j, (n_bands, n, m or m // 2 + 1), in the precision of `like`.

        Stored as complex numbers: products with spectra need no conversion then.
        """
        key = (like.dtype, like.device)
        if key not in self._built:
            n_kept = self.image_shape[1] if like.is_complex() else self.image_shape[1] // 2 + 1
            double = like.dtype in (torch.float64, torch.complex128)
            dtype = torch.complex128 if double else torch.complex64
            self._built[key] = self._windows[..., :n_kept].to(like.device, dtype).contiguous()
        return self._built[key]

    def _check(self, x: Tensor, ndim: int) -> None:
        bands = (self.n_bands,) if ndim == 5 else ()
        if x.ndim != ndim or x.shape[2:] != (*bands, *self.image_shape):
            sizes = ", ".join(map(str, (*bands, *self.image_shape)))
            raise ValueError(
                f"{self} expects shape (batch, channels, {sizes}); got {tuple(x.shape)}."
            )

    def __repr__(self):
        n, m = self.image_shape
        return f"Shearlets({n}x{m}, levels={self.levels}, {self.n_bands} bands)"


def _windows(shape: tuple[int, int], levels: tuple[int, ...]) -> Tensor:
    """Return (bands, n, m) float64 windows."""
    down, right = (2 * torch.fft.fftfreq(n, dtype=torch.float64) for n in shape)  # 1 = Nyquist
    across, up = torch.broadcast_tensors(right, -down[:, None])
    radius = torch.maximum(across.abs(), up.abs())
    # Position on the square of that radius: a slope in [-1, 1] around the axis of the columns, 2 +
    # [-1, 1] around the axis of the rows; k and -k share one position, and 4 is a half turn.
    flat = up / torch.where(across == 0, 1, across)
    steep = 2 - across / torch.where(up == 0, 1, up)
    position = torch.where(across.abs() >= up.abs(), flat, steep)

    inner = _low_pass(radius, len(levels))
    windows = [inner]
    for scale, level in enumerate(levels):
        outer = _low_pass(radius, len(levels) - 1 - scale)
        shell = (outer.square() - inner.square()).clamp_min(0).sqrt()
        n_directions = 2 ** (level + 2)
        for i in range(n_directions):
            centre = 4 * i / n_directions
            distance = torch.remainder(position - centre + 2, 4) - 2
            windows.append(shell * _fall(distance.abs() * n_directions / 4))
        inner = outer
    squares = torch.stack(windows).square()
    mirrored = squares.flip((-2, -1)).roll((1, 1), (-2, -1))  # k -> -k
    squares = (squares + mirrored) / 2
    return (squares / squares.sum(0)).sqrt()


def _low_pass(radius: Tensor, octave: int) -> Tensor:
    """Return 1 up to 2/3 * 2^-octave of Nyquist, 0 from twice that on; octave 0 passes all."""
    if octave == 0:
        return torch.ones_like(radius)
    return _fall(radius * 1.5 * 2**octave - 1)


def _fall(t: Tensor) -> Tensor:
    """Return cos(pi/2 v(t)), 1 for t <= 0 and 0 for t >= 1, with Meyer's polynomial v.

    Three derivatives of v vanish at both ends, and v(t) + v(1 - t) = 1: the squares of a window
    _fall(|t|), shifted by the integers, sum to 1.
    """
    t = t.clamp(0, 1)
    rise = t**4 * (35 - 84 * t + 70 * t**2 - 20 * t**3)
    return torch.cos(math.pi / 2 * rise)
