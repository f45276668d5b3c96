"""All images of a kind that a network may learn from or be chosen by, as one tensor.

Pools are kept in memory and shared between callers: never write into one.
"""

import functools
import os
from collections.abc import Sequence

import numpy as np
import torch

from .. import profiles
from . import images, own, phantoms, textures
from .demo import SPLITS
from .registry import DataUnavailable, fetch, fetch_group, folder
from .training import mapped

KINDS = ("ct", "mr", "natural", "ellipses", "mixed", "aapm", "fastmri")
_NATURAL = 180  # side of the training photographs, pixels
# window (vessels: 100 to 500), least content
_CT = {"CT_pitch": ((0, 255), 0.05), "CT_AVM": ((0, 400), 0.02)}
_PUBLIC_VALIDATION = "L067"  # patient of the public AAPM validation slices


def pool(
    kind: str,
    image_size: int | None = None,
    split: str = "train",
    n: int | None = None,
    subjects: Sequence[str] | None = None,
    series: str = "",
) -> tuple[torch.Tensor, str]:
    """All images of a kind that a network may learn from ("train") or be chosen by ("validate").

    - "ct": CT_pitch (a head) and CT_AVM (vessels on black: thresholded upstream, no window brings
      the head back), without nearly empty slices; validation: the 9 AAPM slices, of which nothing
      may be passed on.
    - "mr": magnitudes of the MR volumes, slices of which more than 5 % are not black, each divided
      by its maximum.
    - "natural": BSD train400 without the 32 held out; centre crops of 180 x 180.
    - "ellipses": `random_ellipses` tables, drawn with 3 lines a pixel where `raster` has 8, maximum
      1; made once, then mapped.
    - "mixed": for CT where real CT is scarce: the four together, photographs enlarged bilinearly
      where 180 < image_size. Photographs fill the square and are not masked: the detectors of
      `Radon` see the square's corners too.
    - "aapm", "fastmri": the reader's own copies (INSTAB_AAPM, INSTAB_FASTMRI), split by patient or
      by file.

    Args:
        image_size: side N; None is 180, and what photographs have.
        split: "train" or "validate"; "test" for "aapm" and "fastmri" only.
        n: that many, evenly spaced over the pool; of "ellipses" that many are made (default 1000,
            validation 50).
        subjects: patients ("L067") or files instead of the split's own; see `own_subjects`.
        series: of "aapm" only series whose name contains this, such as "full_3mm".

    Returns:
        images (n, 1, N, N) float32 in [0, 1], shared: do not write into them; and a phrase for a
        card, such as "200 slices of CT_pitch, CT_AVM", or "phantom: ..." where files cannot be had.

    Raises:
        DataUnavailable: only for "aapm" and "fastmri". DamagedFile: a file is there but altered.
    """
    images._one_of(kind, *KINDS)
    images._one_of(
        split,
        *(("train", "validate", "test") if kind in ("aapm", "fastmri") else ("train", "validate")),
    )
    if kind == "natural" and (image_size or 0) > _NATURAL:
        raise ValueError(
            f"pool('natural') has {_NATURAL} x {_NATURAL} images; got image_size={image_size}. Ask for "
            f"at most {_NATURAL}, or for 'mixed', which enlarges them."
        )
    size = _NATURAL if image_size is None else int(image_size)
    if kind in ("aapm", "fastmri"):
        named = tuple(subjects) if subjects is not None else tuple(own_subjects(kind, split))
        root = os.environ.get("INSTAB_AAPM" if kind == "aapm" else "INSTAB_FASTMRI", "")
        x, source = _own_pool(kind, size, named, series, root)
    elif kind == "ellipses":
        return _pool(kind, size, split, n, str(folder()))
    else:
        x, source = _pool(kind, size, split, None, str(folder()))
    if n is None or n >= len(x):
        return x, source
    return x[torch.linspace(0, len(x) - 1, n).round().long()], f"{n} of {source}"


@functools.lru_cache(maxsize=6)
def _pool(kind: str, size: int, split: str, n: int | None, where: str) -> tuple[torch.Tensor, str]:
    """`where`, the data folder, is part of the key: another folder is another pool."""
    if kind != "mixed":
        return _make(kind, size, split, n)
    parts = [
        _make("ct", size, split),
        _make("mr", size, split),
        _make("natural", min(size, _NATURAL), split),
        _make("ellipses", size, split),
    ]
    if size > _NATURAL:
        large = torch.nn.functional.interpolate(
            parts[2][0], size=(size, size), mode="bilinear", align_corners=False
        )
        parts[2] = large, f"{parts[2][1]} enlarged"
    # without files CT and "mixed" fall back on ellipses, which need not come twice
    parts = [part for i, part in enumerate(parts) if i != 0 or not part[1].startswith("phantom")]
    phrases = [source.removeprefix("phantom: ") for _, source in parts]
    made = all(source.startswith("phantom") for _, source in parts)
    return torch.cat([x for x, _ in parts]), ("phantom: " if made else "") + "; ".join(phrases)


def _make(kind: str, size: int, split: str, n: int | None = None) -> tuple[torch.Tensor, str]:
    if kind != "ellipses":
        try:
            return {"ct": _ct, "mr": _mr, "natural": _natural}[kind](size, split)
        except DataUnavailable:
            pass
    n = n or {"train": 1000, "validate": 50}[split]
    family = {"mr": "ellipses and texture", "natural": "dead leaves"}.get(kind, "random ellipses")
    n = n if family == "random ellipses" else n // 5  # the others are slower to make
    stream = f"pool {family} {split}"
    x = mapped(
        functools.partial(_fill, family, stream),
        (n, 1, size, size),
        function="pool",
        arguments=[n, size, stream],
        version=1,
    )
    return x, f"phantom: {n} images of {family}"


