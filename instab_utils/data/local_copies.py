"""The reader's own copies of data sets that cannot be handed on: the full AAPM CT set, fastMRI.

Point INSTAB_AAPM at a folder of DICOM series (.IMA or .dcm, one series a folder) and INSTAB_FASTMRI
at a folder of fastMRI HDF5 files. Nothing is copied from there.
"""

import os
from pathlib import Path

import numpy as np
import torch

from .images import evenly_spaced, one_of, read_dicom, resampled, windowed
from .measured import KSpace
from .registry import DataUnavailable

CONTENTS = {
    "INSTAB_AAPM": "a folder of the AAPM Low-Dose CT set (DICOM series, .IMA or .dcm)",
    "INSTAB_FASTMRI": "a folder of fastMRI files (.h5)",
}
PUBLIC_PATIENT = "L067"  # of the public AAPM validation slices


def aapm_series() -> list[str]:
    """Return the folders under INSTAB_AAPM that hold a DICOM series, such as "L067/full_1mm"."""
    root = _root("INSTAB_AAPM")
    folders = {path.parent for path in root.rglob("*") if _is_dicom(path)}
    return sorted(folder.relative_to(root).as_posix() for folder in folders)


def aapm_slices(
    series: str,
    image_size: int = 512,
    n: int | None = None,
    window: tuple[float, float] = (-1024, 1500),
) -> torch.Tensor:
    """Return one of `aapm_series`, foot to head, (slices, 1, image_size, image_size) in [0, 1].

    Args:
        series: one of `aapm_series`.
        image_size: side in pixels.
        n: that many slices, evenly spaced; default all.
        window: Hounsfield units that become 0 and 1; air is -1000, dense bone about 1500.
    """
    root = _root("INSTAB_AAPM")
    paths = sorted(path for path in (root / series).glob("*") if _is_dicom(path))
    if not paths:
        known = ", ".join(aapm_series()) or "(none)"
        raise ValueError(f"no .IMA or .dcm files in {root / series}; expected one of {known}.")
    slices, pixel = read_dicom(paths)
    slices = slices if n is None else slices[evenly_spaced(0, len(slices) - 1, n)]
    low = float(window[0])
    # outside the scan: `low`
    return windowed(resampled(slices - low, pixel, image_size), (0.0, window[1] - low))


def fastmri_scans() -> list[str]:
    """Return the HDF5 files under INSTAB_FASTMRI."""
    root = _root("INSTAB_FASTMRI")
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*.h5"))


def fastmri_slice(scan: str, slice: int | None = None, n_calibration: int = 24) -> KSpace:
    """Return one slice for `MultiCoilFourier(mask, coil_maps, centred=True)`.

    A single-coil file gives one coil whose map has modulus 1. Scaled so that max |zero-filled
    image| = 1.

    Args:
        scan: one of `fastmri_scans`.
        slice: default the middle one.
        n_calibration: side of the fully sampled centre.
    """
    import h5py

    path = _root("INSTAB_FASTMRI") / scan
    with h5py.File(path) as file:
        kspace = file["kspace"]
        k = len(kspace) // 2 if slice is None else slice
        if not 0 <= k < len(kspace):
            raise ValueError(
                f"{path} has {len(kspace)} slices; got slice={slice}. "
                f"Ask for 0 to {len(kspace) - 1}."
            )
        y = torch.from_numpy(np.asarray(kspace[k], dtype=np.complex64))
    return KSpace.scaled(y if y.ndim == 3 else y[None], n_calibration)


def fastmri_magnitudes(scan: str, image_size: int) -> torch.Tensor:
    """Return the reference images of a fastMRI file, each divided by its maximum.

    Raises:
        ValueError: the file has none, as fastMRI's test files.
    """
    import h5py

    with h5py.File(_root("INSTAB_FASTMRI") / scan) as file:
        names = [name for name in ("reconstruction_rss", "reconstruction_esc") if name in file]
        if not names:
            raise ValueError(
                f"{scan} holds no reconstruction_rss or reconstruction_esc, so it is one of "
                "fastMRI's test files, whose k-space has gaps. Take files of its training or "
                "validation set."
            )
        slices = np.asarray(file[names[0]], dtype=np.float32)
    x = resampled(slices, (1.0, 1.0), image_size)
    return x / x.amax((1, 2, 3), keepdim=True).clamp_min(1e-12)


def split_subjects(kind: str, split: str) -> list[str]:
    """Return the patients under INSTAB_AAPM, or files under INSTAB_FASTMRI, of a split: 8/1/1.

    In their order: the last tenth is "test", the tenth before "validate". Patient L067 always
    validates, because the public validation slices show that patient; the 4 public test slices do
    not name their patients, so that a network trained on "aapm" is to be tested on
    `pool("aapm", split="test")` and not on them.
    """
    one_of(kind, "aapm", "fastmri")
    one_of(split, "train", "validate", "test")
    if kind == "aapm":
        subjects = sorted({series.split("/")[0] for series in aapm_series()})
    else:
        subjects = fastmri_scans()
    if len(subjects) < 3:
        raise DataUnavailable(
            f"a split by subject needs 3 or more of them; found {', '.join(subjects) or 'none'} "
            f"for {kind!r}."
        )
    tenth = max(1, len(subjects) // 10)
    if PUBLIC_PATIENT in subjects:
        subjects.remove(PUBLIC_PATIENT)
        subjects.insert(len(subjects) - tenth, PUBLIC_PATIENT)
    train, validate, test = subjects[: -2 * tenth], subjects[-2 * tenth : -tenth], subjects[-tenth:]
    return {"train": train, "validate": validate, "test": test}[split]


def _is_dicom(path: Path) -> bool:
    return path.suffix.lower() in (".ima", ".dcm") and path.is_file()


def _root(variable: str) -> Path:
    root = os.environ.get(variable)
    if not root or not Path(root).is_dir():
        raise DataUnavailable(
            f"{variable} expects {CONTENTS[variable]}; got {root!r}. "
            "Set it to the folder on this machine."
        )
    return Path(root)
