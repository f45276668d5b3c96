"""Measured data: multi-coil k-space, a synchrotron sinogram."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from ..operators import ifft2
from .coils import estimate_coil_maps
from .images import one_of
from .registry import fetch


class KSpace(NamedTuple):
    """Measurements for `operators.MultiCoilFourier(mask, coil_maps, centred=True)`."""

    y: torch.Tensor  # (1, n_coils, n, m) complex64, exactly zero off the mask
    mask: torch.Tensor  # (n, m) boolean
    coil_maps: torch.Tensor  # (n_coils, n, m) complex64, sum_c |S_c|^2 = 1

    @classmethod
    def scaled(cls, y: torch.Tensor, n_calibration: int) -> "KSpace":
        """Return centred y (n_coils, n, m), so scaled that max |sum_c conj(S_c) F* y_c| = 1.

        The maps S_c are estimated from its centre of `n_calibration` samples a side.
        """
        maps = estimate_coil_maps(y, n_calibration)
        y = y / (maps.conj() * ifft2(y, centred=True)).sum(0).abs().max()
        return cls(y[None], (y != 0).any(0), maps)


class Sinogram(NamedTuple):
    """Line integrals in pixel units, for `operators.Radon(image_size, angles_deg, n_detectors)`."""

    # (1, 1, n_views, n_detectors) float32, the rotation axis in the middle
    y: torch.Tensor
    angles_deg: torch.Tensor  # (n_views,)
    centre: float  # rotation axis that was used, in bins of the file


def kspace(name: str = "cartesian_ksp", n_calibration: int = 24) -> KSpace:
    """Return measured 8-coil brain k-space, its own mask, and coil maps estimated from its centre.

    "cartesian_ksp" (SigPy's tutorial): 230 x 180, centred, 8 coils, Poisson-disk sampling of 12.4
    %, of which the centre 24 x 24 is full. No fully sampled reference exists. Scaled so that max
    |zero-filled image| = 1.
    """
    path = fetch(f"kspace/{one_of(name, 'cartesian_ksp')}.npy")
    return KSpace.scaled(torch.from_numpy(np.load(path, allow_pickle=False)), n_calibration)


def tooth(slice: int = 0, binning: int = 1, n_detectors: int | None = None) -> Sinogram:
    """Return the measured sinogram of a tooth: synchrotron, 181 views over 180 degrees, 640 bins.

    Line integrals have no unit: an image reconstructed from them is the attenuation of one pixel's
    width (enamel about 0.01), not in [0, 1].

    Args:
        slice: 0 or 1.
        binning: average so many neighbouring bins; a pixel grows with them, so that line integrals
            stay.
        n_detectors: bins kept after binning, symmetric about the axis; default all that exist on
            both sides. The tooth is within 171 bins of the axis: 360 bins hold it.

    The rotation axis is `rotation_centre`, rounded to half a bin so that the measured values are
    cropped and never interpolated.
    """
    y, angles_deg = read_exchange(fetch("sinograms/tooth.h5"), slice)
    centre = round(2 * rotation_centre(y, angles_deg)) / 2
    y = _centred_bins(y, centre, binning, n_detectors).astype(np.float32)
    return Sinogram(torch.from_numpy(y)[None, None], torch.from_numpy(angles_deg), centre)


def read_exchange(path: Path, slice: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return the sinogram (n_views, n_detectors) of an exchange file, and its angles in degrees.

    y = -log((data - dark) / (white - dark)).
    """
    import h5py

    with h5py.File(path) as file:
        exchange = file["exchange"]
        n_slices = exchange["data"].shape[1]
        if not 0 <= slice < n_slices:
            raise ValueError(
                f"{path} has {n_slices} slices; got slice={slice}. Ask for 0 to {n_slices - 1}."
            )
        data, dark, white = (
            np.asarray(exchange[name][:, slice], dtype=np.float64)
            for name in ("data", "data_dark", "data_white")
        )
        angles_deg = np.asarray(exchange["theta"], dtype=np.float64)
    dark, white = dark.mean(0), white.mean(0)
    return -np.log(np.clip((data - dark) / (white - dark), 1e-6, None)), angles_deg


def rotation_centre(y: np.ndarray, angles_deg: np.ndarray) -> float:
    """Return where the rotation axis meets the detector, in bins, from every view's centre of mass.

    sum_k k y[v, k] / sum_k y[v, k] = centre + a cos(theta_v) + b sin(theta_v): the mass centre (a,
    b) of the object goes round the axis (the first Helgason-Ludwig condition). Least squares over
    all views; the object must be seen whole. Values below 5 % of the largest are background and do
    not count.
    """
    mass = np.where(y > 0.05 * y.max(), y, 0)
    moment = (mass * np.arange(y.shape[1])).sum(1) / mass.sum(1)
    theta = np.deg2rad(angles_deg)
    basis = np.stack([np.ones_like(theta), np.cos(theta), np.sin(theta)], axis=1)
    return float(np.linalg.lstsq(basis, moment, rcond=None)[0][0])


def _centred_bins(
    y: np.ndarray, centre: float, binning: int, n_detectors: int | None
) -> np.ndarray:
    """Return bins symmetric about `centre`, averaged in groups of `binning`.

    Linear interpolation off the half-bin grid.
    """
    width = int(2 * min(centre, y.shape[1] - 1 - centre)) + 1
    n_detectors = width // binning if n_detectors is None else n_detectors
    n_bins = n_detectors * binning
    if not 0 < n_bins <= width:
        raise ValueError(
            f"{width // binning} bins of {binning} lie symmetric about {centre}; "
            f"got n_detectors={n_detectors}."
        )
    places = centre + np.arange(n_bins) - (n_bins - 1) / 2
    y = np.stack([np.interp(places, np.arange(len(view)), view) for view in y])
    return y.reshape(len(y), n_detectors, binning).mean(-1)
