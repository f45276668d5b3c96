"""Loaders of the public images: natural, CT, MR. All return float32 tensors in [0, 1], row 0 at the
top.
"""

from pathlib import Path

import numpy as np
import torch

from .registry import fetch, fetch_group, files

CT_VOLUMES = ("CT_AVM", "CT_pitch")
MR_VOLUMES = ("chris_t1", "chris_PD", "MR_Gd", "M2208_T2w", "T2w")


def bsd(split: str = "set68", n: int | None = None, image_size: int | None = None):
    """Grey natural images of the Berkeley data set, 8 bit / 255.

    Args:
        split: "set68" (53 of 321 x 481 and 15 of 481 x 321 pixels) or "train400" (180 x 180; the
            paper's text says 128 x 128, the files do not).
        n: the first n images; default all.
        image_size: side of a centre crop. Without it, a list of tensors (1, 1, h, w), because
            orientations differ; with it, one batch (n, 1, image_size, image_size).

    Source: Martin et al., ICCV 2001, as used by Zhang et al., IEEE TIP 2017 (DnCNN).
    """
    return read_grey(_first(f"bsd/{_one_of(split, 'set68', 'train400')}", n), image_size)


def aapm(split: str = "val", image_size: int = 512, n: int | None = None) -> torch.Tensor:
    """Abdominal and thoracic CT slices of the AAPM Low-Dose Grand Challenge, (n, 1, image_size,
    image_size).

    512 x 512 upstream, scaled to [0, 1] there; smaller sizes are averages over the pixels they
    cover. Each slice keeps its own scale, which is not Hounsfield units.

    Args:
        split: "val" (9 slices of patient L067) or "test" (4 slices).

    Not to be redistributed: never store these slices, or anything they can be rebuilt from, in the
    repository.
    """
    paths = _first(f"aapm/{_one_of(split, 'val', 'test')}", n)
    slices = np.stack([np.load(path, allow_pickle=False) for path in paths])
    return _resampled(slices, (1.0, 1.0), image_size).clamp(0, 1)


def volume(
    name: str,
    image_size: int = 256,
    n: int | None = None,
    window: tuple[float, float] | None = None,
):
    """Axial slices of a head volume, (slices, 1, image_size, image_size), anterior up, the
    patient's right on the left.

    Each slice is resampled to square pixels over the square that just holds it: averages where
    pixels become larger, linear interpolation where they become smaller.

    Args:
        name: one of `MR_VOLUMES` or `CT_VOLUMES`.
        n: that many slices, evenly spaced over the middle half of the head; default every slice of
            the volume.
        window: the two values that become 0 and 1; between them linear, outside clipped. Hounsfield
            units where a file has them; these two CT files do not: "CT_pitch" has 8-bit grey values
            0..255, "CT_AVM" is an angiogram 0..563. Default (0, 99.9th percentile of the volume),
            so that slices keep their proportions.
    """
    path = fetch(f"volumes/{_one_of(name, *MR_VOLUMES, *CT_VOLUMES)}.nii.gz")
    slices, pixel = read_nifti(path)
    low, high = (0.0, float(np.percentile(slices, 99.9))) if window is None else _window(window)
    if n is not None:
        slices = slices[np.linspace(0.25 * len(slices), 0.75 * len(slices), n).round().astype(int)]
    return ((_resampled(slices, pixel, image_size) - low) / (high - low)).clamp(0, 1)


def dicom_series(
    name: str = "vs-seg-001",
    image_size: int = 256,
    n: int | None = None,
    window: tuple[float, float] | None = None,
) -> torch.Tensor:
    """Slices of a DICOM series from foot to head, (slices, 1, image_size, image_size), values in
    the file's units.

    "vs-seg-001": 10 axial T1 MR slices with gadolinium, 512 x 512 of 0.41 mm, 12 mm apart.

    Args:
        name: a registered folder of .dcm files.
        window: the two values that become 0 and 1. Default: each slice divided by its largest
            value.
    """
    slices, pixel = read_dicom(_first(name, n))
    x = _resampled(slices, pixel, image_size)
    if window is None:
        return (x / x.amax((-2, -1), keepdim=True).clamp_min(1e-12)).clamp_min(0)
    low, high = _window(window)
    return ((x - low) / (high - low)).clamp(0, 1)


def read_grey(paths: list[Path], image_size: int | None = None):
    """8-bit grey image files / 255: a list of (1, 1, h, w), or with `image_size` one batch of
    centre crops.
    """
    from PIL import Image

    images = []
    for path in paths:
        with Image.open(path) as image:
            images.append(
                torch.from_numpy(np.array(image.convert("L"), dtype=np.float32) / 255)[None, None]
            )
    return (
        images if image_size is None else torch.cat([_centre_crop(x, image_size) for x in images])
    )


