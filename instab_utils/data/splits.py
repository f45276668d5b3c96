"""Images for a chapter in one call, and which images train, validate and test."""

import torch

from .. import profiles
from . import images, phantoms, textures
from .coils import with_smooth_phase
from .registry import DataUnavailable, fetch, files

_HELD_OUT = 32  # last images of BSD train400 kept for choosing parameters
_TRAINING_VOLUMES = ("chris_t1", "chris_PD", "MR_Gd", "M2208_T2w", "CT_AVM", "CT_pitch")
_TEST_GROUPS = ("bsd/set68", "aapm/test", "vs-seg-001", "kspace", "sinograms")
_BSD = [file.path for file in files("bsd/train400")]

SPLITS: dict[str, tuple[str, ...]] = {
    "train": (
        *_BSD[:-_HELD_OUT],
        *(f"volumes/{name}.nii.gz" for name in _TRAINING_VOLUMES),
    ),
    "validate": (
        *_BSD[-_HELD_OUT:],
        *(file.path for file in files("aapm/val")),
        "volumes/T2w.nii.gz",
    ),
    "test": tuple(file.path for group in _TEST_GROUPS for file in files(group)),
}
"""Registered files by split: by subject, never by slice. Phantoms belong to a split by their random
stream.
"""


def demo(
    kind: str, n: int = 4, image_size: int = 256, split: str = "test"
) -> tuple[torch.Tensor, str]:
    """Return at most n images for a chapter, and what to call them on the page.

    Real files where they are at hand or can be downloaded, else phantoms; always the same images
    for the same arguments.

    Args:
        kind: "natural", "ct" (real, float32) or "mr" (complex64: magnitudes are public, their phase
            is not, so a synthetic smooth phase is put on, and the name says so).
        n: a data set with fewer images gives all it has.
        image_size: natural training and validation images are 180 x 180 and never larger.
        split: "train", "validate" or "test"; see `SPLITS`.

    Returns:
        images (n, 1, image_size, image_size) and the source, such as "AAPM test slices" or
        "phantom: random ellipses".

    Raises:
        ChecksumMismatch: a real file is there but altered. Phantoms never hide that.
    """
    images.one_of(kind, "natural", "ct", "mr")
    images.one_of(split, *SPLITS)
    generator = profiles.generator(0, f"demo {kind} {split}")
    try:
        x, source = {"natural": _natural, "ct": _ct, "mr": _mr}[kind](n, image_size, split)
    except DataUnavailable:
        return _phantoms(kind, n, image_size, generator)
    if kind == "mr":
        return with_smooth_phase(x, generator), f"{source}, with a synthetic smooth phase"
    return x, source


def _natural(n: int, image_size: int, split: str) -> tuple[torch.Tensor, str]:
    if split == "test":
        return images.bsd("set68", min(n, 68), image_size), "BSD68 test images"
    paths = [path for path in SPLITS[split] if path.startswith("bsd/")][:n]
    x = images.read_grey([fetch(path) for path in paths], min(image_size, 180))
    return x, f"BSD400 {'training' if split == 'train' else 'validation'} images"


def _ct(n: int, image_size: int, split: str) -> tuple[torch.Tensor, str]:
    if split == "train":
        return images.volume("CT_pitch", image_size, n), "head CT slices (CT_pitch)"
    if split == "validate":
        return images.aapm("val", image_size, min(n, 9)), "AAPM validation slices"
    return images.aapm("test", image_size, min(n, 4)), "AAPM test slices"


def _mr(n: int, image_size: int, split: str) -> tuple[torch.Tensor, str]:
    if split == "test":
        return images.dicom_series("vs-seg-001", image_size, min(n, 10)), "vs-seg-001 T1 MR slices"
    name = {"train": "chris_t1", "validate": "T2w"}[split]
    return images.volume(name, image_size, n), f"head MR slices ({name})"


def _phantoms(
    kind: str, n: int, image_size: int, generator: torch.Generator
) -> tuple[torch.Tensor, str]:
    if kind == "natural":
        return textures.dead_leaves(n, image_size, generator), "phantom: dead leaves"
    if kind == "ct":
        return phantoms.random_ellipses(n, image_size, generator)[0], "phantom: random ellipses"
    x = textures.mr_like(image_size, generator, n)
    return x, "phantom: ellipses and texture with a smooth phase"
