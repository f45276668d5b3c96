"""All images of a kind that a network may learn from or be chosen by, as one tensor.

Pools are kept in memory and shared between callers: never write into one.
"""

import functools
import os

import numpy as np
import torch

from .. import profiles
from . import images, local_copies, phantoms, textures
from .generated import mapped
from .registry import DataUnavailable, fetch, fetch_group, folder
from .splits import SPLITS

PUBLIC_KINDS = ("ct", "mr", "natural", "ellipses", "mixed")
LOCAL_KINDS = {"aapm": "INSTAB_AAPM", "fastmri": "INSTAB_FASTMRI"}
_NATURAL = 180  # side of the training photographs, pixels
# window (vessels: 100 to 500), least content
_CT = {"CT_pitch": ((0, 255), 0.05), "CT_AVM": ((0, 400), 0.02)}
_VERSION = 1  # of the phantoms of a pool

Pool = tuple[torch.Tensor, str]


def pool(
    kind: str,
    image_size: int | tuple[int, int] | None = None,
    split: str = "train",
    n: int | None = None,
) -> Pool:
    """Return all images of a kind to learn from ("train") or to be chosen by ("validate").

    - "ct": CT_pitch (a head) and CT_AVM (vessels on black: thresholded upstream, no window brings
      the head back), without nearly empty slices; validation: the 9 AAPM slices, of which nothing
      may be passed on.
    - "mr": magnitudes of the MR volumes, slices of which more than 5 % are not black, each divided
      by its maximum.
    - "natural": BSD train400 without the 32 held out; centre crops of 180 x 180.
    - "ellipses": `random_ellipses` tables, drawn with 3 lines a pixel where `raster` has 8, maximum
      1; computed once, then mapped.
    - "mixed": for CT where real CT is scarce: the four together, photographs enlarged bilinearly
      where 180 < image_size. Photographs fill the square and are not masked: the detectors of
      `Radon` see the square's corners too.
    - "aapm", "fastmri": the reader's own copies (INSTAB_AAPM, INSTAB_FASTMRI), split by patient or
      by file; see `split_subjects`. Of fastMRI magnitudes; for a pair (rows, columns) the complex
      images of raw k-space of that size, the slices of MRI-VN, see `fastmri_images`.

    Args:
        kind: one of these.
        image_size: side N; None is 180, and what photographs have. A pair: "fastmri" only.
        split: "train" or "validate"; "test" for "aapm" and "fastmri" only.
        n: that many, evenly spaced over the pool; of "ellipses" that many are drawn (default 1000,
            validation 50).

    Returns:
        images (n, 1, N, N) float32 in [0, 1], shared: do not write into them; for a pair (n, 1,
        rows, columns) complex64; and a phrase for a card, such as "200 slices of CT_pitch, CT_AVM",
        or "phantom: ..." where there are no files.

    Raises:
        DataUnavailable: only for "aapm" and "fastmri".
        ChecksumMismatch: a file is there but altered.
    """
    images.one_of(kind, *PUBLIC_KINDS, *LOCAL_KINDS)
    images.one_of(split, "train", "validate", *(["test"] if kind in LOCAL_KINDS else []))
    if isinstance(image_size, tuple):
        images.one_of(kind, "fastmri")
    size = image_size or _NATURAL
    if kind == "natural" and size > _NATURAL:
        raise ValueError(
            f"pool('natural') has {_NATURAL} x {_NATURAL} images; got image_size={image_size}. "
            f"Ask for at most {_NATURAL}, or for 'mixed', which enlarges them."
        )
    if kind in LOCAL_KINDS:
        x, source = _local_pool(kind, size, split, os.environ.get(LOCAL_KINDS[kind], ""))
    elif kind == "ellipses":
        return _public_pool(kind, size, split, n, str(folder()))
    else:
        x, source = _public_pool(kind, size, split, None, str(folder()))
    if n is None or n >= len(x):
        return x, source
    return x[torch.linspace(0, len(x) - 1, n).round().long()], f"{n} of {source}"


@functools.lru_cache(maxsize=6)
def _public_pool(kind: str, size: int, split: str, n: int | None, where: str) -> Pool:
    """Return a pool; `where`, the data folder, is part of the key: another folder, another pool."""
    if kind != "mixed":
        return _real_or_phantoms(kind, size, split, n)
    sizes = {"ct": size, "mr": size, "natural": min(size, _NATURAL), "ellipses": size}
    pools = {part: _real_or_phantoms(part, side, split) for part, side in sizes.items()}
    if size > _NATURAL:
        natural, source = pools["natural"]
        large = torch.nn.functional.interpolate(natural, size=(size, size), mode="bilinear")
        pools["natural"] = large, f"{source} enlarged"
    # without files "ct" and "ellipses" are the same phantoms, which need not come twice
    if pools["ct"][1].startswith("phantom"):
        del pools["ct"]
    x = torch.cat([images for images, _ in pools.values()])
    sources = [source for _, source in pools.values()]
    phrase = "; ".join(source.removeprefix("phantom: ") for source in sources)
    is_phantom = all(source.startswith("phantom") for source in sources)
    return x, f"phantom: {phrase}" if is_phantom else phrase


