"""The reader's own copies of data sets that cannot be handed on: the full AAPM CT set, fastMRI.

Point INSTAB_AAPM at a folder of DICOM series (.IMA or .dcm, one series a folder) and INSTAB_FASTMRI
at a folder of fastMRI HDF5 files. Nothing is copied from there.
"""

import os
from pathlib import Path

import numpy as np
import torch

from .images import _resampled, _window, read_dicom
from .measured import KSpace
from .registry import DataUnavailable


def aapm_series() -> list[str]:
    """Folders under INSTAB_AAPM that hold a DICOM series, such as "L067/full_1mm"; one patient has
    several.
    """
    root = _root("INSTAB_AAPM", "a folder of the AAPM Low-Dose CT set (DICOM series, .IMA or .dcm)")
    return sorted(
        {path.parent.relative_to(root).as_posix() for path in root.rglob("*") if _is_dicom(path)}
    )


def aapm_slices(
    series: str,
    image_size: int = 512,
    n: int | None = None,
    window: tuple[float, float] = (-1024, 1500),
):
    """Slices of one of `aapm_series`, foot to head, (slices, 1, image_size, image_size) in [0, 1].

    Args:
        n: that many slices, evenly spaced; default all.
        window: Hounsfield units that become 0 and 1; air is -1000, dense bone about 1500.
    """
    root = _root("INSTAB_AAPM", "a folder of the AAPM Low-Dose CT set (DICOM series, .IMA or .dcm)")
    paths = sorted(path for path in (root / series).glob("*") if _is_dicom(path))
    if not paths:
        known = ", ".join(aapm_series()) or "(none)"
        raise ValueError(f"no .IMA or .dcm files in {root / series}; expected one of {known}.")
    slices, pixel = read_dicom(paths)
    if n is not None:
        slices = slices[np.linspace(0, len(slices) - 1, n).round().astype(int)]
    low, high = _window(window)
    # outside the scan: `low`
    return (_resampled(slices - low, pixel, image_size) / (high - low)).clamp(0, 1)


def fastmri_scans() -> list[str]:
    """HDF5 files under INSTAB_FASTMRI."""
    root = _root("INSTAB_FASTMRI", "a folder of fastMRI files (.h5)")
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*.h5"))


def fastmri_slice(scan: str, slice: int | None = None, n_calibration: int = 24) -> KSpace:
    """One slice of one of `fastmri_scans`, for `MultiCoilFourier(mask, coil_maps, centred=True)`.

    A single-coil file gives one coil whose map has modulus 1. Scaled so that max |zero-filled
    image| = 1.

    Args:
        slice: default the middle one.
        n_calibration: side of the fully sampled centre.
    """
    import h5py

    path = _root("INSTAB_FASTMRI", "a folder of fastMRI files (.h5)") / scan
    with h5py.File(path) as file:
        stored = file["kspace"]
        k = len(stored) // 2 if slice is None else slice
        if not 0 <= k < len(stored):
            raise ValueError(
                f"{path} has {len(stored)} slices; got slice={slice}. Ask for 0 to {len(stored) - 1}."
            )
        y = torch.from_numpy(np.asarray(stored[k], dtype=np.complex64))
    return KSpace.scaled(y if y.ndim == 3 else y[None], n_calibration)


def _is_dicom(path: Path) -> bool:
    return path.suffix.lower() in (".ima", ".dcm") and path.is_file()


def _root(variable: str, what: str) -> Path:
    root = os.environ.get(variable)
    if not root or not Path(root).is_dir():
        raise DataUnavailable(
            f"{variable} expects {what}; got {root!r}. Set it to the folder on this machine."
        )
    return Path(root)
