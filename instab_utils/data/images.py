"""Load the public images, natural, CT and MR: float32 tensors in [0, 1], row 0 at the top."""

from pathlib import Path

import numpy as np
import torch

from .registry import fetch, fetch_group, files

CT_VOLUMES = ("CT_AVM", "CT_pitch")
MR_VOLUMES = ("chris_t1", "chris_PD", "MR_Gd", "M2208_T2w", "T2w")
Window = tuple[float, float]


def bsd(
    split: str = "set68", n: int | None = None, image_size: int | None = None
) -> torch.Tensor | list[torch.Tensor]:
    """Return grey natural images of the Berkeley data set, 8 bit / 255.

    Args:
        split: "set68" (53 of 321 x 481 and 15 of 481 x 321 pixels) or "train400" (180 x 180; the
            paper's text says 128 x 128, the files do not).
        n: the first n images; default all.
        image_size: side of a centre crop. Without it, a list of tensors (1, 1, h, w), because
            orientations differ; with it, one batch (n, 1, image_size, image_size).

    Source: Martin et al., ICCV 2001, as used by Zhang et al., IEEE TIP 2017 (DnCNN).
    """
    return read_grey(_first(f"bsd/{one_of(split, 'set68', 'train400')}", n), image_size)


def aapm(split: str = "val", image_size: int = 512, n: int | None = None) -> torch.Tensor:
    """Return CT slices of the AAPM Low-Dose Grand Challenge, (n, 1, image_size, image_size).

    512 x 512 upstream, scaled to [0, 1] there; smaller sizes are averages over the pixels they
    cover. Each slice keeps its own scale, which is not Hounsfield units.

    Not to be redistributed: never store these slices, or anything they can be rebuilt from, in the
    repository.

    Args:
        split: "val" (9 slices of patient L067) or "test" (4 slices).
        image_size: side in pixels.
        n: the first n slices; default all.
    """
    paths = _first(f"aapm/{one_of(split, 'val', 'test')}", n)
    slices = np.stack([np.load(path, allow_pickle=False) for path in paths])
    return resampled(slices, (1.0, 1.0), image_size).clamp(0, 1)


def volume(
    name: str, image_size: int = 256, n: int | None = None, window: Window | None = None
) -> torch.Tensor:
    """Return axial slices of a head volume, (slices, 1, image_size, image_size), anterior up.

    The patient's right is on the left. Each slice is resampled to square pixels over the square
    that just holds it: averages where pixels become larger, linear interpolation where they become
    smaller.

    Args:
        name: one of `MR_VOLUMES` or `CT_VOLUMES`.
        image_size: side in pixels.
        n: that many slices, evenly spaced over the middle half of the head; default every slice of
            the volume.
        window: the two values that become 0 and 1; between them linear, outside clipped. Hounsfield
            units where a file has them; these two CT files do not: "CT_pitch" has 8-bit grey values
            0..255, "CT_AVM" is an angiogram 0..563. Default (0, 99.9th percentile of the volume),
            so that slices keep their proportions.
    """
    path = fetch(f"volumes/{one_of(name, *MR_VOLUMES, *CT_VOLUMES)}.nii.gz")
    slices, pixel = read_nifti(path)
    window = window or (0.0, float(np.percentile(slices, 99.9)))
    if n is not None:
        slices = slices[evenly_spaced(0.25 * len(slices), 0.75 * len(slices), n)]
    return windowed(resampled(slices, pixel, image_size), window)


def dicom_series(
    name: str = "vs-seg-001", image_size: int = 256, n: int | None = None
) -> torch.Tensor:
    """Return slices of a DICOM series from foot to head, each divided by its largest value.

    (slices, 1, image_size, image_size) in [0, 1].

    "vs-seg-001": 10 axial T1 MR slices with gadolinium, 512 x 512 of 0.41 mm, 12 mm apart.

    Args:
        name: a registered folder of .dcm files.
        image_size: side in pixels.
        n: the first n files; default all.
    """
    x = resampled(*read_dicom(_first(name, n)), image_size)
    return (x / x.amax((-2, -1), keepdim=True).clamp_min(1e-12)).clamp_min(0)


def read_grey(
    paths: list[Path], image_size: int | None = None
) -> torch.Tensor | list[torch.Tensor]:
    """Return 8-bit grey image files / 255: a list of (1, 1, h, w), or a batch of centre crops."""
    from PIL import Image

    images = []
    for path in paths:
        with Image.open(path) as image:
            levels = np.array(image.convert("L"), dtype=np.float32)
        images.append(torch.from_numpy(levels / 255)[None, None])
    if image_size is None:
        return images
    return torch.cat([_centre_crop(x, image_size) for x in images])


def read_nifti(path: Path) -> tuple[np.ndarray, tuple[float, float]]:
    """Return axial slices (slices, rows, columns) of a NIfTI file, and its (row, column) in mm.

    Slices are turned as radiologists look at them.
    """
    import nibabel

    image = nibabel.as_closest_canonical(nibabel.load(path))  # axes: to the right, to the front, up
    x, y, _ = (float(zoom) for zoom in image.header.get_zooms()[:3])
    array = np.asarray(image.dataobj, dtype=np.float32)
    return np.ascontiguousarray(array[::-1, ::-1].transpose(2, 1, 0)), (y, x)


