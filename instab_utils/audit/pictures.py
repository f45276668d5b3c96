"""Images of the reader's own, from the files that hospitals, laboratories and notebooks write."""

import glob
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from ..data.images import read_dicom, read_nifti, resampling_matrix
from .wrong import WrongFile

PICTURES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp")
KINDS = {
    **dict.fromkeys(PICTURES, "picture"),
    ".npy": "npy",
    ".dcm": "dicom",
    ".ima": "dicom",
    ".nii": "nifti",
    ".nii.gz": "nifti",
    ".h5": "hdf5",
    ".hdf5": "hdf5",
}
SMALLEST = 8
GREY = "Save it as 8 or 16 bit grey, e.g. PIL.Image.open(path).convert('L').save('grey.png')."
WINDOW = "Give window=(low, high), the values that become 0 and 1."


class Images(NamedTuple):
    """Images and where they came from; `names` and `sha256s` have one entry an image."""

    x: torch.Tensor  # (n, 1, h, w) float32 in [0, 1], or complex64 with |x| <= 1
    names: tuple[str, ...]  # "scan.nii.gz[12]"
    sha256s: tuple[str, ...]  # of the file
    source: str


def load_images(
    paths: str | Path | Sequence[str | Path],
    image_size: int | tuple[int, int] | None = None,
    window: tuple[float, float] | None = None,
    slices: int | Sequence[int] | str | None = None,
) -> Images:
    """x = (values - low) / (high - low), cut to [0, 1]; complex x = values / high.

    (low, high) is `window` where it is given; else (0, largest value of the type) for unsigned
    integers, 255 or 65535, and (0, largest value in the file) for everything else, so that the
    slices of a volume keep their proportions. Negative values
    need a window: nobody else knows where black is.

    | ending              | what is read |
    |---------------------|------------------------------------------------------------------------------------------|
    | .png .tif .jpg .bmp | 8 or 16 bit grey, 32 bit float; pages of a TIFF; colour only where its
    channels are equal | | .npy                | real or complex, (h, w) or (n, h, w), or (n, 1, h,
    w)                                     | | .dcm .ima           | slope * stored + intercept,
    e.g. Hounsfield units: give a window                          | | .nii .nii.gz        | axial
    slices, anterior up                                                                 | | .h5
    .hdf5           | "file.h5::dataset", or the only two- or three-dimensional dataset of images
    |

    Args:
        paths: a file, a folder (all the files it holds of these kinds, by name), a pattern such as
            "scans/*.png", or a list of them.
        image_size: side of the images, or (rows, columns): each is resampled to square pixels so
            that it just fits, averages where pixels become larger, linear interpolation where
            smaller, black around. Default: as stored, all of one shape.
        window: see above; for complex images (0, high).
        slices: of a file with several: "all", that many evenly spaced over the middle half, or a
            list of indices. Default: 4 of a NIfTI volume, all of any other.

    Raises:
        WrongFile: a ValueError that names the file, what was expected, what it is, and the cure:
            not finite, constant, smaller than 8 pixels, colour, k-space, different shapes, mixed
            real and complex.
        ValueError: for a window that is none.
    """
    if window is not None:
        window = tuple(map(float, window))
        if len(window) != 2 or not window[0] < window[1]:
            raise ValueError(
                f"load_images expects window=(low, high) with low < high; got {window}. Swap or correct them."
            )
    images, names, digests, files = [], [], [], []
    for path, dataset in _files(paths):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        kind = _kind(path)
        values, pixel = _read(path, kind, dataset)
        chosen = _chosen(path, len(values), 4 if kind == "nifti" and slices is None else slices)
        stack = _scaled(path, values, window)
        for k in chosen:
            name = path.name + (f"[{k}]" if len(values) > 1 else "")
            images.append(_sized(_sound(path, stack[k], name), pixel, image_size))
            names.append(name)
            digests.append(digest)
            if images[-1].shape != images[0].shape:
                raise WrongFile(
                    path,
                    f"images of one shape, like {names[0]} {images[0].shape}",
                    str(images[-1].shape),
                    "Give image_size, and they are brought to one.",
                )
            if np.iscomplexobj(images[-1]) != np.iscomplexobj(images[0]):
                raise WrongFile(
                    path,
                    f"all images real or all complex, like {names[0]}",
                    "the other",
                    "Read them in two calls.",
                )
        files.append(path.name)
    x = torch.from_numpy(np.stack(images))[:, None]
    source = f"{len(x)} images of {len(files)} files: {', '.join(files[:3])}{', ...' if len(files) > 3 else ''}"
    return Images(x, tuple(names), tuple(digests), source)


