"""Receiver coils and smooth phase: simulated, and estimated from the centre of measured k-space."""

import math

import numpy as np
import torch
from scipy import ndimage

from ..operators.base import as_shape

N_WAVES = 3  # half periods of a smooth phase along a side, at most
COIL_WIDTH = 1.2  # half-sides


def smooth_phase(
    image_size: int, generator: torch.Generator, strength_rad: float = 2.0
) -> torch.Tensor:
    """Return a random smooth phase in radians, (image_size, image_size).

    phi(u, v) = sum_{j + k <= N_WAVES} c_jk cos(pi j u) cos(pi k v), u, v in [0, 1], scaled to max
    |phi| = strength_rad. Field inhomogeneity and coil phase look like this in a gradient-echo
    image.
    """
    u = (torch.arange(image_size, dtype=torch.float64) + 0.5) / image_size
    waves = torch.cos(math.pi * torch.arange(N_WAVES + 1)[:, None] * u)
    weights = torch.randn(N_WAVES + 1, N_WAVES + 1, generator=generator, dtype=torch.float64)
    order = torch.arange(N_WAVES + 1)
    weights[order[:, None] + order > N_WAVES] = 0
    weights[0, 0] = 0  # no constant phase
    phase = torch.einsum("jk,ju,kv->uv", weights, waves, waves)
    return (strength_rad * phase / phase.abs().max()).float()


def with_smooth_phase(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return x exp(i phi) of magnitudes (batch, 1, n, n), each with a fresh `smooth_phase` phi."""
    phase = [smooth_phase(x.shape[-1], generator)[None] for _ in x]
    return torch.polar(x, torch.stack(phase).to(x))


def simulated_coils(n_coils: int, image_size: int | tuple[int, int]) -> torch.Tensor:
    """Return smooth complex sensitivities S_c (n_coils, n, m), with sum_c |S_c|^2 = 1 everywhere.

    Coil c sits outside the image on a circle of radius 1.5 half-sides, the shorter ones of a
    rectangle; |S_c| falls with the distance d as exp(-d^2 / (2 COIL_WIDTH^2)) and its phase is
    linear across the image.
    """
    shape = as_shape(image_size)
    rows, columns = (
        (torch.arange(n, dtype=torch.float64) - (n - 1) / 2) * 2 / min(shape) for n in shape
    )
    x, y = columns[None, :], -rows[:, None]
    turn = 2 * math.pi * torch.arange(n_coils, dtype=torch.float64)[:, None, None] / n_coils
    distance2 = (x - 1.5 * turn.cos()).square() + (y - 1.5 * turn.sin()).square()
    phase = turn + 0.5 * math.pi * (x * turn.sin() - y * turn.cos())
    maps = torch.polar((-distance2 / (2 * COIL_WIDTH**2)).exp(), phase)
    return (maps / maps.abs().square().sum(0).sqrt()).to(torch.complex64)


def estimate_coil_maps(kspace: torch.Tensor, n_calibration: int = 24) -> torch.Tensor:
    """Return coil sensitivities (n_coils, n, m) from the fully sampled centre of k-space.

    l_c = F*(hann * centre of y_c),  rho = sqrt(sum_c |l_c|^2),
    S_c = G(l_c rho) / sqrt(sum_d |G(l_d rho)|^2),  so that sum_c |S_c|^2 = 1,

    with G a Gaussian blur as wide as a pixel of l_c: the ratio l_c / rho, smoothed with weight
    rho^2, so that where there is no signal the maps continue their surroundings and not the noise.
    Only sum_c conj(S_c) y_c
    matters to a reconstruction: the object's own slow phase stays in the maps, and the image comes
    out nearly real.

    Args:
        kspace: (n_coils, n, m) complex, unitary DFT; zero frequency at [n // 2, m // 2].
        n_calibration: side of the centre block that is fully sampled, k-space samples.

    Raises:
        ValueError: the centre block is not fully sampled, or larger than k-space.
    """
    shape = tuple(kspace.shape[-2:])
    if kspace.ndim != 3 or not kspace.is_complex() or not 2 <= n_calibration <= min(shape):
        raise ValueError(
            "estimate_coil_maps expects complex kspace (n_coils, n, m) and "
            f"2 <= n_calibration <= min(n, m); got {tuple(kspace.shape)} {kspace.dtype} "
            f"and n_calibration={n_calibration}."
        )
    y = kspace.detach().cpu().numpy().astype(np.complex128)
    starts = [n // 2 - n_calibration // 2 for n in shape]
    block = tuple(slice(start, start + n_calibration) for start in starts)
    sampled = (np.abs(y[(slice(None), *block)]).sum(0) > 0).mean()
    if sampled < 1:
        raise ValueError(
            f"the {n_calibration} x {n_calibration} centre of k-space is only "
            f"{100 * sampled:.0f} % sampled; choose a smaller n_calibration, so that the whole "
            "block is measured."
        )
    taper = np.zeros(shape)
    frequency = np.arange(n_calibration) - n_calibration // 2
    hann = np.cos(np.pi * frequency / (n_calibration + 1)) ** 2
    taper[block] = np.outer(hann, hann)
    low = np.fft.ifft2(np.fft.ifftshift(y * taper, axes=(-2, -1)), norm="ortho")
    low = np.fft.fftshift(low, axes=(-2, -1))
    weighted = low * np.sqrt((np.abs(low) ** 2).sum(0))
    sigma = [n / n_calibration for n in shape]
    maps = np.stack([ndimage.gaussian_filter(w, sigma, mode="nearest") for w in weighted])
    norm = np.sqrt((np.abs(maps) ** 2).sum(0))
    maps = np.where(norm > 0, maps / np.where(norm > 0, norm, 1), 1 / math.sqrt(len(maps)))
    return torch.from_numpy(maps.astype(np.complex64)).to(kspace.device)