def _fill(family: str, stream: str, x: np.ndarray) -> None:
    generator = profiles.generator(0, stream)
    for start in range(0, len(x), 10):
        n, size = len(x[start : start + 10]), x.shape[-1]
        if family == "dead leaves":
            made = textures.dead_leaves(n, size, generator)
        elif family == "ellipses and texture":
            made = textures.mr_like(size, generator, n).abs()
        else:  # tables and their scale from small images: independent of `size`, and quick
            ellipses = phantoms.random_ellipses(n, 32, generator)[1]
            made = torch.cat([phantoms.raster(one, size, oversample=3) for one in ellipses])
        x[start : start + 10] = (made / made.amax((1, 2, 3), keepdim=True)).clamp(0, 1).numpy()


def _ct(size: int, split: str) -> tuple[torch.Tensor, str]:
    if split == "validate":
        x = images.aapm("val", size)
        return x, f"{len(x)} AAPM validation slices"
    kept = [_slices(name, size, *chosen) for name, chosen in _CT.items()]
    return torch.cat(kept), f"{sum(map(len, kept))} slices of {', '.join(_CT)}"


def _mr(size: int, split: str) -> tuple[torch.Tensor, str]:
    known = [
        path.removeprefix("volumes/").removesuffix(".nii.gz")
        for path in SPLITS[split]
        if path.startswith("volumes/")
    ]
    names = [name for name in known if name in images.MR_VOLUMES]
    x = torch.cat([_slices(name, size, None, 0.05) for name in names])
    return x / x.amax((1, 2, 3), keepdim=True), f"{len(x)} slices of {', '.join(names)}"


def _slices(
    name: str, size: int, window: tuple[float, float] | None, content: float
) -> torch.Tensor:
    """`images.volume` without the slices of which, in the file's pixels, no more than `content` is
    above 5 % of white.
    """
    slices, _ = images.read_nifti(fetch(f"volumes/{name}.nii.gz"))
    white = float(np.percentile(slices, 99.9)) if window is None else window[1]
    kept = torch.from_numpy((slices > 0.05 * white).mean((1, 2)) > content)
    return images.volume(name, size, window=(0, white))[kept]


def _natural(size: int, split: str) -> tuple[torch.Tensor, str]:
    fetch_group("bsd/train400")  # missing ones in parallel
    x = images.read_grey([fetch(path) for path in SPLITS[split] if path.startswith("bsd/")], size)
    return x, f"{len(x)} images of BSD400 ({'training' if split == 'train' else 'held out'})"


def own_subjects(kind: str, split: str) -> list[str]:
    """Patients under INSTAB_AAPM or files under INSTAB_FASTMRI that belong to a split: 8/1/1 of 10,
    in their order.

    The last tenth is "test", the tenth before "validate". Patient L067 always validates, because
    the public validation slices show that patient; the 4 public test slices do not name their
    patients, so that whoever trains on "aapm" tests on `pool("aapm", split="test")` and not on
    them.
    """
    images._one_of(kind, "aapm", "fastmri")
    images._one_of(split, "train", "validate", "test")
    found = (
        sorted({name.split("/")[0] for name in own.aapm_series()})
        if kind == "aapm"
        else own.fastmri_scans()
    )
    tenth = max(1, len(found) // 10)
    if len(found) < 3:
        raise DataUnavailable(
            f"a split by subject needs 3 or more of them; found {', '.join(found) or 'none'} for "
            f"{kind!r}. Name them: pool({kind!r}, ..., subjects=[...])."
        )
    if _PUBLIC_VALIDATION in found:
        found.remove(_PUBLIC_VALIDATION)
        found.insert(len(found) - tenth, _PUBLIC_VALIDATION)
    return {
        "train": found[: -2 * tenth],
        "validate": found[-2 * tenth : -tenth],
        "test": found[-tenth:],
    }[split]


@functools.lru_cache(maxsize=4)
def _own_pool(
    kind: str, size: int, subjects: tuple[str, ...], series: str, root: str
) -> tuple[torch.Tensor, str]:
    if kind == "aapm":
        found = [
            name for name in own.aapm_series() if name.split("/")[0] in subjects and series in name
        ]
        if not found:
            raise ValueError(
                f"no AAPM series of {', '.join(subjects)} with {series!r} in its name; there are "
                f"{', '.join(own.aapm_series())}."
            )
        x = torch.cat([own.aapm_slices(name, size) for name in found])
    else:
        x = torch.cat([_fastmri_magnitudes(scan, size) for scan in subjects])
    return x, f"{len(x)} slices of {kind} {', '.join(subjects)}"


def _fastmri_magnitudes(scan: str, size: int) -> torch.Tensor:
    """The reference images of a fastMRI file, each divided by its maximum; files without any are
    test files.
    """
    import h5py

    with h5py.File(own._root("INSTAB_FASTMRI", "a folder of fastMRI files (.h5)") / scan) as file:
        name = next(
            (name for name in ("reconstruction_rss", "reconstruction_esc") if name in file), None
        )
        if name is None:
            raise ValueError(
                f"{scan} holds no reconstruction_rss or reconstruction_esc, so it is one of fastMRI's test "
                "files, whose k-space has gaps. Take files of its training or validation set."
            )
        slices = np.asarray(file[name], dtype=np.float32)
    x = images._resampled(slices, (1.0, 1.0), size)
    return x / x.amax((1, 2, 3), keepdim=True).clamp_min(1e-12)