def _files(paths) -> list[tuple[Path, str | None]]:
    """(file, dataset) for every file that is meant."""
    found = []
    for given in [paths] if isinstance(paths, (str, Path)) else list(paths):
        text, _, dataset = str(given).partition("::")
        path = Path(text).expanduser()
        if path.is_dir():
            here = sorted(p for p in path.iterdir() if p.is_file() and _kind(p))
        elif path.is_file():
            here = [path]
        else:
            here = sorted(Path(p) for p in glob.glob(str(path), recursive=True) if _kind(Path(p)))
        if not here:
            raise WrongFile(
                given,
                f"files ending in {', '.join(KINDS)}",
                "none there",
                "Check the path or the pattern.",
            )
        found += [(p, dataset or None) for p in here]
    if not found:
        raise ValueError(
            "load_images expects at least one path; got an empty list. Name a file, a folder or a pattern."
        )
    for path, _ in found:
        if _kind(path) is None:
            raise WrongFile(
                path,
                f"a file ending in {', '.join(KINDS)}",
                path.suffix or "no ending",
                "Save the image as .npy: numpy.save(path, array).",
            )
    return found


def _kind(path: Path) -> str | None:
    return KINDS.get(".nii.gz" if path.name.lower().endswith(".nii.gz") else path.suffix.lower())


def _read(path: Path, kind: str, dataset: str | None) -> tuple[np.ndarray, tuple[float, float]]:
    """(n, h, w) values as stored, and the (row, column) sizes of a pixel."""
    try:
        if kind == "picture":
            return _picture(path), (1.0, 1.0)
        if kind == "dicom":
            values, pixel = read_dicom([path])
            if values.ndim != 3:
                raise WrongFile(
                    path,
                    "one grey slice a file",
                    f"{values.shape[1:]}, frames or colour",
                    "Save its frames as .npy.",
                )
            return values, pixel
        if kind == "nifti":
            return read_nifti(path)
        values = np.load(path, allow_pickle=False) if kind == "npy" else _hdf5(path, dataset)
    except WrongFile:
        raise
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"reading {path.name} expects the package {error.name}; got none. Install it: pip install {error.name}.",
            name=error.name,
        ) from error
    except Exception as error:
        cure = (
            "An array of objects is a pickle and is not read: save numbers."
            if kind == "npy" and "allow_pickle" in str(error)
            else "Copy it again, or save the image as .npy with numpy.save(path, array)."
        )
        raise WrongFile(
            path,
            f"a readable {path.suffix} image",
            f"{type(error).__name__}: {str(error)[:120]}",
            cure,
        ) from None
    if values.ndim == 4 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim not in (2, 3) or values.dtype.kind not in "buifc":
        raise WrongFile(
            path,
            "numbers of shape (h, w) or (n, h, w)",
            f"{values.dtype} of shape {values.shape}",
            "Save one grey image, or a stack of them with the images first.",
        )
    return values.reshape(-1, *values.shape[-2:]), (1.0, 1.0)


def _picture(path: Path) -> np.ndarray:
    from PIL import Image, ImageSequence

    with Image.open(path) as image:
        return np.stack([_grey(path, page) for page in ImageSequence.Iterator(image)])


def _grey(path: Path, page) -> np.ndarray:
    if page.mode in ("L", "1", "F") or page.mode.startswith("I"):
        values = np.array(page)
        # a PNG has no more; older Pillow says 32
        sixteen_bits = page.mode == "I" and path.suffix.lower() == ".png"
        return values.astype(np.uint16) if sixteen_bits else values
    colours = np.array(page.convert("RGBA"))
    if (colours[..., 3] < 255).any() or (colours[..., :3] != colours[..., :1]).any():
        raise WrongFile(path, "a grey image", f"colour or transparency ({page.mode})", GREY)
    return colours[..., 0]


