"""A discrete shearlet transform: wedges of the frequency plane, a Parseval frame, computed by FFT."""

import math

import torch

AXES = (-2, -1)


class Shearlets:
    r"""Psi_j x = F^-1 (W_j F x), with real, even windows and sum_j W_j^2 = 1: Psi* Psi = 1, ||Psi
    x|| = ||x||.

    Band 0 is a low-pass; each further band is a wedge: a shell between two squares of the frequency
    plane, doubling from scale to scale, times a range of slopes. All bands keep the n x m grid of
    the image (no decimation), so that
    coefficients move with the image. Filters are real: real images have real coefficients.

    Args:
        image_size: n, or (n, m); even or odd.
        levels: directions of each scale, coarse to fine: a scale of level k has 2^(k + 2) wedges
            over half a turn. (1, 1, 2) gives 33 bands, (0, 0, 1, 1) 25. The innermost low-pass ends
            at 2^(1 - len(levels)) * 2/3 of Nyquist.

    Attributes:
        n_bands: with the low-pass.
        scales: (n_bands,) long; -1 for the low-pass, else 0 (coarse) .. len(levels) - 1 (fine).
        angles_deg: (n_bands,) direction of the wedge's middle: that of the normal of the edges it
            answers to, counter- clockwise from the columns' axis, as the angles of `Radon` are; nan
            for the low-pass.

    Memory: the windows, n_bands * n * m complex numbers (half for real images), once per precision
    and device.

    Raises:
        ValueError: for an empty or negative level, sizes below 2, and images of another size.

    Source: Kutyniok, Lim, Reisenhofer, ShearLab 3D, ACM TOMS 42 (2016), for cones and numbers of
    directions; Haeuser and Steidl, arXiv:1202.1773, for Meyer windows on both cones. We depart from
    ShearLab, whose filters are compactly supported in space and whose frame is not tight. On rows
    and columns at Nyquist, which are their own mirror image, a slope
    has no sign: there W^2 is averaged over both signs, without which real images would lose the
    exact adjoint.
    """

    def __init__(self, image_size: int | tuple[int, int], levels=(1, 1, 2)):
        self.image_shape = (
            (image_size,) * 2 if isinstance(image_size, int) else tuple(int(n) for n in image_size)
        )
        self.levels = tuple(levels)
        if len(self.image_shape) != 2 or min(self.image_shape) < 2:
            raise ValueError(
                f"Shearlets expects image_size n or (n, m), both >= 2; got {image_size}."
            )
        if not self.levels or any(
            int(level) != level or not 0 <= level <= 6 for level in self.levels
        ):
            raise ValueError(
                f"Shearlets expects levels of integers 0 .. 6, such as (1, 1, 2); got {levels}."
            )
        self._windows, bands = _windows(self.image_shape, self.levels)
        self.n_bands = len(bands)
        self.scales = torch.tensor([scale for scale, _ in bands])
        self.angles_deg = torch.tensor([angle for _, angle in bands])
        self._built: dict[tuple, torch.Tensor] = {}

    def analysis(self, x: torch.Tensor) -> torch.Tensor:
        """Psi x: (batch, channels, n, m), real or complex -> (batch, channels, n_bands, n, m) of
        the same type.
        """
        self._check(x, 4)
        return self.image(self.windows(x) * self.spectrum(x)[:, :, None], x)

    def synthesis(self, c: torch.Tensor) -> torch.Tensor:
        """Psi* c: (batch, channels, n_bands, n, m) -> (batch, channels, n, m); both adjoint and
        left inverse of Psi.
        """
        self._check(c, 5)
        spectra, windows = self.spectrum(c), self.windows(c)
        total = spectra[:, :, 0] * windows[0]
        for j in range(1, self.n_bands):
            total = torch.addcmul(total, spectra[:, :, j], windows[j])
        return self.image(total, c)

    def spectrum(self, x: torch.Tensor) -> torch.Tensor:
        """F x over the last two axes: all frequencies of complex images, columns 0 .. m // 2 of
        real ones.
        """
        return torch.fft.fft2(x) if x.is_complex() else torch.fft.rfft2(x)

    def image(self, spectrum: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """Inverse of `spectrum`, real or complex as `like` is."""
        return (
            torch.fft.ifft2(spectrum)
            if like.is_complex()
            else torch.fft.irfft2(spectrum, self.image_shape)
        )

    def windows(self, like: torch.Tensor) -> torch.Tensor:
        """(n_bands, n, m or m // 2 + 1) windows W_j on the frequencies of `spectrum`, in the
        precision of `like`.

        Stored as complex numbers: products with spectra need no conversion then.
        """
        key = (like.dtype, like.device)
        if key not in self._built:
            windows = (
                self._windows
                if like.is_complex()
                else self._windows[..., : self.image_shape[1] // 2 + 1]
            )
            double = like.dtype in (torch.float64, torch.complex128)
            self._built[key] = windows.to(
                like.device, torch.complex128 if double else torch.complex64
            ).contiguous()
        return self._built[key]

    def _check(self, x, ndim):
        expected = (*(("batch", "channels", self.n_bands)[: ndim - 2]), *self.image_shape)
        if (
            x.ndim != ndim
            or x.shape[-2:] != self.image_shape
            or (ndim == 5 and x.shape[2] != self.n_bands)
        ):
            raise ValueError(
                f"{self} expects shape ({', '.join(map(str, expected))}); got {tuple(x.shape)}."
            )

    def __repr__(self):
        n, m = self.image_shape
        return f"Shearlets({n}x{m}, levels={self.levels}, {self.n_bands} bands)"


def _windows(shape, levels):
    """(bands, n, m) float64 windows and [(scale, degrees)]."""
    down, right = (2 * torch.fft.fftfreq(n, dtype=torch.float64) for n in shape)  # 1 = Nyquist
    across, up = torch.broadcast_tensors(right, -down[:, None])
    radius = torch.maximum(across.abs(), up.abs())
    # Position on the square of that radius: a slope in [-1, 1] around the axis of the columns, 2 +
    # [-1, 1] around the axis of the rows; k and -k share one position, and 4 is a half turn.
    flat = across.abs() >= up.abs()
    position = torch.where(
        flat, up / torch.where(across == 0, 1, across), 2 - across / torch.where(up == 0, 1, up)
    )

    bands, windows = [(-1, math.nan)], []
    inner = _low_pass(radius, len(levels))
    windows.append(inner)
    for scale, level in enumerate(levels):
        outer = _low_pass(radius, len(levels) - 1 - scale)
        shell = (outer.square() - inner.square()).clamp_min(0).sqrt()
        n_directions = 2 ** (level + 2)
        for i in range(n_directions):
            centre = 4 * i / n_directions
            distance = torch.remainder(position - centre + 2, 4) - 2
            windows.append(shell * _bump(distance * n_directions / 4))
            bands.append((scale, _degrees(centre)))
        inner = outer
    squares = torch.stack(windows).square()
    mirrored = squares.flip(AXES).roll((1, 1), AXES)  # k -> -k
    squares = (squares + mirrored) / 2
    return (squares / squares.sum(0)).sqrt(), bands


def _low_pass(radius, octave):
    """1 up to 2/3 * 2^-octave of Nyquist, 0 from twice that on; octave 0 passes everything."""
    if octave == 0:
        return torch.ones_like(radius)
    return torch.cos(math.pi / 2 * _rise(radius * 1.5 * 2**octave - 1))


def _bump(t):
    """A window on [-1, 1] whose squares, shifted by the integers, sum to 1."""
    return torch.cos(math.pi / 2 * _rise(t.abs()))


def _rise(t):
    """Meyer's polynomial: 0 for t <= 0, 1 for t >= 1, three derivatives vanish at both ends, v(t) +
    v(1 - t) = 1.
    """
    t = t.clamp(0, 1)
    return t**4 * (35 - 84 * t + 70 * t**2 - 20 * t**3)


def _degrees(position):
    return (
        math.degrees(math.atan(position))
        if position <= 1
        else (
            90 + math.degrees(math.atan(position - 2))
            if position <= 3
            else 180 + math.degrees(math.atan(position - 4))
        )
    )
