"""Images for a chapter in one call, and the one rule of who may learn from what."""

import torch

from .. import profiles
from . import images, phantoms, textures
from .coils import smooth_phase
from .registry import DataUnavailable, fetch, files

_HELD_OUT = 32  # last images of BSD train400 kept for choosing parameters

SPLITS: dict[str, tuple[str, ...]] = {
    "train": (
        *(file.path for file in files("bsd/train400")[:-_HELD_OUT]),
        *(
            f"volumes/{name}.nii.gz"
            for name in ("chris_t1", "chris_PD", "MR_Gd", "M2208_T2w", "CT_AVM", "CT_pitch")
        ),
    ),
    "validate": (
        *(file.path for file in files("bsd/train400")[-_HELD_OUT:]),
        *(file.path for file in files("aapm/val")),
        "volumes/T2w.nii.gz",
    ),
    "test": tuple(
        file.path
        for group in ("bsd/set68", "aapm/test", "vs-seg-001", "kspace", "sinograms")
        for file in files(group)
    ),
}
"""Registered files by split: by subject, never by slice. Phantoms belong to a split by their random
stream.
"""


def demo(
    kind: str, n: int = 4, image_size: int = 256, split: str = "test"
) -> tuple[torch.Tensor, str]:
    """At most n images for a chapter, and what to call them on the page.

    Real files where they are at hand or can be downloaded, else phantoms made here; always the same
    images for the same arguments.

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
        DamagedFile: a real file is there but altered. Phantoms never hide that.
    """
    images._one_of(kind, *_REAL)
    images._one_of(split, *SPLITS)
    generator = profiles.generator(0, f"demo {kind} {split}")
    try:
        x, source = _REAL[kind](n, image_size, split)
    except DataUnavailable:
        x, source = _MADE[kind](n, image_size, generator)
        return x, f"phantom: {source}"
    if kind == "mr":
        phase = torch.stack([smooth_phase(image_size, generator)[None] for _ in range(len(x))])
        return torch.polar(x, phase), f"{source}, with a synthetic smooth phase"
    return x, source


def _natural(n, image_size, split):
    if split == "test":
        return images.bsd("set68", min(n, 68), image_size), "BSD68 test images"
    known = [path for path in SPLITS[split] if path.startswith("bsd/")][:n]
    name = {"train": "training", "validate": "validation"}[split]
    return images.read_grey(
        [fetch(path) for path in known], min(image_size, 180)
    ), f"BSD400 {name} images"


def _ct(n, image_size, split):
    if split == "train":
        return images.volume("CT_pitch", image_size, n), "head CT slices (CT_pitch)"
    known = {"test": 4, "validate": 9}[split]
    name = {"test": "test", "validate": "val"}[split]
    return images.aapm(
        name, image_size, min(n, known)
    ), f"AAPM {'test' if split == 'test' else 'validation'} slices"


def _mr(n, image_size, split):
    if split == "test":
        return images.dicom_series("vs-seg-001", image_size, min(n, 10)), "vs-seg-001 T1 MR slices"
    name = {"train": "chris_t1", "validate": "T2w"}[split]
    return images.volume(name, image_size, n), f"head MR slices ({name})"


_REAL = {"natural": _natural, "ct": _ct, "mr": _mr}
_MADE = {
    "natural": lambda n, size, generator: (textures.dead_leaves(n, size, generator), "dead leaves"),
    "ct": lambda n, size, generator: (
        phantoms.random_ellipses(n, size, generator)[0],
        "random ellipses",
    ),
    "mr": lambda n, size, generator: (
        textures.mr_like(size, generator, n),
        "ellipses and texture with a smooth phase",
    ),
}