def _hdf5(path: Path, dataset: str | None) -> np.ndarray:
    import h5py

    with h5py.File(path, "r") as file:
        known = {}
        file.visititems(
            lambda name, item: (
                known.update({name: item}) if isinstance(item, h5py.Dataset) else None
            )
        )
        listed = (
            ", ".join(f"{name} {item.shape}" for name, item in list(known.items())[:6]) or "nothing"
        )
        images = [
            name
            for name, item in known.items()
            if item.ndim in (2, 3)
            and min(item.shape) > 0
            and min(item.shape[-2:]) > 1
            and item.dtype.kind in "buifc"
        ]
        pictures = [
            name for name in images if "kspace" not in name.lower() and "mask" not in name.lower()
        ]
        chosen = dataset.strip("/") if dataset else pictures[0] if len(pictures) == 1 else None
        if chosen is not None and chosen not in known:
            raise WrongFile(
                path, f"a dataset {chosen!r}", listed, f"Name one of them: '{path.name}::dataset'."
            )
        if "kspace" in (chosen or "").lower() or (
            chosen is None and not pictures and any("kspace" in n.lower() for n in known)
        ):
            raise WrongFile(
                path,
                "images",
                f"k-space ({listed}), which is a measurement",
                "Name an image beside it ('file.h5::reconstruction_rss'), or reconstruct one first: "
                "data.own.fastmri_slice reads fastMRI's k-space with its coil maps; save A.adjoint(y) as .npy.",
            )
        if chosen is None:
            raise WrongFile(
                path,
                "one two- or three-dimensional dataset",
                listed,
                f"Name the one you mean: '{path.name}::dataset'.",
            )
        return np.asarray(known[chosen])


def _chosen(path: Path, n: int, slices) -> list[int]:
    if slices is None or slices == "all":
        return list(range(n))
    if isinstance(slices, int) and not isinstance(slices, bool) and slices > 0:
        if slices >= n:
            return list(range(n))
        return sorted(
            set(np.linspace(0.25 * (n - 1), 0.75 * (n - 1), slices).round().astype(int).tolist())
        )
    indices = [] if isinstance(slices, (str, int)) else [int(k) for k in slices]
    if not indices or not all(-n <= k < n for k in indices):
        raise WrongFile(
            path,
            f"slices='all', a count, or indices from 0 to {n - 1}",
            repr(slices),
            "Choose other slices.",
        )
    return [k % n for k in indices]


def _scaled(path: Path, values: np.ndarray, window) -> np.ndarray:
    kind = values.dtype.kind
    if kind in "fc" and not np.isfinite(values).all():
        raise WrongFile(
            path,
            "finite values",
            f"{int((~np.isfinite(values)).sum())} NaN or infinite ones",
            "Replace them: numpy.nan_to_num.",
        )
    if kind == "b":
        values = values.astype(np.uint8) * 255
    high = (
        float(np.iinfo(values.dtype).max)
        if values.dtype.kind == "u"
        else float(np.abs(values).max())
    )
    low, high = window or (0.0, high)
    if kind == "c":
        if low != 0:
            raise WrongFile(
                path,
                "window=(0, high) for complex images",
                str(window),
                "Only the modulus is scaled.",
            )
        scaled = values / (high or 1.0)
        return (scaled / np.maximum(np.abs(scaled), 1.0)).astype(np.complex64)
    if window is None and values.min() < 0:
        raise WrongFile(
            path,
            "values from 0 up",
            f"values from {values.min():g} to {values.max():g}",
            f"{WINDOW} For Hounsfield units (-1024, 1500); for all of these ({values.min():g}, {values.max():g}).",
        )
    return np.clip((values.astype(np.float64) - low) / ((high - low) or 1.0), 0, 1).astype(
        np.float32
    )


def _sound(path: Path, image: np.ndarray, name: str) -> np.ndarray:
    if min(image.shape) < SMALLEST:
        raise WrongFile(
            path,
            f"images of at least {SMALLEST} x {SMALLEST} pixels",
            f"{image.shape} ({name})",
            "Choose another dataset, or put the images first: (n, h, w).",
        )
    if (image == image.flat[0]).all():
        raise WrongFile(
            path,
            "an image",
            f"one value everywhere ({name}, {image.flat[0]:g} after scaling)",
            "Choose other slices, or another window.",
        )
    return image


def _sized(image: np.ndarray, pixel: tuple[float, float], image_size) -> np.ndarray:
    """Square pixels, the whole image just inside; as stored where that is what is asked for."""
    if image_size is None:
        return image
    rows, columns = (
        (image_size, image_size) if isinstance(image_size, int) else map(int, image_size)
    )
    if image.shape == (rows, columns) and pixel[0] == pixel[1]:
        return image
    side = max(image.shape[0] * pixel[0] / rows, image.shape[1] * pixel[1] / columns)
    left, right = (
        resampling_matrix(image.shape[0], rows, side / pixel[0]),
        resampling_matrix(image.shape[1], columns, side / pixel[1]),
    )
    return (left @ image @ right.T).astype(image.dtype)
