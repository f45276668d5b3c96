"""Images from the files that hospitals, laboratories and notebooks write."""

import glob
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from ..data.images import evenly_spaced, read_dicom, read_nifti, resampling_matrix
from .errors import WrongFile, naming

KINDS = {
    **dict.fromkeys((".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp"), "picture"),
    **dict.fromkeys((".dcm", ".ima"), "dicom"),
    **dict.fromkeys((".nii", ".nii.gz"), "nifti"),
    **dict.fromkeys((".h5", ".hdf5"), "hdf5"),
    ".npy": "npy",
}
ENDINGS = ", ".join(KINDS)
SMALLEST = 8
"""Pixels a side."""
NUMBERS = "buifc"
"""NumPy's kinds of types that are images."""


class Images(NamedTuple):
    """Images and where they came from; `names` and `sha256s` have one entry an image."""

    x: torch.Tensor
    """(n, 1, h, w) float32 in [0, 1], or complex64 with |x| <= 1."""
    names: tuple[str, ...]
    """Such as "scan.nii.gz[12]"."""
    sha256s: tuple[str, ...]
    """Of the files."""
    source: str


def load_images(
    paths: str | Path | Sequence[str | Path],
    image_size: int | tuple[int, int] | None = None,
    window: tuple[float, float] | None = None,
    slices: int | Sequence[int] | str | None = None,
) -> Images:
    """Return images x = (values - low) / (high - low), cut to [0, 1]; complex x = values / high.

    (low, high) is `window` where it is given; else (0, largest value of the type) for unsigned
    integers, 255 or 65535, and (0, largest value in the file) for everything else, so that the
    slices of a volume keep their proportions. Negative values need a window, which says where black
    is.

    | ending              | what is read |
    |---------------------|--------------|
    | .png .tif .jpg .bmp | 8 or 16 bit grey, 32 bit float; all pages; colour if it is grey |
    | .npy                | real or complex, (h, w), (n, h, w) or (n, 1, h, w) |
    | .dcm .ima           | slope * stored + intercept, e.g. Hounsfield units: give a window |
    | .nii .nii.gz        | axial slices, anterior up |
    | .h5 .hdf5           | "file.h5::dataset", or the only dataset of images, (h, w) or (n, h, w) |

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
                "load_images expects window=(low, high) with low < high; "
                f"got {window}. Swap or correct them."
            )
    images, names, digests = [], [], []
    files = _files(paths)
    for path, dataset in files:
        with naming(path):
            values, pixel = _read(path, dataset)
            count = 4 if _kind(path) == "nifti" and slices is None else slices
            stack = _scaled(values, window)
            for k in _chosen(len(values), count):
                name = path.name + (f"[{k}]" if len(values) > 1 else "")
                image = _resized(_sound(stack[k], name), pixel, image_size)
                if images:
                    _alike(image, images[0], names[0])
                images.append(image)
                names.append(name)
                digests.append(hashlib.sha256(path.read_bytes()).hexdigest())
    more = ", ..." if len(files) > 3 else ""
    listed = ", ".join(path.name for path, _ in files[:3]) + more
    source = f"{len(images)} images of {len(files)} files: {listed}"
    x = torch.from_numpy(np.stack(images))[:, None]
    return Images(x, tuple(names), tuple(digests), source)


def _files(paths) -> list[tuple[Path, str]]:
    """(file, dataset) for every file that is meant."""
    paths = [paths] if isinstance(paths, str | Path) else list(paths)
    if not paths:
        raise ValueError(
            "load_images expects at least one path; got an empty list. "
            "Name a file, a folder or a pattern."
        )
    files = []
    for text in map(str, paths):
        text, _, dataset = text.partition("::")
        path = Path(text).expanduser()
        with naming(path):
            if path.is_file() and _kind(path) is None:
                cure = "Save the image as .npy: numpy.save(path, array)."
                raise WrongFile(f"a file ending in {ENDINGS}", path.suffix or "no ending", cure)
            if path.is_file():
                matches = [path]
            elif path.is_dir():
                matches = sorted(p for p in path.iterdir() if p.is_file() and _kind(p))
            else:
                matches = map(Path, glob.glob(str(path), recursive=True))
                matches = sorted(p for p in matches if _kind(p))
            if not matches:
                cure = "Check the path or the pattern."
                raise WrongFile(f"files ending in {ENDINGS}", "none there", cure)
            files += [(match, dataset) for match in matches]
    return files


def _kind(path: Path) -> str | None:
    return KINDS.get(".nii.gz" if path.name.lower().endswith(".nii.gz") else path.suffix.lower())


def _read(path: Path, dataset: str) -> tuple[np.ndarray, tuple[float, float]]:
    """(n, h, w) values as stored, and the (row, column) sizes of a pixel."""
    kind, pixel = _kind(path), (1.0, 1.0)
    try:
        if kind == "picture":
            values = _picture(path)
        elif kind == "dicom":
            values, pixel = read_dicom([path])
        elif kind == "nifti":
            values, pixel = read_nifti(path)
        elif kind == "npy":
            values = np.load(path, allow_pickle=False)
        else:
            values = _hdf5(path, dataset)
    except (WrongFile, ModuleNotFoundError):
        raise
    except Exception as error:
        cure = "Copy it again, or save the image as .npy with numpy.save(path, array)."
        if "allow_pickle" in str(error):
            cure = "An array of objects is a pickle and is not read: save numbers."
        got = f"{type(error).__name__}: {str(error)[:120]}"
        raise WrongFile(f"a readable {path.suffix} image", got, cure) from None
    if values.ndim == 4 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim not in (2, 3) or values.dtype.kind not in NUMBERS:
        raise WrongFile(
            "numbers of shape (h, w) or (n, h, w)",
            f"{values.dtype} of shape {values.shape}",
            "Save one grey image, or a stack of them with the images first.",
        )
    return values.reshape(-1, *values.shape[-2:]), pixel


def _picture(path: Path) -> np.ndarray:
    from PIL import Image, ImageSequence

    with Image.open(path) as image:
        pages = np.stack([_grey(page) for page in ImageSequence.Iterator(image)])
        # a PNG has 16 bits at most; older Pillow says 32
        return pages.astype(np.uint16) if image.mode == "I" and image.format == "PNG" else pages


def _grey(page) -> np.ndarray:
    if page.mode in ("L", "1", "F") or page.mode.startswith("I"):
        return np.array(page)
    colours = np.array(page.convert("RGBA"))
    if (colours[..., 3] < 255).any() or (colours[..., :3] != colours[..., :1]).any():
        cure = "Save it as 8 or 16 bit grey: PIL.Image.open(path).convert('L').save('grey.png')."
        raise WrongFile("a grey image", f"colour or transparency ({page.mode})", cure)
    return colours[..., 0]


def _hdf5(path: Path, dataset: str) -> np.ndarray:
    import h5py

    datasets = {}

    def collect(name, item):
        if isinstance(item, h5py.Dataset):
            datasets[name] = item

    with h5py.File(path, "r") as file:
        file.visititems(collect)
        listed = [f"{name} {item.shape}" for name, item in datasets.items()]
        listed = ", ".join(listed[:6]) or "nothing"
        images = [name for name, item in datasets.items() if _is_image(name, item)]
        name = dataset.strip("/")
        if name and name not in datasets:
            cure = f"Name one of them: '{path.name}::dataset'."
            raise WrongFile(f"a dataset {name!r}", listed, cure)
        if not name and len(images) == 1:
            name = images[0]
        if "kspace" in (name or "" if images else "".join(datasets)).lower():
            raise WrongFile(
                "images",
                f"k-space ({listed}), which is a measurement",
                "Name an image beside it ('file.h5::reconstruction_rss'), or reconstruct one "
                "first: save A.adjoint(y) as .npy.",
            )
        if not name:
            cure = f"Name the one you mean: '{path.name}::dataset'."
            raise WrongFile("one two- or three-dimensional dataset", listed, cure)
        return np.asarray(datasets[name])


def _is_image(name: str, item) -> bool:
    grey = item.ndim in (2, 3) and item.dtype.kind in NUMBERS
    if not grey or min(item.shape) == 0 or min(item.shape[-2:]) == 1:
        return False
    return "kspace" not in name.lower() and "mask" not in name.lower()


def _chosen(n: int, slices: int | Sequence[int] | str | None) -> list[int]:
    if slices is None or slices == "all":
        return list(range(n))
    if isinstance(slices, int) and slices > 0:
        if slices >= n:
            return list(range(n))
        return sorted(set(evenly_spaced(0.25 * (n - 1), 0.75 * (n - 1), slices).tolist()))
    indices = [] if isinstance(slices, str | int) else [int(k) for k in slices]
    if not indices or not all(-n <= k < n for k in indices):
        expected = f"slices='all', a count, or indices from 0 to {n - 1}"
        raise WrongFile(expected, repr(slices), "Choose other slices.")
    return [k % n for k in indices]


def _scaled(values: np.ndarray, window: tuple[float, float] | None) -> np.ndarray:
    if values.dtype.kind == "b":
        values = values.astype(np.uint8) * 255
    wrong = int((~np.isfinite(values)).sum())
    if wrong:
        got = f"{wrong} NaN or infinite ones"
        raise WrongFile("finite values", got, "Replace them: numpy.nan_to_num.")
    unsigned = values.dtype.kind == "u"
    top = np.iinfo(values.dtype).max if unsigned else np.abs(values).max()
    low, high = window or (0.0, float(top))
    if values.dtype.kind == "c":
        if low != 0:
            expected = "window=(0, high) for complex images"
            raise WrongFile(expected, window, "Only the modulus is scaled.")
        scaled = values / (high or 1.0)
        return (scaled / np.maximum(np.abs(scaled), 1.0)).astype(np.complex64)
    if window is None and values.min() < 0:
        ends = f"{values.min():g}", f"{values.max():g}"
        raise WrongFile(
            "values from 0 up",
            f"values from {ends[0]} to {ends[1]}",
            "Give window=(low, high), the values that become 0 and 1. "
            f"For Hounsfield units (-1024, 1500); for all of these ({ends[0]}, {ends[1]}).",
        )
    scaled = (values.astype(np.float64) - low) / ((high - low) or 1.0)
    return np.clip(scaled, 0, 1).astype(np.float32)


def _sound(image: np.ndarray, name: str) -> np.ndarray:
    if min(image.shape) < SMALLEST:
        expected = f"images of at least {SMALLEST} x {SMALLEST} pixels"
        cure = "Choose another dataset, or put the images first: (n, h, w)."
        raise WrongFile(expected, f"{image.shape} ({name})", cure)
    if (image == image.flat[0]).all():
        got = f"one value everywhere ({name}, {image.flat[0]:g} after scaling)"
        raise WrongFile("an image", got, "Choose other slices, or another window.")
    return image


def _alike(image: np.ndarray, first: np.ndarray, name: str) -> None:
    if image.shape != first.shape:
        expected = f"images of one shape, like {name} {first.shape}"
        raise WrongFile(expected, image.shape, "Give image_size, and they are brought to one.")
    if image.dtype != first.dtype:
        expected = f"all images real or all complex, like {name}"
        raise WrongFile(expected, "the other", "Read them in two calls.")


def _resized(image: np.ndarray, pixel: tuple[float, float], image_size) -> np.ndarray:
    """Square pixels, the whole image just inside; as stored where that is what is asked for."""
    if image_size is None:
        return image
    size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    if image.shape == size and pixel[0] == pixel[1]:
        return image
    side = max(n * p / k for n, p, k in zip(image.shape, pixel, size))
    rows, columns = (resampling_matrix(n, k, side / p) for n, p, k in zip(image.shape, pixel, size))
    return (rows @ image @ columns.T).astype(image.dtype)
