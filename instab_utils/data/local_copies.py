"""The reader's own copies of data sets that cannot be handed on: the full AAPM CT set, fastMRI.

Point INSTAB_AAPM at a folder of DICOM series (.IMA or .dcm, one series a folder) and INSTAB_FASTMRI
at a folder of fastMRI HDF5 files. Nothing is copied from there.
"""

import os
import re
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from ..operators import ifft2
from .images import evenly_spaced, one_of, read_dicom, resampled, windowed
from .measured import KSpace
from .registry import DataUnavailable

CONTENTS = {
    "INSTAB_AAPM": "a folder of the AAPM Low-Dose CT set (DICOM series, .IMA or .dcm)",
    "INSTAB_FASTMRI": "a folder of fastMRI files (.h5)",
}
PUBLIC_PATIENT = "L067"  # of the public AAPM validation slices
INN_SLICES = {"validate": 214, "test": 330}  # of the one patient each; 2036 of eight train
"""Slices of Oala et al.'s patients, by which these are found: the paper does not name them."""
KNEE_SCANS = 10  # of a split, and their slices, counted from 0: those of MRI-VN
KNEE_SLICES = {"train": range(10, 30), "validate": range(21, 22), "test": range(21, 22)}


def aapm_series() -> list[str]:
    """Return the folders under INSTAB_AAPM that hold a DICOM series, such as "L067/full_1mm"."""
    root = _root("INSTAB_AAPM")
    folders = {path.parent for path in root.rglob("*") if _is_dicom(path)}
    return sorted(folder.relative_to(root).as_posix() for folder in folders)


def aapm_patients() -> dict[str, str]:
    """Return one series of every patient, {"L067": "L067/full_3mm"}: full dose, 3 mm if there are.

    A patient is the first part of the path that looks like L067, or the first part.
    """
    series = aapm_series()
    for word in ("full", "3mm"):
        series = [name for name in series if word in name] or series
    patients = {}
    for name in series:
        found = re.search(r"\bL\d{3}\b", name)
        patients.setdefault(found.group() if found else name.split("/")[0], name)
    return dict(sorted(patients.items()))


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


def fastmri_knees(split: str, shape: tuple[int, int]) -> list[str]:
    """Return the first `KNEE_SCANS` files of a split whose k-space has `shape`, fat suppressed.

    Hammernik et al. and Antun et al. have coronal proton density with fat suppression, 640 x 368.
    """
    import h5py

    def matches(scan: str) -> bool:
        with h5py.File(_root("INSTAB_FASTMRI") / scan) as file:
            suppressed = file.attrs.get("acquisition", "CORPDFS_FBK") == "CORPDFS_FBK"
            return suppressed and "kspace" in file and file["kspace"].shape[-2:] == tuple(shape)

    scans = list(islice(filter(matches, split_subjects("fastmri", split)), KNEE_SCANS))
    if not scans:
        raise DataUnavailable(
            f"no {split} file under INSTAB_FASTMRI has k-space of {shape[0]} x {shape[1]} and "
            "acquisition CORPDFS_FBK. Take another image_size, or leave INSTAB_FASTMRI unset."
        )
    return scans


def fastmri_images(scan: str, slices: range) -> torch.Tensor:
    """Return complex images sum_c conj(S_c) F* y_c of fully sampled slices, (n, 1, rows, columns).

    S_c is estimated from the middle slice, see `fastmri_slice`; each image is divided by its
    largest magnitude. Slices that the file has not are left out; the middle one stands for all.
    """
    import h5py

    maps = fastmri_slice(scan).coil_maps
    with h5py.File(_root("INSTAB_FASTMRI") / scan) as file:
        n_slices = len(file["kspace"])
        kept = [k for k in slices if k < n_slices] or [n_slices // 2]
        y = torch.from_numpy(np.asarray(file["kspace"][kept[0] : kept[-1] + 1], np.complex64))
    y = y if y.ndim == 4 else y[:, None]
    x = torch.cat([(maps.conj() * ifft2(one, centred=True)).sum(0)[None, None] for one in y])
    return x / x.abs().amax((1, 2, 3), keepdim=True).clamp_min(1e-12)


def fastmri_coils(shape: tuple[int, int]) -> torch.Tensor:
    """Return the coil maps of the first training scan of `fastmri_knees`, (n_coils, *shape)."""
    return fastmri_slice(fastmri_knees("train", shape)[0]).coil_maps


def split_subjects(kind: str, split: str) -> list[str]:
    """Return the patients under INSTAB_AAPM, or files under INSTAB_FASTMRI, of a split: 8/1/1.

    Patients that have `INN_SLICES` slices validate and test, as in Oala et al. Otherwise in their
    order: the last tenth is "test", the tenth before "validate", and patient L067 validates,
    because the public validation slices show that patient. The 4 public test slices do not name
    their patients. So a network trained on "aapm" is to be judged by images of `pool("aapm")`, as
    `training.test_images` does.
    """
    one_of(kind, "aapm", "fastmri")
    one_of(split, "train", "validate", "test")
    if kind == "aapm":
        subjects = list(aapm_patients())
        held_out = _inn_patients()
        if held_out:
            return held_out.get(split, [p for p in subjects if [p] not in held_out.values()])
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


def _inn_patients() -> dict[str, list[str]]:
    """Return the patients of `INN_SLICES`; nothing unless there is exactly one for each number."""
    root = _root("INSTAB_AAPM")
    counts = {p: sum(map(_is_dicom, (root / s).iterdir())) for p, s in aapm_patients().items()}
    found = {split: [p for p in counts if counts[p] == n] for split, n in INN_SLICES.items()}
    return found if all(len(patients) == 1 for patients in found.values()) else {}


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