def read_nifti(path: Path) -> tuple[np.ndarray, tuple[float, float]]:
    """Axial slices (slices, rows, columns) of a NIfTI file, as radiologists look at them, and (row,
    column) in mm.
    """
    import nibabel

    image = nibabel.as_closest_canonical(nibabel.load(path))  # axes: to the right, to the front, up
    x, y, _ = (float(zoom) for zoom in image.header.get_zooms()[:3])
    array = np.asarray(image.dataobj, dtype=np.float32)
    return np.ascontiguousarray(array[::-1, ::-1].transpose(2, 1, 0)), (y, x)


def read_dicom(paths: list[Path]) -> tuple[np.ndarray, tuple[float, float]]:
    """RescaleSlope * stored + RescaleIntercept, (slices, rows, columns) by position, and (row,
    column) in mm.
    """
    import pydicom

    sets = [pydicom.dcmread(path) for path in paths]

    def position(d):
        row, column = np.reshape(np.asarray(d.ImageOrientationPatient, dtype=float), (2, 3))
        return float(np.cross(row, column) @ np.asarray(d.ImagePositionPatient, dtype=float))

    sets.sort(key=position)
    spacing = {tuple(float(mm) for mm in d.PixelSpacing) for d in sets}
    if len(spacing) > 1 or len({(d.Rows, d.Columns) for d in sets}) > 1:
        raise ValueError(
            f"expected one DICOM series; got pixels of {sorted(spacing)} mm. Read each series alone."
        )
    slices = [
        float(d.get("RescaleSlope", 1)) * d.pixel_array.astype(np.float32)
        + float(d.get("RescaleIntercept", 0))
        for d in sets
    ]
    return np.stack(slices).astype(np.float32), spacing.pop()


def resampling_matrix(n_in: int, n_out: int, ratio: float) -> np.ndarray:
    """W (n_out, n_in): a line of n_in pixels seen by n_out pixels, each `ratio` old pixels wide,
    centres aligned.

    ratio >= 1: W[i, j] = overlap of new pixel i with old pixel j, over the new width (the average
    over a pixel). ratio < 1: linear interpolation at the new pixel's centre. Outside the line is
    zero.
    """
    old = np.arange(n_in) - (n_in - 1) / 2
    new = ratio * (np.arange(n_out) - (n_out - 1) / 2)
    distance = np.abs(new[:, None] - old[None, :])
    if ratio >= 1:
        return np.clip((ratio + 1) / 2 - distance, 0, 1) / ratio
    return np.clip(1 - distance, 0, None)


def _resampled(slices: np.ndarray, pixel: tuple[float, float], image_size: int) -> torch.Tensor:
    """(slices, h, w) with (row, column) pixel sizes -> (slices, 1, n, n) over the square that just
    holds a slice.
    """
    height, width = (count * mm for count, mm in zip(slices.shape[1:], pixel))
    side = max(height, width) / image_size
    rows, columns = (
        resampling_matrix(count, image_size, side / mm)
        for count, mm in zip(slices.shape[1:], pixel)
    )
    return torch.from_numpy((rows @ slices.astype(np.float64) @ columns.T).astype(np.float32))[
        :, None
    ]


def _first(group: str, n: int | None) -> list[Path]:
    """Paths of the first n files of a group, no other being fetched; ValueError where there are
    fewer.
    """
    known = files(group)
    if n is None or n == len(known):
        return fetch_group(group)
    if not 0 < n < len(known):
        raise ValueError(
            f"{group} has {len(known)} files; got n={n}. Ask for 1 to {len(known)}, or n=None for all."
        )
    return [fetch(file.path) for file in known[:n]]


def _centre_crop(x: torch.Tensor, size: int) -> torch.Tensor:
    height, width = x.shape[-2:]
    if size > min(height, width):
        raise ValueError(
            f"image_size={size} is larger than this {height} x {width} image; ask for at most {min(height, width)}."
        )
    top, left = (height - size) // 2, (width - size) // 2
    return x[..., top : top + size, left : left + size]


def _window(window: tuple[float, float]) -> tuple[float, float]:
    low, high = map(float, window)
    if not high > low:
        raise ValueError(f"window expects (low, high) with low < high; got {window}.")
    return low, high


def _one_of(name: str, *names: str) -> str:
    if name not in names:
        raise ValueError(f"expected one of {', '.join(names)}; got {name!r}.")
    return name