def read_dicom(paths: list[Path]) -> tuple[np.ndarray, tuple[float, float]]:
    """Return a DICOM series (slices, rows, columns), by position, and its (row, column) in mm.

    Values are RescaleSlope * stored + RescaleIntercept.
    """
    import pydicom

    def position(dataset) -> float:
        axes = np.reshape(np.asarray(dataset.ImageOrientationPatient, dtype=float), (2, 3))
        return float(np.cross(*axes) @ np.asarray(dataset.ImagePositionPatient, dtype=float))

    datasets = sorted((pydicom.dcmread(path) for path in paths), key=position)
    spacing = {tuple(map(float, dataset.PixelSpacing)) for dataset in datasets}
    shapes = {(dataset.Rows, dataset.Columns) for dataset in datasets}
    if len(spacing) > 1 or len(shapes) > 1:
        raise ValueError(
            f"expected one DICOM series; got pixels of {sorted(spacing)} mm. "
            "Read each series alone."
        )
    slices = []
    for dataset in datasets:
        slope, intercept = dataset.get("RescaleSlope", 1), dataset.get("RescaleIntercept", 0)
        slices.append(float(slope) * dataset.pixel_array.astype(np.float32) + float(intercept))
    return np.stack(slices).astype(np.float32), spacing.pop()


def resampling_matrix(n_in: int, n_out: int, ratio: float) -> np.ndarray:
    """Return W (n_out, n_in): a line of n_in pixels seen by n_out pixels, centres aligned.

    ratio >= 1: W[i, j] = overlap of new pixel i with old pixel j, over the new width (the average
    over a pixel). ratio < 1: linear interpolation at the new pixel's centre. Outside the line is
    zero.

    Args:
        n_in, n_out: pixels.
        ratio: width of a new pixel in old pixels.
    """
    old = np.arange(n_in) - (n_in - 1) / 2
    new = ratio * (np.arange(n_out) - (n_out - 1) / 2)
    distance = np.abs(new[:, None] - old[None, :])
    if ratio >= 1:
        return np.clip((ratio + 1) / 2 - distance, 0, 1) / ratio
    return np.clip(1 - distance, 0, None)


def resampled(slices: np.ndarray, pixel: tuple[float, float], image_size: int) -> torch.Tensor:
    """Return (slices, 1, n, n) over the square that just holds a slice of (slices, h, w).

    Args:
        slices: (slices, h, w).
        pixel: its (row, column) size.
        image_size: n.
    """
    counts = slices.shape[1:]
    side = max(count * mm for count, mm in zip(counts, pixel)) / image_size
    rows, columns = (
        resampling_matrix(count, image_size, side / mm) for count, mm in zip(counts, pixel)
    )
    x = rows @ slices.astype(np.float64) @ columns.T
    return torch.from_numpy(x.astype(np.float32))[:, None]


def framed(x: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """Return x (..., h, w) in the middle of zeros (..., *shape), shape at least (h, w)."""
    margins = []
    for small, large in zip(x.shape[:-3:-1], shape[::-1]):  # columns, then rows
        before = (large - small) // 2
        margins += [before, large - small - before]
    return torch.nn.functional.pad(x, margins)


def windowed(x: torch.Tensor, window: Window) -> torch.Tensor:
    """Return (x - low) / (high - low), clipped to [0, 1]."""
    low, high = map(float, window)
    if not high > low:
        raise ValueError(f"window expects (low, high) with low < high; got {window}.")
    return ((x - low) / (high - low)).clamp(0, 1)


def evenly_spaced(first: float, last: float, n: int) -> np.ndarray:
    """Return n indices from first to last."""
    return np.linspace(first, last, n).round().astype(int)


def one_of(name: str, *names: str) -> str:
    """Return the name if it is one of `names`; refuse it by a ValueError otherwise."""
    if name not in names:
        raise ValueError(f"expected one of {', '.join(names)}; got {name!r}.")
    return name


def _first(group: str, n: int | None) -> list[Path]:
    """Return the paths of the first n files of a group; no other is fetched."""
    known = files(group)
    if n is None or n == len(known):
        return fetch_group(group)
    if not 0 < n < len(known):
        raise ValueError(
            f"{group} has {len(known)} files; got n={n}. "
            f"Ask for 1 to {len(known)}, or n=None for all."
        )
    return [fetch(file.path) for file in known[:n]]


def _centre_crop(x: torch.Tensor, size: int) -> torch.Tensor:
    height, width = x.shape[-2:]
    if size > min(height, width):
        raise ValueError(
            f"image_size={size} is larger than this {height} x {width} image; "
            f"ask for at most {min(height, width)}."
        )
    top, left = (height - size) // 2, (width - size) // 2
    return x[..., top : top + size, left : left + size]