def _real_or_phantoms(kind: str, size: int, split: str, n: int | None = None) -> Pool:
    if kind != "ellipses":
        try:
            return {"ct": _ct, "mr": _mr, "natural": _natural}[kind](size, split)
        except DataUnavailable:
            pass
    n = n or {"train": 1000, "validate": 50}[split]
    family = {"mr": "ellipses and texture", "natural": "dead leaves"}.get(kind, "random ellipses")
    n = n if family == "random ellipses" else n // 5  # the others take longer
    stream = f"pool {family} {split}"
    x = mapped(
        functools.partial(_draw_phantoms, family, stream),
        (n, 1, size, size),
        function="pool",
        arguments=[n, size, stream],
        version=_VERSION,
    )
    return x, f"phantom: {n} images of {family}"


def _draw_phantoms(family: str, stream: str, x: np.ndarray) -> None:
    generator = profiles.generator(0, stream)
    for start in range(0, len(x), 10):
        block = x[start : start + 10]
        n, size = len(block), x.shape[-1]
        if family == "dead leaves":
            drawn = textures.dead_leaves(n, size, generator)
        elif family == "ellipses and texture":
            drawn = textures.mr_like(size, generator, n).abs()
        else:  # tables and their scale from small images: independent of `size`, and quick
            ellipses = phantoms.random_ellipses(n, 32, generator)[1]
            drawn = torch.cat([phantoms.raster(one, size, oversample=3) for one in ellipses])
        block[:] = (drawn / drawn.amax((1, 2, 3), keepdim=True)).clamp(0, 1).numpy()


def _ct(size: int, split: str) -> Pool:
    if split == "validate":
        x = images.aapm("val", size)
        return x, f"{len(x)} AAPM validation slices"
    x = torch.cat([_slices(name, size, *chosen) for name, chosen in _CT.items()])
    return x, f"{len(x)} slices of {', '.join(_CT)}"


def _mr(size: int, split: str) -> Pool:
    volumes = {f"volumes/{name}.nii.gz": name for name in images.MR_VOLUMES}
    names = [volumes[path] for path in SPLITS[split] if path in volumes]
    x = torch.cat([_slices(name, size, None, 0.05) for name in names])
    return x / x.amax((1, 2, 3), keepdim=True), f"{len(x)} slices of {', '.join(names)}"


def _slices(name: str, size: int, window: images.Window | None, content: float) -> torch.Tensor:
    """Return `images.volume` without the slices of no content.

    Those of which, in the file's pixels, no more than `content` is above 5 % of white.
    """
    slices, _ = images.read_nifti(fetch(f"volumes/{name}.nii.gz"))
    white = float(np.percentile(slices, 99.9)) if window is None else window[1]
    kept = torch.from_numpy((slices > 0.05 * white).mean((1, 2)) > content)
    return images.volume(name, size, window=(0, white))[kept]


def _natural(size: int, split: str) -> Pool:
    fetch_group("bsd/train400")  # missing ones in parallel
    x = images.read_grey([fetch(path) for path in SPLITS[split] if path.startswith("bsd/")], size)
    return x, f"{len(x)} images of BSD400 ({'training' if split == 'train' else 'held out'})"


@functools.lru_cache(maxsize=4)
def _local_pool(kind: str, size: int | tuple[int, int], split: str, root: str) -> Pool:
    """Return a pool of local copies; `root`, their folder, is part of the key."""
    subjects = local_copies.split_subjects(kind, split)
    if kind == "aapm":
        patients = local_copies.aapm_patients()
        parts = [local_copies.aapm_slices(patients[name], size) for name in subjects]
    elif isinstance(size, tuple):
        subjects = local_copies.fastmri_knees(split, size)
        slices = local_copies.KNEE_SLICES[split]
        parts = [local_copies.fastmri_images(scan, slices) for scan in subjects]
    else:
        parts = [local_copies.fastmri_magnitudes(scan, size) for scan in subjects]
    x = torch.cat(parts)
    return x, f"{len(x)} slices of {kind} {', '.join(subjects)}"
